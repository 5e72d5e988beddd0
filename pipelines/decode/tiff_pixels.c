/* SPDX-License-Identifier: MIT
 *
 * tiff_pixels: from the strips and tiles of a TIFF page to 8-bit grey or sRGB rows.
 *
 * A band is as many rows as have to be decoded together: one row of a stripped image, a strip where
 * the colours are in planes of their own, a row of tiles.  A band holds the samples as they are in
 * the file, one buffer a plane.  Each of its rows is first unpacked to one byte a sample, then
 * coloured; the two forms that scanners produce, 1-bit and 8-bit, skip the first step.  What this
 * does not know (CIE Lab, subsampled YCbCr without JPEG, ...) goes through libtiff's own RGBA
 * reader.
 */
#include "tiff_parts.h"

#include "base/num.h"

#include <stdlib.h>
#include <string.h>

#define PLANES_MAX 8

struct bands {
	TIFF *tiff;
	const struct tiff_layout *l;
	unsigned planes;
	uint32_t rows;              /* of a full band */
	size_t stride;              /* bytes of a row of a plane */
	uint8_t *plane[PLANES_MAX]; /* rows * stride */
	uint8_t *tile;
	uint32_t tile_width;
	size_t tile_stride;
	uint8_t *values; /* width * samples, one byte each */
	uint8_t grey[256];
	uint8_t eight[256][8]; /* 1-bit grey: eight pixels at a time */
};

static enum rc unsupported(struct err *err, const char *what)
{
	return err_set(err, RC_FAILED, "unsupported", "TIFF: %s", what);
}

/* Values of samples narrower than a byte are kept as they are, 16-bit ones are scaled to 8. */
static unsigned value_max(const struct tiff_layout *l)
{
	return l->bits >= 8 ? 255 : (1u << l->bits) - 1;
}

static void unpack(const uint8_t *raw, unsigned bits, size_t n, uint8_t *to, size_t step)
{
	unsigned mask = (1u << (bits & 7)) - 1;

	if (bits == 8) {
		for (size_t i = 0; i < n; i++)
			to[i * step] = raw[i];
	} else if (bits == 16) {
		for (size_t i = 0; i < n; i++) {
			uint16_t v;

			memcpy(&v, raw + 2 * i, 2); /* libtiff delivers the machine's order */
			to[i * step] = (uint8_t)((v * 255u + 32767) / 65535);
		}
	} else {
		for (size_t i = 0, bit = 0; i < n; i++, bit += bits)
			to[i * step] = (raw[bit / 8] >> (8 - bits - bit % 8)) & mask;
	}
}

static void make_tables(struct bands *b)
{
	const struct tiff_layout *l = b->l;
	unsigned max = value_max(l);

	for (unsigned v = 0; v < 256; v++) {
		unsigned grey = (v * 255 + max / 2) / max;

		if (v > max)
			break;
		if (l->photometric == PHOTOMETRIC_MINISWHITE)
			grey = 255 - grey;
		b->grey[v] = (uint8_t)grey;
		if (l->photometric == PHOTOMETRIC_PALETTE)
			b->grey[v] = l->palette[v][0];
	}
	for (unsigned v = 0; v < 256; v++)
		for (unsigned i = 0; i < 8; i++)
			b->eight[v][i] = b->grey[v >> (7 - i) & 1];
}

static void grey_from_bits(const struct bands *b, const uint8_t *raw, uint8_t *to, size_t width)
{
	for (; width >= 8; width -= 8, to += 8)
		memcpy(to, b->eight[*raw++], 8);
	if (width)
		memcpy(to, b->eight[*raw], width);
}

static uint8_t over_white(unsigned v, unsigned alpha, enum tiff_alpha kind)
{
	if (kind == ALPHA_ASSOCIATED)
		return (uint8_t)min_u64(v + 255 - alpha, 255);
	return (uint8_t)((v * alpha + 255 * (255 - alpha) + 127) / 255);
}

