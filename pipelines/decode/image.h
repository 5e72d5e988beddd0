/* SPDX-License-Identifier: MIT
 *
 * image: what the image decoders share, so that each of them is only about its format.
 *
 * A decoder fills a struct image from the header of its file, and calls image_measure().  To render
 * it puts the rows of the picture, as stored and in order, on a canvas; resampling to square pixels
 * and to the limits, and turning, happen there.
 */
#ifndef DECODE_IMAGE_H
#define DECODE_IMAGE_H

#include "decode.h"

#include <stddef.h>

/* The document as a stream. A read is short only at the end of the file, or with error set. */
struct source {
	int fd; /* borrowed; its position is left alone */
	uint64_t size, at;
	int error; /* errno of the first failed read */
};

enum rc source_init(struct source *s, int fd, struct err *err);
size_t source_read(struct source *s, void *to, size_t len);
/* Exactly len bytes from offset on; leaves s->at alone. */
bool source_read_at(struct source *s, uint64_t offset, void *to, size_t len);

/* malloc() of width * height * depth bytes. NULL and err (limit:memory-mebibytes) when it does not
 * fit; the caller frees. */
void *image_alloc(uint64_t width, uint64_t height, uint64_t depth, struct err *err);

struct image {
	uint32_t width, height; /* as stored */
	uint32_t channels;      /* of the rows that will be drawn: 1 grey, 3 sRGB */
	double xdpi, ydpi;      /* 0 where the file does not say */
	unsigned orientation;   /* 1..8; anything else means 1 */
};

/* Check the limits and tell the page that this image becomes. */
enum rc image_measure(const struct image *im, const struct limits *limits, struct page *page,
		      struct err *err);

/* The same rows: a header that is read again for rendering must still say what the page was
 * measured by, for the raster is made for that. */
bool image_same(const struct image *a, const struct image *b);

struct scaler;

/* Takes the rows of an image and leaves its page in a raster. */
struct canvas {
	struct image im;
	struct raster *out;    /* borrowed */
	struct raster upright; /* where rows go: `out` itself, or memory of our own to turn from */
	struct scaler *scaler; /* NULL where the image keeps its size */
	uint8_t *row;          /* for the scaler */
	uint32_t y;            /* rows taken */
};

enum rc canvas_init(struct canvas *c, const struct image *im, const struct limits *limits,
		    struct raster *out, struct err *err);
/* Where the next row (width * channels bytes) is to be put; then say that it is there. */
uint8_t *canvas_row(struct canvas *c);
void canvas_commit(struct canvas *c);
/* All rows are there: turn, pack grey, tell page. */
void canvas_finish(struct canvas *c, struct page *page);
void canvas_release(struct canvas *c);

/* scale.c: rows in, rows out, by area. */
struct scaler *scaler_new(uint32_t width, uint32_t height, uint32_t channels, struct raster *to,
			  struct err *err);
void scaler_row(struct scaler *s, const uint8_t *row);
void scaler_free(struct scaler *s);

/* exif.c: orientation (1..8) and resolution out of the TIFF structure in an EXIF block; what is not
 * there or not believable is left as it was. */
void exif_read(const uint8_t *data, size_t len, struct image *im);

/* 8-bit CMYK, 255 = full ink, to sRGB. */
void row_cmyk_to_rgb(const uint8_t *src, uint8_t *dst, uint32_t width);

#endif
