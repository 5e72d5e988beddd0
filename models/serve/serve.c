/* SPDX-License-Identifier: MIT
 *
 * serve: requests in, results out, tokens between.
 *
 * One thread reads requests between two steps of the engine and takes in at most one page a step,
 * so that a page that arrives holds up those being written only for as long as its picture takes; with eyes,
 * for as long as the tower does, and on a GPU, where the tower looks at pages beside the steps, hardly at all.
 * When there is nothing to do it sleeps in poll(), or, while the eyes alone have something to do, for a moment.
 *
 * A pass of such a tower takes what is ready, and waits for nobody: pages have company when they come while
 * those of earlier passes are not with the engine yet.
 */
#include "serve.h"

#include "eyes.h"

#include "airlock.h"
#include "base/lines.h"

#include <errno.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { LOOK_MILLISECONDS = 5 };

struct queue {
	struct job **job;
	size_t count, cap;
};

static void queue_add(struct queue *q, struct job *job)
{
	if (q->count == q->cap) {
		q->cap = q->cap ? 2 * q->cap : 16;
		q->job = xrealloc(q->job, q->cap * sizeof(struct job *));
	}
	q->job[q->count++] = job;
}

static struct job *queue_take(struct queue *q, size_t i)
{
	struct job *job = q->job[i];

	memmove(q->job + i, q->job + i + 1, (--q->count - i) * sizeof(struct job *));
	return job;
}

struct loop {
	struct server *server;
	struct lines lines;
	/* ready: their pages are patches; looking: at their pages, the tower is */
	struct queue waiting, ready, looking, running;
	uint64_t next, passes;
	bool ended; /* standard input has */
};

static void read_requests(struct loop *l, bool wait)
{
	struct pollfd in = {.fd = STDIN_FILENO, .events = POLLIN};
	enum lines_status status;
	char *line;
	size_t len;

	while (!l->ended) {
		status = lines_next(&l->lines, &line, &len);
		if (status == LINES_ERROR)
			die(EX_BUG, "read request: %s", strerror(errno));
		if (status == LINES_EOF)
			l->ended = true;
		if (status == LINES_ONE) {
			queue_add(&l->waiting, job_new(l->next++, line, len));
			wait = false;
		}
		if (status == LINES_AGAIN) {
			if (!wait)
				return;
			poll(&in, 1, -1);
		}
	}
}

/* Is there a place for what the tower sees next? Where passes are under way beside the steps, they end when
 * all their pages are with the engine. */
static bool can_look(const struct loop *l)
{
	unsigned looks = l->server->model.compute->looks;

	if (!looks)
		return l->running.count + l->looking.count < l->server->sequences;
	return !l->looking.count || l->passes - job_pass(l->looking.job[0]) < looks;
}

/* Pages become patches: ahead, by the eyes, or here, one when there is a place for it. */
static void take_in(struct loop *l)
{
	struct eyes *eyes = l->server->eyes;
	bool idle = !l->running.count && !l->looking.count && !l->ready.count;
	struct job *job;

	while (eyes && l->waiting.count && !eyes_full(eyes, l->ready.count))
		eyes_give(eyes, queue_take(&l->waiting, 0));
	while (eyes && (job = eyes_take(eyes, idle ? LOOK_MILLISECONDS : 0)) != NULL) {
		queue_add(&l->ready, job);
		idle = false;
	}
	if (!eyes && l->waiting.count && can_look(l)) {
		job = queue_take(&l->waiting, 0);
		job_look(job, l->server, l->server->pool);
		queue_add(&l->ready, job);
	}
}

/* What is ready goes to the tower, as much as it takes at once. */
static void look_at_some(struct loop *l)
{
	size_t n;

	if (!l->ready.count || !can_look(l))
		return;
	n = jobs_see(l->ready.job, l->ready.count, l->server, l->passes++);
	while (n--)
		queue_add(&l->looking, queue_take(&l->ready, 0));
}

/* Pages that the tower has seen go to the engine. When it has nothing to do, they are waited for. */
static void start_some(struct loop *l)
{
	while (l->looking.count && l->running.count < l->server->sequences &&
	       job_seen(l->looking.job[0], !l->running.count)) {
		struct job *job = queue_take(&l->looking, 0);

		if (job_start(job, l->server))
			queue_add(&l->running, job);
	}
}

static void end_some(struct loop *l)
{
	struct engine_result result;

	while (engine_take(l->server->engine, &result)) {
		size_t i = 0;

		while (i < l->running.count && job_number(l->running.job[i]) != result.id)
			i++;
		if (i == l->running.count)
			BUG("the engine ended a request that it was not given");
		if (job_end(l->running.job[i], l->server, &result))
			queue_take(&l->running, i);
	}
}

static bool busy(const struct loop *l)
{
	return l->waiting.count || l->ready.count || l->looking.count || l->running.count ||
	       eyes_busy(l->server->eyes);
}

int serve(struct server *server)
{
	struct loop l = {.server = server, .next = 1};

	lines_init(&l.lines, STDIN_FILENO, REQUEST_MAX);
	while (!l.ended || busy(&l)) {
		read_requests(&l, !busy(&l));
		take_in(&l);
		look_at_some(&l);
		start_some(&l);
		engine_step(server->engine);
		end_some(&l);
	}
	free(l.waiting.job);
	free(l.ready.job);
	free(l.looking.job);
	free(l.running.job);
	lines_release(&l.lines);
	return EX_ALL_DONE;
}
