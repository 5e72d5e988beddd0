/* SPDX-License-Identifier: MIT
 *
 * What a run tells the world: the rate over the last minute, what is left, the files in state/, and
 * a progress line that fits the terminal and leaves nothing behind.
 */
#include "base/err.h"
#include "base/log.h"
#include "durable.h"
#include "status.h"

#include <fcntl.h>
#include <pty.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

static char folder[64];
static struct spool spool;
static struct status st;
static struct run_counts counts;
static json_t *active, *recognisers;

static int setup(void **state)
{
	(void)state;
	strcpy(folder, "/tmp/cloister-test-XXXXXX");
	if (!mkdtemp(folder))
		return -1;
	spool.state = open(folder, O_RDONLY | O_DIRECTORY);
	counts = (struct run_counts){ .ready = 1 };
	active = json_pack("[{s:s, s:i, s:i}]", "path", "p/a.pdf", "page", 1, "pages", 3);
	recognisers = json_array();
	return spool.state < 0;
}

static int teardown(void **state)
{
	(void)state;
	json_decref(active);
	json_decref(recognisers);
	close(spool.state);
	durable_remove_tree(AT_FDCWD, folder);
	return 0;
}

static void tick(double at)
{
	status_tick(&st, "running", &counts, active, recognisers, st.started + at);
}

static json_t *status_json(void)
{
	char path[128];
	json_t *json;

	snprintf(path, sizeof(path), "%s/status.json", folder);
	json = json_load_file(path, JSON_REJECT_DUPLICATES, NULL);
	assert_non_null(json);
	return json;
}

static double rate_now(void)
{
	json_t *json = status_json();
	double rate = json_number_value(json_object_get(json, "pages_per_second"));

	json_decref(json);
	return rate;
}

static void test_file(void **state)
{
	json_t *json, *pages;

	(void)state;
	status_init(&st, &spool, spool.state, "host.1.aa", true);
	counts = (struct run_counts){ .ready = 2,	 .active = 1,	    .done = 4,
				      .flagged = 1,	 .failed = 1,	    .pages_ok = 9,
				      .pages_blank = 2,  .pages_failed = 1, .pages_reused = 3,
				      .pages_pending = 5 };
	tick(1);
	json = status_json();
	assert_string_equal(json_string_value(json_object_get(json, "state")), "running");
	assert_string_equal(json_string_value(json_object_get(json, "worker")), "host.1.aa");
	assert_int_equal(json_integer_value(json_object_get(json, "pid")), getpid());
	pages = json_object_get(json, "pages");
	assert_int_equal(json_integer_value(json_object_get(pages, "ok")), 9);
	assert_int_equal(json_integer_value(json_object_get(pages, "total_known")), 15);
	assert_int_equal(
		json_integer_value(json_object_get(json_object_get(json, "documents"), "flagged")), 1);
	assert_true(json_equal(json_object_get(json, "active"), active));
	json_decref(json);
	status_finish(&st);
	json = status_json();
	assert_string_equal(json_string_value(json_object_get(json, "state")), "stopped");
	assert_int_equal(json_array_size(json_object_get(json, "active")), 0);
	json_decref(json);
}

/* Pages of earlier attempts are not speed; a minute after the last page the rate is 0. */
static void test_rate(void **state)
{
	(void)state;
	status_init(&st, &spool, spool.state, "w", true);
	counts.pages_ok = counts.pages_reused = 100;
	tick(0.1);
	for (int s = 1; s <= 20; s++) {
		counts.pages_ok += 2;
		tick(s);
	}
	assert_true(rate_now() > 1.9 && rate_now() < 2.1);
	for (int s = 21; s <= 120; s++) {
		counts.pages_ok += 4;
		tick(s);
	}
	assert_true(rate_now() > 3.9 && rate_now() < 4.1);
	tick(150);
	counts.settling++; /* news, so that the file is written */
	tick(151);
	assert_true(rate_now() > 1.8 && rate_now() < 2.1);
	counts.settling++;
	tick(400);
	assert_true(rate_now() == 0);
	status_finish(&st);
}

static json_t *eta(void)
{
	json_t *json = status_json();
	json_t *value = json_incref(json_object_get(json, "eta_seconds"));

	json_decref(json);
	return value;
}

static void test_time_left(void **state)
{
	json_t *value;

	(void)state;
	status_init(&st, &spool, spool.state, "w", true);
	tick(1); /* a document waits, no page was read: nobody can tell */
	value = eta();
	assert_true(json_is_null(value));
	json_decref(value);
	/* 20 pages in 10 s, of 2 documents; 6 pages are left of open ones, 3 documents wait. */
	counts = (struct run_counts){ .ready = 3, .done = 2, .pages_ok = 20, .pages_pending = 6 };
	tick(10);
	value = eta();
	assert_in_range(json_integer_value(value), 17, 19);
	json_decref(value);
	counts = (struct run_counts){ .done = 5, .pages_ok = 50 };
	tick(20);
	value = eta();
	assert_true(json_is_integer(value) && json_integer_value(value) == 0);
	json_decref(value);
	status_finish(&st);
}

