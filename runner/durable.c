/* SPDX-License-Identifier: MIT */
#include "durable.h"
#include "base/lines.h"
#include "base/log.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

static bool syncing(void)
{
	static int on = -1;

	if (on < 0) {
		const char *value = getenv("CLOISTER_TEST_FSYNC");

		on = !(value && !strcmp(value, "off"));
	}
	return on;
}

void durable_sync(int fd, const char *name)
{
	if (!syncing())
		return;
	while (fsync(fd)) {
		if (errno == EINTR)
			continue;
		/* A file system without fsync on folders (some FUSE ones) says EINVAL: there is no
		 * dirty state to lose. */
		if (errno == EINVAL || errno == EROFS)
			return;
		die(EX_WORK_REMAINS, "sync %s: %s; stopping, because what was written may be lost",
		    name, strerror(errno));
	}
}

enum rc durable_write(int dirfd, const char *name, const void *data, size_t len, bool sync,
		      struct err *err)
{
	char part[300];
	enum rc rc = RC_OK;
	int fd;

	if (snprintf(part, sizeof(part), ".%s.part", name) >= (int)sizeof(part))
		return err_set(err, RC_FAILED, "name-too-long", "write %s: name too long", name);
	fd = openat(dirfd, part, O_WRONLY | O_CREAT | O_TRUNC | O_NOFOLLOW | O_CLOEXEC, 0644);
	if (fd < 0)
		return err_errno(err, RC_RETRY, "write-error", "create %s", name);
	if (write_full(fd, data, len))
		rc = err_errno(err, RC_RETRY, "write-error", "write %s", name);
	else if (sync)
		durable_sync(fd, name);
	if (close(fd) && rc == RC_OK)
		rc = err_errno(err, RC_RETRY, "write-error", "close %s", name);
	if (rc == RC_OK && renameat(dirfd, part, dirfd, name))
		rc = err_errno(err, RC_RETRY, "write-error", "rename %s into place", name);
	if (rc != RC_OK) {
		int error = errno; /* the caller may ask what it was */

		unlinkat(dirfd, part, 0);
		errno = error;
	} else if (sync) {
		durable_sync(dirfd, name);
	}
	return rc;
}

enum rc durable_replace(int from_dirfd, const char *from, int to_dirfd, const char *to,
			struct err *err)
{
	if (renameat(from_dirfd, from, to_dirfd, to))
		return err_errno(err, errno == ENOENT ? RC_FAILED : RC_RETRY,
				 errno == ENOENT ? "vanished" : "rename-error", "rename %s to %s", from,
				 to);
	return RC_OK;
}

/* Of a move in two steps that was cut short between them. */
static bool same_file(int a_dirfd, const char *a, int b_dirfd, const char *b)
{
	struct stat st, other;

	return !fstatat(a_dirfd, a, &st, AT_SYMLINK_NOFOLLOW) && S_ISREG(st.st_mode) &&
	       !fstatat(b_dirfd, b, &other, AT_SYMLINK_NOFOLLOW) && st.st_dev == other.st_dev &&
	       st.st_ino == other.st_ino;
}

/* Without RENAME_NOREPLACE (NFS, FUSE). rename(2) itself refuses a folder that is not empty; for a file
 * link(2) refuses an existing name. 0, or -1 and errno. */
static int move_in_steps(int from_dirfd, const char *from, int to_dirfd, const char *to)
{
	struct stat st;

	if (fstatat(from_dirfd, from, &st, AT_SYMLINK_NOFOLLOW))
		return -1;
	if (!S_ISREG(st.st_mode))
		return renameat(from_dirfd, from, to_dirfd, to);
	if (linkat(from_dirfd, from, to_dirfd, to, 0))
		return -1;
	unlinkat(from_dirfd, from, 0);
	return 0;
}

