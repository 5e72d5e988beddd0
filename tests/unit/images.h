/* SPDX-License-Identifier: MIT
 *
 * images: what the tests of the image decoders share.  A test makes a file in memory, decodes it
 * through the decoder table as cloister-decode does, and looks at pixels.
 */
#ifndef TESTS_IMAGES_H
#define TESTS_IMAGES_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "decode/image.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

/* A file that a test has made. */
struct bytes {
	uint8_t *data;
	size_t len;
};

struct decoded {
	enum rc rc;
	uint32_t pages;
	struct err err;
	struct page page;
	struct raster raster;
};

static inline struct pipeline test_pipeline(void)
{
	struct pipeline p = { 0 };

	p.limits = (struct limits){ .document_pages = 100, .page_megapixels = 100,
				    .page_side_pixels = 30000, .image_megapixels = 400,
				    .memory_mebibytes = 2048 };
	return p;
}

static inline int file_of(const void *data, size_t len)
{
	int fd = memfd_create("image", 0);

	assert_true(fd >= 0);
	assert_int_equal(write(fd, data, len), (ssize_t)len);
	return fd;
}

static inline struct decoded decode_with(const struct decoder *decoder, const void *data,
					 size_t len, uint32_t index, const struct pipeline *p)
{
	struct decoded d = { 0 };
	struct document *doc = NULL;
	int fd = file_of(data, len);

	d.rc = decoder->open(&doc, fd, p, &d.pages, &d.err);
	if (!d.rc) {
		assert_true(d.pages > 0);
		d.rc = index < d.pages ? decoder->measure(doc, index, &d.page, &d.err) : RC_FAILED;
		if (!d.rc) {
			size_t size = (size_t)d.page.width * d.page.height * d.page.channels;

			d.raster = (struct raster){ d.page.width, d.page.height, d.page.channels,
						    malloc(size) };
			assert_non_null(d.raster.pixels);
			d.rc = decoder->render(doc, index, &d.page, &d.raster, &d.err);
			assert_true(d.raster.channels <= 3);
		}
		decoder->close(doc);
	}
	close(fd);
	if (d.rc)
		assert_true(d.err.reason[0] && d.err.text[0]);
	return d;
}

static inline struct decoded decode_page(const struct decoder *decoder, struct bytes file,
					 uint32_t index)
{
	struct pipeline p = test_pipeline();

	return decode_with(decoder, file.data, file.len, index, &p);
}

static inline void decoded_release(struct decoded *d)
{
	free(d->raster.pixels);
	page_release(&d->page);
	*d = (struct decoded){ 0 };
}

static inline void assert_reason(struct decoded *d, const char *reason)
{
	assert_int_equal(d->rc, RC_FAILED);
	assert_string_equal(d->err.reason, reason);
	decoded_release(d);
}

static inline const uint8_t *pixel(const struct decoded *d, uint32_t x, uint32_t y)
{
	return d->raster.pixels + ((size_t)y * d->raster.width + x) * d->raster.channels;
}

static inline void assert_near(int is, int should_be, int tolerance)
{
	if (abs(is - should_be) > tolerance)
		fail_msg("%d is not near %d", is, should_be);
}

static inline void assert_rgb(const struct decoded *d, uint32_t x, uint32_t y, int r, int g, int b,
			      int tolerance)
{
	const uint8_t *p = pixel(d, x, y);

	assert_int_equal(d->raster.channels, 3);
	assert_near(p[0], r, tolerance);
	assert_near(p[1], g, tolerance);
	assert_near(p[2], b, tolerance);
}

/* Whole, sized and page facts as they should be. */
static inline void assert_page(const struct decoded *d, uint32_t width, uint32_t height,
			       uint32_t channels)
{
	if (d->rc)
		fail_msg("%s: %s", d->err.reason, d->err.text);
	assert_int_equal(d->page.width, width);
	assert_int_equal(d->page.height, height);
	assert_int_equal(d->page.channels, channels);
	assert_int_equal(d->raster.channels, channels);
}

/* A picture with large areas, edges and noise, so that every part of a file matters. */
static inline uint8_t test_value(uint32_t x, uint32_t y, unsigned c)
{
	uint32_t noise = (x * 2654435761u ^ y * 40503u ^ c * 97u) >> 7;

	if (x / 16 % 2 == y / 16 % 2)
		return (uint8_t)(40 + 60 * c + noise % 8);
	return (uint8_t)(255 - noise % 16 - 20 * c);
}

/* Cut a file at many places: a page may fail, or be what it is in the whole file, nothing else. */
static inline void check_truncated(const struct decoder *decoder, struct bytes file,
				   uint32_t index)
{
	struct decoded whole = decode_page(decoder, file, index);
	size_t step = file.len / 97 + 1, failed = 0, all = 0;

	assert_int_equal(whole.rc, RC_OK);
	for (size_t len = 0; len < file.len; len += len + 40 < file.len ? step : 1) {
		struct decoded d = decode_page(decoder, (struct bytes){ file.data, len }, index);
		size_t size = (size_t)whole.raster.width * whole.raster.height *
			      whole.raster.channels;

		all++;
		failed += d.rc != RC_OK;
		if (!d.rc) {
			assert_int_equal(d.raster.width, whole.raster.width);
			assert_int_equal(d.raster.height, whole.raster.height);
			assert_int_equal(d.raster.channels, whole.raster.channels);
			if (memcmp(d.raster.pixels, whole.raster.pixels, size))
				fail_msg("cut at %zu of %zu: a wrong picture is ok", len, file.len);
		}
		decoded_release(&d);
	}
	assert_true(failed * 10 > all * 6);
	decoded_release(&whole);
}

static inline uint32_t next_random(uint32_t *state)
{
	*state = *state * 1664525u + 1013904223u;
	return *state >> 8;
}

/* Flip, set, cut and move bytes for a while: nothing may crash, or fail without a reason. */
static inline void check_mutated(const struct decoder *decoder, struct bytes file, uint32_t seed,
				 unsigned milliseconds)
{
	struct pipeline p = test_pipeline();
	uint8_t *copy = malloc(file.len);
	uint32_t state = seed;
	clock_t stop = clock() + (clock_t)milliseconds * (CLOCKS_PER_SEC / 1000);

	p.limits.image_megapixels = 4;
	p.limits.page_megapixels = 1;
	assert_non_null(copy);
	for (unsigned i = 0; clock() < stop || i < 20; i++) {
		size_t len = file.len;
		unsigned n = 1 + next_random(&state) % 4;

		memcpy(copy, file.data, file.len);
		while (n--) {
			/* Headers matter most. */
			size_t span = next_random(&state) % 2 && len > 256 ? 256 : len;
			size_t at = next_random(&state) % span;
			size_t from = next_random(&state) % span;

			switch (next_random(&state) % 4) {
			case 0:
				copy[at] ^= (uint8_t)(1u << next_random(&state) % 8);
				break;
			case 1:
				copy[at] = (uint8_t)next_random(&state);
				break;
			case 2:
				copy[at] = next_random(&state) % 2 ? 0xff : 0;
				break;
			default:
				memmove(copy + at, copy + from, (len - (at > from ? at : from)) / 2);
			}
		}
		if (next_random(&state) % 8 == 0)
			len = next_random(&state) % len;
		struct decoded d = decode_with(decoder, copy, len, 0, &p);

		decoded_release(&d);
	}
	free(copy);
}

#endif
