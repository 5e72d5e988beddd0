/* SPDX-License-Identifier: MIT
 *
 * pnm: portable bitmaps, greymaps and pixmaps, P1 to P6.
 *
 * The format is a header of decimal numbers and then the samples, so this is our own reader.
 * open() walks over the images of the file: a binary image says by its header where the next one
 * begins, a plain (ASCII) one is the last.  What follows the last image and is not an image is one
 * page more, which fails: pages out = pages in, and a file that was cut or glued wrongly is not
 * called whole.  A sample above maxval is damage.
 */
#include "image.h"

#include "base/num.h"

#include <ctype.h>
#include <stdlib.h>
#include <string.h>

#define WINDOW        65536
#define HEADER_MAX    65536 /* bytes, with its comments */
#define SAMPLE_DIGITS 5

/* One image of the file. */
struct entry {
	uint64_t samples;  /* where they begin */
	uint32_t width, height, maxval;
	unsigned type; /* 1 to 6; 0: something that is no image */
};

struct document {
	struct source source;
	struct limits limits;
	struct entry *entries;
	uint32_t n, room;
};

/* Bytes one by one, through a window on the file. */
struct reader {
	struct source *source;
	size_t at, len;
	uint8_t window[WINDOW];
};

static void reader_seek(struct reader *r, struct source *source, uint64_t offset)
{
	r->source = source;
	source->at = offset;
	r->at = r->len = 0;
}

static uint64_t reader_offset(const struct reader *r)
{
	return r->source->at - (r->len - r->at);
}

/* The next byte, -1 at the end; peek leaves it. */
static int reader_peek(struct reader *r)
{
	if (r->at == r->len) {
		r->at = 0;
		r->len = source_read(r->source, r->window, sizeof(r->window));
		if (!r->len)
			return -1;
	}
	return r->window[r->at];
}

static int reader_next(struct reader *r)
{
	int c = reader_peek(r);

	if (c >= 0)
		r->at++;
	return c;
}

static void skip_space(struct reader *r)
{
	for (;;) {
		int c = reader_peek(r);

		if (c == '#')
			while (c >= 0 && c != '\n' && c != '\r')
				c = reader_next(r);
		else if (c >= 0 && isspace(c))
			reader_next(r);
		else
			return;
	}
}

/* A decimal number of at most `digits` digits, behind space and comments. */
static bool read_number(struct reader *r, unsigned digits, uint32_t *out)
{
	uint64_t v = 0;
	unsigned n = 0;
	int c;

	skip_space(r);
	for (c = reader_peek(r); c >= 0 && isdigit(c); c = reader_peek(r)) {
		if (n++ == digits)
			return false;
		v = v * 10 + (uint64_t)(c - '0');
		reader_next(r);
	}
	*out = (uint32_t)v;
	return n > 0 && v <= INT32_MAX;
}

static unsigned channels_of(const struct entry *e)
{
	return e->type == 3 || e->type == 6 ? 3 : 1;
}

/* Bytes of a row of samples, of the binary types. */
static size_t row_bytes(const struct entry *e)
{
	size_t n = (size_t)e->width * channels_of(e);

	return e->type == 4 ? (n + 7) / 8 : e->maxval > 255 ? n * 2 : n;
}

static bool read_entry(struct reader *r, struct entry *e)
{
	uint64_t begin = reader_offset(r);
	int c;

	if (reader_next(r) != 'P')
		return false;
	c = reader_next(r);
	if (c < '1' || c > '6' || (reader_peek(r) != '#' && !isspace(reader_peek(r))))
		return false;
	e->type = (unsigned)(c - '0');
	e->maxval = 1;
	if (!read_number(r, 10, &e->width) || !read_number(r, 10, &e->height) ||
	    (e->type % 3 != 1 && !read_number(r, SAMPLE_DIGITS, &e->maxval)))
		return false;
	/* One white space, no more: the next byte may be a sample that looks like one. */
	c = reader_next(r);
	e->samples = reader_offset(r);
	return c >= 0 && isspace(c) && e->width && e->height && e->maxval && e->maxval <= 65535 &&
	       e->samples - begin <= HEADER_MAX;
}

static struct entry *entry_add(struct document *d)
{
	if (d->n == d->room) {
		d->room = d->room ? d->room * 2 : 4;
		d->entries = xrealloc(d->entries, d->room * sizeof(*d->entries));
	}
	d->entries[d->n] = (struct entry){ 0 };
	return &d->entries[d->n++];
}

static enum rc find_entries(struct document *d, struct reader *r, struct err *err)
{
	uint64_t at = 0;

	while (at < d->source.size) {
		struct entry *e;

		reader_seek(r, &d->source, at);
		while (d->n && reader_peek(r) >= 0 && isspace(reader_peek(r)))
			reader_next(r);
		if (d->n && reader_peek(r) < 0)
			break;
		if (d->n >= d->limits.document_pages)
			return err_set(err, RC_FAILED, "limit:document-pages",
				       "more than %llu images in the file",
				       (unsigned long long)d->limits.document_pages);
		e = entry_add(d);
		if (!read_entry(r, e)) {
			e->type = 0;
			break;
		}
		if (e->type <= 3)
			break;
		if (__builtin_mul_overflow((uint64_t)row_bytes(e), e->height, &at) ||
		    __builtin_add_overflow(at, e->samples, &at))
			break;
	}
	if (d->source.error)
		return err_set(err, RC_FAILED, "unreadable", "cannot read the document: %s",
			       strerror(d->source.error));
	if (!d->n || !d->entries[0].type)
		return err_set(err, RC_FAILED, "damaged", "PNM: broken header");
	return RC_OK;
}

