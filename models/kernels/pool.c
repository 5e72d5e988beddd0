/* SPDX-License-Identifier: MIT
 *
 * pool: threads that share out the tasks of one kernel at a time.
 *
 * A step of a model is hundreds of kernels of some ten microseconds each, so whoever waits first
 * spins a little and then sleeps on a futex. The caller works too and never waits for a thread that
 * has not begun: a task is claimed by counting `left` down, and left carries the number of its run,
 * so a thread that wakes up late finds nothing instead of another run's task.
 *
 * Invariant: a claimed task keeps pool_run() from returning, so task, arg and count are stable for
 * whoever has claimed one.
 */
#include "kernels/pool.h"

#include "kernels/cpu.h"

#include <errno.h>
#include <limits.h>
#include <linux/futex.h>
#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

enum { SPINS = 4000 };

struct worker {
	struct pool *pool;
	pthread_t thread;
	unsigned number;
};

struct pool {
	_Alignas(64) atomic_uint_least64_t left; /* run << 32 | tasks not yet claimed */
	_Alignas(64) atomic_uint done;		 /* tasks finished; a futex */
	_Alignas(64) atomic_uint run;		 /* a futex */
	atomic_uint sleepers;
	atomic_bool caller_sleeps, stop;

	_Alignas(64) void (*task)(void *arg, size_t i, unsigned thread);
	void *arg;
	unsigned count;

	struct worker *workers; /* all but the caller */
	unsigned threads;	/* the caller counted in */
	void *scratch;
	size_t scratch_size;
};

static void futex_wait(atomic_uint *word, unsigned value)
{
	syscall(SYS_futex, word, FUTEX_WAIT_PRIVATE, value, NULL, NULL, 0);
}

static void futex_wake(atomic_uint *word, int count)
{
	syscall(SYS_futex, word, FUTEX_WAKE_PRIVATE, count, NULL, NULL, 0);
}

static void pause_cpu(void)
{
#ifdef __x86_64__
	__builtin_ia32_pause();
#endif
}

static bool claim(struct pool *pool, uint32_t *left)
{
	uint64_t seen = atomic_load(&pool->left);

	while ((uint32_t)seen > 0) {
		if (atomic_compare_exchange_weak(&pool->left, &seen, seen - 1)) {
			*left = (uint32_t)seen;
			return true;
		}
	}
	return false;
}

static void work(struct pool *pool, unsigned thread)
{
	uint32_t left;

	while (claim(pool, &left)) {
		unsigned count = pool->count;

		pool->task(pool->arg, count - left, thread);
		if (atomic_fetch_add(&pool->done, 1) + 1 == count &&
		    atomic_load(&pool->caller_sleeps))
			futex_wake(&pool->done, 1);
	}
}

static void *worker_main(void *arg)
{
	struct worker *worker = arg;
	struct pool *pool = worker->pool;

	while (!atomic_load(&pool->stop)) {
		unsigned run = atomic_load(&pool->run);

		work(pool, worker->number);
		for (int i = 0; i < SPINS && atomic_load(&pool->run) == run; i++)
			pause_cpu();
		if (atomic_load(&pool->run) != run)
			continue;
		atomic_fetch_add(&pool->sleepers, 1);
		futex_wait(&pool->run, run);
		atomic_fetch_sub(&pool->sleepers, 1);
	}
	return NULL;
}

void pool_run(struct pool *pool, void (*task)(void *arg, size_t i, unsigned thread), void *arg,
	      size_t n)
{
	unsigned done;
	uint64_t run;

	if (pool->threads == 1 || n <= 1) {
		for (size_t i = 0; i < n; i++)
			task(arg, i, 0);
		return;
	}
	if (n > INT_MAX)
		BUG("%zu tasks", n);
	pool->task = task;
	pool->arg = arg;
	pool->count = (unsigned)n;
	atomic_store(&pool->done, 0);
	run = (uint64_t)atomic_load(&pool->run) + 1;
	atomic_store(&pool->left, run << 32 | n);
	atomic_store(&pool->run, (unsigned)run);
	if (atomic_load(&pool->sleepers) > 0)
		futex_wake(&pool->run, n < pool->threads ? (int)n - 1 : INT_MAX);
	work(pool, 0);
	for (int i = 0; i < SPINS && atomic_load(&pool->done) < n; i++)
		pause_cpu();
	while ((done = atomic_load(&pool->done)) < n) {
		atomic_store(&pool->caller_sleeps, true);
		futex_wait(&pool->done, done);
		atomic_store(&pool->caller_sleeps, false);
	}
}

static unsigned cpus_allowed(void)
{
	cpu_set_t set;

	if (sched_getaffinity(0, sizeof(set), &set) == 0)
		return (unsigned)CPU_COUNT(&set);
	return (unsigned)sysconf(_SC_NPROCESSORS_ONLN);
}

enum rc pool_open(struct pool **out, unsigned threads, struct err *err)
{
	struct pool *pool;

	cpu_level(); /* before there are threads */
	pool = aligned_alloc(64, sizeof(*pool));
	if (!pool)
		return err_errno(err, RC_FATAL, "memory", "no memory for the thread pool");
	memset(pool, 0, sizeof(*pool));
	if (threads == 0)
		threads = cpus_allowed();
	pool->threads = 1;
	pool->workers = xcalloc(threads, sizeof(*pool->workers));
	while (pool->threads < threads) {
		struct worker *worker = &pool->workers[pool->threads - 1];

		*worker = (struct worker){.pool = pool, .number = pool->threads};
		errno = pthread_create(&worker->thread, NULL, worker_main, worker);
		if (errno) {
			err_errno(err, RC_FATAL, "threads", "cannot start thread %u",
				  pool->threads);
			pool_close(pool);
			return RC_FATAL;
		}
		pool->threads++;
	}
	*out = pool;
	return RC_OK;
}

void pool_close(struct pool *pool)
{
	if (!pool)
		return;
	atomic_store(&pool->stop, true);
	atomic_fetch_add(&pool->run, 1);
	futex_wake(&pool->run, INT_MAX);
	for (unsigned i = 1; i < pool->threads; i++)
		pthread_join(pool->workers[i - 1].thread, NULL);
	free(pool->workers);
	free(pool->scratch);
	free(pool);
}

unsigned pool_threads(const struct pool *pool)
{
	return pool->threads;
}

void *pool_scratch(struct pool *pool, size_t size)
{
	enum { GRAIN = 2 << 20 };
	size_t grown = (size + GRAIN - 1) / GRAIN * GRAIN;

	if (size <= pool->scratch_size)
		return pool->scratch;
	free(pool->scratch);
	pool->scratch_size = 0;
	pool->scratch = grown >= size ? aligned_alloc(GRAIN, grown) : NULL;
	if (pool->scratch) {
		pool->scratch_size = grown;
		madvise(pool->scratch, grown, MADV_HUGEPAGE);
	}
	return pool->scratch;
}
