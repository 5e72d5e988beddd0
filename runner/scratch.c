/* SPDX-License-Identifier: MIT */
#include "scratch.h"
#include "durable.h"
#include "base/log.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/magic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/statfs.h>
#include <sys/statvfs.h>
#include <unistd.h>

#define PREFIX "cloister-pages-"
#define RANDOM "XXXXXX" /* for mkdtemp */
#define MARK   ".cloister-pages"
#define PAGES  "pages"

#define TRIES_MAX 10

/* The mark goes last: without it what is left would not be known as ours any more. */
static void remove_marked(int where, const char *name, int fd)
{
	DIR *dir = fdopendir(dup(fd));

	for (struct dirent *e; dir && (e = readdir(dir));)
		if (e->d_name[0] != '.')
			durable_remove_tree(fd, e->d_name);
	if (dir)
		closedir(dir);
	unlinkat(fd, MARK, 0);
	if (unlinkat(where, name, AT_REMOVEDIR)) /* something is left: it is for the next sweep */
		(void)!mknodat(fd, MARK, S_IFREG | 0600, 0);
}

/* A record lock: it goes with the process that took it. One of flock(2) would live on in a child that
 * has not yet died with its run. */
static bool lock_mark(int mark)
{
	struct flock whole = { .l_type = F_WRLCK, .l_whence = SEEK_SET };

	return mark >= 0 && !fcntl(mark, F_SETLK, &whole);
}

/* Ours are told by name and by the mark in them, which a living run has locked. An empty one without a
 * mark was left by a run that died when it started or ended; a run that is only just starting makes
 * another. */
