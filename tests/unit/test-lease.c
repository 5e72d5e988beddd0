/* SPDX-License-Identifier: MIT
 *
 * lease: a worker whose process is gone is dead at once, one whose counter stands still after a lease
 * and not before, and one that was declared dead ends before it touches anything.
 */
#include "durable.h"
#include "lease.h"
#include "loop.h"

#include <fcntl.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#define TOKEN "20261121T201500.123456-0123456789abcdef-fedcba9876543210.a1"
#define LEASE 60

static char folder[64];
static struct spool spool;
static struct lease lease;
static char orphans[400];

static int set_up(void **state)
{
	struct err err;

	(void)state;
	strcpy(folder, "/tmp/cloister-test-XXXXXX");
	*orphans = '\0';
	return !mkdtemp(folder) || spool_open(&spool, folder, true, &err) != RC_OK ||
	       lease_take(&lease, &spool, LEASE, &err) != RC_OK;
}

static int tear_down(void **state)
{
	(void)state;
	lease_drop(&lease);
	spool_close(&spool);
	durable_remove_tree(AT_FDCWD, folder);
	return 0;
}

static void put(int dir, const char *name, const char *text)
{
	int fd = openat(dir, name, O_WRONLY | O_CREAT | O_TRUNC, 0644);

	if (fd < 0 || write(fd, text, strlen(text)) != (ssize_t)strlen(text))
		abort();
	close(fd);
}

static void take_orphan(int dirfd, const char *name, void *arg)
{
	size_t used = strlen(orphans);

	(void)arg;
	snprintf(orphans + used, sizeof(orphans) - used, "%s ", name);
	unlinkat(dirfd, name, 0);
}

static unsigned reap(double now)
{
	*orphans = '\0';
	return lease_reap(&lease, now, take_orphan, NULL);
}

static bool is_there(const char *worker)
{
	return !faccessat(spool.active, worker, F_OK, AT_SYMLINK_NOFOLLOW);
}

/* A worker in another process, with a token; its name comes back. It lives until it is killed, or is
 * dead when this returns. */
static pid_t another_worker(char name[WORKER_NAME_SIZE], bool lives)
{
	int told[2];
	pid_t pid;

	assert_int_equal(pipe(told), 0);
	pid = fork();
	assert_true(pid >= 0);
	if (!pid) {
		struct lease own;
		struct err err;

		if (lease_take(&own, &spool, LEASE, &err) != RC_OK)
			_exit(1);
		put(own.dir, TOKEN, "{}");
		if (write(told[1], own.name, WORKER_NAME_SIZE) != WORKER_NAME_SIZE)
			_exit(1);
		while (lives)
			pause();
		_exit(0);
	}
	assert_int_equal(read(told[0], name, WORKER_NAME_SIZE), WORKER_NAME_SIZE);
	close(told[0]);
	close(told[1]);
	if (!lives)
		assert_int_equal(waitpid(pid, NULL, 0), pid);
	return pid;
}

/* A worker of another machine: its folder with a heartbeat and a token. */
static int foreign_worker(const char *name, const char *beat)
{
	struct err err;
	int dir = durable_mkdirs(spool.active, name, &err);

	assert_true(dir >= 0);
	put(dir, TOKEN, "{}");
	if (beat)
		put(dir, "hb", beat);
	return dir;
}

static void test_dead_at_once(void **state)
{
	char name[WORKER_NAME_SIZE];

	(void)state;
	another_worker(name, false);
	assert_true(is_there(name));
	assert_int_equal(reap(1), 1);
	assert_string_equal(orphans, TOKEN " ");
	assert_false(is_there(name));
	assert_false(lease_alive(&lease, name));
	assert_int_equal(reap(2), 0);
}

static void test_killed_later(void **state)
{
	char name[WORKER_NAME_SIZE];
	pid_t pid = another_worker(name, true);

	(void)state;
	assert_true(lease_alive(&lease, name)); /* nobody has looked yet */
	assert_int_equal(reap(1), 0);
	assert_true(lease_alive(&lease, name));
	assert_true(is_there(name));
	kill(pid, SIGKILL);
	assert_int_equal(waitpid(pid, NULL, 0), pid);
	assert_int_equal(reap(1.5), 1);
	assert_string_equal(orphans, TOKEN " ");
	assert_false(is_there(name));
	assert_false(lease_alive(&lease, name));
}

