/* SPDX-License-Identifier: MIT
 *
 * loop: waits for descriptors and calls their handlers, over epoll(7).
 *
 * A handler may watch, change and unwatch any descriptor, its own included.  Descriptors must be
 * non-blocking or handlers read once per call: a handler may now and then be called for nothing.
 */
#ifndef RUNNER_LOOP_H
#define RUNNER_LOOP_H

#include <stdint.h>

typedef void loop_handler(void *arg);

struct loop {
	int epoll;
	struct loop_corpse {
		struct loop_corpse *next;
		struct loop *loop;
		int pid, pidfd;
	} *corpses;
	struct loop_entry {
		loop_handler *handler;
		void *arg;
	} *entries; /* by descriptor */
	int n_entries;
};

void loop_init(struct loop *l);
void loop_release(struct loop *l);

/* Call handler(arg) when fd can be read or its other end is closed. */
void loop_watch(struct loop *l, int fd, loop_handler *handler, void *arg);
/* The same, when fd can be written. */
void loop_watch_room(struct loop *l, int fd, loop_handler *handler, void *arg);
/* Before close(fd). */
void loop_unwatch(struct loop *l, int fd);

/* Wait at most timeout_ms (-1: for ever) and call the handlers of what is ready. */
void loop_turn(struct loop *l, int timeout_ms);

/* A process that was killed and needs only to be waited for; takes pidfd over. Ending a process with
 * much memory takes milliseconds that the caller need not wait. */
void loop_bury(struct loop *l, int pid, int pidfd);

/* Wait until all those are gone. */
void loop_mourn(struct loop *l);

/* A handler that does nothing. */
void loop_ignore(void *arg);

/* Seconds of CLOCK_MONOTONIC. */
double loop_now(void);

#endif
