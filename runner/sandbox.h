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
 *   model      allow-list, kill; threads    read: the model's folder, page folder
 *   write      allow-list, kill             create and write beneath one folder
 *   command    deny-list (foreign code)     read and execute: system, its program; read: pages
 *   model-cuda deny-list (NVIDIA's driver   read: system libraries, the model's folder, page folder; write:
 *              is in the process)           the GPU's device nodes; no processes, no programs
 *   supervisor deny-list (no sockets)       write: spool, page folder; execute: our programs
 *
 * A child inherits its parent's filter and Landlock rules and can only add to them: what a child
 * needs, the supervisor's rules must give.  A dynamic program needs `execute` for its loader too.
 *
 * Kernels: Landlock ABI 2 (Linux 5.19) is enough for every kind; what it does not cover yet
 * (truncation, TCP, signals, abstract sockets) the filters do.  The price below ABI 6 (Linux 6.12):
 * a foreign recogniser cannot signal its own children either.
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
	SANDBOX_MODEL,
	SANDBOX_WRITE,
	SANDBOX_COMMAND,
	SANDBOX_MODEL_CUDA,
	SANDBOX_SUPERVISOR,
	SANDBOX_KINDS,
};

/* Paths are NULL-terminated arrays, or NULL for none; a path that does not exist is skipped. */
struct sandbox_rules {
	const char *const *read;    /* beneath these: read files, list folders */
	const char *const *execute; /* beneath these: also execute */
	const char *const *write;   /* beneath these: read, write, create, rename, remove; a device
				     * node that is named itself also takes ioctl */
	const char *const *change;  /* beneath these: read, and write to files that are there */
	const char *const *remove;  /* beneath these: remove empty folders */
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
 * what the kernel has is used. state may be NULL. In a build with AddressSanitizer it does nothing:
 * the two exclude each other. */
enum rc sandbox_enter(enum sandbox_kind kind, const struct sandbox_rules *rules, bool require,
		      struct sandbox_state *state, struct err *err);

/* How a program takes it when a layer is missing: --sandbox=on|try|off. */
enum sandbox_mode {
	SANDBOX_ON,  /* refuse to work */
	SANDBOX_TRY, /* use what the kernel has */
	SANDBOX_OFF, /* for debugging */
};

enum sandbox_mode sandbox_mode_parse(const char *word); /* or exits with a usage error */
/* For require_sandbox; off in a build with AddressSanitizer. */
enum sandbox_mode sandbox_mode_of(bool require);
const char *sandbox_mode_option(enum sandbox_mode mode); /* "--sandbox=on" */
/* sandbox_enter(), ending the process where it fails. */
void sandbox_enter_or_die(enum sandbox_kind kind, const struct sandbox_rules *rules,
			  enum sandbox_mode mode);

/* Move this process and its later children into an empty network namespace; where that takes a
 * user namespace, the caller's own uid and gid are mapped to themselves. Single-threaded.
 * RC_RETRY, with the reason in err, where the system does not allow it; RC_FATAL when it stopped
 * half-way, and the process must not go on. RC_OK as well where there is nothing but a loopback
 * device already. */
enum rc sandbox_leave_network(struct err *err);

/* Landlock ABI of the running kernel, 0 without Landlock. $CLOISTER_TEST_LANDLOCK_ABI can lower it,
 * so that tests see what an older kernel would do. */
int sandbox_landlock_abi(void);

/* Close every descriptor from `first` on, but those in keep[]. */
void sandbox_close_from(int first, const int *keep, size_t n_keep);

const char *sandbox_kind_name(enum sandbox_kind kind);

#endif
