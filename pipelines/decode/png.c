/* SPDX-License-Identifier: MIT
 *
 * png: PNG through libpng.
 *
 * The invariant: a page is ok only when every row and the end of the file were read with right
 * checksums.  libpng is made to stop at any wrong CRC; what it only warns about and still means
 * wrong pixels (a wrong zlib checksum found after the last row) fails here.
 *
 * libpng jumps out of the middle of things: all state lives in struct reading, which the function
 * that called setjmp() does not own.
 */
#include "image.h"

#include <png.h>
#include <stdlib.h>
#include <string.h>

#define CHUNK_BYTES_MAX 8000000
#define CHUNKS_MAX      1000
#define METRES_PER_INCH 0.0254

struct document {
	struct source source;
	struct limits limits;
	struct image im;
};

struct reading {
	png_structp png;
	png_infop info;
	struct source source;
	struct canvas canvas;
	uint8_t *pixels; /* with alpha or interlaced: a row, or the whole image */
	png_bytep *rows; /* interlaced */
	struct err *err;
	bool wrong; /* a warning that means wrong pixels */
};

static void on_error(png_structp png, png_const_charp message)
{
	struct reading *r = png_get_error_ptr(png);

	if (r->source.error)
		err_set(r->err, RC_FAILED, "unreadable", "cannot read the document: %s",
			strerror(r->source.error));
	else if (strstr(message, "ut of memory"))
		err_set(r->err, RC_FAILED, "limit:memory-mebibytes", "no memory for this image");
	else
		err_set(r->err, RC_FAILED, "damaged", "PNG: %s", message);
	longjmp(png_jmpbuf(png), 1);
}

static void on_warning(png_structp png, png_const_charp message)
{
	struct reading *r = png_get_error_ptr(png);

	if (strstr(message, "data check"))
		r->wrong = true;
}

static void on_read(png_structp png, png_bytep to, size_t len)
{
	struct reading *r = png_get_io_ptr(png);

	if (source_read(&r->source, to, len) != len)
		png_error(png, "the file ends too early");
}

/* Chunks that could only cost memory: colour profiles and texts. */
static void skip_remarks(png_structp png)
{
	static const png_byte remarks[] = "iCCP\0zTXt\0iTXt\0tEXt\0sPLT\0hIST\0pCAL\0sCAL\0tIME";

	png_set_keep_unknown_chunks(png, PNG_HANDLE_CHUNK_NEVER, remarks, sizeof(remarks) / 5);
	png_set_keep_unknown_chunks(png, PNG_HANDLE_CHUNK_NEVER, NULL, 0);
}

static struct reading *reading_new(const struct document *d, struct err *err)
{
	struct reading *r = xcalloc(1, sizeof(*r));

	r->source = (struct source){ .fd = d->source.fd, .size = d->source.size };
	r->err = err;
	r->png = png_create_read_struct(PNG_LIBPNG_VER_STRING, r, on_error, on_warning);
	r->info = r->png ? png_create_info_struct(r->png) : NULL;
	if (!r->info)
		die(EX_BUG, "out of memory in libpng");
	png_set_read_fn(r->png, r, on_read);
	/* Width and height meet our own limits, which have names; libpng's stay out of it. */
	png_set_user_limits(r->png, PNG_UINT_31_MAX, PNG_UINT_31_MAX);
	png_set_chunk_cache_max(r->png, CHUNKS_MAX);
	png_set_chunk_malloc_max(r->png, CHUNK_BYTES_MAX);
	png_set_crc_action(r->png, PNG_CRC_ERROR_QUIT, PNG_CRC_ERROR_QUIT);
	skip_remarks(r->png);
	return r;
}

static void reading_free(struct reading *r)
{
	canvas_release(&r->canvas);
	free(r->pixels);
	free(r->rows);
	png_destroy_read_struct(&r->png, &r->info, NULL);
	free(r);
}

static void read_header(struct reading *r, struct image *im)
{
	png_uint_32 x, y, len;
	png_bytep exif;
	int unit;

	png_read_info(r->png, r->info);
	*im = (struct image){ .width = png_get_image_width(r->png, r->info),
			      .height = png_get_image_height(r->png, r->info),
			      .channels = png_get_color_type(r->png, r->info) &
						  PNG_COLOR_MASK_COLOR ? 3 : 1,
			      .orientation = 1 };
	if (png_get_pHYs(r->png, r->info, &x, &y, &unit) && unit == PNG_RESOLUTION_METER) {
		im->xdpi = x * METRES_PER_INCH;
		im->ydpi = y * METRES_PER_INCH;
	}
	if (png_get_eXIf_1(r->png, r->info, &len, &exif))
		exif_read(exif, len, im);
}

