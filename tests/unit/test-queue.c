/* SPDX-License-Identifier: MIT
 *
 * queue: what comes next, by priority, age, turns and time; and that nothing is lost in it.
 */
#include "base/num.h"
#include "queue.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include <cmocka.h>

#define HOUR 3600

static struct queue q;

/* The key of a document that arrived so many seconds ago. */
static const char *key_at(double ago, unsigned path)
{
	static char key[KEY_SIZE];
	struct timespec now;
	int64_t us;
	time_t seconds;
	char stamp[16];
	struct tm tm;

	clock_gettime(CLOCK_REALTIME, &now);
	us = (int64_t)now.tv_sec * 1000000 + now.tv_nsec / 1000 - (int64_t)(ago * 1e6);
	seconds = (time_t)(us / 1000000);
	gmtime_r(&seconds, &tm);
	strftime(stamp, sizeof(stamp), "%Y%m%dT%H%M%S", &tm);
	snprintf(key, sizeof(key), "%s.%06u-00000000deadbeef-%016x", stamp, (unsigned)(us % 1000000),
		 path);
	return key;
}

static void add(unsigned priority, const char *pipeline, double ago, unsigned path)
{
	queue_add(&q, priority, pipeline, key_at(ago, path), 0);
}

static bool never(const struct queue_lane *lane, void *arg)
{
	(void)lane;
	(void)arg;
	return false;
}

/* The path of the next one, or -1. */
static long next_path(void)
{
	char name[TOKEN_NAME_SIZE], key[KEY_SIZE], pipeline[65];
	unsigned priority, attempt;
	uint64_t path;

	if (!queue_next(&q, never, NULL, name, &priority, pipeline))
		return -1;
	assert_true(token_name_parse(name, key, &attempt, &path));
	return (long)path;
}

static int empty(void **state)
{
	(void)state;
	queue_release(&q);
	return 0;
}

static void test_nothing(void **state)
{
	(void)state;
	assert_int_equal(queue_length(&q), 0);
	assert_int_equal(next_path(), -1);
	add(5, "p", 1, 1);
	assert_int_equal(next_path(), 1);
	assert_int_equal(next_path(), -1);
	add(5, "p", 1, 2);
	queue_clear(&q);
	assert_int_equal(next_path(), -1);
}

/* What comes out is the name of the token that was put in, to the last digit. */
static void test_name(void **state)
{
	static const char *const keys[] = {
		"20261121T201500.123456-0123456789abcdef-fedcba9876543210",
		"20240229T235959.000000-0000000000000000-0000000000000000",
		"19991231T000000.999999-ffffffffffffffff-8000000000000001",
	};
	char name[TOKEN_NAME_SIZE], want[TOKEN_NAME_SIZE], pipeline[65];
	unsigned priority;

	(void)state;
	for (unsigned i = 0; i < ARRAY_SIZE(keys); i++) {
		queue_add(&q, i, "letters", keys[i], i * 499);
		assert_true(queue_next(&q, never, NULL, name, &priority, pipeline));
		snprintf(want, sizeof(want), "%s.a%u", keys[i], i * 499);
		assert_string_equal(name, want);
		assert_int_equal(priority, i);
		assert_string_equal(pipeline, "letters");
	}
}

static void test_arrival(void **state)
{
	(void)state;
	add(5, "p", 20, 2);
	add(5, "p", 10, 3);
	add(5, "p", 30, 1);
	assert_int_equal(next_path(), 1);
	add(5, "p", 40, 0); /* put back, as a document that was given up is */
	assert_int_equal(next_path(), 0);
	assert_int_equal(next_path(), 2);
	assert_int_equal(next_path(), 3);
}

static void test_priority(void **state)
{
	(void)state;
	add(9, "p", 60, 9);
	add(0, "p", 10, 0);
	add(5, "p", 30, 5);
	add(0, "other", 5, 1);
	assert_int_equal(next_path(), 0);
	assert_int_equal(next_path(), 1);
	assert_int_equal(next_path(), 5);
	assert_int_equal(next_path(), 9);
}

/* One level for every hour, and never above 0. */
static void test_ageing(void **state)
{
	(void)state;
	add(9, "p", 3.5 * HOUR, 9); /* as good as 6 */
	add(5, "p", 10, 5);
	add(7, "p", 10, 7);
	assert_int_equal(next_path(), 5);
	assert_int_equal(next_path(), 9);
	assert_int_equal(next_path(), 7);
	add(9, "p", 8.5 * HOUR, 9); /* as good as 1 */
	add(0, "p", 10, 0);
	add(2, "p", 10, 2);
	assert_int_equal(next_path(), 0);
	assert_int_equal(next_path(), 9);
	assert_int_equal(next_path(), 2);
	/* However long it waits, it comes no earlier than others of 0; then turns decide. */
	*queue_served(&q, "p") = 1;
	add(9, "p", 1000.0 * HOUR, 9);
	add(0, "late", 1, 0);
	*queue_served(&q, "late") = 0;
	assert_int_equal(next_path(), 0);
	assert_int_equal(next_path(), 9);
}