/* Unpacked values of one row to the canvas. */
static void colour(const struct bands *b, const uint8_t *v, uint8_t *to)
{
	const struct tiff_layout *l = b->l;
	unsigned max = value_max(l);
	bool grey = l->colours == 1 && (l->photometric != PHOTOMETRIC_PALETTE || l->palette_grey);
	size_t channels = grey ? 1 : 3;

	for (size_t x = 0; x < l->width; x++, v += l->samples, to += channels) {
		if (grey) {
			to[0] = b->grey[v[0]];
		} else if (l->photometric == PHOTOMETRIC_PALETTE) {
			memcpy(to, l->palette[v[0]], 3);
		} else {
			uint8_t full[4];

			for (unsigned c = 0; c < l->colours; c++)
				full[c] = (uint8_t)((v[c] * 255u + max / 2) / max);
			if (l->colours == 4)
				row_cmyk_to_rgb(full, to, 1);
			else
				memcpy(to, full, 3);
		}
		for (size_t c = 0; l->alpha && c < channels; c++)
			to[c] = over_white(to[c], (v[l->colours] * 255u + max / 2) / max, l->alpha);
	}
}

static void draw_row(struct bands *b, uint32_t y_in_band, uint8_t *to)
{
	const struct tiff_layout *l = b->l;
	size_t at = (size_t)y_in_band * b->stride;
	bool plain = !l->alpha && l->samples == l->colours && !b->l->planar;

	if (l->colours == 1 && plain && l->bits == 1 &&
	    (l->photometric != PHOTOMETRIC_PALETTE || l->palette_grey)) {
		grey_from_bits(b, b->plane[0] + at, to, l->width);
		return;
	}
	if (plain && l->bits == 8 && l->colours == 3) {
		memcpy(to, b->plane[0] + at, 3 * (size_t)l->width);
		return;
	}
	if (!l->planar && l->bits == 8) {
		colour(b, b->plane[0] + at, to);
		return;
	}
	if (!l->planar)
		unpack(b->plane[0] + at, l->bits, (size_t)l->width * l->samples, b->values, 1);
	for (unsigned p = 0; l->planar && p < b->planes; p++)
		unpack(b->plane[p] + at, l->bits, l->width, b->values + p, l->samples);
	colour(b, b->values, to);
}

static enum rc read_tiles(struct bands *b, uint32_t y, uint32_t rows, unsigned plane)
{
	size_t size = (size_t)b->rows * b->tile_stride;

	for (uint32_t x = 0; x < b->l->width; x += b->tile_width) {
		size_t at = (size_t)x / b->tile_width * b->tile_stride;
		uint32_t tile = TIFFComputeTile(b->tiff, x, y, 0, (uint16_t)plane);

		if (TIFFReadEncodedTile(b->tiff, tile, b->tile, (tmsize_t)size) != (tmsize_t)size)
			return RC_FAILED;
		for (size_t i = 0; i < rows; i++)
			memcpy(b->plane[plane] + i * b->stride + at, b->tile + i * b->tile_stride,
			       min_u64(b->tile_stride, b->stride - at));
		if (b->l->width - x <= b->tile_width)
			break; /* x must not wrap around */
	}
	return RC_OK;
}

static enum rc read_band(struct bands *b, uint32_t y, uint32_t rows)
{
	tmsize_t size = (tmsize_t)(rows * b->stride);

	for (unsigned p = 0; p < b->planes; p++) {
		if (b->l->tiled) {
			if (read_tiles(b, y, rows, p))
				return RC_FAILED;
		} else if (b->l->planar) {
			uint32_t strip = TIFFComputeStrip(b->tiff, y, (uint16_t)p);

			if (TIFFReadEncodedStrip(b->tiff, strip, b->plane[p], size) != size)
				return RC_FAILED;
		} else if (TIFFReadScanline(b->tiff, b->plane[p], y, 0) != 1) {
			return RC_FAILED;
		}
	}
	return RC_OK;
}

static enum rc plan_tiles(struct bands *b, size_t pixel_bits, const struct limits *limits,
			  struct err *err)
{
	uint32_t width = 0, height = 0;
	size_t row_bits;
	enum rc rc;

	TIFFGetField(b->tiff, TIFFTAG_TILEWIDTH, &width);
	TIFFGetField(b->tiff, TIFFTAG_TILELENGTH, &height);
	rc = check_image_size(width, height, limits, err);
	if (rc)
		return rc;
	row_bits = width * pixel_bits;
	if (row_bits % 8)
		return unsupported(err, "tiles whose rows do not end at a byte");
	b->rows = height;
	b->tile_width = width;
	b->tile_stride = row_bits / 8;
	if (TIFFTileSize64(b->tiff) != (uint64_t)height * b->tile_stride)
		return unsupported(err, "tiles of an unexpected size");
	b->tile = image_alloc(b->tile_stride, height, 1, err);
	return b->tile ? RC_OK : RC_FAILED;
}

