/* SPDX-License-Identifier: MIT
 *
 * Streams as lists of things to do. See cuda-stream.h.
 */
#include "cuda-stream.h"

#include "base/err.h"

#include <stdalign.h>
#include <stdlib.h>
#include <string.h>

struct task {
	struct task *next;
	void (*run)(void *);
	size_t size;
	alignas(64) unsigned char closure[];
};

struct list {
	struct task *first, **end;
};

struct recording {
	struct list tasks;
	size_t length;
};

struct CUstream_st {
	struct list tasks;
	uint64_t put, done;
	struct recording *recording; /* or NULL */
	uint64_t drawn;
};

static void list_add(struct list *l, void (*run)(void *), const void *closure, size_t size)
{
	size_t whole = (sizeof(struct task) + size + 63) / 64 * 64;
	struct task *t = aligned_alloc(64, whole);

	if (!t)
		out_of_memory("a task of the emulated GPU");
	t->next = NULL;
	t->run = run;
	t->size = size;
	memcpy(t->closure, closure, size);
	*l->end = t;
	l->end = &t->next;
}

static void list_free(struct list *l)
{
	for (struct task *t = l->first, *next; t; t = next) {
		next = t->next;
		free(t);
	}
}

cudaStream_t stream_new(void)
{
	cudaStream_t s = xcalloc(1, sizeof(*s));

	s->tasks.end = &s->tasks.first;
	s->drawn = 1;
	return s;
}

void stream_free(cudaStream_t s)
{
	if (s->tasks.first || s->recording)
		BUG("a stream of the emulated GPU was left with things to do");
	free(s);
}

static void run_one(cudaStream_t s)
{
	struct task *t = s->tasks.first;

	s->tasks.first = t->next;
	if (!t->next)
		s->tasks.end = &s->tasks.first;
	s->done++;
	t->run(t->closure);
	free(t);
}

void stream_put(cudaStream_t s, void (*run)(void *), const void *closure, size_t size)
{
	if (s->recording) {
		list_add(&s->recording->tasks, run, closure, size);
		s->recording->length++;
		return;
	}
	list_add(&s->tasks, run, closure, size);
	s->put++;
	/* Now and then it gets on with it by itself. */
	s->drawn = s->drawn * 6364136223846793005u + 1442695040888963407u;
	if (s->drawn >> 58 == 0)
		for (uint64_t n = s->drawn >> 40 & 31; n && s->tasks.first; n--)
			run_one(s);
}

uint64_t stream_mark(cudaStream_t s)
{
	return s->put;
}

void stream_wait(cudaStream_t s, uint64_t mark)
{
	if (s->recording)
		BUG("waits for a stream of which a recording is made");
	while (s->done < mark)
		run_one(s);
}

bool stream_try(cudaStream_t s, uint64_t mark)
{
	for (unsigned n = 0; n < 5 && s->done < mark; n++)
		run_one(s);
	return s->done >= mark;
}

void stream_record(cudaStream_t s)
{
	if (s->recording)
		BUG("a recording within a recording");
	s->recording = xcalloc(1, sizeof(*s->recording));
	s->recording->tasks.end = &s->recording->tasks.first;
}

struct recording *stream_recorded(cudaStream_t s)
{
	struct recording *r = s->recording;

	s->recording = NULL;
	return r;
}

void stream_play(cudaStream_t s, const struct recording *r)
{
	for (const struct task *t = r->tasks.first; t; t = t->next)
		stream_put(s, t->run, t->closure, t->size);
}

size_t recording_length(const struct recording *r)
{
	return r->length;
}

void recording_free(struct recording *r)
{
	if (r)
		list_free(&r->tasks);
	free(r);
}
