/* SPDX-License-Identifier: MIT
 *
 * Pictures cut out of a page: the right pixels, the right way up, never more bytes than allowed.
 */
#include "base/buf.h"
#include "decode.h"
#include "picture.h"

#include <png.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#define WIDTH  7
#define HEIGHT 5

/* Every pixel differs. */
static struct picture page_of(uint32_t channels)
{
	struct picture page = {WIDTH, HEIGHT, channels, NULL};

	page.pixels = malloc(WIDTH * HEIGHT * channels);
	for (size_t i = 0; i < WIDTH * HEIGHT * channels; i++)
		page.pixels[i] = (uint8_t)(i * 2);
	return page;
}

static const uint8_t *at(const struct picture *page, uint32_t x, uint32_t y)
{
	return page->pixels + (y * page->width + x) * page->channels;
}

/* x, y of the cut picture, and where that lies in the box. */
static void turn(const uint32_t box[4], unsigned rotation, uint32_t x, uint32_t y, uint32_t from[2])
{
	uint32_t w = box[2] - box[0], h = box[3] - box[1];

	from[0] = box[0] + (rotation == 90    ? y
			    : rotation == 180 ? w - 1 - x
			    : rotation == 270 ? w - 1 - y
					      : x);
	from[1] = box[1] + (rotation == 90    ? h - 1 - x
			    : rotation == 180 ? h - 1 - y
			    : rotation == 270 ? x
					      : y);
}

static void check(uint32_t channels, const uint32_t box[4], unsigned rotation)
{
	struct picture page = page_of(channels);
	png_image image = {.version = PNG_IMAGE_VERSION};
	uint32_t from[2];
	uint8_t *pixels;
	struct buf out;

	buf_init(&out, 1 << 16);
	assert_true(figure_write(&out, &page, box, rotation, 300));
	assert_true(png_image_begin_read_from_memory(&image, out.data, out.len));
	assert_int_equal(image.format, channels == 1 ? PNG_FORMAT_GRAY : PNG_FORMAT_RGB);
	assert_int_equal(image.width, rotation % 180 ? box[3] - box[1] : box[2] - box[0]);
	assert_int_equal(image.height, rotation % 180 ? box[2] - box[0] : box[3] - box[1]);
	pixels = malloc(PNG_IMAGE_SIZE(image));
	assert_true(png_image_finish_read(&image, NULL, pixels, 0, NULL));
	for (uint32_t y = 0; y < image.height; y++)
		for (uint32_t x = 0; x < image.width; x++) {
			turn(box, rotation, x, y, from);
			assert_memory_equal(pixels + (y * image.width + x) * channels,
					    at(&page, from[0], from[1]), channels);
		}
	free(pixels);
	free(page.pixels);
	buf_release(&out);
}

static void test_every_box(void **state)
{
	(void)state;
	for (uint32_t x0 = 0; x0 < WIDTH; x0++)
		for (uint32_t y0 = 0; y0 < HEIGHT; y0++)
			for (uint32_t x1 = x0 + 1; x1 <= WIDTH; x1++)
				for (uint32_t y1 = y0 + 1; y1 <= HEIGHT; y1++)
					for (unsigned rotation = 0; rotation < 360; rotation += 90)
						check(x1 % 2 ? 1 : 3, (uint32_t[]){x0, y0, x1, y1},
						      rotation);
}

static void test_limit_and_same_bytes(void **state)
{
	const uint32_t box[4] = {1, 1, 6, 4};
	struct picture page = page_of(3);
	struct buf out, again;

	(void)state;
	buf_init(&out, 1 << 16);
	assert_true(figure_write(&out, &page, box, 0, 0));
	for (size_t most = 0; most < out.len; most++) {
		buf_init(&again, most);
		assert_false(figure_write(&again, &page, box, 0, 0));
		buf_release(&again);
	}
	buf_init(&again, out.len);
	assert_true(figure_write(&again, &page, box, 0, 0));
	assert_int_equal(again.len, out.len);
	assert_memory_equal(again.data, out.data, out.len);
	buf_release(&again);
	buf_release(&out);
	free(page.pixels);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_every_box),
		cmocka_unit_test(test_limit_and_same_bytes),
	};

	cmocka_set_message_output(CM_OUTPUT_TAP);
	return cmocka_run_group_tests_name("figures", tests, NULL, NULL);
}