static enum rc bands_init(struct bands *b, TIFF *tiff, const struct tiff_layout *l,
			  const struct limits *limits, struct err *err)
{
	size_t pixel_bits = (size_t)l->bits * (l->planar ? 1 : l->samples);
	uint32_t per_strip = l->height;
	enum rc rc;

	*b = (struct bands){ .tiff = tiff, .l = l, .planes = l->planar ? l->samples : 1 };
	if (l->samples > PLANES_MAX)
		return unsupported(err, "more than 8 samples a pixel");
	b->stride = (l->width * pixel_bits + 7) / 8;
	b->rows = 1;
	if (l->tiled) {
		rc = plan_tiles(b, pixel_bits, limits, err);
		if (rc)
			return rc;
	} else if (TIFFScanlineSize64(tiff) != b->stride) {
		return unsupported(err, "rows of an unexpected size");
	} else if (l->planar) {
		TIFFGetFieldDefaulted(tiff, TIFFTAG_ROWSPERSTRIP, &per_strip);
		b->rows = (uint32_t)min_u64(per_strip ? per_strip : 1, l->height);
	}
	for (unsigned p = 0; p < b->planes; p++) {
		b->plane[p] = image_alloc(b->stride, b->rows, 1, err);
		if (!b->plane[p])
			return RC_FAILED;
	}
	b->values = image_alloc(l->width, l->samples, 1, err);
	if (!b->values)
		return RC_FAILED;
	make_tables(b);
	return RC_OK;
}

static void bands_release(struct bands *b)
{
	for (unsigned p = 0; p < PLANES_MAX; p++)
		free(b->plane[p]);
	free(b->tile);
	free(b->values);
}

static enum rc draw_exotic(TIFF *tiff, const struct tiff_layout *l, struct canvas *canvas,
			   struct err *err)
{
	uint32_t *pixels = NULL;
	TIFFRGBAImage image;
	char message[1024];
	enum rc rc = RC_FAILED;

	if (!TIFFRGBAImageOK(tiff, message) || !TIFFRGBAImageBegin(&image, tiff, 1, message))
		return unsupported(err, message);
	pixels = image_alloc(l->width, l->height, sizeof(*pixels), err);
	if (!pixels)
		goto out;
	image.req_orientation = image.orientation; /* turning is the canvas's work */
	if (image.width != l->width || image.height != l->height ||
	    !TIFFRGBAImageGet(&image, pixels, l->width, l->height))
		goto out;
	for (size_t y = 0; y < l->height; y++) {
		const uint32_t *from = pixels + y * l->width;
		uint8_t *to = canvas_row(canvas);

		for (size_t x = 0; x < l->width; x++, from++, to += 3) {
			to[0] = over_white(TIFFGetR(*from), TIFFGetA(*from), ALPHA_ASSOCIATED);
			to[1] = over_white(TIFFGetG(*from), TIFFGetA(*from), ALPHA_ASSOCIATED);
			to[2] = over_white(TIFFGetB(*from), TIFFGetA(*from), ALPHA_ASSOCIATED);
		}
		canvas_commit(canvas);
	}
	rc = RC_OK;
out:
	free(pixels);
	TIFFRGBAImageEnd(&image);
	return rc;
}

enum rc tiff_draw(TIFF *tiff, const struct tiff_layout *l, const struct limits *limits,
		  struct canvas *canvas, struct err *err)
{
	struct bands b;
	enum rc rc;

	if (l->exotic)
		return draw_exotic(tiff, l, canvas, err);
	if (l->photometric == PHOTOMETRIC_YCBCR)
		TIFFSetField(tiff, TIFFTAG_JPEGCOLORMODE, JPEGCOLORMODE_RGB);
	rc = bands_init(&b, tiff, l, limits, err);
	for (uint32_t y = 0; !rc && y < l->height;) {
		uint32_t rows = (uint32_t)min_u64(b.rows, l->height - y);

		rc = read_band(&b, y, rows);
		for (uint32_t i = 0; !rc && i < rows; i++) {
			draw_row(&b, i, canvas_row(canvas));
			canvas_commit(canvas);
		}
		y += rows;
	}
	bands_release(&b);
	return rc;
}
