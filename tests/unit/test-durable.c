/* SPDX-License-Identifier: MIT
 *
 * durable: a move never replaces, folders are never made through a link, and a file that is written is
 * at every moment either the old one or the new one.
 */
#include "durable.h"
#include "base/num.h"

#include <errno.h>
#include <fcntl.h>
#include <seccomp.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/inotify.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

static char folder[64];
static int dir;

static int set_up(void **state)
{
	(void)state;
	strcpy(folder, "/tmp/cloister-test-XXXXXX");
	if (!mkdtemp(folder))
		return -1;
	dir = open(folder, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	return dir < 0;
}

static int tear_down(void **state)
{
	(void)state;
	close(dir);
	durable_remove_tree(AT_FDCWD, folder);
	return access(folder, F_OK) ? 0 : -1;
}

static void put(const char *name, const char *text)
{
	int fd = openat(dir, name, O_WRONLY | O_CREAT | O_TRUNC, 0644);

	assert_true(fd >= 0);
	assert_int_equal(write(fd, text, strlen(text)), (ssize_t)strlen(text));
	close(fd);
}

static const char *content(const char *name)
{
	static char text[256];
	int fd = openat(dir, name, O_RDONLY | O_NOFOLLOW);
	ssize_t n = fd < 0 ? -1 : read(fd, text, sizeof(text) - 1);

	if (fd >= 0)
		close(fd);
	text[n < 0 ? 0 : n] = '\0';
	return n < 0 ? NULL : text;
}

static bool is_there(const char *name)
{
	return !faccessat(dir, name, F_OK, AT_SYMLINK_NOFOLLOW);
}

static void check_kept(const char *from, const char *to)
{
	struct err err;

	assert_int_equal(durable_move(dir, from, dir, to, &err), RC_RETRY);
	assert_string_equal(err.reason, "exists");
}

/* The same with rename flags and without, as on NFS. */
static void check_moves(void)
{
	struct err err;

	put("new", "new");
	put("old", "old");
	check_kept("new", "old");
	assert_string_equal(content("new"), "new");
	assert_string_equal(content("old"), "old");
	assert_int_equal(symlinkat("nowhere", dir, "dangling"), 0);
	check_kept("new", "dangling");
	assert_int_equal(mkdirat(dir, "full", 0755), 0);
	put("full/file", "x");
	check_kept("new", "full");
	assert_int_equal(mkdirat(dir, "result", 0755), 0);
	put("result/file", "y");
	check_kept("result", "full");
	assert_string_equal(content("full/file"), "x");
	assert_string_equal(content("result/file"), "y");

	assert_int_equal(durable_move(dir, "new", dir, "free", &err), RC_OK);
	assert_string_equal(content("free"), "new");
	assert_false(is_there("new"));
	assert_int_equal(durable_move(dir, "result", dir, "published", &err), RC_OK);
	assert_string_equal(content("published/file"), "y");
	assert_false(is_there("result"));
	assert_int_equal(durable_move(dir, "new", dir, "again", &err), RC_FAILED);
	assert_string_equal(err.reason, "vanished");
	assert_false(is_there("again"));
}

static void test_move(void **state)
{
	(void)state;
	check_moves();
}

static void test_move_without_flags(void **state)
{
	pid_t pid = fork();
	int status;

	(void)state;
	if (!pid) {
		scmp_filter_ctx filter = seccomp_init(SCMP_ACT_ALLOW);

		seccomp_rule_add(filter, SCMP_ACT_ERRNO(EINVAL), SCMP_SYS(renameat2), 0);
		if (seccomp_load(filter))
			_exit(77);
		check_moves(); /* a failed assertion jumps out and exits with its own code */
		_exit(42);
	}
	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_true(WIFEXITED(status));
	if (WEXITSTATUS(status) == 77)
		skip();
	assert_int_equal(WEXITSTATUS(status), 42);
}

static void test_replace(void **state)
{
	struct err err;

	(void)state;
	put("new", "new");
	put("old", "old");
	assert_int_equal(durable_replace(dir, "new", dir, "old", &err), RC_OK);
	assert_string_equal(content("old"), "new");
	assert_false(is_there("new"));
	assert_int_equal(durable_replace(dir, "new", dir, "old", &err), RC_FAILED);
	assert_string_equal(err.reason, "vanished");
	assert_string_equal(content("old"), "new");
}

static void test_mkdirs(void **state)
{
	struct stat made, opened;
	char name[300];
	struct err err;
	int fd = durable_mkdirs(dir, "a//b/c/", &err);

	(void)state;
	assert_true(fd >= 0);
	assert_int_equal(fstatat(dir, "a/b/c", &made, AT_SYMLINK_NOFOLLOW), 0);
	assert_int_equal(fstat(fd, &opened), 0);
	assert_true(made.st_ino == opened.st_ino);
	assert_int_equal(made.st_mode & 022, 0);
	close(fd);
	fd = durable_mkdirs(dir, "a/b/c", &err); /* all of it there already */
	assert_true(fd >= 0);
	close(fd);
	fd = durable_mkdirs(dir, "", &err);
	assert_true(fd >= 0 && !fstat(fd, &opened) && !fstat(dir, &made) && made.st_ino == opened.st_ino);
	close(fd);

	assert_int_equal(mkdirat(dir, "outside", 0755), 0);
	assert_int_equal(symlinkat("../outside", dir, "a/link"), 0);
	assert_int_equal(durable_mkdirs(dir, "a/link", &err), -1);
	assert_int_equal(durable_mkdirs(dir, "a/link/new", &err), -1);
	assert_false(is_there("outside/new"));
	put("a/file", "x");
	assert_int_equal(durable_mkdirs(dir, "a/file/new", &err), -1);
	memset(name, 'x', 255);
	name[255] = '\0';
	fd = durable_mkdirs(dir, name, &err);
	assert_true(fd >= 0);
	close(fd);
	memcpy(name + 255, "x", 2);
	assert_int_equal(durable_mkdirs(dir, name, &err), -1);
}

static void test_write(void **state)
{
	char name[300];
	struct err err;

	(void)state;
	assert_int_equal(durable_write(dir, "file", "one", 3, true, &err), RC_OK);
	assert_string_equal(content("file"), "one");
	put(".file.part", "what a crash has left, and longer");
	assert_int_equal(durable_write(dir, "file", "two", 3, true, &err), RC_OK);
	assert_string_equal(content("file"), "two");
	assert_false(is_there(".file.part"));
	put("elsewhere", "untouched");
	assert_int_equal(symlinkat("elsewhere", dir, ".file.part"), 0);
	durable_write(dir, "file", "three", 5, true, &err);
	assert_string_equal(content("elsewhere"), "untouched");
	assert_int_equal(symlinkat("elsewhere", dir, "link"), 0);
	assert_int_equal(durable_write(dir, "link", "four", 4, false, &err), RC_OK);
	assert_string_equal(content("link"), "four"); /* the link is replaced, not followed */
	assert_string_equal(content("elsewhere"), "untouched");
	memset(name, 'n', 255);
	name[255] = '\0';
	assert_int_not_equal(durable_write(dir, name, "x", 1, true, &err), RC_OK);
	assert_false(is_there(name));
}

/* No room: the old content stays, and nothing else. */
static void test_write_fails(void **state)
{
	static char big[100000];
	struct rlimit before, small;
	struct err err;

	(void)state;
	put("file", "old");
	signal(SIGXFSZ, SIG_IGN);
	assert_int_equal(getrlimit(RLIMIT_FSIZE, &before), 0);
	small = before;
	small.rlim_cur = 4096;
	assert_int_equal(setrlimit(RLIMIT_FSIZE, &small), 0);
	assert_int_equal(durable_write(dir, "file", big, sizeof(big), true, &err), RC_RETRY);
	assert_int_equal(setrlimit(RLIMIT_FSIZE, &before), 0);
	assert_string_equal(err.reason, "write-error");
	assert_string_equal(content("file"), "old");
	assert_false(is_there(".file.part"));
}

#define BIG 200000

/* 0: whole, whichever of the contents it is. */
static int read_whole(char *text)
{
	int fd = openat(dir, "file", O_RDONLY);
	ssize_t n, all = 0;

	while ((n = read(fd, text + all, BIG + 1 - (size_t)all)) > 0)
		all += n;
	close(fd);
	for (ssize_t i = 1; i < all; i++)
		if (text[i] != text[0])
			return 1;
	return fd < 0 || all != (text[0] == 'a' ? BIG : BIG / 2);
}

/* Somebody who reads all the time sees one or the other, never a mixture and never nothing. */
static void test_write_is_atomic(void **state)
{
	static char big[BIG + 1];
	struct err err;
	int status;
	pid_t pid;

	(void)state;
	memset(big, 'a', BIG);
	assert_int_equal(durable_write(dir, "file", big, BIG, false, &err), RC_OK);
	pid = fork();
	if (!pid) {
		for (int i = 0; i < 1000; i++)
			if (read_whole(big))
				_exit(1);
		_exit(42);
	}
	for (int i = 0; !waitpid(pid, &status, WNOHANG); i++) {
		memset(big, i & 1 ? 'a' : 'b', BIG);
		assert_int_equal(durable_write(dir, "file", big, i & 1 ? BIG : BIG / 2, false, &err), RC_OK);
	}
	assert_true(WIFEXITED(status));
	assert_int_equal(WEXITSTATUS(status), 42);
}

static void test_remove_tree(void **state)
{
	struct err err;

	(void)state;
	close(durable_mkdirs(dir, "tree/a/b", &err));
	close(durable_mkdirs(dir, "beside", &err));
	put("tree/a/b/file", "x");
	put("tree/.hidden", "x");
	put("beside/file", "kept");
	assert_int_equal(symlinkat("../beside", dir, "tree/link"), 0);
	durable_remove_tree(dir, "tree");
	assert_false(is_there("tree"));
	assert_string_equal(content("beside/file"), "kept");
	assert_int_equal(symlinkat("beside", dir, "link"), 0);
	durable_remove_tree(dir, "link");
	assert_false(is_there("link"));
	assert_string_equal(content("beside/file"), "kept");
}

/* A worker that was taken for dead may rename a folder into place while it is removed. */
static void test_remove_renames_first(void **state)
{
	_Alignas(struct inotify_event) char events[4096];
	const struct inotify_event *first = (const void *)events;
	char path[128];
	struct err err;
	int fd = inotify_init1(IN_NONBLOCK | IN_CLOEXEC);

	(void)state;
	close(durable_mkdirs(dir, "tree/out", &err));
	put("tree/out/file", "x");
	snprintf(path, sizeof(path), "%s/tree/out", folder);
	assert_true(inotify_add_watch(fd, path, IN_MOVE_SELF | IN_DELETE) >= 0);
	durable_remove_tree(dir, "tree");
	assert_false(is_there("tree"));
	assert_true(read(fd, events, sizeof(events)) >= (ssize_t)sizeof(*first));
	assert_int_equal(first->mask, IN_MOVE_SELF);
	close(fd);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_move, set_up, tear_down),
		cmocka_unit_test_setup_teardown(test_move_without_flags, set_up, tear_down),
		cmocka_unit_test_setup_teardown(test_replace, set_up, tear_down),
		cmocka_unit_test_setup_teardown(test_mkdirs, set_up, tear_down),
		cmocka_unit_test_setup_teardown(test_write, set_up, tear_down),
		cmocka_unit_test_setup_teardown(test_write_fails, set_up, tear_down),
		cmocka_unit_test_setup_teardown(test_write_is_atomic, set_up, tear_down),
		cmocka_unit_test_setup_teardown(test_remove_tree, set_up, tear_down),
		cmocka_unit_test_setup_teardown(test_remove_renames_first, set_up, tear_down),
	};

	cmocka_set_message_output(CM_OUTPUT_TAP);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
