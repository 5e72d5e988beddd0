/* SPDX-License-Identifier: MIT */
#include "lease.h"
#include "durable.h"
#include "loop.h"
#include "base/log.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <unistd.h>

#define TRIES_MAX 10

struct heartbeat {
	unsigned long long counter;
	char boot[40];
	unsigned long long pidns;
	int pid;
	unsigned long long starttime;
};

static unsigned long long own_pidns(void)
{
	struct stat st;

	return stat("/proc/self/ns/pid", &st) ? 0 : (unsigned long long)st.st_ino;
}

static void boot_id(char id[40])
{
	int fd = open("/proc/sys/kernel/random/boot_id", O_RDONLY | O_CLOEXEC);
	ssize_t n = fd < 0 ? -1 : read(fd, id, 36);

	if (fd >= 0)
		close(fd);
	if (n != 36)
		strcpy(id, "unknown");
	else
		id[36] = '\0';
}

#define UNKNOWN_TIME (~0ull)

/* Field 22 of /proc/PID/stat (proc(5)); 0 when there is no such process, UNKNOWN_TIME when it cannot be
 * read: nobody must be taken for dead because we are out of descriptors. The name in field 2 may
 * hold anything, so counting starts behind its last ')'. */
static unsigned long long start_time(int pid)
{
	char path[64], text[1024];
	unsigned long long value = 0;
	ssize_t n;
	char *p;
	int fd;

	snprintf(path, sizeof(path), "/proc/%d/stat", pid);
	fd = open(path, O_RDONLY | O_CLOEXEC);
	if (fd < 0)
		return errno == ENOENT ? 0 : UNKNOWN_TIME;
	n = read(fd, text, sizeof(text) - 1);
	if (n <= 0)
		value = n < 0 && errno == ESRCH ? 0 : UNKNOWN_TIME;
	close(fd);
	if (n <= 0)
		return value;
	text[n] = '\0';
	p = strrchr(text, ')');
	for (int field = 2; p && field < 22; field++)
		p = strchr(p + 1, ' ');
	if (p)
		sscanf(p, " %llu", &value);
	return value;
}

static enum rc write_beat(struct lease *l, struct err *err)
{
	char boot[40], text[160];

	boot_id(boot);
	snprintf(text, sizeof(text), "%llu %s %llu %d %llu\n", (unsigned long long)++l->counter, boot,
		 own_pidns(), (int)getpid(), start_time(getpid()));
	return durable_write(l->dir, "hb", text, strlen(text), false, err);
}

/* Others must never see the folder without a heartbeat in it, so it gets its name when it has one.
 * RC_FAILED: somebody took what had been begun for the leavings of a worker that died. */
static enum rc make_folder(struct lease *l, struct err *err)
{
	char fresh[WORKER_NAME_SIZE + 8];
	bool taken = false;

	snprintf(fresh, sizeof(fresh), ".%s", l->name);
	if (mkdirat(l->spool->active, fresh, 0755))
		return err_errno(err, RC_FATAL, "configuration", "make state/active/%s", fresh);
	l->dir = openat(l->spool->active, fresh, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (l->dir >= 0 && write_beat(l, err) != RC_OK) {
		taken = errno == ENOENT;
		if (!taken)
			log_warn("heartbeat: %s", err->text); /* no room: another beat will come */
	}
	if (l->dir >= 0 && !taken &&
	    durable_move(l->spool->active, fresh, l->spool->active, l->name, err) == RC_OK)
		return RC_OK;
	taken |= errno == ENOENT;
	if (l->dir >= 0)
		close(l->dir);
	unlinkat(l->spool->active, fresh, AT_REMOVEDIR);
	return err_set(err, taken ? RC_FAILED : RC_FATAL, "configuration",
		       "make state/active/%s: somebody has removed it, or it cannot be renamed", fresh);
}

enum rc lease_take(struct lease *l, const struct spool *spool, uint64_t lease_seconds,
		   struct err *err)
{
	char host[33] = "host";
	uint32_t random = 0;
	enum rc rc = RC_FAILED;

