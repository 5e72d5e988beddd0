/* SPDX-License-Identifier: MIT
 *
 * cloister.yaml: every key, every kind of mistake with its line, and who may write the file.
 */
#include "base/err.h"
#include "config.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

static char folder[64], file[128];
static struct config c;
static struct err err;

static void write_settings(const char *text)
{
	FILE *f = fopen(file, "w");

	assert_non_null(f);
	fputs(text, f);
	assert_int_equal(fclose(f), 0);
	assert_int_equal(chmod(file, 0644), 0);
}

static enum rc load(const char *text)
{
	write_settings(text);
	return config_load(&c, folder, &err);
}

static int setup(void **state)
{
	(void)state;
	strcpy(folder, "/tmp/cloister-test-XXXXXX");
	if (!mkdtemp(folder))
		return -1;
	snprintf(file, sizeof(file), "%s/cloister.yaml", folder);
	return 0;
}

static int teardown(void **state)
{
	(void)state;
	unlink(file);
	return rmdir(folder);
}

static void test_defaults(void **state)
{
	(void)state;
	assert_int_equal(config_load(&c, folder, &err), RC_OK);
	assert_string_equal(c.default_pipeline, "tesseract");
	assert_true(c.require_sandbox);
	assert_true(c.require_lock);
	assert_null(c.scratch);
	assert_int_equal(c.settle_seconds, 5);
	assert_int_equal(c.lease_seconds, 60);
	assert_int_equal(c.rescan_seconds, 30);
	assert_int_equal(c.free_mebibytes, 256);
	assert_int_equal(c.scratch_mebibytes, 0);
	assert_int_equal(c.jobs, 0);
	config_release(&c);
	assert_int_equal(load(""), RC_OK);
	assert_int_equal(c.settle_seconds, 5);
	config_release(&c);
	assert_int_equal(load("# nothing set\n"), RC_OK);
	config_release(&c);
}

static void test_every_key(void **state)
{
	(void)state;
	assert_int_equal(load("default_pipeline: letters\n"
			      "require_sandbox: false\n"
			      "require_lock: false\n"
			      "scratch: /var/tmp\n"
			      "settle_seconds: 0\n"
			      "lease_seconds: 10\n"
			      "rescan_seconds: 1\n"
			      "free_mebibytes: 1024\n"
			      "scratch_mebibytes: 512\n"
			      "jobs: 3\n"),
			 RC_OK);
	assert_string_equal(c.default_pipeline, "letters");
	assert_false(c.require_sandbox);
	assert_false(c.require_lock);
	assert_string_equal(c.scratch, "/var/tmp");
	assert_int_equal(c.settle_seconds, 0);
	assert_int_equal(c.lease_seconds, 10);
	assert_int_equal(c.rescan_seconds, 1);
	assert_int_equal(c.free_mebibytes, 1024);
	assert_int_equal(c.scratch_mebibytes, 512);
	assert_int_equal(c.jobs, 3);
	config_release(&c);
}

static void test_mistakes(void **state)
{
	static const struct {
		const char *text;
		int line;
		const char *says;
	} cases[] = {
		{ "settle_second: 1\n", 1, "did you mean 'settle_seconds'?" },
		{ "jobs: 2\nxyzzy: 1\n", 2, "xyzzy" },
		{ "\n\njobs: many\n", 3, "jobs: 'many' is not a whole number" },
		{ "jobs: -1\n", 1, "from 0 to 512" },
		{ "jobs: 3.5\n", 1, "3.5" },
		{ "jobs: 513\n", 1, "513" },
		{ "lease_seconds: 2\n", 1, "from 3 to" },
		{ "rescan_seconds: 18446744073709551617\n", 1, "whole number" },
		{ "require_sandbox: yes\n", 1, "neither true nor false" },
		{ "default_pipeline: ../x\n", 1, "cannot be the name" },
		{ "scratch: tmp\n", 1, "not an absolute path" },
		{ "jobs: [1, 2]\n", 1, "single value" },
		{ "jobs: 1\njobs: 2\n", 2, "twice" },
		{ "jobs 1\n", 1, "" },
		{ "jobs: 1\n\tsettle_seconds: 2\n", 2, "tab" },
	};

	(void)state;
	for (size_t i = 0; i < sizeof(cases) / sizeof(*cases); i++) {
		char place[200];

		if (load(cases[i].text) != RC_FATAL)
			fail_msg("accepted: %s", cases[i].text);
		assert_string_equal(err.reason, "configuration");
		snprintf(place, sizeof(place), "%s:%d: ", file, cases[i].line);
		if (strncmp(err.text, place, strlen(place)) || !strstr(err.text, cases[i].says))
			fail_msg("for %s: %s", cases[i].text, err.text);
	}
}

static void test_who_may_write(void **state)
{
	(void)state;
	write_settings("jobs: 1\n");
	chmod(file, 0666);
	assert_int_equal(config_load(&c, folder, &err), RC_FATAL);
	assert_non_null(strstr(err.text, "chmod go-w"));
	chmod(file, 0664);
	assert_int_equal(config_load(&c, folder, &err), RC_FATAL);
	chmod(file, 0600);
	assert_int_equal(config_load(&c, folder, &err), RC_OK);
	config_release(&c);
	unlink(file);
	assert_int_equal(mkfifo(file, 0600), 0);
	assert_int_equal(config_load(&c, folder, &err), RC_FATAL);
	assert_non_null(strstr(err.text, "not a regular file"));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_defaults, setup, teardown),
		cmocka_unit_test_setup_teardown(test_every_key, setup, teardown),
		cmocka_unit_test_setup_teardown(test_mistakes, setup, teardown),
		cmocka_unit_test_setup_teardown(test_who_may_write, setup, teardown),
	};

	cmocka_set_message_output(CM_OUTPUT_TAP);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
