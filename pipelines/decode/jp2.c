/* SPDX-License-Identifier: MIT
 *
 * jp2: JPEG 2000, as JP2 file or bare codestream, through OpenJPEG in its strict mode.
 *
 * OpenJPEG keeps four bytes a sample, so the memory of an image is known from its header.  Where it
 * would be too much, a lower resolution level of the wavelet is decoded instead, which is a proper
 * half, quarter, ... of the picture.  Components may have sizes of their own (subsampled colour):
 * the largest gives the size of the picture, the others are spread over it.
 */
#include "image.h"

#include "base/num.h"

#include <math.h>
#include <openjpeg.h>
#include <stdlib.h>
#include <string.h>

#define STREAM_BYTES    65536
#define COMPONENTS_MAX  16
#define PRECISION_MAX   16
#define LEVELS_MAX      32
#define BOXES_MAX       100
#define INCHES_IN_METRE 39.37007874

struct document {
	struct source source;
	struct limits limits;
	struct image full; /* at full resolution */
	struct image im;   /* as it will be decoded */
	unsigned reduce;   /* how often it is halved */
	bool bare;         /* a codestream without file format */
};

struct reading {
	struct source source;
	opj_codec_t *codec;
	opj_stream_t *stream;
	opj_image_t *image;
	char error[200]; /* the first message */
};

static OPJ_SIZE_T on_read(void *to, OPJ_SIZE_T len, void *user)
{
	struct reading *r = user;
	size_t n = source_read(&r->source, to, len);

	return n ? n : (OPJ_SIZE_T)-1;
}

static OPJ_OFF_T on_skip(OPJ_OFF_T len, void *user)
{
	struct reading *r = user;

	if (len < 0 || (uint64_t)len > r->source.size - min_u64(r->source.at, r->source.size))
		return -1;
	r->source.at += (uint64_t)len;
	return len;
}

static OPJ_BOOL on_seek(OPJ_OFF_T offset, void *user)
{
	struct reading *r = user;

	if (offset < 0 || (uint64_t)offset > r->source.size)
		return OPJ_FALSE;
	r->source.at = (uint64_t)offset;
	return OPJ_TRUE;
}

static void on_error(const char *message, void *user)
{
	struct reading *r = user;
	size_t len = strcspn(message, "\n");

	if (r->error[0] || !len)
		return;
	len = min_u64(len, sizeof(r->error) - 1);
	memcpy(r->error, message, len);
	r->error[len] = '\0';
}

static void on_message(const char *message, void *user)
{
	(void)message;
	(void)user;
}

static enum rc fail(const struct reading *r, struct err *err, const char *what)
{
	if (r->source.error)
		return err_set(err, RC_FAILED, "unreadable", "cannot read the document: %s",
			       strerror(r->source.error));
	if (strstr(r->error, "emory"))
		return err_set(err, RC_FAILED, "limit:memory-mebibytes", "JPEG 2000: %s", r->error);
	return err_set(err, RC_FAILED, "damaged", "JPEG 2000: %s", r->error[0] ? r->error : what);
}

static void reading_release(struct reading *r)
{
	opj_image_destroy(r->image);
	if (r->stream)
		opj_stream_destroy(r->stream);
	if (r->codec)
		opj_destroy_codec(r->codec);
}

static enum rc read_header(struct reading *r, const struct document *d, struct err *err)
{
	opj_dparameters_t parameters;

	*r = (struct reading){ .source = { .fd = d->source.fd, .size = d->source.size } };
	r->codec = opj_create_decompress(d->bare ? OPJ_CODEC_J2K : OPJ_CODEC_JP2);
	r->stream = opj_stream_create(STREAM_BYTES, OPJ_TRUE);
	if (!r->codec || !r->stream)
		return err_set(err, RC_FAILED, "limit:memory-mebibytes", "no memory");
	opj_stream_set_user_data(r->stream, r, NULL);
	opj_stream_set_user_data_length(r->stream, r->source.size);
	opj_stream_set_read_function(r->stream, on_read);
	opj_stream_set_skip_function(r->stream, on_skip);
	opj_stream_set_seek_function(r->stream, on_seek);
	opj_set_error_handler(r->codec, on_error, r);
	opj_set_warning_handler(r->codec, on_message, r);
	opj_set_info_handler(r->codec, on_message, r);
	opj_set_default_decoder_parameters(&parameters);
	if (!opj_setup_decoder(r->codec, &parameters) ||
	    !opj_decoder_set_strict_mode(r->codec, OPJ_TRUE) ||
	    !opj_read_header(r->stream, r->codec, &r->image))
		return fail(r, err, "broken header");
	return RC_OK;
}