static void pnm_close(struct document *d)
{
	free(d->entries);
	free(d);
}

static enum rc pnm_open(struct document **doc, int fd, const struct pipeline *p, uint32_t *pages,
			struct err *err)
{
	struct document *d = xcalloc(1, sizeof(*d));
	struct reader *r = xcalloc(1, sizeof(*r));
	enum rc rc = source_init(&d->source, fd, err);

	d->limits = p->limits;
	if (!rc)
		rc = find_entries(d, r, err);
	free(r);
	if (rc) {
		pnm_close(d);
		return rc;
	}
	*doc = d;
	*pages = d->n;
	return RC_OK;
}

static struct image image_of(const struct entry *e)
{
	return (struct image){ .width = e->width, .height = e->height,
			       .channels = channels_of(e), .orientation = 1 };
}

static enum rc pnm_measure(struct document *d, uint32_t index, struct page *page, struct err *err)
{
	const struct entry *e = &d->entries[index];
	struct image im = image_of(e);
	uint64_t samples = (uint64_t)e->width * e->height;

	if (!e->type)
		return err_set(err, RC_FAILED, "damaged", "PNM: bytes behind the last image");
	/* The shortest plain sample is one digit; of P1 they need no space between them. */
	if (e->type > 3)
		samples = (uint64_t)row_bytes(e) * e->height;
	if (!check_image_size(e->width, e->height, &d->limits, err) &&
	    samples > d->source.size - min_u64(e->samples, d->source.size))
		return err_set(err, RC_FAILED, "damaged", "PNM: the file ends too early");
	return image_measure(&im, &d->limits, page, err);
}

static bool read_plain(struct reader *r, const struct entry *e, uint8_t *to, size_t n)
{
	for (size_t i = 0; i < n; i++) {
		uint32_t v;

		if (e->type == 1) {
			skip_space(r);
			v = (uint32_t)reader_next(r) - '0';
			if (v > 1)
				return false;
			to[i] = v ? 0 : 255;
			continue;
		}
		if (!read_number(r, SAMPLE_DIGITS, &v) || v > e->maxval)
			return false;
		to[i] = (uint8_t)((v * 255u + e->maxval / 2) / e->maxval);
	}
	return true;
}

static bool unpack(const struct entry *e, const uint8_t *raw, uint8_t *to, size_t n)
{
	uint32_t over = 0;

	if (e->type == 4) {
		for (size_t i = 0; i < n; i++)
			to[i] = raw[i / 8] & (0x80 >> i % 8) ? 0 : 255;
		return true;
	}
	if (e->maxval == 255) {
		memcpy(to, raw, n);
		return true;
	}
	for (size_t i = 0; i < n; i++) {
		uint32_t v = e->maxval > 255 ? (uint32_t)raw[2 * i] << 8 | raw[2 * i + 1] : raw[i];

		over |= v > e->maxval;
		to[i] = (uint8_t)((v * 255u + e->maxval / 2) / e->maxval);
	}
	return !over;
}

static enum rc read_rows(struct document *d, const struct entry *e, struct canvas *canvas,
			 struct reader *r, uint8_t *raw, struct err *err)
{
	size_t n = (size_t)e->width * channels_of(e);

	reader_seek(r, &d->source, e->samples);
	for (uint32_t y = 0; y < e->height; y++) {
		bool good;

		if (e->type <= 3)
			good = read_plain(r, e, canvas_row(canvas), n);
		else
			good = source_read(&d->source, raw, row_bytes(e)) == row_bytes(e) &&
			       unpack(e, raw, canvas_row(canvas), n);
		if (d->source.error)
			return err_set(err, RC_FAILED, "unreadable", "cannot read the document: %s",
				       strerror(d->source.error));
		if (!good)
			return err_set(err, RC_FAILED, "damaged", "PNM: broken samples in row %u",
				       y);
		canvas_commit(canvas);
	}
	return RC_OK;
}

static enum rc pnm_render(struct document *d, uint32_t index, struct page *page,
			  struct raster *raster, struct err *err)
{
	const struct entry *e = &d->entries[index];
	struct image im = image_of(e);
	struct reader *r = xcalloc(1, sizeof(*r));
	uint8_t *raw = image_alloc(row_bytes(e), 1, 1, err);
	struct canvas canvas = { 0 };
	enum rc rc = raw ? canvas_init(&canvas, &im, &d->limits, raster, err) : RC_FAILED;

	if (!rc)
		rc = read_rows(d, e, &canvas, r, raw, err);
	if (!rc && e->type <= 3) {
		skip_space(r);
		if (reader_peek(r) >= 0)
			page_warn(page, "PNM: bytes behind the last sample");
	}
	if (!rc)
		canvas_finish(&canvas, page);
	canvas_release(&canvas);
	free(raw);
	free(r);
	return rc;
}

const struct decoder pnm_decoder = { "pnm", pnm_open, pnm_measure, pnm_render, pnm_close };
