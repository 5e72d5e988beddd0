/* SPDX-License-Identifier: MIT
 *
 * notify: sd_notify(3)'s protocol, spoken here because it is a datagram of one KEY=VALUE line, and
 * libsystemd would bring much else into the supervisor.
 *
 * The socket is connected when it is made, so that what follows is send() without an address, which
 * the supervisor's filter lets pass.  It is non-blocking: a manager that does not read must not
 * hold up the run, and the next message says it again.  No child has it or its name.
 */
#include "notify.h"
#include "base/log.h"
#include "base/num.h"

#include <errno.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#define STATUS_SECONDS 1.0

static double watchdog_seconds(void)
{
	const char *usec = getenv("WATCHDOG_USEC"), *pid = getenv("WATCHDOG_PID");
	uint64_t value;

	if (!usec || !parse_u64(usec, UINT64_MAX, &value) ||
	    (pid && strtol(pid, NULL, 10) != (long)getpid()))
		return 0;
	return (double)value / 1e6;
}

void notify_open(struct notify *n)
{
	const char *name = getenv("NOTIFY_SOCKET");
	struct sockaddr_un address = { .sun_family = AF_UNIX };
	size_t len = name ? strlen(name) : 0;

	*n = (struct notify){ .fd = -1 };
	if (!len)
		return;
	if ((*name != '/' && *name != '@') || len >= sizeof(address.sun_path)) {
		log_warn("NOTIFY_SOCKET: %s is neither a path nor an abstract name", name);
		return;
	}
	memcpy(address.sun_path, name, len);
	if (*name == '@')
		address.sun_path[0] = '\0';
	n->fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	if (n->fd < 0 || connect(n->fd, (struct sockaddr *)&address,
				 (socklen_t)(offsetof(struct sockaddr_un, sun_path) + len))) {
		log_warn("NOTIFY_SOCKET %s: %s", name, strerror(errno));
		notify_close(n);
		return;
	}
	n->every = watchdog_seconds() / 2;
}

static bool tell(struct notify *n, const char *message)
{
	return n->fd >= 0 && send(n->fd, message, strlen(message), MSG_NOSIGNAL) >= 0;
}

void notify_ready(struct notify *n)
{
	tell(n, "READY=1");
}

void notify_tick(struct notify *n, const char *status, double now)
{
	if (n->fd < 0)
		return;
	if (n->every > 0 && now >= n->next_sign && tell(n, "WATCHDOG=1"))
		n->next_sign = now + n->every;
	if (now >= n->next_status && strcmp(status, n->status)) {
		char message[NOTIFY_STATUS_MAX + sizeof("STATUS=")];

		snprintf(message, sizeof(message), "STATUS=%s", status);
		if (tell(n, message))
			snprintf(n->status, sizeof(n->status), "%s", status);
		n->next_status = now + STATUS_SECONDS;
	}
}

void notify_stopping(struct notify *n)
{
	tell(n, "STOPPING=1");
}

void notify_close(struct notify *n)
{
	if (n->fd >= 0)
		close(n->fd);
	n->fd = -1;
}