/* What the components are. */
struct colours {
	unsigned n;   /* 1, 3 or 4: how many from the first on */
	int alpha;    /* component, or -1 */
	bool ycc;
};

static struct colours colours_of(const opj_image_t *image)
{
	struct colours c = { .n = 1, .alpha = -1 };
	unsigned plain = 0;

	for (unsigned i = 0; i < image->numcomps; i++) {
		if (image->comps[i].alpha && c.alpha < 0)
			c.alpha = (int)i;
		plain += !image->comps[i].alpha;
	}
	if (c.alpha == 0)
		c.alpha = -1;
	if (plain >= 4 && image->color_space == OPJ_CLRSPC_CMYK)
		c.n = 4;
	else if (plain >= 3 && image->color_space != OPJ_CLRSPC_GRAY)
		c.n = 3;
	/* A bare codestream does not say, but who subsamples has turned RGB into something else. */
	if (c.n == 3)
		c.ycc = image->color_space == OPJ_CLRSPC_SYCC ||
			image->color_space == OPJ_CLRSPC_EYCC ||
			(image->color_space != OPJ_CLRSPC_SRGB && image->comps[0].dx == 1 &&
			 image->comps[1].dx > 1);
	return c;
}

/* Size, and an upper bound of the channels: the colour space is only sure after decoding. */
static enum rc describe(const struct reading *r, struct image *im, struct err *err)
{
	const opj_image_t *image = r->image;

	*im = (struct image){ .channels = image->numcomps >= 3 ? 3 : 1, .orientation = 1 };
	if (!image->numcomps || image->numcomps > COMPONENTS_MAX)
		return err_set(err, RC_FAILED, "unsupported", "JPEG 2000: %u components",
			       image->numcomps);
	for (unsigned i = 0; i < image->numcomps; i++) {
		const opj_image_comp_t *c = &image->comps[i];

		if (!c->prec || c->prec > PRECISION_MAX)
			return err_set(err, RC_FAILED, "unsupported", "JPEG 2000: %u bits",
				       c->prec);
		if (!c->w || !c->h)
			return err_set(err, RC_FAILED, "damaged", "JPEG 2000: an empty component");
		im->width = c->w > im->width ? c->w : im->width;
		im->height = c->h > im->height ? c->h : im->height;
	}
	return RC_OK;
}

/* How often the picture has to be halved for its samples to fit into memory. */
static enum rc plan_memory(struct reading *r, struct document *d, struct err *err)
{
	uint64_t need = 0, have = (d->limits.memory_mebibytes << 20) / 8 * 5;

	if (check_image_size(d->im.width, d->im.height, &d->limits, err))
		return RC_OK; /* measure says so, of the page */
	for (unsigned i = 0; i < r->image->numcomps; i++)
		need += (uint64_t)r->image->comps[i].w * r->image->comps[i].h * sizeof(OPJ_INT32);
	while (d->reduce < LEVELS_MAX / 2 && need >> 2 * d->reduce > have)
		d->reduce++;
	if (d->reduce && !opj_set_decoded_resolution_factor(r->codec, d->reduce))
		return err_set(err, RC_FAILED, "limit:memory-mebibytes",
			       "no memory for an image of %u x %u pixels", d->im.width,
			       d->im.height);
	return RC_OK;
}

static uint32_t half(uint32_t side, unsigned times)
{
	return (uint32_t)(((uint64_t)side + (1ull << times) - 1) >> times);
}

static uint64_t big_endian(const uint8_t *p, unsigned n)
{
	uint64_t v = 0;

	for (unsigned i = 0; i < n; i++)
		v = v << 8 | p[i];
	return v;
}

struct span {
	uint64_t begin, end;
};

