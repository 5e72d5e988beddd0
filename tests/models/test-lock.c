/* SPDX-License-Identifier: MIT
 *
 * The lock of a model's folder: digests that agree with plain ones, locks that are read back,
 * compared, and refused when they are not right.
 */
#include "weights/lock.h"

#include "base/buf.h"

#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#define PIECE (16u << 20)

static char folder[] = "/tmp/cloister-lock-XXXXXX";
static struct pool *pool;

static void put(const char *name, const void *data, size_t len)
{
	char *path = xasprintf("%s/%s", folder, name);
	FILE *f = fopen(path, "w");

	assert_non_null(f);
	assert_int_equal(fwrite(data, 1, len, f), len);
	fclose(f);
	free(path);
}

static void take_away(const char *name)
{
	char *path = xasprintf("%s/%s", folder, name);

	unlink(path);
	free(path);
}

/* Sizes around a piece; one thread or three see the same. */
static void digests_of_every_size(void **state)
{
	static const size_t sizes[] = {0, 1, PIECE - 1, PIECE, PIECE + 1, 2 * PIECE + 77};
	unsigned char *data = malloc(2 * PIECE + 77);

	(void)state;
	for (size_t i = 0; i < 2 * PIECE + 77; i++)
		data[i] = (unsigned char)(i * 2654435761u >> 13);
	for (size_t i = 0; i < sizeof(sizes) / sizeof(*sizes); i++) {
		struct digest one = {.path = "big", .size = sizes[i]}, two = one;
		struct sha256_ctx all;
		char whole[SHA256_HEX_SIZE], pieces[SHA256_HEX_SIZE];

		put("big", data, sizes[i]);
		sha256_hex_of(data, sizes[i], whole);
		sha256_init(&all);
		for (size_t at = 0; at < sizes[i]; at += PIECE) {
			size_t n = sizes[i] - at < PIECE ? sizes[i] - at : PIECE;
			uint8_t digest[SHA256_DIGEST_SIZE];
			struct sha256_ctx piece;

			sha256_init(&piece);
			sha256_update(&piece, n, data + at);
			sha256_digest(&piece, sizeof(digest), digest);
			sha256_update(&all, sizeof(digest), digest);
		}
		sha256_hex(&all, pieces);
		digest_files(folder, &one, 1, DIGEST_BOTH, pool, NULL);
		digest_files(folder, &two, 1, DIGEST_PIECES, pool, NULL);
		assert_int_equal(one.error | two.error, 0);
		assert_string_equal(one.sha256, whole);
		assert_string_equal(one.pieces, pieces);
		assert_string_equal(two.pieces, pieces);
	}
	free(data);
	take_away("big");
}

/* Longer or shorter than was said, or not there. */
static void digests_that_fail(void **state)
{
	struct digest v[] = {{.path = "file", .size = 3},
			     {.path = "file", .size = 5},
			     {.path = "absent", .size = 0},
			     {.path = "file", .size = 4}};
	struct err err;

	(void)state;
	put("file", "1234", 4);
	for (int kind = DIGEST_PIECES; kind <= DIGEST_BOTH; kind++) {
		digest_files(folder, v, 4, (enum digest_kind)kind, pool, NULL);
		assert_int_equal(v[0].error, ESTALE);
		assert_int_equal(v[1].error, ESTALE);
		assert_int_equal(v[2].error, ENOENT);
		assert_int_equal(v[3].error, 0);
	}
	assert_int_equal(digest_check(&v[0], &err), RC_FATAL);
	assert_string_equal(err.text, "file has changed while it was read");
	take_away("file");
}

static void a_lock_is_read_back(void **state)
{
	struct digest v[] = {{.path = "a.json", .size = 4}, {.path = "b.safetensors", .size = 2}};
	struct difference_of *found;
	struct model_files files;
	struct model_lock lock;
	struct err err;
	size_t len;
	char *text;

	(void)state;
	put("a.json", "{  }", 4);
	put("b.safetensors", "xy", 2);
	digest_files(folder, v, 2, DIGEST_BOTH, pool, NULL);
	text = model_lock_text("/models/hub/models--org--name/snapshots/0123", v, 2, &len);
	assert_int_equal(model_lock_parse(&lock, text, len, &err), RC_OK);
	assert_string_equal(lock.model, "org/name");
	assert_string_equal(lock.revision, "0123");
	assert_string_equal(lock.tool, "cloister " CLOISTER_VERSION);
	assert_int_equal(lock.n, 2);
	assert_int_equal(lock.bytes, 6);
	assert_string_equal(model_lock_find(&lock, "a.json")->sha256, v[0].sha256);
	assert_null(model_lock_find(&lock, "c"));

	put("b.safetensors", "xz", 2);
	put("c.txt", "new", 3);
	take_away("a.json");
	assert_int_equal(model_files_list(&files, folder, &err), RC_OK);
	assert_int_equal(
		model_lock_compare(&lock, folder, &files, NULL, DIGEST_PIECES, NULL, NULL, &found),
		2); /* without reading */
	free(found);
	assert_int_equal(
		model_lock_compare(&lock, folder, &files, NULL, DIGEST_PIECES, pool, NULL, &found),
		3);
	assert_int_equal(found[0].kind, FILE_MISSING);
	assert_int_equal(found[1].kind, FILE_CHANGED);
	assert_int_equal(found[2].kind, FILE_ADDED);
	free(found);
	assert_int_equal(model_lock_compare(&lock, folder, &files, model_file_is_read,
					    DIGEST_PIECES, pool, NULL, &found),
			 1); /* the engine reads neither a.json nor c.txt */
	free(found);
	model_files_release(&files);
	model_lock_release(&lock);
	free(text);
	take_away("b.safetensors");
	take_away("c.txt");
}

