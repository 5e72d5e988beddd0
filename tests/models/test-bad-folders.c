/* SPDX-License-Identifier: MIT
 *
 * Model folders that are damaged: whatever has become of config.json or of the header of the weights,
 * opening ends with a model or with an error that says what is wrong, never otherwise.
 *
 * CLOISTER_TEST_SEED=N CLOISTER_TEST_FULL=1 for other and for more mutations.
 */
#include "model.h"

#include "base/buf.h"

#include <dirent.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#define GOLDEN "tests/golden/models/"

static char folder[] = "/tmp/cloister-folder-XXXXXX";
static struct pool *pool;
static unsigned seed = 1;

static unsigned next(void)
{
	seed = seed * 1664525u + 1013904223u;
	return seed >> 8;
}

static struct buf slurp(const char *path)
{
	struct buf b;
	char chunk[65536];
	FILE *f = fopen(path, "r");
	size_t n;

	assert_non_null(f);
	buf_init(&b, 64u << 20);
	while ((n = fread(chunk, 1, sizeof(chunk), f)) > 0)
		buf_add(&b, chunk, n);
	fclose(f);
	return b;
}

static void put(const char *name, const char *data, size_t len)
{
	char *path = xasprintf("%s/%s", folder, name);
	FILE *f;

	unlink(path); /* the link, not what it leads to */
	f = fopen(path, "w");
	assert_non_null(f);
	assert_int_equal(fwrite(data, 1, len, f), len);
	fclose(f);
	free(path);
}

/* Links to all files of a golden model; the one that is mutated is put in the link's place. */
static void fill(const char *golden)
{
	DIR *dir = opendir(golden);
	char *here = realpath(golden, NULL);

	assert_non_null(dir);
	for (struct dirent *e; (e = readdir(dir));) {
		char *to = xasprintf("%s/%s", folder, e->d_name), *from = xasprintf("%s/%s", here, e->d_name);

		if (e->d_name[0] != '.' && strcmp(e->d_name, "expected.safetensors"))
			assert_int_equal(symlink(from, to), 0);
		free(to);
		free(from);
	}
	closedir(dir);
	free(here);
}

static void empty(void)
{
	DIR *dir = opendir(folder);

	for (struct dirent *e; (e = readdir(dir));)
		unlinkat(dirfd(dir), e->d_name, 0);
	closedir(dir);
}

/* A number becomes a wild one, a character another, a piece goes or comes twice. */
static void mutate(struct buf *b, size_t from, size_t len)
{
	static const char *const wild[] = { "0", "-1", "1", "7", "2147483648", "18446744073709551615", "1e308", "\"x\"",
					    "[]", "{}", "null", "true", "99999999999999999999" };

	for (unsigned n = 1 + next() % 4; n; n--) {
		size_t at = from + next() % len, digits, left = from + len - at;
		char *p = b->data + at;

		switch (next() % 4) {
		case 0: /* the same length: what comes behind the header stays where it is */
			digits = strspn(p, "0123456789");
			for (size_t i = 0; i < digits && i < left; i++)
				p[i] = (char)('0' + next() % 10);
			break;
		case 1:
			*p = "{}[]\",:0 x\xff"[next() % 11];
			break;
		case 2:
			*p = (char)next();
			break;
		default: {
			const char *word = wild[next() % (sizeof(wild) / sizeof(*wild))];
			char *colon = memchr(p, ':', left);
			size_t k = strlen(word);

			if (colon && colon + 2 + k < b->data + from + len) {
				size_t old = strcspn(colon + 1, ",}");

				memset(colon + 1, ' ', old < (size_t)(b->data + from + len - colon - 1) ? old : 0);
				if (old >= k)
					memcpy(colon + 1, word, k);
			}
		}
		}
	}
}

static unsigned refused, opened;

static void try_open(const char *what)
{
	struct err err = { .text = "" };
	struct model model;

	if (model_open(&model, folder, NUMBER_BF16, pool, &err) == RC_OK) {
		opened++;
		model_close(&model);
		return;
	}
	refused++;
	if (!strstr(err.text, ".json") && !strstr(err.text, ".safetensors") && !strstr(err.text, "tensor"))
		fail_msg("%s: the error does not say where: %s", what, err.text);
}

static void mutate_file(const char *golden, const char *name, unsigned times)
{
	char *path = xasprintf("%s/%s", golden, name);
	struct buf whole = slurp(path);
	bool weights = strstr(name, ".safetensors") && !strstr(name, ".json");
	uint64_t header = 0;

	fill(golden);
	if (weights)
		memcpy(&header, whole.data, 8);
	for (unsigned i = 0; i < times; i++) {
		struct buf copy;
		char what[200];

		snprintf(what, sizeof(what), "%s, seed %u", path, seed);
		buf_init(&copy, 64u << 20);
		buf_add(&copy, whole.data, whole.len);
		mutate(&copy, weights ? 8 : 0, weights ? header : whole.len);
		if (weights && next() % 8 == 0)
			copy.data[next() % 8] = (char)next();
		if (next() % 8 == 0)
			copy.len = next() % copy.len;
		put(name, copy.data, copy.len);
		buf_release(&copy);
		try_open(what);
	}
	buf_release(&whole);
	free(path);
	empty();
}

static void test_mutations(void **state)
{
	static const char *const models[] = { "qwen3-vl", "qwen2.5-vl-old", "qwen3" };
	static const char *const files[] = { "config.json", "generation_config.json", "model.safetensors",
					     "preprocessor_config.json" };
	unsigned times = getenv("CLOISTER_TEST_FULL") ? 2000 : 25;

	(void)state;
	for (size_t m = 0; m < sizeof(models) / sizeof(*models); m++)
		for (size_t f = 0; f < sizeof(files) / sizeof(*files) - (m == 2); f++) {
			char *golden = xasprintf(GOLDEN "%s", models[m]);

			mutate_file(golden, files[f], times);
			free(golden);
		}
	print_message("# figure: damaged model folders: %u refused by name, %u opened\n", refused, opened);
	assert_true(refused > opened / 4);
}

static void test_missing(void **state)
{
	static const char *const files[] = { "config.json", "model-00002-of-00002.safetensors",
					     "preprocessor_config.json" };

	(void)state;
	for (size_t i = 0; i < sizeof(files) / sizeof(*files); i++) {
		char *path = xasprintf("%s/%s", folder, files[i]);
		struct model model;
		struct err err;

		fill(GOLDEN "qwen2.5-vl");
		assert_int_equal(unlink(path), 0);
		assert_int_equal(model_open(&model, folder, NUMBER_BF16, pool, &err), RC_FATAL);
		if (!strstr(err.text, files[i]))
			fail_msg("without %s: %s", files[i], err.text);
		free(path);
		empty();
	}
}

static int setup(void **state)
{
	const char *given = getenv("CLOISTER_TEST_SEED");
	struct err err;

	(void)state;
	if (given)
		seed = (unsigned)strtoul(given, NULL, 10);
	return !mkdtemp(folder) || pool_open(&pool, 1, &err) != RC_OK;
}

static int teardown(void **state)
{
	(void)state;
	pool_close(pool);
	empty();
	return rmdir(folder);
}

int main(void)
{
	const struct CMUnitTest tests[] = { cmocka_unit_test(test_mutations), cmocka_unit_test(test_missing) };

	cmocka_set_message_output(CM_OUTPUT_TAP);
	return cmocka_run_group_tests(tests, setup, teardown);
}
