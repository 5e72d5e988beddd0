/* SPDX-License-Identifier: MIT
 *
 * Putting right what a crash or another worker left behind.  There is no recovery tool: this runs at
 * every start and then now and then (promise 9).
 */
#include "document.h"
#include "durable.h"
#include "publish.h"
#include "base/log.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

static bool load_token(const struct token_entry *entry, void *arg)
{
	struct run *run = arg;

	if (entry->state == TOKEN_READY && !path_set_has(&run->parked, entry->path_hash))
		queue_add(&run->queue, entry->priority, entry->pipeline, entry->key, entry->attempt);
	if (run->gatekeeper)
		path_set_add(&run->intake.admitted, entry->path_hash);
	return true;
}

bool run_load_tokens(struct run *run)
{
	unsigned states = 1u << TOKEN_READY;
	struct err err;

	if (run->gatekeeper) {
		states |= 1u << TOKEN_ACTIVE | 1u << TOKEN_DEFERRED | 1u << TOKEN_HOLD;
		intake_forget_tokens(&run->intake);
	}
	queue_clear(&run->queue);
	run->tokens_known = spool_walk_tokens(run->spool, states, load_token, run, &err) == RC_OK;
	if (!run->tokens_known)
		log_warn("%s; trying again", err.text);
	return run->tokens_known;
}

/* From wherever it lies back to ready/, attempts unchanged. false: it is still there. */
static bool make_ready(struct run *run, int dirfd, const char *name)
{
	struct token t;
	struct err err;
	bool moved;
	int ready;

	if (token_read(dirfd, name, &t, &err) != RC_OK) {
		if (!strcmp(err.reason, "token"))
			intake_torn(run, dirfd, name);
		else if (strcmp(err.reason, "vanished"))
			log_warn("%s", err.text);
		return strcmp(err.reason, "unreadable");
	}
	ready = spool_ready_dir(run->spool, t.priority, t.pipeline, &err);
	moved = ready >= 0 && durable_replace(dirfd, name, ready, name, &err) == RC_OK;
	if (moved)
		queue_add(&run->queue, t.priority, t.pipeline, t.key, t.attempt);
	else if (strcmp(err.reason, "vanished"))
		log_warn("token %s: %s", name, err.text);
	if (ready >= 0)
		close(ready);
	token_release(&t);
	return moved || !strcmp(err.reason, "vanished");
}

static void orphan(int dirfd, const char *name, void *arg)
{
	make_ready(arg, dirfd, name);
}

void run_reap_workers(struct run *run)
{
	if (!lease_reap(&run->lease, loop_now(), orphan, run) || !run->gatekeeper)
		return;
	/* The dead may have left attempts at documents that are finished. */
	if (run_load_tokens(run))
		run_sweep_attempts(run);
}

/* A token that could not be moved when its document was given up, for lack of room or descriptors,
 * stays in our folder. Now it may go. */
void run_take_back_strays(struct run *run)
{
	int fd = openat(run->lease.dir, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	DIR *dir = fd < 0 ? NULL : fdopendir(fd);

	if (!dir) {
		if (fd >= 0)
			close(fd);
		return;
	}
	run->strays = 0;
	for (struct dirent *e; (e = readdir(dir));) {
		char key[KEY_SIZE];
		unsigned attempt;

		if (token_name_parse(e->d_name, key, &attempt, NULL) &&
		    !document_holds(run, e->d_name))
			run->strays += !make_ready(run, fd, e->d_name);
	}
	closedir(dir);
}

size_t run_wake_deferred(struct run *run)
{
	int fd = openat(run->spool->deferred, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	DIR *dir = fd < 0 ? NULL : fdopendir(fd);
	time_t now = time(NULL);
	size_t left = 0;

	for (struct dirent *e; dir && (e = readdir(dir));) {
		char key[KEY_SIZE];
		unsigned attempt;
		struct stat st;

		if (!token_name_parse(e->d_name, key, &attempt, NULL) ||
		    fstatat(fd, e->d_name, &st, AT_SYMLINK_NOFOLLOW))
			continue;
		/* A clock that was set back must not make it wait for the time to come again. */
		if (st.st_mtime > now && st.st_mtime <= now + DEFERRED_SECONDS_MAX)
			left++;
		else
			left += !make_ready(run, fd, e->d_name);
	}
	if (dir)
		closedir(dir);
	return left;
}

/* Of an archive whose last members were finished by two workers at a time, or unpacked once more by a
 * machine that did not know that it had been. */
static void sweep_members(struct run *run)
{
	int fd = openat(run->spool->members, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	DIR *dir = fd < 0 ? NULL : fdopendir(fd);

	for (struct dirent *e; dir && (e = readdir(dir));)
		if (e->d_name[0] != '.')
			publish_sweep_members(run, e->d_name);
	if (dir)
		closedir(dir);
}

/* tmp/KEY.WORKER-N */
void run_sweep_attempts(struct run *run)
{
	int fd = openat(run->spool->tmp, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	DIR *dir = fd < 0 ? NULL : fdopendir(fd);

	for (struct dirent *e; dir && run->gatekeeper && (e = readdir(dir));) {
		char worker[WORKER_NAME_SIZE + 16], *dash;
		uint64_t path;

		if (strlen(e->d_name) < KEY_SIZE || e->d_name[KEY_SIZE - 1] != '.' ||
		    strlen(e->d_name + KEY_SIZE) >= sizeof(worker))
			continue;
		strcpy(worker, e->d_name + KEY_SIZE);
		dash = strrchr(worker, '-');
		if (!dash)
			continue;
		*dash = '\0';
		path = strtoull(e->d_name + 40, NULL, 16);
		if (!intake_has_token(&run->intake, path) && !lease_alive(&run->lease, worker))
			durable_remove_tree(fd, e->d_name);
	}
	if (dir)
		closedir(dir);
	if (run->gatekeeper)
		sweep_members(run);
}
