/* SPDX-License-Identifier: MIT
 *
 * Odd pages against what the reference processors make of them (tests/golden/make-images.py): the
 * same size always, and of small and extreme pages the same pixels, bit for bit.
 */
#include "image.h"

#include "base/num.h"
#include "weights/safetensors.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

static struct weights *expected;
static struct pool *pool;

static const struct tensor *expect(const char *name, size_t k)
{
	char *full = k == SIZE_MAX ? xstrdup(name) : xasprintf("%s.%zu", name, k);
	const struct tensor *t = weights_find(expected, full);

	if (!t)
		fail_msg("there is no %s", full);
	free(full);
	return t;
}

static int64_t integer(const struct tensor *t, size_t i)
{
	int64_t n;

	memcpy(&n, (const char *)t->data + i * sizeof(n), sizeof(n));
	return n;
}

/* make-images.py has the same. */
static struct image noise(unsigned width, unsigned height, unsigned seed)
{
	struct image i = {width, height, xmalloc((size_t)width * height * 3)};
	unsigned char *to = i.rgb;

	for (unsigned y = 0; y < height; y++)
		for (unsigned x = 0; x < width; x++)
			for (unsigned c = 0; c < 3; c++) {
				unsigned h = x * 73856093u ^ y * 19349663u ^ c * 83492791u ^ seed;

				h = (h ^ h >> 13) * 1540483477u;
				*to++ = (unsigned char)((h >> 15 & 127) +
							(x * 5 + y * 3 + c * 40) % 129);
			}
	return i;
}

static struct model_config config_of(const struct tensor *table, size_t at, unsigned factor)
{
	return (struct model_config){
		.vision = {.patch = factor / 2, .merge = 2, .temporal = 2},
		.image = {.min_pixels = (uint64_t)integer(table, at),
			  .max_pixels = (uint64_t)integer(table, at + 1),
			  .mean = {0.5f, 0.5f, 0.5f},
			  .std = {0.5f, 0.5f, 0.5f}},
	};
}

/* Patches in merge order against the picture that the reference cut into them. */
static void check_patches(const struct model_config *c, const float *patches, unsigned columns,
			  const struct tensor *want, size_t k)
{
	unsigned p = c->vision.patch, m = c->vision.merge;
	size_t height = want->shape[0], width = want->shape[1];
	const unsigned char *levels = want->data;

	for (size_t i = 0; i < height * width * 3; i++) {
		size_t x = i / 3 % width, y = i / 3 / width, channel = i % 3;
		size_t token = y / p / m * (columns / m) + x / p / m;
		size_t patch = token * m * m + y / p % m * m + x / p % m;
		float is = patches[((patch * 3 + channel) * 2 * p + y % p) * p + x % p];

		if (is != ((float)levels[i] - 127.5f) / 127.5f)
			fail_msg("page %zu: pixel %zu, %zu is %g, not %d", k, x, y,
				 is * 127.5 + 127.5, levels[i]);
	}
}

static void test_resized(void **state)
{
	const struct tensor *cases = expect("cases", SIZE_MAX);
	unsigned seed = (unsigned)integer(expect("seed", SIZE_MAX), 0);

	(void)state;
	assert_true(cases->shape[0] > 0);
	for (size_t k = 0; k < cases->shape[0]; k++) {
		size_t at = 5 * k;
		struct model_config c =
			config_of(cases, at + 3, 2 * (unsigned)integer(cases, at + 2));
		struct image page =
			noise((unsigned)integer(cases, at), (unsigned)integer(cases, at + 1), seed);
		const struct tensor *want = expect("torch", k);
		unsigned rows, columns;
		float *patches;
		struct err err;

		if (image_patches(&c, &page, pool, &patches, &rows, &columns, &err) != RC_OK)
			fail_msg("%s", err.text);
		assert_int_equal(rows * c.vision.patch, want->shape[0]);
		assert_int_equal(columns * c.vision.patch, want->shape[1]);
		check_patches(&c, patches, columns, want, k);
		free(patches);
		image_release(&page);
	}
}

static void test_fits(void **state)
{
	const struct tensor *table = expect("fits", SIZE_MAX);
	size_t refused = 0;

	(void)state;
	for (size_t i = 0; i < table->shape[0]; i++) {
		size_t at = 7 * i;
		struct model_config c = config_of(table, at + 3, (unsigned)integer(table, at + 2));
		unsigned width = (unsigned)integer(table, at),
			 height = (unsigned)integer(table, at + 1), wide = 0, high = 0;
		struct err err;

		if (image_fit(&c, width, height, &wide, &high, &err) != RC_OK) {
			assert_string_equal(err.reason, "limit:aspect");
			wide = high = 0;
			refused++;
		}
		if (wide != integer(table, at + 5) || high != integer(table, at + 6))
			fail_msg("%u x %u becomes %u x %u, not %lld x %lld", width, height, wide,
				 high, (long long)integer(table, at + 5),
				 (long long)integer(table, at + 6));
	}
	print_message("# figure: sizes of pages as the reference has them: %llu, %zu refused\n",
		      (unsigned long long)table->shape[0], refused);
	assert_true(refused > 0 && refused < table->shape[0] / 2);
}

static int setup(void **state)
{
	const char *given = getenv("CLOISTER_GOLDEN_IMAGES");
	struct err err;

	(void)state;
	if (weights_open_file(&expected, given ? given : "tests/golden/images",
			      "resized.safetensors", &err) == RC_OK &&
	    pool_open(&pool, 0, &err) == RC_OK)
		return 0;
	print_message("# %s\n", err.text);
	return -1;
}

static int teardown(void **state)
{
	(void)state;
	weights_close(expected);
	pool_close(pool);
	return 0;
}

int main(void)
{
	const struct CMUnitTest tests[] = {cmocka_unit_test(test_resized),
					   cmocka_unit_test(test_fits)};

	cmocka_set_message_output(CM_OUTPUT_TAP);
	return cmocka_run_group_tests(tests, setup, teardown);
}