#define HASH "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef"
#define HEAD "{\"cloister_lock\":1,\"model\":\"m\",\"date\":\"d\",\"tool\":\"t\",\"files\":["
#define ENTRY(path)                                                                                \
	"{\"path\":\"" path "\",\"size\":1,\"sha256\":\"" HASH "\",\"pieces\":\"" HASH "\"}"

static void locks_that_are_not_right(void **state)
{
	static const char *const bad[] = {
		"",
		"[]",
		"{}",
		"{\"cloister_lock\":2}",
		"{\"cloister_lock\":1,\"files\":[]}",
		HEAD "1]}",
		HEAD "{\"path\":\"a\",\"size\":-1,\"sha256\":\"" HASH "\",\"pieces\":\"" HASH
		     "\"}]}",
		HEAD "{\"path\":\"a\",\"size\":1,\"sha256\":\"" HASH "\"}]}",
		HEAD "{\"path\":\"a\",\"size\":1,\"sha256\":\"XX\",\"pieces\":\"" HASH "\"}]}",
		HEAD ENTRY("") "]}",
		HEAD ENTRY("/a") "]}",
		HEAD ENTRY("a/") "]}",
		HEAD ENTRY("a//b") "]}",
		HEAD ENTRY("../a") "]}",
		HEAD ENTRY("a/../b") "]}",
		HEAD ENTRY(".a") "]}",
		HEAD ENTRY("a/.b") "]}",
		HEAD ENTRY("a\\nb") "]}",
		HEAD ENTRY("a\\u0000b") "]}",
		HEAD ENTRY("cloister.lock") "]}",
		HEAD ENTRY("1/2/3/4/5/6/7/8/9") "]}",
		HEAD ENTRY("b") "," ENTRY("a") "]}",
		HEAD ENTRY("a") "," ENTRY("a") "]}",
	};
	static const char good[] = HEAD ENTRY("a") "," ENTRY("b/c") "]}";
	struct model_lock lock;
	struct err err;

	(void)state;
	for (size_t i = 0; i < sizeof(bad) / sizeof(*bad); i++) {
		if (model_lock_parse(&lock, bad[i], strlen(bad[i]), &err) == RC_OK)
			fail_msg("taken: %s", bad[i]);
		assert_string_equal(err.reason, "model-lock");
		model_lock_release(&lock);
	}
	assert_int_equal(model_lock_parse(&lock, good, strlen(good), &err), RC_OK);
	model_lock_release(&lock);
	assert_int_equal(model_lock_load(&lock, folder, &err), RC_FAILED);
	assert_string_equal(err.reason, "model-unlocked");
}

static void names_of_folders(void **state)
{
	static const struct {
		const char *folder, *name, *revision;
	} known[] = {
		{"/m/org--name", "org/name", NULL},
		{"/m/org--name/", "org/name", NULL},
		{"/m/org/name", "org/name", NULL},
		{"/m/org/name/", "org/name", NULL},
		{"/m/name", "name", NULL},
		{"/mm/org/name", "name", NULL},
		{"/elsewhere/org/name", "name", NULL},
		{"/m/hub/models--org--name/snapshots/0a1b", "org/name", "0a1b"},
		{"/m/models--org--na--me/snapshots/0a1b/", "org/na--me", "0a1b"},
	};

	(void)state;
	setenv("CLOISTER_MODELS", "/m/", 1);
	for (size_t i = 0; i < sizeof(known) / sizeof(*known); i++) {
		char *name = model_name(known[i].folder),
		     *revision = model_revision(known[i].folder);

		assert_string_equal(name, known[i].name);
		if (known[i].revision)
			assert_string_equal(revision, known[i].revision);
		else
			assert_null(revision);
		free(name);
		free(revision);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(digests_of_every_size), cmocka_unit_test(digests_that_fail),
		cmocka_unit_test(a_lock_is_read_back),	 cmocka_unit_test(locks_that_are_not_right),
		cmocka_unit_test(names_of_folders),
	};
	struct err err;
	int failed;

	cmocka_set_message_output(CM_OUTPUT_TAP);
	if (!mkdtemp(folder) || pool_open(&pool, 3, &err) != RC_OK)
		return 1;
	failed = cmocka_run_group_tests(tests, NULL, NULL);
	pool_close(pool);
	rmdir(folder);
	return failed;
}
