/* SPDX-License-Identifier: MIT
 *
 * What Chandra's maker does to a page before its image processor sees it: sizes by the arithmetic
 * of its load_image() and scale_to_fit(), pixels as Pillow's LANCZOS gives them (hashes made with
 * Pillow 12.3).
 */
#include "image.h"

#include "base/hash.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

static struct pool *pool;

static struct image noise(unsigned width, unsigned height)
{
	struct image image = {.width = width, .height = height};
	uint32_t seed = width * 1000003u + height;

	image.rgb = malloc((size_t)width * height * 3);
	for (size_t i = 0; i < (size_t)width * height * 3; i++) {
		seed = seed * 1664525u + 1013904223u;
		image.rgb[i] = (unsigned char)(seed >> 24);
	}
	return image;
}

static void prepare(struct image *image, unsigned enlarge, unsigned long long most)
{
	struct err err;

	if (image_prepare(image, enlarge, most, pool, &err) != RC_OK)
		fail_msg("%s", err.text);
}

static void test_prepare(void **state)
{
	static const struct {
		unsigned width, height, enlarge, most, to_width, to_height;
		const char *sha256; /* NULL: there in two steps, here in one */
	} cases[] = {
		{100, 130, 0, 0, 100, 130,
		 "85c0f11da02f9a28fc87e21f8ce1d9057296c9e4567a4e059d780a70d489d111"},
		{100, 130, 153, 0, 153, 198,
		 "1ce1307510bf68fc95797be7fd2ef0709ff7148ef6c8b1887c8ef0930b14247a"},
		{99, 31, 64, 0, 204, 64,
		 "b5282b153c0e2f794cba7e4c947fe83a42773406ce127e4ffacfef56005dce23"},
		{200, 150, 0, 20000, 163, 122,
		 "d5a3ff16291c80980ed7bdb404380f6b3e612b29c50179d7a1600f6ef51f12d3"},
		{37, 211, 0, 5000, 29, 168,
		 "882e5e4b72638486ab615942b7787dfc4d3fb99387c237ccbebdaa939ad03e87"},
		{153, 200, 153, 30600, 153, 200,
		 "eb974495d9b2768be7cc881e866cc607389b888dd192560e3a45599f1673465c"},
		{90, 120, 64, 6000, 67, 89,
		 "d347ab5fc7b835e094872e47d7cc368d795a189c0433224e80264d934e3f0f25"},
		{50, 400, 60, 8000, 31, 252, NULL},
	};

	(void)state;
	for (size_t i = 0; i < sizeof(cases) / sizeof(*cases); i++) {
		struct image image = noise(cases[i].width, cases[i].height);
		char hex[SHA256_HEX_SIZE];

		prepare(&image, cases[i].enlarge, cases[i].most);
		assert_int_equal(image.width, cases[i].to_width);
		assert_int_equal(image.height, cases[i].to_height);
		sha256_hex_of(image.rgb, (size_t)image.width * image.height * 3, hex);
		if (cases[i].sha256)
			assert_string_equal(hex, cases[i].sha256);
		image_release(&image);
	}
}

/* As the settings of Chandra ask for it: a page of 1,000 x 1,400, and a strip that enlarged would
 * have 768,000 columns. */
static void test_chandra(void **state)
{
	struct image page = noise(1000, 1400), strip = noise(2000, 4);

	(void)state;
	prepare(&page, 1536, 6291456);
	assert_int_equal(page.width, 1536);
	assert_int_equal(page.height, 2150);
	prepare(&strip, 1536, 6291456);
	assert_true((unsigned long long)strip.width * strip.height <= 6291456);
	image_release(&page);
	image_release(&strip);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_prepare),
		cmocka_unit_test(test_chandra),
	};
	struct err err;
	int failed;

	if (pool_open(&pool, 1, &err) != RC_OK)
		return 1;
	cmocka_set_message_output(CM_OUTPUT_TAP);
	failed = cmocka_run_group_tests(tests, NULL, NULL);
	pool_close(pool);
	return failed;
}