/* The number of a dead process may be given to another one: that has begun later. */
static void test_number_reused(void **state)
{
	char text[200], boot[64];
	unsigned long long counter, pidns, begun;
	int pid, fd = openat(lease.dir, "hb", O_RDONLY);
	ssize_t n = read(fd, text, sizeof(text) - 1);

	(void)state;
	close(fd);
	assert_true(n > 0);
	text[n] = '\0';
	assert_int_equal(sscanf(text, "%llu %63s %llu %d %llu", &counter, boot, &pidns, &pid, &begun), 5);
	assert_int_equal(pid, getpid());
	close(foreign_worker("same", text));
	snprintf(text, sizeof(text), "%llu %s %llu %d %llu\n", counter, boot, pidns, pid, begun - 1);
	close(foreign_worker("before", text));
	assert_int_equal(reap(1), 1);
	assert_true(is_there("same"));
	assert_false(is_there("before"));
}

/* Of other machines, only whether the counter moves says anything, by our own clock. */
static void test_standing_still(void **state)
{
	int dir = foreign_worker("elsewhere.1.2", "5 another-boot 1 1 1\n");

	(void)state;
	assert_int_equal(reap(1000), 0); /* seen for the first time */
	assert_int_equal(reap(1000 + LEASE - 1), 0);
	put(dir, "hb", "6 another-boot 1 1 1\n");
	assert_int_equal(reap(1000 + LEASE + 20), 0);
	assert_true(lease_alive(&lease, "elsewhere.1.2"));
	assert_int_equal(reap(1000 + LEASE + 20 + LEASE - 1), 0);
	assert_string_equal(orphans, "");
	assert_int_equal(reap(1000 + LEASE + 20 + LEASE + 1), 1);
	assert_string_equal(orphans, TOKEN " ");
	assert_false(is_there("elsewhere.1.2"));
	close(dir);
}

/* A heartbeat that cannot be read is one that does not move. */
static void test_no_heartbeat(void **state)
{
	close(foreign_worker("silent", NULL));
	close(foreign_worker("garbled", "what?\n"));
	(void)state;
	assert_int_equal(reap(10), 0);
	assert_int_equal(reap(10 + LEASE - 1), 0);
	assert_int_equal(reap(10 + LEASE + 1), 2);
	assert_string_equal(orphans, TOKEN " " TOKEN " ");
}

static unsigned long long beats(void)
{
	char text[200] = "";
	int fd = openat(lease.dir, "hb", O_RDONLY);

	assert_true(read(fd, text, sizeof(text) - 1) > 0);
	close(fd);
	return strtoull(text, NULL, 10);
}

static void test_beat(void **state)
{
	unsigned long long first = beats();
	double now = lease.next_beat;

	(void)state;
	assert_true(now > loop_now() && now <= loop_now() + LEASE / 3.0);
	lease_beat(&lease, now - 0.1);
	assert_true(beats() == first);
	lease_beat(&lease, now);
	assert_true(beats() == first + 1);
	lease_beat(&lease, now + 0.1);
	assert_true(beats() == first + 1);
	lease_beat(&lease, lease.next_beat);
	assert_true(beats() == first + 2);
	assert_int_equal(reap(now), 0); /* never oneself */
	assert_true(is_there(lease.name));
}

/* Whoever finds its folder gone has been declared dead: exit code 75, and not one step more. */
static void test_fenced(void **state)
{
	int status;
	pid_t pid = fork();

	(void)state;
	if (!pid) {
		struct lease own;
		struct err err;

		close(STDERR_FILENO);
		if (lease_take(&own, &spool, LEASE, &err) != RC_OK)
			_exit(1);
		lease_beat(&own, own.next_beat);
		durable_remove_tree(spool.active, own.name);
		lease_beat(&own, own.next_beat);
		_exit(2);
	}
	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_true(WIFEXITED(status));
	assert_int_equal(WEXITSTATUS(status), EX_WORK_REMAINS);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_dead_at_once, set_up, tear_down),
		cmocka_unit_test_setup_teardown(test_killed_later, set_up, tear_down),
		cmocka_unit_test_setup_teardown(test_number_reused, set_up, tear_down),
		cmocka_unit_test_setup_teardown(test_standing_still, set_up, tear_down),
		cmocka_unit_test_setup_teardown(test_no_heartbeat, set_up, tear_down),
		cmocka_unit_test_setup_teardown(test_beat, set_up, tear_down),
		cmocka_unit_test_setup_teardown(test_fenced, set_up, tear_down),
	};

	cmocka_set_message_output(CM_OUTPUT_TAP);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