	gethostname(host, sizeof(host) - 1);
	for (char *p = host; *p; p++)
		if (*p == '/' || *p == '.' || (unsigned char)*p <= ' ')
			*p = '-';
	*l = (struct lease){ .spool = spool,
			     .period = (double)lease_seconds / 6,
			     .lease_seconds = (double)lease_seconds };
	for (int tries = 0; rc == RC_FAILED && tries < TRIES_MAX; tries++) {
		(void)!getrandom(&random, sizeof(random), 0);
		snprintf(l->name, sizeof(l->name), "%.32s.%d.%08x", host, (int)getpid(), random);
		rc = make_folder(l, err);
	}
	l->next_beat = loop_now() + l->period;
	return rc;
}

void lease_beat(struct lease *l, double now)
{
	struct err err;

	if (now < l->next_beat)
		return;
	l->next_beat = now + l->period;
	if (write_beat(l, &err) == RC_OK)
		return;
	if (errno == ENOENT || errno == ESTALE)
		die(EX_WORK_REMAINS, "this worker was declared dead by another one; stopping");
	log_warn("heartbeat: %s", err.text);
}

static struct lease_other *find_other(const struct lease *l, const char *name)
{
	for (size_t i = 0; i < l->n_others; i++)
		if (!strcmp(l->others[i].name, name))
			return &l->others[i];
	return NULL;
}

/* By its folder, not by what we have judged so far: one that has only just started, on another machine,
 * must not lose what it works on. */
bool lease_alive(const struct lease *l, const char *worker)
{
	return !faccessat(l->spool->active, worker, F_OK, AT_SYMLINK_NOFOLLOW) || errno != ENOENT;
}

static bool read_beat(int dir, struct heartbeat *beat)
{
	char text[200];
	ssize_t n;
	int fd = openat(dir, "hb", O_RDONLY | O_NOFOLLOW | O_CLOEXEC);

	*beat = (struct heartbeat){ 0 };
	if (fd < 0)
		return false;
	n = read(fd, text, sizeof(text) - 1);
	close(fd);
	if (n <= 0)
		return false;
	text[n] = '\0';
	return sscanf(text, "%llu %39s %llu %d %llu", &beat->counter, beat->boot, &beat->pidns,
		      &beat->pid, &beat->starttime) == 5;
}

/* What we can tell at once of a process that ran where we can look for it. */
static enum fate { ALIVE, GONE, UNKNOWN } look_here(const struct heartbeat *beat)
{
	unsigned long long now = start_time(beat->pid);
	char boot[40];

