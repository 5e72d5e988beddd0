/* SPDX-License-Identifier: MIT
 *
 * durable: the one place where bytes are made to survive a power cut.
 *
 * Every fsync, and every rename that a promise rests on, goes through these functions; nothing else
 * in the tree calls fsync, fdatasync or rename.  A failed fsync ends the process (PostgreSQL's
 * rule): the kernel may have dropped the dirty pages, so a second call that succeeds proves nothing.
 * CLOISTER_TEST_FSYNC=off switches syncing off, for the test that shows that it is needed.
 */
#ifndef RUNNER_DURABLE_H
#define RUNNER_DURABLE_H

#include "base/err.h"

#include <stdbool.h>
#include <stddef.h>

/* Sync a file or folder; name is for the message of the death that failure means. */
void durable_sync(int fd, const char *name);

/* Create `name` in dirfd with this content by way of NAME.part: synced, then renamed into place,
 * replacing what was there. With `sync` false it is only atomic, not durable. */
enum rc durable_write(int dirfd, const char *name, const void *data, size_t len, bool sync,
		      struct err *err);

/* rename(2), never replacing a file: RC_RETRY with reason "exists" when `to` is there (a folder
 * that is not empty, or any file); "stale" when it is said to be there and cannot be seen: another machine
 * has just made it, and it will show. Works where RENAME_NOREPLACE does not, and finishes a move of
 * such a file system that was cut short between its two steps. */
enum rc durable_move(int from_dirfd, const char *from, int to_dirfd, const char *to,
		     struct err *err);

/* rename(2) that replaces. */
enum rc durable_replace(int from_dirfd, const char *from, int to_dirfd, const char *to,
			struct err *err);

/* Create every missing folder of a relative path beneath dirfd and sync each one's parent;
 * symbolic links in the path are refused. Returns an O_PATH-less, readable descriptor of the last
 * one, which the caller closes; -1 and err otherwise. */
int durable_mkdirs(int dirfd, const char *path, struct err *err);

/* Remove a folder and what is in it; links are removed, not followed. Best effort: what is left is for
 * the next sweep. A folder in it gets another name before it is emptied: whoever is about to rename
 * that one into place, a worker that was stopped for longer than its lease, gets all of it or nothing. */
void durable_remove_tree(int dirfd, const char *name);

#endif
