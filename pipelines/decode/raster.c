/* SPDX-License-Identifier: MIT
 *
 * raster: limits, turning, grey, white paper; and the small print of struct page.
 *
 * Everything here works on finished 8-bit pixels.  Sizes were checked by check_raster_size() before
 * a raster existed, so width * height * channels fits size_t.
 */
#include "decode.h"

#include "base/buf.h"
#include "base/name.h"
#include "base/num.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#define MEGA         1000000
#define WARNINGS_MAX 20
#define WARNING_MAX  300
#define BLOCK        32 /* pixels; a block of source and one of destination stay in the L1 cache */

enum rc check_raster_size(uint64_t width, uint64_t height, const struct limits *limits,
			  struct err *err)
{
	uint64_t area;

	if (!width || !height)
		return err_set(err, RC_FAILED, "damaged", "the page has no area (%llu x %llu)",
			       (unsigned long long)width, (unsigned long long)height);
	if (width > limits->page_side_pixels || height > limits->page_side_pixels ||
	    width > UINT32_MAX || height > UINT32_MAX)
		return err_set(err, RC_FAILED, "limit:page-side-pixels",
			       "%llu x %llu pixels, a side may have %llu",
			       (unsigned long long)width, (unsigned long long)height,
			       (unsigned long long)limits->page_side_pixels);
	if (__builtin_mul_overflow(width, height, &area) ||
	    area / MEGA > limits->page_megapixels ||
	    area > limits->page_megapixels * MEGA || area > SIZE_MAX / 8)
		return err_set(err, RC_FAILED, "limit:page-megapixels",
			       "%llu x %llu pixels, the page may have %llu megapixels",
			       (unsigned long long)width, (unsigned long long)height,
			       (unsigned long long)limits->page_megapixels);
	return RC_OK;
}

enum rc check_image_size(uint64_t width, uint64_t height, const struct limits *limits,
			 struct err *err)
{
	uint64_t area;

	if (!width || !height)
		return err_set(err, RC_FAILED, "damaged", "the image has no area (%llu x %llu)",
			       (unsigned long long)width, (unsigned long long)height);
	if (width > UINT32_MAX || height > UINT32_MAX ||
	    __builtin_mul_overflow(width, height, &area) ||
	    area / MEGA > limits->image_megapixels || area > limits->image_megapixels * MEGA ||
	    area > SIZE_MAX / 8)
		return err_set(err, RC_FAILED, "limit:image-megapixels",
			       "%llu x %llu pixels, an image may have %llu megapixels",
			       (unsigned long long)width, (unsigned long long)height,
			       (unsigned long long)limits->image_megapixels);
	return RC_OK;
}

/* Where destination pixel (0, 0) comes from, and how the source moves with x and with y. */
struct turn {
	ptrdiff_t start, dx, dy; /* bytes */
};

static struct turn turn_of(const struct raster *src, unsigned orientation)
{
	ptrdiff_t px = (ptrdiff_t)src->channels;
	ptrdiff_t row = (ptrdiff_t)src->width * px;
	ptrdiff_t right = row - px, bottom = ((ptrdiff_t)src->height - 1) * row;

	switch (orientation) {
	case 2:
		return (struct turn){ right, -px, row };
	case 3:
		return (struct turn){ bottom + right, -px, -row };
	case 4:
		return (struct turn){ bottom, px, -row };
	case 5:
		return (struct turn){ 0, row, px };
	case 6:
		return (struct turn){ bottom, -row, px };
	case 7:
		return (struct turn){ bottom + right, -row, -px };
	case 8:
		return (struct turn){ right, row, -px };
	default:
		return (struct turn){ 0, px, row };
	}
}

static void turn_block(const struct raster *src, struct raster *dst, struct turn t, size_t x0,
		       size_t y0)
{
	size_t x1 = min_u64(x0 + BLOCK, dst->width), y1 = min_u64(y0 + BLOCK, dst->height);

	for (size_t y = y0; y < y1; y++) {
		uint8_t *to = dst->pixels + (y * dst->width + x0) * dst->channels;
		ptrdiff_t from = t.start + (ptrdiff_t)y * t.dy + (ptrdiff_t)x0 * t.dx;

		for (size_t x = x0; x < x1; x++, from += t.dx) {
			for (size_t c = 0; c < dst->channels; c++)
				*to++ = src->pixels[from + (ptrdiff_t)c];
		}
	}
}

