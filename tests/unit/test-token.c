/* SPDX-License-Identifier: MIT
 *
 * token: names, content that comes back whatever bytes the paths have, and what a crash may leave.
 */
#include "base/num.h"
#include "durable.h"
#include "spool.h"

#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#define KEY "20261121T201500.123456-0123456789abcdef-fedcba9876543210"
#define HASH "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef"

static char folder[64];
static int dir;

static int set_up(void **state)
{
	(void)state;
	strcpy(folder, "/tmp/cloister-test-XXXXXX");
	if (!mkdtemp(folder))
		return -1;
	dir = open(folder, O_RDONLY | O_DIRECTORY);
	return dir < 0;
}

static int tear_down(void **state)
{
	(void)state;
	close(dir);
	durable_remove_tree(AT_FDCWD, folder);
	return 0;
}

static void test_names(void **state)
{
	static const char *const wrong[] = {
		"", "hb", KEY, KEY ".a", KEY ".a1000", KEY ".a-1", KEY ".a1x", KEY ".b1", KEY ".a1.part",
		"." KEY ".a1", KEY "0.a1",
		"20261121T201500.123456-0123456789abcdef-fedcba987654321.a1",
		"20261121t201500.123456-0123456789abcdef-fedcba9876543210.a1",
		"20261121T201500.12345x-0123456789abcdef-fedcba9876543210.a1",
		"20261121T201500.123456-0123456789ABCDEF-fedcba9876543210.a1",
		"20261121T201500.123456_0123456789abcdef-fedcba9876543210.a1",
		"20261121T201500.123456-0123456789abcdef/fedcba9876543210.a1",
	};
	char key[KEY_SIZE];
	unsigned attempt;
	uint64_t path;

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(wrong); i++)
		assert_false(token_name_parse(wrong[i], key, &attempt, &path));
	assert_true(token_name_parse(KEY ".a999", key, &attempt, &path));
	assert_string_equal(key, KEY);
	assert_int_equal(attempt, 999);
	assert_true(path == 0xfedcba9876543210u);
	assert_true(token_name_parse(KEY ".a0", key, &attempt, NULL));
	assert_int_equal(attempt, 0);
}

static void test_key(void **state)
{
	char file[] = "a/b.pdf";
	struct token t = { .attempt = 7, .source = SOURCE_MEMBER, .file = file };
	char name[TOKEN_NAME_SIZE], key[KEY_SIZE];
	unsigned attempt;
	uint64_t path;

	(void)state;
	strcpy(t.identity, HASH);
	token_make_key(&t, 1795306500123456);
	token_name(&t, name);
	assert_true(token_name_parse(name, key, &attempt, &path));
	assert_string_equal(key, t.key);
	assert_memory_equal(key + 23, HASH, 16);
	assert_true(key_time(key) == 1795306500123456);
	assert_int_equal(attempt, 7);
	assert_true(path == token_path_hash(SOURCE_MEMBER, "a/b.pdf"));
	assert_true(path != token_path_hash(SOURCE_IN, "a/b.pdf"));
	assert_true(path != token_path_hash(SOURCE_MEMBER, "a/B.pdf"));
}

/* A member has the time of its archive, and members the order that they have in it. */
static void test_key_of_member(void **state)
{
	char file[] = KEY "/0003";
	struct token t = { .source = SOURCE_MEMBER, .file = file };

	(void)state;
	strcpy(t.identity, HASH);
	token_make_key(&t, 1795306500123456);
	assert_true(key_time(t.key) == key_time(KEY) + 3);
}

static struct token sample(const char *file)
{
	struct token t = { .key = KEY,
			   .attempt = 3,
			   .priority = 9,
			   .pipeline = xstrdup("letters"),
			   .file = xstrdup(file),
			   .result = xstrdup(file),
			   .sha256 = HASH,
			   .identity = HASH,
			   .bytes = 1ull << 40,
			   .mtime_ns = -1 };

	return t;
}