	boot_id(boot);
	if (now == UNKNOWN_TIME || beat->starttime == UNKNOWN_TIME || strcmp(boot, beat->boot) || !strcmp(boot, "unknown") || beat->pidns != own_pidns() ||
	    !beat->pidns)
		return UNKNOWN;
	return now == beat->starttime ? ALIVE : GONE;
}

static bool holds_tokens(int worker)
{
	int fd = openat(worker, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	DIR *dir = fd < 0 ? NULL : fdopendir(fd);
	bool found = false;

	for (struct dirent *e; dir && !found && (e = readdir(dir));) {
		char key[KEY_SIZE];
		unsigned attempt;

		found = token_name_parse(e->d_name, key, &attempt, NULL);
	}
	if (dir)
		closedir(dir);
	return found;
}

/* With a token that could not be moved the folder stays, and the heartbeat in it tells the next run
 * that we are gone. */
void lease_drop(struct lease *l)
{
	if (holds_tokens(l->dir)) {
		log_warn("state/active/%s still holds documents; the next run takes them back", l->name);
	} else {
		unlinkat(l->dir, "hb", 0);
		if (unlinkat(l->spool->active, l->name, AT_REMOVEDIR) && errno != ENOENT)
			log_warn("remove state/active/%s: %s", l->name, strerror(errno));
	}
	close(l->dir);
	free(l->others);
	*l = (struct lease){ .dir = -1 };
}

static bool is_dead(struct lease *l, const char *name, int dir, double now)
{
	struct lease_other *other = find_other(l, name);
	struct heartbeat beat;
	bool readable = read_beat(dir, &beat);
	enum fate fate = readable ? look_here(&beat) : UNKNOWN;

	if (fate == GONE)
		return true;
	if (!other) {
		l->others = xrealloc(l->others, (l->n_others + 1) * sizeof(*l->others));
		other = &l->others[l->n_others++];
		*other = (struct lease_other){ .counter = beat.counter,
					       .changed = now,
					       .doubtful = holds_tokens(dir) };
		snprintf(other->name, sizeof(other->name), "%.*s", WORKER_NAME_SIZE - 1, name);
	}
	other->seen = true;
	if (readable && other->counter != beat.counter) {
		other->counter = beat.counter;
		other->changed = now;
		other->doubtful = false;
	}
	if (fate == ALIVE)
		other->doubtful = false;
	return now - other->changed > l->lease_seconds;
}

bool lease_in_doubt(const struct lease *l)
{
	for (size_t i = 0; i < l->n_others; i++)
		if (l->others[i].doubtful)
			return true;
	return false;
}

/* Tokens first, the heartbeat last: a second judge that comes in between finds nothing to do. A
 * token that could not be moved stays, and its folder with it. */
static void bury(struct lease *l, const char *name, int fd,
		 void (*orphan)(int dirfd, const char *name, void *arg), void *arg)
{
	DIR *dir = fdopendir(dup(fd));

	log_warn("worker %s is dead; taking its documents back", name);
	for (struct dirent *e; dir && (e = readdir(dir));)
		if (e->d_name[0] != '.' && strcmp(e->d_name, "hb"))
			orphan(fd, e->d_name, arg);
	if (dir)
		closedir(dir);
	if (!holds_tokens(fd))
		durable_remove_tree(l->spool->active, name);
}

/* A folder without even a heartbeat was given up by a worker that could not remove it any more, or
 * by one that died when it started (those have a dot). One that is only just starting tries again. */
static bool remove_empty(int top, const char *name)
{
	char part[WORKER_NAME_SIZE + 16];

	if (name[0] == '.') {
		snprintf(part, sizeof(part), "%.*s/.hb.part", WORKER_NAME_SIZE, name);
		unlinkat(top, part, 0);
	}
	return !unlinkat(top, name, AT_REMOVEDIR);
}

unsigned lease_reap(struct lease *l, double now,
		    void (*orphan)(int dirfd, const char *name, void *arg), void *arg)
{
	int top = openat(l->spool->active, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	DIR *dir = top < 0 ? NULL : fdopendir(top);
	unsigned dead = 0;
	size_t kept = 0;

	for (size_t i = 0; i < l->n_others; i++)
		l->others[i].seen = false;
	for (struct dirent *e; dir && (e = readdir(dir));) {
		int fd;

		if (!strcmp(e->d_name, ".") || !strcmp(e->d_name, "..") ||
		    !strcmp(e->d_name, l->name) || strlen(e->d_name) >= WORKER_NAME_SIZE ||
		    remove_empty(top, e->d_name))
			continue;
		fd = openat(top, e->d_name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
		if (fd < 0)
			continue;
		if (is_dead(l, e->d_name, fd, now)) {
			struct lease_other *other = find_other(l, e->d_name);

			if (other)
				other->seen = false;
			bury(l, e->d_name, fd, orphan, arg);
			dead++;
		}
		close(fd);
	}
	if (dir)
		closedir(dir);
	for (size_t i = 0; i < l->n_others; i++)
		if (l->others[i].seen)
			l->others[kept++] = l->others[i];
	l->n_others = kept;
	return dead;
}
