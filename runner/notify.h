/* SPDX-License-Identifier: MIT
 *
 * notify: tells the service manager how the run gets on (sd_notify(3)): systemd with Type=notify,
 * Podman with --sdnotify=container.  Without $NOTIFY_SOCKET every call does nothing.
 */
#ifndef RUNNER_NOTIFY_H
#define RUNNER_NOTIFY_H

#include <stdbool.h>

#define NOTIFY_STATUS_MAX 256

struct notify {
	int fd;           /* -1: nobody listens */
	double every;     /* seconds from one sign of life to the next; 0: none is wanted */
	double next_sign, next_status;
	char status[NOTIFY_STATUS_MAX]; /* as told last */
};

/* Before the sandbox, which allows no such socket afterwards. */
void notify_open(struct notify *n);
void notify_ready(struct notify *n);
/* Call at least once a second: a sign of life, and the status line when it has changed. */
void notify_tick(struct notify *n, const char *status, double now);
void notify_stopping(struct notify *n);
void notify_close(struct notify *n);

#endif
