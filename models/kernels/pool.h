/* SPDX-License-Identifier: MIT
 *
 * pool: threads that share out the tasks of one kernel at a time.
 */
#ifndef MODELS_KERNELS_POOL_H
#define MODELS_KERNELS_POOL_H

#include "base/err.h"

#include <stddef.h>

struct pool;

/* 0 threads: one for each CPU this process may run on. The caller's thread is one of them. */
enum rc pool_open(struct pool **, unsigned threads, struct err *);
void pool_close(struct pool *);
unsigned pool_threads(const struct pool *);

/*
 * Call task(arg, i, thread) once for each i in [0, n), on any thread and in any order, and return
 * when all are done. thread < pool_threads(): for scratch memory. Not reentrant.
 */
void pool_run(struct pool *, void (*task)(void *arg, size_t i, unsigned thread), void *arg,
	      size_t n);

/*
 * Memory for the kernel that runs, aligned to 64: the pool's own, kept from one kernel to the next
 * and grown on demand. A second call may move it, and loses what was in it. NULL: out of memory.
 */
void *pool_scratch(struct pool *, size_t size);

#endif