void raster_orient(const struct raster *src, struct raster *dst, unsigned orientation)
{
	struct turn t = turn_of(src, orientation);
	bool lies = orientation >= 5 && orientation <= 8;

	if (dst->channels != src->channels || dst->width != (lies ? src->height : src->width) ||
	    dst->height != (lies ? src->width : src->height))
		BUG("raster_orient: %ux%u into %ux%u", src->width, src->height, dst->width,
		    dst->height);
	for (size_t y = 0; y < dst->height; y += BLOCK)
		for (size_t x = 0; x < dst->width; x += BLOCK)
			turn_block(src, dst, t, x, y);
}

static bool row_is_grey(const uint8_t *p, size_t width, unsigned tolerance)
{
	unsigned worst = 0;

	for (size_t x = 0; x < width; x++, p += 3) {
		unsigned high = p[0] > p[1] ? p[0] : p[1], low = p[0] < p[1] ? p[0] : p[1];

		high = p[2] > high ? p[2] : high;
		low = p[2] < low ? p[2] : low;
		worst = high - low > worst ? high - low : worst;
	}
	return worst <= tolerance;
}

bool raster_to_grey_if_grey(struct raster *r, unsigned tolerance)
{
	size_t n = (size_t)r->width * r->height;
	const uint8_t *from = r->pixels;

	if (r->channels == 1)
		return true;
	for (size_t y = 0; y < r->height; y++)
		if (!row_is_grey(r->pixels + y * r->width * 3, r->width, tolerance))
			return false;
	/* BT.601 luma; the weights add up to 256, so that equal channels stay what they are. */
	for (size_t i = 0; i < n; i++, from += 3)
		r->pixels[i] = (uint8_t)((77 * from[0] + 150 * from[1] + 29 * from[2] + 128) >> 8);
	r->channels = 1;
	return true;
}

/* round(x / 255) for 0 <= x <= 255 * 255 */
static inline uint8_t div255(unsigned x)
{
	x += 128;
	return (uint8_t)((x + (x >> 8)) >> 8);
}

void row_over_white_rgba(const uint8_t *src, uint8_t *dst_rgb, uint32_t width)
{
	for (size_t x = 0; x < width; x++, src += 4, dst_rgb += 3) {
		unsigned paper = 255 * (255u - src[3]);

		dst_rgb[0] = div255(src[0] * src[3] + paper);
		dst_rgb[1] = div255(src[1] * src[3] + paper);
		dst_rgb[2] = div255(src[2] * src[3] + paper);
	}
}

void row_over_white_ga(const uint8_t *src, uint8_t *dst_grey, uint32_t width)
{
	for (size_t x = 0; x < width; x++, src += 2)
		dst_grey[x] = div255(src[0] * src[1] + 255 * (255u - src[1]));
}

void page_release(struct page *page)
{
	json_decref(page->result);
	json_decref(page->evidence);
	json_decref(page->warnings);
	memset(page, 0, sizeof(*page));
}

void page_warn(struct page *page, const char *format, ...)
{
	char raw[WARNING_MAX + 1];
	struct buf clean;
	size_t len;
	va_list ap;

	if (!page->warnings)
		page->warnings = json_array();
	if (json_array_size(page->warnings) >= WARNINGS_MAX)
		return;
	va_start(ap, format);
	vsnprintf(raw, sizeof(raw), format, ap);
	va_end(ap);
	buf_init(&clean, 3 * sizeof(raw)); /* U+FFFD is three bytes */
	utf8_repair(&clean, raw, strlen(raw));
	len = clean.len;
	if (len > WARNING_MAX)
		for (len = WARNING_MAX; (clean.data[len] & 0xc0) == 0x80; len--)
			;
	json_array_append_new(page->warnings, json_stringn(len ? clean.data : "", len));
	buf_release(&clean);
}
