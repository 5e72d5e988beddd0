/* SPDX-License-Identifier: MIT
 *
 * sandbox: what each process kind may do, and the locks that hold it to that.
 *
 * A process warms up (fonts, code pages, data files), then calls sandbox_enter() once, single-
 * threaded, before it reads its first hostile byte.  Layers, from DESIGN.md section 5:
 * no_new_privs, rlimits, Landlock (by the ABI the kernel has), seccomp.  There is no way back.
 *
 *   kind       seccomp                      files
 *   decode     allow-list, kill             read: fonts, poppler-data; nothing may be written
 *   unpack     allow-list, kill             none: openat answers ENOENT
 *   tesseract  allow-list, kill             read: tessdata, page folder
 *   write      allow-list, kill             create and write beneath one folder
 *   command    deny-list (foreign code)     read and execute: system, its program; read: pages
 *   supervisor deny-list (no sockets)       write: spool, page folder; execute: our programs
 */
#ifndef RUNNER_SANDBOX_H
#define RUNNER_SANDBOX_H

#include "base/err.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum sandbox_kind {
	SANDBOX_DECODE,
	SANDBOX_UNPACK,
	SANDBOX_TESSERACT,
	SANDBOX_WRITE,
	SANDBOX_COMMAND,
	SANDBOX_SUPERVISOR,
	SANDBOX_KINDS,
};

/* Paths are NULL-terminated arrays, or NULL for none; a path that does not exist is skipped. */
struct sandbox_rules {
	const char *const *read;    /* beneath these: read files, list folders */
	const char *const *execute; /* beneath these: also execute */
	const char *const *write;   /* beneath these: read, write, create, rename, remove */
	int write_fd;               /* as `write`, for an open folder; -1 for none */
	uint64_t memory_bytes;      /* RLIMIT_AS; 0 leaves it alone */
	uint64_t file_bytes;        /* RLIMIT_FSIZE; 0 forbids writing files at all for parsers */
	unsigned open_files;        /* RLIMIT_NOFILE; 0 leaves it alone */
};

/* Layers that are in force after sandbox_enter(). */
struct sandbox_state {
	int landlock_abi; /* 0: the kernel has no Landlock */
	bool seccomp;
	bool no_new_privs;
};

/* Lock this process down. `require`: a missing layer is RC_FATAL with reason "sandbox"; otherwise
 * what the kernel has is used. state may be NULL. */
enum rc sandbox_enter(enum sandbox_kind kind, const struct sandbox_rules *rules, bool require,
		      struct sandbox_state *state, struct err *err);

/* Move this process and its later children into an empty network namespace; where that takes a
 * user namespace, the caller's own uid and gid are mapped to themselves. Single-threaded.
 * RC_RETRY, with the reason in err, where the system does not allow it. */
enum rc sandbox_leave_network(struct err *err);

/* Landlock ABI of the running kernel, 0 without Landlock. */
int sandbox_landlock_abi(void);

/* Close every descriptor from `first` on, but those in keep[]. */
void sandbox_close_from(int first, const int *keep, size_t n_keep);

const char *sandbox_kind_name(enum sandbox_kind kind);

#endif
