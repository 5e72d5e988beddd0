/* SPDX-License-Identifier: MIT
 *
 * child: one program of the family, its three pipes, and its end.
 *
 * A child gets descriptors 0, 1, 2 and those listed, nothing else; a small fixed environment; its
 * own process group; and it dies with the supervisor.  One that is kept on a leash (keeper.h) has all that it
 * started die with it, however far that went.  Its standard error is hostile text: bounded,
 * the last lines are kept for the message that explains a death, each is logged at debug level.
 */
#ifndef RUNNER_CHILD_H
#define RUNNER_CHILD_H

#include "base/buf.h"
#include "base/err.h"
#include "base/lines.h"
#include "loop.h"
#include "sandbox.h"

#include <jansson.h>
#include <stdbool.h>
#include <stddef.h>
#include <sys/types.h>

#define CHILD_STDERR_MAX (100u << 10)

struct child {
	const char *name; /* for messages; borrowed */
	pid_t pid;        /* 0: not running */
	int leash;        /* let go to have it killed; -1: it has none, or not any more */
	bool kept;        /* it had one: pid is the keeper's */
	int pidfd;
	int in, out, err; /* our ends; -1 when closed. All non-blocking. */
	struct lines lines;
	struct buf unsent; /* messages that the pipe had no room for yet */
	bool waits;        /* for room */
	bool closing;      /* `in`, once all is sent */
	struct buf tail;   /* last part of standard error */
	size_t err_bytes;
	struct loop *loop;
};

/* What tells foreign libraries to stay offline, "NAME=VALUE"; every child has it. NULL-terminated. */
extern const char *const child_offline[];

struct child_fd {
	int from, to; /* our descriptor, its number in the child */
};

struct child_spec {
	const char *name;
	const char *const *argv; /* argv[0] is an absolute path */
	const struct child_fd *fds;
	size_t n_fds;
	size_t max_line;                   /* of its standard output */
	const struct sandbox_rules *rules; /* put it under SANDBOX_COMMAND before exec; or NULL */
	bool require_sandbox;
	const char *cwd; /* NULL: the root folder */
	const char *const *env; /* "NAME=VALUE", more than all have, or instead; "NAME": without it.
				 * NULL-terminated; or NULL */
	bool leashed;           /* with a keeper */
	uint64_t data_bytes;    /* RLIMIT_DATA; 0: no limit */
	const struct launch *launch; /* by whom it is started; or NULL: from here. Implies leashed */
	int priority;    /* nice(2) increment */
};

#define CHILD_ENV_MAX 64
/* The environment of a child, with `more` on top. Nothing of it is freed: for a process that execs. */
void child_env(char **env, const char *const *more);

/* Start it, and watch: on_line when standard output can be read (call child_line until it is not
 * LINES_ONE), on_exit when the process has ended. Both get `arg`. RC_RETRY when the system lacks
 * something (processes, descriptors). */
enum rc child_start(struct child *c, struct loop *loop, const struct child_spec *spec,
		    loop_handler *on_line, loop_handler *on_exit, void *arg, struct err *err);

/* Next line of its standard output. After LINES_ERROR it is killed, and on_exit called. */
enum lines_status child_line(struct child *c, char **line, size_t *len);

/* Send a message (json: consumed). What the pipe has no room for follows as the child reads. A child
 * that cannot be written to is killed, and on_exit called. */
void child_tell(struct child *c, json_t *json);
/* The same, or nothing at all. false: the child has not read what it was sent before, or is ending. */
bool child_send(struct child *c, json_t *json);
/* No more messages: most children then end by themselves. */
void child_close_in(struct child *c);
/* Stop watching standard output, as backpressure; and start again. */
void child_pause(struct child *c);
void child_resume(struct child *c, loop_handler *on_line, void *arg);

/* To be called by on_exit: true when it has ended, with wait status; false = called for nothing. */
bool child_reap(struct child *c, int *status);

/* SIGKILL to its whole group, and release everything; the loop waits for its end. Also after
 * child_reap(). */
void child_kill(struct child *c);

/* Limit CPU seconds from now on (RLIMIT_CPU counts from the process's start). */
void child_limit_cpu(const struct child *c, unsigned seconds);

/* One line on how it ended, with the last line it said: "ended by signal 11 (Segmentation fault)". */
void child_describe(const struct child *c, int status, struct buf *out);

#endif
