/* SPDX-License-Identifier: MIT */
#include "loop.h"
#include "base/err.h"

#include <errno.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>
#include <stdlib.h>

#define EVENTS_A_TURN 64

void loop_init(struct loop *l)
{
	*l = (struct loop){ .epoll = epoll_create1(EPOLL_CLOEXEC) };
	if (l->epoll < 0)
		die(EX_BUG, "epoll_create1: %s", strerror(errno));
}

static void on_corpse(void *arg)
{
	struct loop_corpse *corpse = arg, **link = &corpse->loop->corpses;

	if (waitpid(corpse->pid, NULL, WNOHANG) == 0)
		return;
	while (*link != corpse)
		link = &(*link)->next;
	*link = corpse->next;
	loop_unwatch(corpse->loop, corpse->pidfd);
	close(corpse->pidfd);
	free(corpse);
}

void loop_bury(struct loop *l, int pid, int pidfd)
{
	struct loop_corpse *corpse = xmalloc(sizeof(*corpse));

	*corpse = (struct loop_corpse){ .next = l->corpses, .loop = l, .pid = pid, .pidfd = pidfd };
	l->corpses = corpse;
	loop_watch(l, pidfd, on_corpse, corpse);
}

void loop_mourn(struct loop *l)
{
	while (l->corpses) {
		struct loop_corpse *corpse = l->corpses;

		while (waitpid(corpse->pid, NULL, 0) < 0 && errno == EINTR)
			;
		l->corpses = corpse->next;
		loop_unwatch(l, corpse->pidfd);
		close(corpse->pidfd);
		free(corpse);
	}
}

void loop_release(struct loop *l)
{
	loop_mourn(l);
	close(l->epoll);
	free(l->entries);
	*l = (struct loop){ .epoll = -1 };
}

static void watch(struct loop *l, int fd, uint32_t events, loop_handler *handler, void *arg)
{
	struct epoll_event event = { .events = events, .data.fd = fd };

	if (fd >= l->n_entries) {
		int n = fd + 16;

		l->entries = xrealloc(l->entries, (size_t)n * sizeof(*l->entries));
		memset(l->entries + l->n_entries, 0,
		       (size_t)(n - l->n_entries) * sizeof(*l->entries));
		l->n_entries = n;
	}
	l->entries[fd] = (struct loop_entry){ handler, arg };
	if (epoll_ctl(l->epoll, EPOLL_CTL_ADD, fd, &event))
		die(EX_BUG, "watch descriptor %d: %s", fd, strerror(errno));
}

void loop_watch(struct loop *l, int fd, loop_handler *handler, void *arg)
{
	watch(l, fd, EPOLLIN, handler, arg);
}

void loop_watch_room(struct loop *l, int fd, loop_handler *handler, void *arg)
{
	watch(l, fd, EPOLLOUT, handler, arg);
}

void loop_unwatch(struct loop *l, int fd)
{
	if (fd < 0 || fd >= l->n_entries || !l->entries[fd].handler)
		return;
	l->entries[fd] = (struct loop_entry){ 0 };
	epoll_ctl(l->epoll, EPOLL_CTL_DEL, fd, NULL);
}

void loop_turn(struct loop *l, int timeout_ms)
{
	struct epoll_event events[EVENTS_A_TURN];
	int n = epoll_wait(l->epoll, events, EVENTS_A_TURN, timeout_ms);

	if (n < 0 && errno != EINTR)
		die(EX_BUG, "epoll_wait: %s", strerror(errno));
	for (int i = 0; i < n; i++) {
		int fd = events[i].data.fd;

		/* An earlier handler of this turn may have unwatched it. */
		if (l->entries[fd].handler)
			l->entries[fd].handler(l->entries[fd].arg);
	}
}

void loop_ignore(void *arg)
{
	(void)arg;
}

double loop_now(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return (double)now.tv_sec + (double)now.tv_nsec / 1e9;
}
