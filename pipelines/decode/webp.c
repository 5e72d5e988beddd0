/* SPDX-License-Identifier: MIT
 *
 * webp: WebP through libwebp.
 *
 * The decoder wants the whole file in memory, which is bounded by what a picture of its greatest
 * size can need.  An animation is refused: one frame of it would be a silent loss, and a film is no
 * page.
 */
#include "image.h"

#include <stdlib.h>
#include <string.h>
#include <webp/decode.h>

#define HEADER_BYTES   65536
#define RIFF_BYTES     12
#define CHUNK_BYTES    8
#define CHUNKS_MAX     100
#define EXIF_BYTES_MAX 65536
#define FILE_BYTES_MAX (1u << 30)

struct document {
	struct source source;
	struct limits limits;
	struct image im;
	bool alpha;
};

static enum rc damaged(struct err *err, VP8StatusCode status)
{
	switch (status) {
	case VP8_STATUS_OUT_OF_MEMORY:
		return err_set(err, RC_FAILED, "limit:memory-mebibytes",
			       "no memory for this image");
	case VP8_STATUS_NOT_ENOUGH_DATA:
		return err_set(err, RC_FAILED, "damaged", "WebP: the file ends too early");
	case VP8_STATUS_UNSUPPORTED_FEATURE:
		return err_set(err, RC_FAILED, "unsupported", "WebP: unsupported feature");
	default:
		return err_set(err, RC_FAILED, "damaged", "WebP: broken stream");
	}
}

static uint32_t little32(const uint8_t *p)
{
	return (uint32_t)p[0] | (uint32_t)p[1] << 8 | (uint32_t)p[2] << 16 | (uint32_t)p[3] << 24;
}

/* The EXIF chunk stands behind the pixels. */
static void find_exif(struct document *d)
{
	uint64_t at = RIFF_BYTES;
	uint8_t head[CHUNK_BYTES];

	for (int i = 0; i < CHUNKS_MAX; i++) {
		uint32_t len;

		if (!source_read_at(&d->source, at, head, sizeof(head)))
			return;
		at += sizeof(head);
		len = little32(head + 4);
		if (!memcmp(head, "EXIF", 4) && len <= EXIF_BYTES_MAX) {
			uint8_t *exif = xmalloc(len + 1);
			size_t skip = 0;

			if (source_read_at(&d->source, at, exif, len)) {
				if (len > 6 && !memcmp(exif, "Exif\0", 6))
					skip = 6;
				exif_read(exif + skip, len - skip, &d->im);
			}
			free(exif);
			return;
		}
		at += (uint64_t)len + (len & 1);
	}
}

static enum rc read_header(struct document *d, struct err *err)
{
	uint8_t *head = xmalloc(HEADER_BYTES);
	size_t n = source_read(&d->source, head, HEADER_BYTES);
	WebPBitstreamFeatures features;
	VP8StatusCode status = WebPGetFeatures(head, n, &features);

	free(head);
	if (d->source.error)
		return err_set(err, RC_FAILED, "unreadable", "cannot read the document: %s",
			       strerror(d->source.error));
	if (status != VP8_STATUS_OK)
		return damaged(err, status);
	if (features.has_animation)
		return err_set(err, RC_FAILED, "unsupported", "WebP: an animation, not a page");
	if (features.width <= 0 || features.height <= 0)
		return damaged(err, VP8_STATUS_BITSTREAM_ERROR);
	d->alpha = features.has_alpha;
	d->im = (struct image){ .width = (uint32_t)features.width,
				.height = (uint32_t)features.height,
				.channels = 3, .orientation = 1 };
	find_exif(d);
	return RC_OK;
}

static enum rc webp_open(struct document **doc, int fd, const struct pipeline *p, uint32_t *pages,
			 struct err *err)
{
	struct document *d = xcalloc(1, sizeof(*d));
	enum rc rc = source_init(&d->source, fd, err);

	d->limits = p->limits;
	if (!rc && d->source.size > FILE_BYTES_MAX)
		rc = err_set(err, RC_FAILED, "limit:webp-bytes", "a WebP file of more than 1 GiB");
	if (!rc)
		rc = read_header(d, err);
	if (rc) {
		free(d);
		return rc;
	}
	*doc = d;
	*pages = 1;
	return RC_OK;
}

static enum rc webp_measure(struct document *d, uint32_t index, struct page *page,
			    struct err *err)
{
	(void)index;
	return image_measure(&d->im, &d->limits, page, err);
}

/* Decode into pixels, RGBA or RGB. */
static enum rc decode(struct document *d, const uint8_t *file, size_t len, uint8_t *pixels,
		      struct err *err)
{
	size_t stride = (size_t)d->im.width * (d->alpha ? 4 : 3);
	WebPDecoderConfig config;
	VP8StatusCode status;

	if (!WebPInitDecoderConfig(&config))
		BUG("libwebp is of another version than its header");
	status = WebPGetFeatures(file, len, &config.input);
	if (status != VP8_STATUS_OK)
		return damaged(err, status);
	if ((uint32_t)config.input.width != d->im.width ||
	    (uint32_t)config.input.height != d->im.height || stride > INT32_MAX)
		return damaged(err, VP8_STATUS_BITSTREAM_ERROR);
	config.output.colorspace = d->alpha ? MODE_RGBA : MODE_RGB;
	config.output.is_external_memory = 1;
	config.output.u.RGBA.rgba = pixels;
	config.output.u.RGBA.stride = (int)stride;
	config.output.u.RGBA.size = stride * d->im.height;
	status = WebPDecode(file, len, &config);
	WebPFreeDecBuffer(&config.output);
	return status == VP8_STATUS_OK ? RC_OK : damaged(err, status);
}

static enum rc webp_render(struct document *d, uint32_t index, struct page *page,
			   struct raster *raster, struct err *err)
{
	size_t depth = d->alpha ? 4 : 3, stride = depth * d->im.width;
	uint8_t *file = image_alloc(d->source.size, 1, 1, err);
	uint8_t *pixels = image_alloc(d->im.width, d->im.height, depth, err);
	struct canvas canvas = { 0 };
	enum rc rc = RC_FAILED;

	(void)index;
	if (!file || !pixels)
		goto out;
	if (!source_read_at(&d->source, 0, file, d->source.size)) {
		rc = err_set(err, RC_FAILED, "unreadable",
			     "the document changed while it was read");
		goto out;
	}
	rc = decode(d, file, d->source.size, pixels, err);
	if (!rc)
		rc = canvas_init(&canvas, &d->im, &d->limits, raster, err);
	if (rc)
		goto out;
	for (size_t y = 0; y < d->im.height; y++) {
		const uint8_t *row = pixels + y * stride;

		if (d->alpha)
			row_over_white_rgba(row, canvas_row(&canvas), d->im.width);
		else
			memcpy(canvas_row(&canvas), row, stride);
		canvas_commit(&canvas);
	}
	canvas_finish(&canvas, page);
out:
	canvas_release(&canvas);
	free(pixels);
	free(file);
	return rc;
}

static void webp_close(struct document *d)
{
	free(d);
}

const struct decoder webp_decoder = { "webp", webp_open, webp_measure, webp_render, webp_close };
