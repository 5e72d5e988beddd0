/* SPDX-License-Identifier: MIT
 *
 * The pool: each task once, by any number of threads, whether they spin or sleep; and its memory.
 */
#include "kernels.h"

#include <stdatomic.h>
#include <time.h>

enum { TASKS = 1000, THREADS = 7 };

struct count {
	atomic_uint times[TASKS];
	atomic_uint of_thread[THREADS];
	unsigned threads;
	bool slow;
};

static void task(void *arg, size_t i, unsigned thread)
{
	struct count *c = arg;

	assert_true(thread < c->threads);
	atomic_fetch_add(&c->times[i], 1);
	atomic_fetch_add(&c->of_thread[thread], 1);
	if (c->slow)
		nanosleep(&(struct timespec){ .tv_nsec = 3000000 }, NULL);
}

static void test_each_once(void **state)
{
	(void)state;
	for (unsigned threads = 1; threads <= THREADS; threads += 2) {
		struct pool *pool = test_pool(threads);

		assert_int_equal(pool_threads(pool), threads);
		for (size_t run = 0; run < 3000; run++) {
			static struct count c;
			size_t n = run % 10 ? run % 9 : run % TASKS;

			memset(&c, 0, sizeof(c));
			c.threads = threads;
			pool_run(pool, task, &c, n);
			for (size_t i = 0; i < TASKS; i++)
				assert_int_equal(atomic_load(&c.times[i]), i < n);
			if (run % 500 == 0) /* let them fall asleep */
				nanosleep(&(struct timespec){ .tv_nsec = 5000000 }, NULL);
		}
		pool_close(pool);
	}
}

/* Tasks that wait leave the CPU to others, so all threads get some, from sleep too. */
static void test_all_work(void **state)
{
	struct pool *pool = test_pool(THREADS);

	(void)state;
	for (int run = 0; run < 3; run++) {
		struct count c = { .threads = THREADS, .slow = true };

		nanosleep(&(struct timespec){ .tv_nsec = 20000000 }, NULL);
		pool_run(pool, task, &c, 200);
		for (unsigned i = 0; i < THREADS; i++)
			assert_true(atomic_load(&c.of_thread[i]) > 0);
	}
	pool_close(pool);
}

/* Threads that have nothing to do take no CPU time. */
static void test_idle(void **state)
{
	struct pool *pool = test_pool(THREADS);
	struct count c = { .threads = THREADS };
	clock_t before;

	(void)state;
	pool_run(pool, task, &c, TASKS);
	nanosleep(&(struct timespec){ .tv_nsec = 300000000 }, NULL);
	before = clock();
	nanosleep(&(struct timespec){ .tv_nsec = 500000000 }, NULL);
	assert_true(clock() - before < CLOCKS_PER_SEC / 20);
	pool_close(pool);
}

static void test_scratch(void **state)
{
	struct pool *pool = test_pool(2);
	char *memory = pool_scratch(pool, 100);

	(void)state;
	assert_non_null(memory);
	assert_int_equal((uintptr_t)memory % 64, 0);
	assert_ptr_equal(pool_scratch(pool, 50), memory);
	memory = pool_scratch(pool, 5000001);
	memset(memory, 1, 5000001);
	assert_null(pool_scratch(pool, SIZE_MAX - 5));
	assert_non_null(pool_scratch(pool, 1));
	pool_close(pool);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_each_once),
		cmocka_unit_test(test_all_work),
		cmocka_unit_test(test_idle),
		cmocka_unit_test(test_scratch),
	};

	cmocka_set_message_output(CM_OUTPUT_TAP);
	return cmocka_run_group_tests_name("pool", tests, NULL, NULL);
}