static void check_same(const struct token *got, const struct token *want)
{
	assert_string_equal(got->key, want->key);
	assert_int_equal(got->attempt, want->attempt);
	assert_int_equal(got->priority, want->priority);
	assert_int_equal(got->source, want->source);
	assert_string_equal(got->pipeline, want->pipeline);
	assert_string_equal(got->file, want->file);
	assert_string_equal(got->result, want->result);
	assert_string_equal(got->sha256, want->sha256);
	assert_string_equal(got->identity, want->identity);
	assert_true(got->bytes == want->bytes && got->mtime_ns == want->mtime_ns);
	assert_int_equal(!got->ticket, !want->ticket);
	assert_true(!want->ticket || json_equal(got->ticket, want->ticket));
	assert_int_equal(!got->archive, !want->archive);
	assert_true(!want->archive || json_equal(got->archive, want->archive));
	assert_int_equal(!got->failures, !want->failures);
	assert_true(!want->failures || json_equal(got->failures, want->failures));
}

static void check_round_trip(struct token *t)
{
	char name[TOKEN_NAME_SIZE];
	struct token got;
	struct err err;

	token_name(t, name);
	assert_int_equal(token_write(dir, t, &err), RC_OK);
	assert_int_equal(token_read(dir, name, &got, &err), RC_OK);
	check_same(&got, t);
	token_release(&got);
	token_release(t);
}

static void test_round_trip(void **state)
{
	static const char *const files[] = {
		"letters/a.pdf", "a b%41%.pdf", "\xff\xfe/\x80.pdf", "new\nline\r\t\x01\x7f.pdf",
		"\"quoted\"\\{}[]:,.pdf", "caf\xc3\xa9/\xe2\x80\xae.pdf", "\xed\xa0\x80.pdf", " ", "-rf",
	};
	char every[256];
	struct token t;

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(files); i++) {
		t = sample(files[i]);
		check_round_trip(&t);
	}
	for (unsigned i = 1; i < 256; i++)
		every[i - 1] = (char)i;
	every[255] = '\0';
	t = sample(every);
	t.source = SOURCE_MEMBER;
	t.ticket = json_pack("{s:i, s:[s]}", "dpi", 100, "passwords", "\xc3\xa9\n\"");
	t.archive = json_pack("{s:s, s:i}", "member", "x%FF", "ordinal", 2);
	t.failures = json_pack("[{s:i, s:s}]", "attempt", 1, "reason", "writer");
	check_round_trip(&t);
}

static void put(const char *name, const char *text, size_t len)
{
	int fd = openat(dir, name, O_WRONLY | O_CREAT | O_TRUNC, 0644);

	assert_true(fd >= 0);
	assert_int_equal(write(fd, text, len), (ssize_t)len);
	close(fd);
}

static void check_refused(const char *name, const char *reason)
{
	struct token t;
	struct err err;

	assert_int_equal(token_read(dir, name, &t, &err), RC_FAILED);
	assert_string_equal(err.reason, reason);
	assert_null(t.file);
	if (strcmp(reason, "vanished"))
		assert_int_equal(faccessat(dir, name, F_OK, AT_SYMLINK_NOFOLLOW), 0);
}

/* Cut anywhere, a token is refused and stays where it is. */
static void test_torn(void **state)
{
	struct token t = sample("letters/a.pdf");
	char name[TOKEN_NAME_SIZE], text[4096];
	struct err err;
	ssize_t n;
	int fd;

	(void)state;
	token_name(&t, name);
	assert_int_equal(token_write(dir, &t, &err), RC_OK);
	fd = openat(dir, name, O_RDONLY);
	n = read(fd, text, sizeof(text));
	close(fd);
	assert_true(n > 100 && n < (ssize_t)sizeof(text));
	for (ssize_t i = 0; i < n; i++) {
		put(name, text, (size_t)i);
		check_refused(name, "token");
	}
	memset(text + n / 2, 0, (size_t)(n - n / 2)); /* a page that never reached the disk */
	put(name, text, (size_t)n);
	check_refused(name, "token");
	token_release(&t);
}