static enum rc png_open(struct document **doc, int fd, const struct pipeline *p, uint32_t *pages,
			struct err *err)
{
	struct document *d = xcalloc(1, sizeof(*d));
	enum rc rc = source_init(&d->source, fd, err);
	struct reading *r;

	d->limits = p->limits;
	if (!rc) {
		r = reading_new(d, err);
		if (setjmp(png_jmpbuf(r->png)))
			rc = RC_FAILED;
		else
			read_header(r, &d->im);
		reading_free(r);
	}
	if (rc) {
		free(d);
		return rc;
	}
	*doc = d;
	*pages = 1;
	return RC_OK;
}

static enum rc png_measure(struct document *d, uint32_t index, struct page *page, struct err *err)
{
	(void)index;
	return image_measure(&d->im, &d->limits, page, err);
}

/* One row of what libpng delivers: 1 or 2 channels, 3 or 4. */
static void draw(struct reading *r, const uint8_t *row, unsigned channels)
{
	uint32_t width = r->canvas.im.width;

	if (channels == 2)
		row_over_white_ga(row, canvas_row(&r->canvas), width);
	else if (channels == 4)
		row_over_white_rgba(row, canvas_row(&r->canvas), width);
	else
		memcpy(canvas_row(&r->canvas), row, (size_t)width * channels);
	canvas_commit(&r->canvas);
}

static enum rc read_interlaced(struct reading *r, size_t stride, unsigned channels)
{
	uint32_t height = r->canvas.im.height;

	r->pixels = image_alloc(stride, height, 1, r->err);
	r->rows = image_alloc(height, sizeof(*r->rows), 1, r->err);
	if (!r->pixels || !r->rows)
		return RC_FAILED;
	for (size_t y = 0; y < height; y++)
		r->rows[y] = r->pixels + y * stride;
	png_read_image(r->png, r->rows);
	for (size_t y = 0; y < height; y++)
		draw(r, r->rows[y], channels);
	return RC_OK;
}

static enum rc read_rows(struct reading *r, size_t stride, unsigned channels)
{
	bool direct = channels == r->canvas.im.channels;

	if (!direct && !(r->pixels = image_alloc(stride, 1, 1, r->err)))
		return RC_FAILED;
	for (uint32_t y = 0; y < r->canvas.im.height; y++) {
		png_read_row(r->png, direct ? canvas_row(&r->canvas) : r->pixels, NULL);
		if (direct)
			canvas_commit(&r->canvas);
		else
			draw(r, r->pixels, channels);
	}
	return RC_OK;
}

static enum rc read_image(struct reading *r, struct document *d, struct page *page,
			  struct raster *raster)
{
	bool interlaced;
	unsigned channels;
	size_t stride;
	struct image im;
	enum rc rc;

	read_header(r, &im);
	if (!image_same(&im, &d->im))
		return err_set(r->err, RC_FAILED, "damaged", "the file changed while it was read");
	png_set_expand(r->png); /* palette, 1 to 4 bits, tRNS */
	png_set_scale_16(r->png);
	interlaced = png_set_interlace_handling(r->png) > 1;
	png_read_update_info(r->png, r->info);
	channels = png_get_channels(r->png, r->info);
	stride = png_get_rowbytes(r->png, r->info);
	if ((channels + 1) / 2 * 2 - 1 != d->im.channels ||
	    stride != (size_t)d->im.width * channels)
		BUG("libpng delivers %u channels for %u", channels, d->im.channels);
	rc = canvas_init(&r->canvas, &d->im, &d->limits, raster, r->err);
	if (!rc)
		rc = interlaced ? read_interlaced(r, stride, channels) :
				  read_rows(r, stride, channels);
	if (rc)
		return rc;
	png_read_end(r->png, NULL);
	if (r->wrong)
		return err_set(r->err, RC_FAILED, "damaged", "PNG: wrong checksum of the pixels");
	canvas_finish(&r->canvas, page);
	return RC_OK;
}

static enum rc png_render(struct document *d, uint32_t index, struct page *page,
			  struct raster *raster, struct err *err)
{
	struct reading *r = reading_new(d, err);
	volatile enum rc rc = RC_FAILED;

	(void)index;
	if (!setjmp(png_jmpbuf(r->png)))
		rc = read_image(r, d, page, raster);
	reading_free(r);
	return rc;
}

static void png_close(struct document *d)
{
	free(d);
}

const struct decoder png_decoder = { "png", png_open, png_measure, png_render, png_close };
