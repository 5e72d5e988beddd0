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
void pool_run(struct pool *, void (*task)(void *arg, size_t i, unsigned thread), void *arg, size_t n);

#endif
