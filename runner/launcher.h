/* SPDX-License-Identifier: MIT
 *
 * launcher: starts what cannot be started from behind the supervisor's sandbox: containers, and recognisers
 * that shall have no sandbox.
 *
 * It is a process of its own, made before the supervisor locks itself, and only where cloister.yaml allows
 * such things.  It takes orders from the supervisor's children alone, over a socket that nobody else has.
 * A child of the supervisor stands for each program that it starts (launcher_proxy): the supervisor sees a
 * child like any other, with a leash.  All that was started is gone before the launcher ends.
 */
#ifndef RUNNER_LAUNCHER_H
#define RUNNER_LAUNCHER_H

#include "base/err.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

struct launcher {
	pid_t pid;
	int fd; /* -1: there is none */
};

#define LAUNCHER_NONE { .fd = -1 }

/* Where the settings allow what needs it; else there is none. Before this process locks itself. */
struct config;
enum rc launcher_start(struct launcher *l, const struct config *config, struct err *err);
/* Waits until all that it started is gone. */
void launcher_stop(struct launcher *l);

/* How a program is started by it; all borrowed. */
struct launch {
	const struct launcher *launcher;
	bool own_env;	     /* argv is a container's client: it has the launcher's environment */
	const char *const *at_end; /* keeper.h */
	uint64_t memory_bytes; /* RLIMIT_DATA; 0: none */
};

/* In the supervisor's child: stand for the program; ends as it does. std: its 0, 1 and 2. */
struct child_spec;
void launcher_proxy(const struct launch *launch, const struct child_spec *spec, const int std[3], int leash)
	__attribute__((noreturn));

#endif
