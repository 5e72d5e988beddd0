/* SPDX-License-Identifier: MIT
 *
 * figures: the mode that cuts pictures out of a page.
 *
 * The boxes come from a recogniser, which may have said anything; the supervisor has cut them to
 * the page, and what does not lie on it all the same ends the program.  The page file was written
 * by a decoder of this document, and is taken in like any recogniser takes it (picture.h).  No file
 * can be opened here: the PNGs leave as text on standard output.
 *
 * The same pixels give the same bytes: no time, no text, libpng's own choice of filters.
 */
#include "airlock.h"
#include "base/buf.h"
#include "base/lines.h"
#include "base/log.h"
#include "base/num.h"
#include "decode.h"
#include "picture.h"

#include <math.h>
#include <nettle/base64.h>
#include <png.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* Where the pixel (0, 0) of the upright picture lies on the page, and the steps to its neighbours.
 */
struct walk {
	const uint8_t *origin;
	ptrdiff_t right, down; /* in bytes */
	uint32_t width, height;
};

static struct walk walk_of(const struct picture *page, const uint32_t box[4], unsigned rotation)
{
	ptrdiff_t pixel = (ptrdiff_t)page->channels, line = pixel * (ptrdiff_t)page->width;
	uint32_t width = box[2] - box[0], height = box[3] - box[1];
	const uint8_t *top = page->pixels + box[1] * line, *bottom = top + (height - 1) * line;
	ptrdiff_t left = box[0] * pixel, right = (box[2] - 1) * pixel;

	switch (rotation) {
	case 90:
		return (struct walk){bottom + left, -line, pixel, height, width};
	case 180:
		return (struct walk){bottom + right, -pixel, -line, width, height};
	case 270:
		return (struct walk){top + right, line, -pixel, height, width};
	default:
		return (struct walk){top + left, pixel, line, width, height};
	}
}

static void on_png_data(png_structp png, png_bytep data, png_size_t len)
{
	struct buf *out = png_get_io_ptr(png);

	buf_add(out, (const char *)data, len);
	if (out->overflow)
		png_error(png, "too large");
}

static void on_png_flush(png_structp png)
{
	(void)png;
}

static void on_png_error(png_structp png, png_const_charp text)
{
	(void)text;
	png_longjmp(png, 1);
}

static bool write_rows(png_structp png, png_infop info, const struct walk *walk, unsigned channels,
		       double dpi, uint8_t *row)
{
	if (setjmp(png_jmpbuf(png)))
		return false;
	png_set_IHDR(png, info, walk->width, walk->height, 8,
		     channels == 1 ? PNG_COLOR_TYPE_GRAY : PNG_COLOR_TYPE_RGB, PNG_INTERLACE_NONE,
		     PNG_COMPRESSION_TYPE_DEFAULT, PNG_FILTER_TYPE_DEFAULT);
	if (dpi >= 1 && dpi <= 1e5) {
		png_uint_32 per_metre = (png_uint_32)lround(dpi / 0.0254);

		png_set_pHYs(png, info, per_metre, per_metre, PNG_RESOLUTION_METER);
	}
	png_write_info(png, info);
	for (uint32_t y = 0; y < walk->height; y++) {
		const uint8_t *from = walk->origin + y * walk->down;

		for (uint32_t x = 0; x < walk->width; x++, from += walk->right)
			memcpy(row + (size_t)x * channels, from, channels);
		png_write_row(png, row);
	}
	png_write_end(png, NULL);
	return true;
}

bool figure_write(struct buf *out, const struct picture *page, const uint32_t box[4],
		  unsigned rotation, double dpi)
{
	const struct walk walk = walk_of(page, box, rotation);
	uint8_t *row = xmalloc((size_t)walk.width * page->channels);
	png_structp png = png_create_write_struct(PNG_LIBPNG_VER_STRING, NULL, on_png_error, NULL);
	png_infop info = png ? png_create_info_struct(png) : NULL;
	bool whole;

	if (!info)
		die(EX_BUG, "no memory for a picture");
	png_set_write_fn(png, out, on_png_data, on_png_flush);
	whole = write_rows(png, info, &walk, page->channels, dpi, row);
	png_destroy_write_struct(&png, &info);
	free(row);
	return whole;
}

static json_t *base64_of(const struct buf *png)
{
	size_t len = BASE64_ENCODE_RAW_LENGTH(png->len);
	char *text = xmalloc(len);
	json_t *json;

	base64_encode_raw(text, png->len, (const uint8_t *)png->data);
	json = json_stringn(text, len);
	free(text);
	return json;
}

static bool take_box(const json_t *json, const struct picture *page, uint32_t box[4])
{
	for (size_t i = 0; i < 4; i++) {
		json_int_t v = json_integer_value(json_array_get(json, i));

		if (v < 0 || v > (i % 2 ? page->height : page->width))
			return false;
		box[i] = (uint32_t)v;
	}
	return json_array_size(json) == 4 && box[0] < box[2] && box[1] < box[3];
}

static json_t *cut_all(const struct picture *page, json_t *boxes, unsigned rotation, double dpi,
		       size_t most)
{
	json_t *figures = json_array(), *item;
	uint32_t box[4];
	size_t i;

	json_array_foreach(boxes, i, item)
	{
		struct buf png;
		bool whole;

		if (!take_box(item, page, box))
			die(EX_USAGE_ERROR, "box %zu is not on the page", i);
		buf_init(&png, most);
		whole = figure_write(&png, page, box, rotation, dpi);
		json_array_append_new(figures, whole ? base64_of(&png) : json_null());
		most -= whole ? png.len : 0;
		buf_release(&png);
	}
	return figures;
}

struct cut {
	int width, height, rotation;
	double dpi;
	json_int_t bytes;
	json_t *request, *boxes;
};

static void read_request(struct cut *cut)
{
	struct lines lines;
	json_error_t why;
	struct err err;
	size_t len;
	char *line;

	lines_init(&lines, STDIN_FILENO, REQUEST_MAX);
	if (lines_next(&lines, &line, &len) != LINES_ONE)
		die(EX_USAGE_ERROR, "the request cannot be read");
	cut->request = airlock_parse(line, len, &err);
	if (!cut->request)
		die(EX_USAGE_ERROR, "%s", err.text);
	if (json_unpack_ex(cut->request, &why, 0, "{s:{s:i, s:i, s:F, s:i, s:I, s:o}}", "cut",
			   "width", &cut->width, "height", &cut->height, "dpi", &cut->dpi,
			   "rotation", &cut->rotation, "bytes", &cut->bytes, "boxes", &cut->boxes))
		die(EX_USAGE_ERROR, "request: %s", why.text);
	if (cut->width < 1 || cut->height < 1 || cut->bytes < 1 || !json_is_array(cut->boxes))
		die(EX_USAGE_ERROR, "request: a page of %d x %d pixels", cut->width, cut->height);
	lines_release(&lines);
}

int figures_main(void)
{
	struct picture page;
	struct cut cut;
	struct err err;
	json_t *answer;
	int failed;

	read_request(&cut);
	if (picture_read(&page, DECODE_DOCUMENT_FD, (uint32_t)cut.width, (uint32_t)cut.height,
			 &err))
		answer = airlock_error(&err);
	else
		answer = json_pack("{s:o}", "figures",
				   cut_all(&page, cut.boxes, (unsigned)cut.rotation, cut.dpi,
					   (size_t)cut.bytes));
	failed = airlock_write(STDOUT_FILENO, answer);
	picture_release(&page);
	json_decref(cut.request);
	json_decref(answer);
	return failed ? EX_WORK_REMAINS : EX_ALL_DONE;
}