static void sweep(const char *where)
{
	DIR *dir = opendir(where);

	for (struct dirent *e; dir && (e = readdir(dir));) {
		struct stat st;
		int fd, mark;

		if (strncmp(e->d_name, PREFIX, strlen(PREFIX)) ||
		    strlen(e->d_name) != strlen(PREFIX RANDOM))
			continue;
		fd = openat(dirfd(dir), e->d_name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
		if (fd < 0)
			continue;
		mark = openat(fd, MARK, O_RDWR | O_NOFOLLOW | O_CLOEXEC | O_NONBLOCK);
		if (!fstat(fd, &st) && st.st_uid == geteuid() &&
		    unlinkat(dirfd(dir), e->d_name, AT_REMOVEDIR) && lock_mark(mark)) {
			log_debug("removing page files left in %s/%s", where, e->d_name);
			remove_marked(dirfd(dir), e->d_name, fd);
		}
		if (mark >= 0)
			close(mark);
		close(fd);
	}
	if (dir)
		closedir(dir);
}

static bool is_memory(const char *path)
{
	struct statfs fs;

	return !statfs(path, &fs) && (unsigned long)fs.f_type == TMPFS_MAGIC &&
	       !access(path, W_OK | X_OK);
}

/* RC_FAILED: another run has swept it away. */
static enum rc make_folder(struct scratch *s, const char *where, struct err *err)
{
	struct stat st;

	s->top = xasprintf("%s/" PREFIX RANDOM, where);
	if (!mkdtemp(s->top))
		return err_errno(err, RC_FATAL, "configuration", "make a folder for page files in %s",
				 where);
	s->top_fd = open(s->top, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (s->top_fd >= 0)
		s->mark = openat(s->top_fd, MARK, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
	if (s->mark >= 0 && (!lock_mark(s->mark) || fstat(s->mark, &st) || !st.st_nlink))
		return err_set(err, RC_FAILED, "configuration", "%s was swept away", s->top);
	s->path = xasprintf("%s/" PAGES, s->top);
	if (s->mark >= 0 && !mkdirat(s->top_fd, PAGES, 0755))
		s->fd = open(s->path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (s->fd >= 0)
		return RC_OK;
	return err_errno(err, errno == ENOENT ? RC_FAILED : RC_FATAL, "configuration", "open %s",
			 s->top);
}

enum rc scratch_open(struct scratch *s, const char *where, const char *fallback, uint64_t budget,
		     struct err *err)
{
	struct statvfs room;
	enum rc rc;

	*s = (struct scratch)SCRATCH_CLOSED;
	if (!where) {
		where = is_memory("/dev/shm") ? "/dev/shm" : fallback;
		if (where == fallback)
			log_warn("no memory file system at /dev/shm: page files go to %s", where);
	}
	sweep(where);
	for (int tries = 0; (rc = make_folder(s, where, err)) == RC_FAILED && tries < TRIES_MAX; tries++)
		scratch_close(s);
	if (rc != RC_OK)
		return rc;
	if (fstatvfs(s->fd, &room))
		return err_errno(err, RC_FATAL, "configuration", "look at %s", s->path);
	s->budget = budget ? budget : (uint64_t)room.f_bavail * room.f_frsize / 2;
	return RC_OK;
}

void scratch_close(struct scratch *s)
{
	if (s->fd >= 0)
		close(s->fd);
	if (s->top_fd >= 0) {
		remove_marked(AT_FDCWD, s->top, s->top_fd);
		close(s->top_fd);
		if (s->mark >= 0)
			close(s->mark);
		*strrchr(s->top, '/') = '\0';
		sweep(s->top);
	}
	free(s->path);
	free(s->top);
	*s = (struct scratch)SCRATCH_CLOSED;
}

void scratch_slot_name(unsigned folder, size_t slot, char name[32])
{
	snprintf(name, 32, "%u/%02zu.pnm", folder, slot);
}

enum rc scratch_add_folder(struct scratch *s, unsigned *folder, struct slot *slots, size_t n,
			   struct err *err)
{
	char name[32];

	*folder = s->next++;
	for (size_t i = 0; i < n; i++)
		slots[i] = (struct slot){ .fd = -1 };
	snprintf(name, sizeof(name), "%u", *folder);
	if (mkdirat(s->fd, name, 0755))
		return err_errno(err, RC_RETRY, "system", "make %s/%s", s->path, name);
	for (size_t i = 0; i < n; i++) {
		scratch_slot_name(*folder, i, name);
		slots[i].fd = openat(s->fd, name, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0644);
		if (slots[i].fd < 0) {
			enum rc rc = err_errno(err, RC_RETRY, "system", "make %s/%s", s->path, name);

			scratch_drop_folder(s, *folder, slots, n);
			return rc;
		}
	}
	return RC_OK;
}

void scratch_drop_folder(struct scratch *s, unsigned folder, struct slot *slots, size_t n)
{
	char name[32];

	for (size_t i = 0; i < n; i++) {
		if (slots[i].fd < 0)
			continue;
		scratch_free(s, &slots[i]);
		close(slots[i].fd);
		slots[i].fd = -1;
	}
	snprintf(name, sizeof(name), "%u", folder);
	durable_remove_tree(s->fd, name);
}

/* There would not be room even if nobody else used any. */
static bool too_big(const struct scratch *s, uint64_t bytes, int error)
{
	struct statvfs room;

	return error == EFBIG || (!fstatvfs(s->fd, &room) &&
				  bytes > (uint64_t)room.f_blocks * room.f_frsize);
}

enum rc scratch_reserve(struct scratch *s, struct slot *slot, uint64_t bytes, struct err *err)
{
	scratch_free(s, slot);
	if (s->used && s->used + bytes > s->budget)
		return err_set(err, RC_RETRY, "busy", "page files use their whole budget");
	if (ftruncate(slot->fd, (off_t)bytes) || fallocate(slot->fd, 0, 0, (off_t)bytes)) {
		int error = errno;

		(void)!ftruncate(slot->fd, 0);
		errno = error;
		if (s->used || !too_big(s, bytes, error))
			return err_errno(err, RC_RETRY, s->used ? "busy" : "system",
					 "room for a page file in %s", s->path);
		return err_errno(err, RC_FAILED, "limit:scratch-mebibytes",
				 "a page image of %llu MiB does not fit into %s",
				 (unsigned long long)(bytes >> 20), s->path);
	}
	slot->bytes = bytes;
	s->used += bytes;
	return RC_OK;
}

void scratch_trim(struct scratch *s, struct slot *slot, uint64_t bytes)
{
	if (bytes >= slot->bytes || ftruncate(slot->fd, (off_t)bytes))
		return;
	s->used -= slot->bytes - bytes;
	slot->bytes = bytes;
}

void scratch_free(struct scratch *s, struct slot *slot)
{
	if (!slot->bytes)
		return;
	(void)!ftruncate(slot->fd, 0);
	s->used -= slot->bytes;
	slot->bytes = 0;
}
