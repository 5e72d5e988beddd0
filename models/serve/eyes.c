/* SPDX-License-Identifier: MIT
 *
 * A ring of jobs in the order in which they were given. Threads take the first that nobody has; jobs leave from
 * the front, so that none waits long behind others that are small.
 */
#include "eyes.h"

#include <pthread.h>
#include <stdlib.h>
#include <time.h>

struct place {
	struct job *job;
	bool ready;
};

struct eye {
	struct eyes *eyes;
	pthread_t thread;
	struct pool *pool; /* of this thread alone */
};

struct eyes {
	const struct server *server;
	pthread_mutex_t lock;
	pthread_cond_t given, ready;
	struct place *places; /* [room]; i % room */
	unsigned room, first, next, end; /* taken back, taken by a thread, and given so far */
	struct eye *eye;
	unsigned threads; /* that run */
	bool stop;
};

unsigned eyes_room(unsigned threads)
{
	return 2 * threads;
}

static void *look(void *arg)
{
	struct eye *eye = arg;
	struct eyes *e = eye->eyes;

	pthread_mutex_lock(&e->lock);
	while (!e->stop) {
		struct place *place = &e->places[e->next % e->room];

		if (e->next == e->end) {
			pthread_cond_wait(&e->given, &e->lock);
			continue;
		}
		e->next++;
		pthread_mutex_unlock(&e->lock);
		job_look(place->job, e->server, eye->pool);
		pthread_mutex_lock(&e->lock);
		place->ready = true;
		pthread_cond_signal(&e->ready);
	}
	pthread_mutex_unlock(&e->lock);
	return NULL;
}

enum rc eyes_open(struct eyes **out, const struct server *server, unsigned threads, struct err *err)
{
	pthread_condattr_t attributes;
	struct eyes *e;

	*out = NULL;
	if (!threads)
		return RC_OK;
	e = xcalloc(1, sizeof(*e));
	e->server = server;
	e->room = eyes_room(threads);
	e->places = xcalloc(e->room, sizeof(*e->places));
	e->eye = xcalloc(threads, sizeof(*e->eye));
	pthread_mutex_init(&e->lock, NULL);
	pthread_cond_init(&e->given, NULL);
	pthread_condattr_init(&attributes);
	pthread_condattr_setclock(&attributes, CLOCK_MONOTONIC);
	pthread_cond_init(&e->ready, &attributes);
	pthread_condattr_destroy(&attributes);
	for (; e->threads < threads; e->threads++) {
		struct eye *eye = &e->eye[e->threads];

		eye->eyes = e;
		if (pool_open(&eye->pool, 1, err) != RC_OK)
			break;
		if (pthread_create(&eye->thread, NULL, look, eye)) {
			err_set(err, RC_FATAL, "threads", "no thread to take pages in");
			pool_close(eye->pool);
			break;
		}
	}
	if (e->threads < threads) {
		eyes_close(e);
		return RC_FATAL;
	}
	*out = e;
	return RC_OK;
}

void eyes_close(struct eyes *e)
{
	if (!e)
		return;
	pthread_mutex_lock(&e->lock);
	e->stop = true;
	pthread_cond_broadcast(&e->given);
	pthread_mutex_unlock(&e->lock);
	for (unsigned i = 0; i < e->threads; i++) {
		pthread_join(e->eye[i].thread, NULL);
		pool_close(e->eye[i].pool);
	}
	for (; e->first != e->end; e->first++)
		job_free(e->places[e->first % e->room].job);
	pthread_cond_destroy(&e->ready);
	pthread_cond_destroy(&e->given);
	pthread_mutex_destroy(&e->lock);
	free(e->places);
	free(e->eye);
	free(e);
}

unsigned eyes_busy(const struct eyes *e)
{
	return e ? e->end - e->first : 0;
}

bool eyes_full(const struct eyes *e, size_t taken)
{
	return eyes_busy(e) + taken >= e->room;
}

void eyes_give(struct eyes *e, struct job *job)
{
	pthread_mutex_lock(&e->lock);
	e->places[e->end++ % e->room] = (struct place){job, false};
	pthread_cond_signal(&e->given);
	pthread_mutex_unlock(&e->lock);
}

struct job *eyes_take(struct eyes *e, unsigned milliseconds)
{
	struct job *job = NULL;
	struct timespec until;
	int late = 0;

	if (!eyes_busy(e))
		return NULL;
	clock_gettime(CLOCK_MONOTONIC, &until);
	until.tv_nsec += (long)milliseconds * 1000000;
	until.tv_sec += until.tv_nsec / 1000000000;
	until.tv_nsec %= 1000000000;
	pthread_mutex_lock(&e->lock);
	while (milliseconds && !late && !e->places[e->first % e->room].ready)
		late = pthread_cond_timedwait(&e->ready, &e->lock, &until);
	if (e->places[e->first % e->room].ready)
		job = e->places[e->first++ % e->room].job;
	pthread_mutex_unlock(&e->lock);
	return job;
}