/* The exposition format: HELP and TYPE before each metric, a value on each line, counters _total. */
static void test_prometheus(void **state)
{
	char path[128], line[512], typed[128] = "";
	unsigned samples = 0;
	FILE *f;

	(void)state;
	status_init(&st, &spool, spool.state, "w", true);
	counts.done = 3;
	counts.flagged = 1;
	tick(1);
	snprintf(path, sizeof(path), "%s/cloister.prom", folder);
	f = fopen(path, "r");
	assert_non_null(f);
	while (fgets(line, sizeof(line), f)) {
		char type[32];
		size_t n = strcspn(line, "{ ");

		if (sscanf(line, "# TYPE %127s %31s", typed, type) == 2) {
			bool total = strlen(typed) > 6 &&
				     !strcmp(typed + strlen(typed) - 6, "_total");

			assert_int_equal(total, !strcmp(type, "counter"));
		} else if (*line != '#') {
			assert_int_equal(strncmp(line, typed, n) || typed[n], 0);
			assert_non_null(strrchr(line, ' '));
			samples++;
		}
		if (!strncmp(line, "cloister_documents_finished_total{result=\"ok\"}", 45))
			assert_string_equal(strrchr(line, ' '), " 2\n");
	}
	fclose(f);
	assert_true(samples > 10);
	status_finish(&st);
}

static void test_duration(void **state)
{
	char text[32];

	(void)state;
	status_duration(text, sizeof(text), 59.9);
	assert_string_equal(text, "59 s");
	status_duration(text, sizeof(text), 61);
	assert_string_equal(text, "1 min 01 s");
	status_duration(text, sizeof(text), 7500);
	assert_string_equal(text, "2 h 05 min");
}

/* Runs in a child whose terminal is a pseudo terminal: some ticks, a line of the log, one of output. */
static void on_terminal(void)
{
	setenv("TERM", "xterm", 1);
	status_init(&st, &spool, spool.state, "w", false);
	counts.pages_ok = 123456;
	tick(1);
	log_warn("something happened");
	status_print(&st, "%s", "a document is done");
	tick(2);
	status_finish(&st);
}

/* What a terminal that knows \r, \n and \033[K shows at the end. */
static void show(const char *bytes, size_t n, char *screen, size_t size)
{
	size_t start = 0, at = 0, end = 0;

	for (size_t i = 0; i < n; i++) {
		if (bytes[i] == '\r') {
			at = start;
		} else if (bytes[i] == '\n') {
			screen[end++] = '\n';
			start = at = end;
		} else if (n - i >= 3 && !memcmp(bytes + i, "\033[K", 3)) {
			end = at;
			i += 2;
		} else {
			assert_true(at + 2 < size && bytes[i] != '\033');
			screen[at++] = bytes[i];
			end = at > end ? at : end;
		}
	}
	assert_int_equal(at, end);
	screen[end] = '\0';
}

static void test_terminal(void **state)
{
	struct winsize size = { .ws_row = 24, .ws_col = 60 };
	char bytes[8192], screen[8192];
	size_t len = 0;
	int master;
	pid_t child;
	ssize_t n;

	(void)state;
	child = forkpty(&master, NULL, NULL, &size);
	assert_true(child >= 0);
	if (!child) {
		log_init("test", LOG_INFO);
		on_terminal();
		_exit(0);
	}
	while ((n = read(master, bytes + len, sizeof(bytes) - len)) > 0)
		len += (size_t)n;
	waitpid(child, NULL, 0);
	close(master);
	bytes[len < sizeof(bytes) ? len : sizeof(bytes) - 1] = '\0';
	assert_non_null(strstr(bytes, "123456 pages"));
	show(bytes, len, screen, sizeof(screen));
	assert_null(strstr(screen, "123456 pages"));
	assert_non_null(strstr(screen, "something happened\n"));
	assert_non_null(strstr(screen, "\na document is done\n"));
	for (const char *line = bytes; (line = strstr(line, "\r123456 pages")); line++)
		assert_true(strcspn(line + 1, "\r\n\033") <= 59);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_file, setup, teardown),
		cmocka_unit_test_setup_teardown(test_rate, setup, teardown),
		cmocka_unit_test_setup_teardown(test_time_left, setup, teardown),
		cmocka_unit_test_setup_teardown(test_prometheus, setup, teardown),
		cmocka_unit_test(test_duration),
		cmocka_unit_test_setup_teardown(test_terminal, setup, teardown),
	};

	cmocka_set_message_output(CM_OUTPUT_TAP);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