/* A file system that sends its requests again can report an error for what was done the first time. */
static bool renamed_all_the_same(int from_dirfd, const char *from, int to_dirfd, const char *to)
{
	int error = errno;
	bool done = (error == ENOENT || error == EIO || error == ETIMEDOUT || error == ESTALE) &&
		    !faccessat(to_dirfd, to, F_OK, AT_SYMLINK_NOFOLLOW) &&
		    faccessat(from_dirfd, from, F_OK, AT_SYMLINK_NOFOLLOW) && errno == ENOENT;

	errno = error;
	return done;
}

enum rc durable_move(int from_dirfd, const char *from, int to_dirfd, const char *to,
		     struct err *err)
{
	int failed = renameat2(from_dirfd, from, to_dirfd, to, RENAME_NOREPLACE);

	if (failed && (errno == EINVAL || errno == ENOSYS))
		failed = move_in_steps(from_dirfd, from, to_dirfd, to);
	if (!failed)
		return RC_OK;
	if (errno == EEXIST || errno == ENOTEMPTY) {
		if (same_file(from_dirfd, from, to_dirfd, to)) {
			unlinkat(from_dirfd, from, 0);
			return RC_OK;
		}
		if (faccessat(to_dirfd, to, F_OK, AT_SYMLINK_NOFOLLOW))
			return err_set(err, RC_RETRY, "stale", "%s exists, but cannot be seen yet", to);
		/* Whose it is that lies there, the caller has to look. */
		return err_set(err, RC_RETRY, "exists", "%s exists", to);
	}
	if (renamed_all_the_same(from_dirfd, from, to_dirfd, to))
		return err_set(err, RC_RETRY, "exists", "%s exists", to);
	return err_errno(err, errno == ENOENT ? RC_FAILED : RC_RETRY,
			 errno == ENOENT ? "vanished" : "rename-error", "move %s to %s", from, to);
}

int durable_mkdirs(int dirfd, const char *path, struct err *err)
{
	int fd = openat(dirfd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	const char *p = path;

	while (fd >= 0 && *p) {
		size_t n = strcspn(p, "/");
		char name[256];
		int next = -1;

		if (n == 0) {
			p++;
			continue;
		}
		if (n >= sizeof(name)) {
			close(fd);
			errno = ENAMETOOLONG;
			fd = -1;
			break;
		}
		memcpy(name, p, n);
		name[n] = '\0';
		if (!mkdirat(fd, name, 0755)) {
			durable_sync(fd, path);
			errno = EEXIST;
		}
		if (errno == EEXIST)
			next = openat(fd, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
		close(fd);
		fd = next;
		p += n;
	}
	if (fd < 0)
		err_errno(err, RC_RETRY, "mkdir-error", "make folder %s", path);
	return fd;
}

/* Never emptied under the name it has (durable.h). Where it cannot be renamed it has just been taken. */
static void remove_folder(int dirfd, const char *name)
{
	size_t length = strlen(name);
	char taken[NAME_MAX + 1] = ".";

	if (name[0] != '.' && length < NAME_MAX) {
		memcpy(taken + 1, name, length + 1);
		if (renameat(dirfd, name, dirfd, taken))
			return;
		name = taken;
	}
	durable_remove_tree(dirfd, name);
}

void durable_remove_tree(int dirfd, const char *name)
{
	int fd = openat(dirfd, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	DIR *dir = fd < 0 ? NULL : fdopendir(fd);

	if (!dir) {
		if (fd >= 0)
			close(fd);
		unlinkat(dirfd, name, 0);
		return;
	}
	for (struct dirent *e; (e = readdir(dir));) {
		if (!strcmp(e->d_name, ".") || !strcmp(e->d_name, ".."))
			continue;
		if (unlinkat(fd, e->d_name, 0) && (errno == EISDIR || errno == EPERM))
			remove_folder(fd, e->d_name);
	}
	closedir(dir);
	unlinkat(dirfd, name, AT_REMOVEDIR);
}