/* The contents of the first box of a type inside a span. */
static bool find_box(struct source *s, struct span in, const char *type, struct span *out)
{
	for (unsigned i = 0; i < BOXES_MAX; i++) {
		uint8_t head[16];
		uint64_t len, skip = 8;

		if (in.begin > in.end || in.end - in.begin < 8 ||
		    !source_read_at(s, in.begin, head, 8))
			return false;
		len = big_endian(head, 4);
		if (len == 1) {
			if (!source_read_at(s, in.begin, head, 16))
				return false;
			len = big_endian(head + 8, 8);
			skip = 16;
		} else if (len == 0) {
			len = in.end - in.begin;
		}
		if (len < skip || len > in.end - in.begin)
			return false;
		*out = (struct span){ in.begin + skip, in.begin + len };
		if (!memcmp(head + 4, type, 4))
			return true;
		in.begin += len;
	}
	return false;
}

/* What OpenJPEG does not tell before decoding: a palette, which makes three components of one, and
 * the resolution of capture, or else of display. */
static void read_boxes(struct document *d)
{
	struct span box = { 0, d->source.size };
	struct span res;
	uint8_t b[10];

	if (!find_box(&d->source, box, "jp2h", &box))
		return;
	if (find_box(&d->source, box, "pclr", &res))
		d->full.channels = 3;
	if (!find_box(&d->source, box, "res ", &box))
		return;
	if (!find_box(&d->source, box, "resc", &res) && !find_box(&d->source, box, "resd", &res))
		return;
	if (res.end - res.begin < sizeof(b) || !source_read_at(&d->source, res.begin, b, sizeof(b)))
		return;
	if (!big_endian(b + 2, 2) || !big_endian(b + 6, 2))
		return;
	d->full.ydpi = (double)big_endian(b, 2) / (double)big_endian(b + 2, 2) *
		       pow(10, (int8_t)b[8]) / INCHES_IN_METRE;
	d->full.xdpi = (double)big_endian(b + 4, 2) / (double)big_endian(b + 6, 2) *
		       pow(10, (int8_t)b[9]) / INCHES_IN_METRE;
}

static enum rc read_facts(struct document *d, struct err *err)
{
	uint8_t magic[4] = { 0 };
	struct reading r;
	enum rc rc;

	source_read_at(&d->source, 0, magic, sizeof(magic));
	d->bare = big_endian(magic, 4) == 0xff4fff51;
	rc = read_header(&r, d, err);
	if (!rc)
		rc = describe(&r, &d->full, err);
	if (!rc && !d->bare)
		read_boxes(d);
	d->im = d->full;
	if (!rc)
		rc = plan_memory(&r, d, err);
	d->im.width = half(d->full.width, d->reduce);
	d->im.height = half(d->full.height, d->reduce);
	d->im.xdpi = ldexp(d->full.xdpi, -(int)d->reduce);
	d->im.ydpi = ldexp(d->full.ydpi, -(int)d->reduce);
	reading_release(&r);
	return rc;
}

static enum rc jp2_open(struct document **doc, int fd, const struct pipeline *p, uint32_t *pages,
			struct err *err)
{
	struct document *d = xcalloc(1, sizeof(*d));
	enum rc rc = source_init(&d->source, fd, err);

	d->limits = p->limits;
	if (!rc)
		rc = read_facts(d, err);
	if (rc) {
		free(d);
		return rc;
	}
	*doc = d;
	*pages = 1;
	return RC_OK;
}

static enum rc jp2_measure(struct document *d, uint32_t index, struct page *page, struct err *err)
{
	enum rc rc = check_image_size(d->full.width, d->full.height, &d->limits, err);

	(void)index;
	if (!rc)
		rc = image_measure(&d->im, &d->limits, page, err);
	page->native &= !d->reduce;
	return rc;
}

/* Row y of the picture from component c, 8 bits, every step-th byte of to. */
static void spread(const opj_image_comp_t *c, const struct image *im, uint32_t y, uint8_t *to,
		   size_t step)
{
	int64_t max = (1 << c->prec) - 1, offset = c->sgnd ? 1 << (c->prec - 1) : 0;
	const OPJ_INT32 *row = c->data + (size_t)((uint64_t)y * c->h / im->height) * c->w;

	for (uint32_t x = 0; x < im->width; x++, to += step) {
		uint32_t at = c->w == im->width ? x : (uint32_t)((uint64_t)x * c->w / im->width);
		int64_t v = row[at] + offset;

		v = v < 0 ? 0 : v > max ? max : v;
		*to = (uint8_t)(max == 255 ? v : (v * 255 + max / 2) / max);
	}
}

