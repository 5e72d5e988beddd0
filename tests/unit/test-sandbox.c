/* SPDX-License-Identifier: MIT
 *
 * Unit tests of sandbox.c: what can be seen without entering one.  What a sandbox refuses is tested
 * by tests/sandbox.
 */
#include "base/num.h"
#include "sandbox.h"
#include "sandbox_gpu.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#define FIRST 100 /* above whatever the test itself has open */

static bool is_open(int fd)
{
	return fcntl(fd, F_GETFD) >= 0;
}

/* Opens FIRST .. FIRST+9, closes from `from` on but keep[], and says which are left, as bits. */
static unsigned left_open(int from, const int *keep, size_t n_keep)
{
	unsigned left = 0;

	for (int fd = FIRST; fd < FIRST + 10; fd++)
		assert_int_equal(dup2(STDERR_FILENO, fd), fd);
	sandbox_close_from(from, keep, n_keep);
	for (int fd = FIRST; fd < FIRST + 10; fd++)
		left |= is_open(fd) ? 1u << (fd - FIRST) : 0;
	return left;
}

static void test_close_from(void **state)
{
	static const struct {
		int from, keep[4];
		size_t n_keep;
		unsigned left;
	} cases[] = {
		{ FIRST, { 0 }, 0, 0 },
		{ FIRST + 3, { 0 }, 0, 0x007 },
		{ FIRST, { FIRST }, 1, 0x001 },
		{ FIRST, { FIRST + 9, FIRST + 2, FIRST + 3 }, 3, 0x20c },
		{ FIRST, { FIRST + 4, FIRST + 4 }, 2, 0x010 },
		{ FIRST + 2, { -1, FIRST + 1, FIRST + 5 }, 3, 0x023 }, /* below `from`: untouched */
		{ FIRST, { FIRST + 1, FIRST + 1000 }, 2, 0x002 },      /* one that is not open */
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(cases); i++)
		assert_int_equal(left_open(cases[i].from, cases[i].keep, cases[i].n_keep),
				 cases[i].left);
	assert_true(is_open(STDERR_FILENO));
}

static void test_kind_names(void **state)
{
	(void)state;
	for (int a = 0; a < SANDBOX_KINDS; a++)
		for (int b = 0; b < a; b++)
			assert_string_not_equal(sandbox_kind_name((enum sandbox_kind)a),
						sandbox_kind_name((enum sandbox_kind)b));
}

/* The environment may lower the ABI, never raise it. */
static void test_pretended_abi(void **state)
{
	int abi = sandbox_landlock_abi();

	(void)state;
	if (abi < 2)
		skip();
	setenv("CLOISTER_TEST_LANDLOCK_ABI", "1", 1);
	assert_int_equal(sandbox_landlock_abi(), 1);
	setenv("CLOISTER_TEST_LANDLOCK_ABI", "1000", 1);
	assert_int_equal(sandbox_landlock_abi(), abi);
	setenv("CLOISTER_TEST_LANDLOCK_ABI", "none", 1);
	assert_int_equal(sandbox_landlock_abi(), abi);
	unsetenv("CLOISTER_TEST_LANDLOCK_ABI");
}

#ifndef __SANITIZE_ADDRESS__
/* What sandbox_enter() says, in a process of its own: the verdict, and 10 more for each layer. */
static int entered(const char *abi, bool require, const struct sandbox_rules *rules)
{
	int status;
	pid_t pid = fork();

	if (!pid) {
		struct sandbox_state on;
		struct err err;
		enum rc rc;

		setenv("CLOISTER_TEST_LANDLOCK_ABI", abi, 1);
		rc = sandbox_enter(SANDBOX_SUPERVISOR, rules, require, &on, &err);
		if (rc != RC_OK && strcmp(err.reason, "sandbox"))
			_exit(99);
		_exit((int)rc + 10 * (on.landlock_abi > 0) + 10 * on.seccomp);
	}
	assert_int_equal(waitpid(pid, &status, 0), pid);
	return WIFEXITED(status) ? WEXITSTATUS(status) : -1;
}

static void test_missing_layers(void **state)
{
	const struct sandbox_rules rules = { .write_fd = -1 };
	const struct sandbox_rules wrong = { .write_fd = 9999 };

	(void)state;
	if (sandbox_landlock_abi() < 2)
		skip();
	assert_int_equal(entered("2", true, &rules), 20);
	assert_int_equal(entered("0", true, &rules), RC_FATAL);
	assert_int_equal(entered("0", false, &rules), 10);
	assert_int_equal(entered("2", true, &wrong), RC_FATAL);
	assert_int_equal(entered("2", false, &wrong), 10);
}
#endif

static void touch(const char *dir, const char *name)
{
	char *path = xasprintf("%s/%s", dir, name);
	int fd = open(path, O_CREAT | O_WRONLY, 0600);

	assert_true(fd >= 0);
	close(fd);
	free(path);
}

/* GPUs are counted by their nodes; the driver needs all of its nodes, but the folder of its parts. */
static void test_gpus(void **state)
{
	static const char *const names[] = { "nvidiactl", "nvidia-uvm", "nvidia-uvm-tools", "nvidia0",
					     "nvidia12", "nvidia-caps", "nvidia", "nvidia1a", "null" };
	char dir[] = "/tmp/cloister-test-gpu-XXXXXX", *rest;
	char **nodes;
	size_t n = 0;

	(void)state;
	assert_non_null(mkdtemp(dir));
	setenv("CLOISTER_TEST_DEV", dir, 1);
	nodes = gpu_nodes();
	assert_int_equal(gpu_count(), 0);
	assert_null(nodes[0]);
	gpu_nodes_free(nodes);
	for (size_t i = 0; i < ARRAY_SIZE(names); i++)
		touch(dir, names[i]);
	nodes = gpu_nodes();
	assert_int_equal(gpu_count(), 2);
	for (; nodes[n]; n++) {
		assert_null(strstr(nodes[n], "nvidia-caps"));
		assert_null(strstr(nodes[n], "null"));
	}
	assert_int_equal(n, 7);
	gpu_nodes_free(nodes);
	for (size_t i = 0; i < ARRAY_SIZE(names); i++) {
		rest = xasprintf("%s/%s", dir, names[i]);
		unlink(rest);
		free(rest);
	}
	rmdir(dir);
	setenv("CLOISTER_TEST_DEV", "/nonexistent/folder", 1);
	assert_int_equal(gpu_count(), 0);
	unsetenv("CLOISTER_TEST_DEV");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_close_from),
		cmocka_unit_test(test_gpus),
		cmocka_unit_test(test_kind_names),
		cmocka_unit_test(test_pretended_abi),
#ifndef __SANITIZE_ADDRESS__
		cmocka_unit_test(test_missing_layers),
#endif
	};

	cmocka_set_message_output(CM_OUTPUT_TAP);
	return cmocka_run_group_tests_name("sandbox", tests, NULL, NULL);
}