static void test_turns(void **state)
{
	(void)state;
	for (unsigned i = 0; i < 3; i++) {
		add(5, "volumes", 100 - i, 10 + i);
		add(5, "letters", 50 - i, 20 + i);
	}
	*queue_served(&q, "volumes") = 0;
	*queue_served(&q, "letters") = 0;
	assert_int_equal(next_path(), 10); /* a tie: the older one */
	*queue_served(&q, "volumes") += 200;
	assert_int_equal(next_path(), 20);
	*queue_served(&q, "letters") += 1;
	assert_int_equal(next_path(), 21);
	*queue_served(&q, "letters") += 300;
	assert_int_equal(next_path(), 11);
	/* A pipeline that comes late does not shut out the others until it has caught up. */
	add(5, "new", 1, 30);
	assert_int_equal(*queue_served(&q, "new"), 200);
	*queue_served(&q, "new") += 1;
	assert_int_equal(next_path(), 12);
}

static bool skip_named(const struct queue_lane *lane, void *arg)
{
	return !strcmp(lane->pipeline, arg);
}

static void test_skipped_lanes(void **state)
{
	char name[TOKEN_NAME_SIZE], pipeline[65], letters[] = "letters";
	unsigned priority;

	(void)state;
	add(0, "letters", 10, 1);
	add(9, "volumes", 10, 2);
	add(5, "broken", 10, 3);
	for (size_t i = 0; i < q.n_lanes; i++)
		q.lanes[i].closed = !strcmp(q.lanes[i].pipeline, "broken");
	assert_true(queue_next(&q, skip_named, letters, name, &priority, pipeline));
	assert_string_equal(pipeline, "volumes");
	assert_int_equal(next_path(), 1);
	assert_int_equal(next_path(), -1);
	assert_int_equal(queue_length(&q), 1); /* what is passed over stays */
}

#define MANY 100000

/* In any order in, each once and in order out, and fast enough for every turn of the loop. */
static void test_many(void **state)
{
	static const char *const pipelines[] = { "a", "b", "c" };
	static unsigned char seen[MANY];
	uint64_t last[PRIORITIES][ARRAY_SIZE(pipelines)] = { { 0 } };
	char name[TOKEN_NAME_SIZE], key[KEY_SIZE], pipeline[65];
	unsigned priority, last_priority = 0, attempt;
	struct timespec begin, end;
	uint64_t path;

	(void)state;
	memset(seen, 0, sizeof(seen));
	clock_gettime(CLOCK_MONOTONIC, &begin);
	for (unsigned i = 0; i < MANY; i++) {
		unsigned n = (unsigned)((uint64_t)i * 48271 % MANY); /* 48271 and MANY are coprime */

		snprintf(key, sizeof(key), "20990101T%02u%02u%02u.000000-0123456789abcdef-%016x",
			 n / 3600 % 24, n / 60 % 60, n % 60, n);
		queue_add(&q, n % PRIORITIES, pipelines[n % 3], key, 1);
	}
	assert_int_equal(queue_length(&q), MANY);
	for (unsigned i = 0; i < MANY; i++) {
		uint64_t *before, order;

		assert_true(queue_next(&q, never, NULL, name, &priority, pipeline));
		assert_true(token_name_parse(name, key, &attempt, &path));
		assert_true(path < MANY && !seen[path]++);
		assert_int_equal(priority, path % PRIORITIES);
		assert_int_equal(pipeline[0] - 'a', path % 3);
		assert_true(priority >= last_priority);
		last_priority = priority;
		before = &last[priority][path % 3];
		order = path % 86400 * MANY + path; /* time of arrival, then path */
		assert_true(order >= *before);
		*before = order;
	}
	clock_gettime(CLOCK_MONOTONIC, &end);
	assert_int_equal(next_path(), -1);
	assert_true(end.tv_sec - begin.tv_sec < 5);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_teardown(test_nothing, empty),
		cmocka_unit_test_teardown(test_name, empty),
		cmocka_unit_test_teardown(test_arrival, empty),
		cmocka_unit_test_teardown(test_priority, empty),
		cmocka_unit_test_teardown(test_ageing, empty),
		cmocka_unit_test_teardown(test_turns, empty),
		cmocka_unit_test_teardown(test_skipped_lanes, empty),
		cmocka_unit_test_teardown(test_many, empty),
	};

	cmocka_set_message_output(CM_OUTPUT_TAP);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