static uint8_t clamp(double v)
{
	return (uint8_t)(v < 0 ? 0 : v > 255 ? 255 : v + 0.5);
}

/* sYCC (IEC 61966-2-1, amendment 1) to sRGB, in place. */
static void ycc_to_rgb(uint8_t *p, uint32_t width)
{
	for (uint32_t x = 0; x < width; x++, p += 3) {
		double y = p[0], cb = p[1] - 128.0, cr = p[2] - 128.0;

		p[0] = clamp(y + 1.402 * cr);
		p[1] = clamp(y - 0.344136 * cb - 0.714136 * cr);
		p[2] = clamp(y + 1.772 * cb);
	}
}

static void draw_row(const opj_image_t *image, struct colours c, struct canvas *canvas,
		     uint32_t y, uint8_t *scratch)
{
	const struct image *im = &canvas->im;
	uint8_t *to = canvas_row(canvas), *row = c.n == 4 ? scratch : to;

	for (unsigned i = 0; i < c.n; i++)
		spread(&image->comps[i], im, y, row + i, c.n);
	if (c.ycc)
		ycc_to_rgb(row, im->width);
	if (c.n == 4)
		row_cmyk_to_rgb(row, to, im->width);
	if (c.alpha >= 0) {
		spread(&image->comps[c.alpha], im, y, scratch, 1);
		for (size_t i = 0; i < (size_t)im->width * im->channels; i++) {
			unsigned a = scratch[i / im->channels];

			to[i] = (uint8_t)((to[i] * a + 255 * (255 - a) + 127) / 255);
		}
	}
	canvas_commit(canvas);
}

static enum rc decode(struct reading *r, struct document *d, struct err *err)
{
	struct image im;
	enum rc rc = read_header(r, d, err);

	if (!rc)
		rc = describe(r, &im, err);
	if (rc)
		return rc;
	if (im.width != d->full.width || im.height != d->full.height)
		return err_set(err, RC_FAILED, "damaged", "the file changed while it was read");
	if (d->reduce && !opj_set_decoded_resolution_factor(r->codec, d->reduce))
		return fail(r, err, "cannot decode a lower resolution");
	if (!opj_decode(r->codec, r->stream, r->image) ||
	    !opj_end_decompress(r->codec, r->stream) || r->error[0])
		return fail(r, err, "broken codestream");
	/* A palette or a channel definition may have changed the components. */
	rc = describe(r, &im, err);
	if (rc)
		return rc;
	im.channels = colours_of(r->image).n == 1 ? 1 : 3;
	if (im.channels > d->full.channels)
		return err_set(err, RC_FAILED, "damaged", "JPEG 2000: a palette out of nowhere");
	for (unsigned i = 0; i < r->image->numcomps; i++)
		if (!r->image->comps[i].data)
			return err_set(err, RC_FAILED, "damaged",
				       "JPEG 2000: a component is missing");
	d->im.channels = im.channels;
	return RC_OK;
}

static enum rc jp2_render(struct document *d, uint32_t index, struct page *page,
			  struct raster *raster, struct err *err)
{
	uint8_t *scratch = image_alloc(d->im.width, 4, 1, err);
	struct canvas canvas = { 0 };
	struct reading r = { 0 };
	enum rc rc = scratch ? decode(&r, d, err) : RC_FAILED;

	(void)index;
	if (!rc)
		rc = canvas_init(&canvas, &d->im, &d->limits, raster, err);
	for (uint32_t y = 0; !rc && y < d->im.height; y++)
		draw_row(r.image, colours_of(r.image), &canvas, y, scratch);
	if (!rc)
		canvas_finish(&canvas, page);
	canvas_release(&canvas);
	reading_release(&r);
	free(scratch);
	return rc;
}

static void jp2_close(struct document *d)
{
	free(d);
}

const struct decoder jp2_decoder = { "jp2", jp2_open, jp2_measure, jp2_render, jp2_close };
