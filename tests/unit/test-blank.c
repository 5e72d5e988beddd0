/* SPDX-License-Identifier: MIT
 *
 * raster_ink(): blank pages as scanners deliver them, and the least that is not blank.
 */
#include "decode/decode.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

/* A4 at 150 dpi, and what tells blank from inked. */
#define WIDTH     1240
#define HEIGHT    1754
#define THRESHOLD 0.00003

static struct raster paper(unsigned channels, uint8_t r, uint8_t g, uint8_t b)
{
	struct raster page = { WIDTH, HEIGHT, channels, xmalloc((size_t)WIDTH * HEIGHT * channels) };
	uint8_t level[3] = { r, g, b };

	for (size_t i = 0; i < (size_t)WIDTH * HEIGHT * channels; i++)
		page.pixels[i] = level[i % channels];
	return page;
}

static void box(struct raster *page, uint32_t x, uint32_t y, uint32_t width, uint32_t height,
		const uint8_t *level)
{
	for (uint32_t j = y; j < y + height; j++) {
		for (uint32_t i = x; i < x + width; i++) {
			for (unsigned k = 0; k < page->channels; k++)
				page->pixels[((size_t)j * WIDTH + i) * page->channels + k] = level[k];
		}
	}
}

/* A digit 1 of 10 points: a stem and a foot. */
static void digit(struct raster *page, uint32_t x, uint32_t y, const uint8_t *level)
{
	box(page, x + 3, y, 2, 15, level);
	box(page, x, y + 13, 8, 2, level);
}

static const uint8_t black[3] = { 0, 0, 0 }, white[3] = { 255, 255, 255 };

static void test_white_is_blank(void **state)
{
	struct raster page = paper(1, 255, 0, 0);

	(void)state;
	assert_true(raster_ink(&page) == 0);
	free(page.pixels);
}

static void test_page_number_is_not(void **state)
{
	(void)state;
	/* Wherever it falls on the grid. */
	for (uint32_t shift = 0; shift < 8; shift++) {
		struct raster page = paper(1, 255, 0, 0);

		digit(&page, 600 + shift, 1650 + shift, black);
		assert_true(raster_ink(&page) > THRESHOLD);
		free(page.pixels);
	}
}

static void test_tinted_paper(void **state)
{
	static const uint8_t brown[3] = { 120, 80, 40 };
	struct raster page = paper(3, 240, 225, 170);

	(void)state;
	assert_true(raster_ink(&page) == 0);
	digit(&page, 600, 1650, brown);
	assert_true(raster_ink(&page) > THRESHOLD);
	free(page.pixels);
}

static void test_colour_counts(void **state)
{
	static const uint8_t yellow[3] = { 255, 255, 0 };
	struct raster page = paper(3, 255, 255, 255);

	(void)state;
	digit(&page, 600, 800, yellow);
	assert_true(raster_ink(&page) > THRESHOLD);
	free(page.pixels);
}

static void test_dark_paper(void **state)
{
	struct raster page = paper(1, 20, 0, 0);

	(void)state;
	assert_true(raster_ink(&page) == 0);
	digit(&page, 600, 800, white);
	assert_true(raster_ink(&page) > THRESHOLD);
	free(page.pixels);
}

static void test_salt_and_dust(void **state)
{
	struct raster page = paper(1, 250, 0, 0);
	uint32_t random = 1;

	(void)state;
	for (int i = 0; i < 3000; i++) { /* lone pixels */
		random = random * 1664525 + 1013904223;
		page.pixels[(random >> 8) % ((size_t)WIDTH * HEIGHT)] = 0;
	}
	for (uint32_t i = 0; i < 20; i++) /* specks of half a millimetre */
		box(&page, 100 + i * 50, 200 + i * 70, 3, 3, black);
	assert_true(raster_ink(&page) < THRESHOLD);
	free(page.pixels);
}

static void test_lid_of_the_scanner(void **state)
{
	struct raster page = paper(1, 245, 0, 0);

	(void)state;
	box(&page, 0, 0, 26, HEIGHT, black);
	box(&page, 0, HEIGHT - 17, WIDTH, 17, black);
	assert_true(raster_ink(&page) < THRESHOLD);
	digit(&page, 600, 800, black);
	assert_true(raster_ink(&page) > THRESHOLD);
	free(page.pixels);
}

static void test_shine_through(void **state)
{
	static const uint8_t faint[3] = { 228, 228, 228 };
	struct raster page = paper(1, 250, 0, 0);

	(void)state;
	for (uint32_t y = 100; y < 1600; y += 30)
		box(&page, 100, y, 1000, 12, faint);
	assert_true(raster_ink(&page) == 0);
	free(page.pixels);
}

static void test_resolution_does_not_matter(void **state)
{
	struct raster page = paper(1, 255, 0, 0), twice;
	double once;

	(void)state;
	for (uint32_t y = 100; y < 1600; y += 30)
		box(&page, 100, y, 1000, 12, black);
	twice = (struct raster){ 2 * WIDTH, 2 * HEIGHT, 1, xmalloc((size_t)WIDTH * HEIGHT * 4) };
	for (uint32_t y = 0; y < twice.height; y++) {
		for (uint32_t x = 0; x < twice.width; x++)
			twice.pixels[(size_t)y * twice.width + x] =
				page.pixels[(size_t)(y / 2) * WIDTH + x / 2];
	}
	once = raster_ink(&page);
	assert_true(once > 0.2 && once < 0.6);
	assert_true(raster_ink(&twice) > 0.8 * once && raster_ink(&twice) < 1.25 * once);
	free(page.pixels);
	free(twice.pixels);
}

static void test_tiny_is_never_blank(void **state)
{
	uint8_t pixel = 255;
	struct raster page = { 1, 1, 1, &pixel };

	(void)state;
	assert_true(raster_ink(&page) == 1);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_white_is_blank),
		cmocka_unit_test(test_page_number_is_not),
		cmocka_unit_test(test_tinted_paper),
		cmocka_unit_test(test_colour_counts),
		cmocka_unit_test(test_dark_paper),
		cmocka_unit_test(test_salt_and_dust),
		cmocka_unit_test(test_lid_of_the_scanner),
		cmocka_unit_test(test_shine_through),
		cmocka_unit_test(test_resolution_does_not_matter),
		cmocka_unit_test(test_tiny_is_never_blank),
	};

	cmocka_set_message_output(CM_OUTPUT_TAP);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