static void test_not_ours(void **state)
{
	struct token t = sample("letters/a.pdf"), got;
	char name[TOKEN_NAME_SIZE], other[TOKEN_NAME_SIZE];
	struct err err;

	(void)state;
	token_name(&t, name);
	check_refused(name, "vanished");
	assert_int_equal(token_write(dir, &t, &err), RC_OK);
	/* One token's content under another one's name. */
	strcpy(other, name);
	other[0] = '1';
	assert_int_equal(renameat(dir, name, dir, other), 0);
	check_refused(other, "token");
	assert_int_equal(symlinkat("/etc/passwd", dir, name), 0);
	assert_int_equal(token_read(dir, name, &got, &err), RC_FAILED);
	assert_string_not_equal(err.reason, "vanished");
	unlinkat(dir, name, 0);
	assert_int_equal(mkdirat(dir, name, 0755), 0);
	check_refused(name, "token");
	unlinkat(dir, name, AT_REMOVEDIR);
	for (const char *const *text = (const char *const[]){ "[]", "{}", "{\"token\":1}", NULL }; *text;
	     text++) {
		put(name, *text, strlen(*text));
		check_refused(name, "token");
	}
	token_release(&t);
}

struct walked {
	unsigned n, stop_after;
	char line[4096];
};

static bool visit(const struct token_entry *e, void *arg)
{
	struct walked *w = arg;
	size_t used = strlen(w->line);

	snprintf(w->line + used, sizeof(w->line) - used, "%s %c a%u %s %s %u, ",
		 token_state_name(e->state), e->key[0], e->attempt, e->worker ? e->worker : "-",
		 e->pipeline ? e->pipeline : "-", e->priority);
	return ++w->n != w->stop_after;
}

/* Tokens wherever they may lie, and nothing that is none. */
static void test_walk(void **state)
{
	static const char *const paths[] = {
		"ready/0/letters/" KEY ".a0", "ready/9/volumes/" KEY ".a1", "active/host.1.2/" KEY ".a2",
		"deferred/" KEY ".a3", "hold/" KEY ".a4",
		"active/host.1.2/hb", "ready/0/letters/." KEY ".a5.part", "hold/note.txt",
	};
	struct walked w = { 0 };
	struct spool s;
	struct err err;

	(void)state;
	assert_int_equal(spool_open(&s, folder, true, &err), RC_OK);
	for (size_t i = 0; i < ARRAY_SIZE(paths); i++) {
		const char *slash = strrchr(paths[i], '/');
		char parent[100];
		int fd;

		snprintf(parent, sizeof(parent), "%.*s", (int)(slash - paths[i]), paths[i]);
		fd = durable_mkdirs(s.state, parent, &err);
		assert_true(fd >= 0);
		close(openat(fd, slash + 1, O_WRONLY | O_CREAT, 0644));
		close(fd);
	}
	assert_int_equal(spool_walk_tokens(&s, 15, visit, &w, &err), RC_OK);
	assert_string_equal(w.line, "ready 2 a0 - letters 0, ready 2 a1 - volumes 9, "
				    "active 2 a2 host.1.2 - 0, deferred 2 a3 - - 0, hold 2 a4 - - 0, ");
	w = (struct walked){ 0 };
	spool_walk_tokens(&s, 1u << TOKEN_HOLD, visit, &w, &err);
	assert_string_equal(w.line, "hold 2 a4 - - 0, ");
	w = (struct walked){ .stop_after = 2 };
	spool_walk_tokens(&s, 15, visit, &w, &err);
	assert_int_equal(w.n, 2);
	spool_close(&s);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_names),
		cmocka_unit_test(test_key),
		cmocka_unit_test(test_key_of_member),
		cmocka_unit_test_setup_teardown(test_round_trip, set_up, tear_down),
		cmocka_unit_test_setup_teardown(test_torn, set_up, tear_down),
		cmocka_unit_test_setup_teardown(test_not_ours, set_up, tear_down),
		cmocka_unit_test_setup_teardown(test_walk, set_up, tear_down),
	};

	cmocka_set_message_output(CM_OUTPUT_TAP);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
