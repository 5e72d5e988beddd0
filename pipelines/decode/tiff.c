/* SPDX-License-Identifier: MIT
 *
 * tiff: TIFF and BigTIFF through libtiff.
 *
 * libtiff sees the document through read and seek functions on our descriptor.  What it reports is
 * kept: an error while a page is read fails that page, and so does a warning that means lost rows
 * (the JPEG and fax decoders only warn).  The fax of a noisy line may lose single rows and is still
 * the fax that was received: under one row in a hundred is a warning, and only for the codings that
 * find their way back at the next row.
 */
#include "tiff_parts.h"

#include "base/num.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define FAX_BAD_ROWS 100 /* one in so many */
#define MESSAGE_MAX  200

struct document {
	struct source source;
	struct limits limits;
	struct tiff_chain chain;
	TIFF *tiff;
	char error[MESSAGE_MAX]; /* the first one since trouble_clear() */
	char lost[MESSAGE_MAX];  /* the first warning that means lost pixels */
	uint32_t n_lost;
};

static tmsize_t on_read(thandle_t handle, void *to, tmsize_t len)
{
	struct document *d = handle;

	return len > 0 ? (tmsize_t)source_read(&d->source, to, (size_t)len) : 0;
}

static tmsize_t on_write(thandle_t handle, void *from, tmsize_t len)
{
	(void)handle;
	(void)from;
	(void)len;
	return -1;
}

static toff_t on_seek(thandle_t handle, toff_t offset, int whence)
{
	struct document *d = handle;

	if (whence == SEEK_CUR)
		offset += d->source.at;
	else if (whence == SEEK_END)
		offset += d->source.size;
	d->source.at = offset;
	return offset;
}

static int on_close(thandle_t handle)
{
	(void)handle;
	return 0;
}

static toff_t on_size(thandle_t handle)
{
	struct document *d = handle;

	return d->source.size;
}

static int on_error(TIFF *tiff, void *user, const char *module, const char *format, va_list ap)
{
	struct document *d = user;

	(void)tiff;
	(void)module;
	if (!d->error[0])
		vsnprintf(d->error, sizeof(d->error), format, ap);
	return 1;
}

static int on_warning(TIFF *tiff, void *user, const char *module, const char *format, va_list ap)
{
	struct document *d = user;
	char text[MESSAGE_MAX];

	(void)tiff;
	if (!module || (strncmp(module, "JPEG", 4) && strncmp(module, "Fax", 3)))
		return 1;
	vsnprintf(text, sizeof(text), format, ap);
	/* A missing end marker alone takes nothing away: see jpeg.c. */
	if (strstr(text, "extraneous bytes") || strstr(text, "Premature end of JPEG file"))
		return 1;
	if (!d->n_lost++)
		snprintf(d->lost, sizeof(d->lost), "%s", text);
	return 1;
}

static void trouble_clear(struct document *d)
{
	d->error[0] = d->lost[0] = '\0';
	d->n_lost = 0;
}

static enum rc tiff_fail(struct document *d, struct err *err, const char *what)
{
	if (d->source.error)
		return err_set(err, RC_FAILED, "unreadable", "cannot read the document: %s",
			       strerror(d->source.error));
	if (strstr(d->error, "emory"))
		return err_set(err, RC_FAILED, "limit:memory-mebibytes", "TIFF: %s", d->error);
	return err_set(err, RC_FAILED, "damaged", "TIFF: %s", d->error[0] ? d->error : what);
}

static void tiff_close(struct document *d)
{
	if (d->tiff)
		TIFFClose(d->tiff);
	tiff_chain_release(&d->chain);
	free(d);
}

static enum rc tiff_start(struct document *d, struct err *err)
{
	TIFFOpenOptions *options = TIFFOpenOptionsAlloc();

	if (!options)
		return err_set(err, RC_FAILED, "limit:memory-mebibytes", "no memory");
	/* What does not come through the handle's own handlers must not reach standard error. */
	TIFFSetErrorHandler(NULL);
	TIFFSetWarningHandler(NULL);
	TIFFOpenOptionsSetErrorHandlerExtR(options, on_error, d);
	TIFFOpenOptionsSetWarningHandlerExtR(options, on_warning, d);
	TIFFOpenOptionsSetMaxSingleMemAlloc(options,
		(tmsize_t)(min_u64(d->limits.memory_mebibytes, 1 << 20) << 19));
	/* h: the header only, m: do not map the file, which may change under us */
	d->tiff = TIFFClientOpenExt("document", "rhm", d, on_read, on_write, on_seek, on_close,
				    on_size, NULL, NULL, options);
	TIFFOpenOptionsFree(options);
	return d->tiff ? RC_OK : tiff_fail(d, err, "broken header");
}

static enum rc tiff_open(struct document **doc, int fd, const struct pipeline *p, uint32_t *pages,
			 struct err *err)
{
	struct document *d = xcalloc(1, sizeof(*d));
	enum rc rc = source_init(&d->source, fd, err);

	d->limits = p->limits;
	if (!rc)
		rc = tiff_chain_read(&d->chain, &d->source, d->limits.document_pages, err);
	if (!rc)
		rc = tiff_start(d, err);
	if (rc) {
		tiff_close(d);
		return rc;
	}
	*doc = d;
	*pages = d->chain.n;
	return RC_OK;
}

/* Codecs that scanners and fax machines use; the others of libtiff stay out of reach. */
static bool codec_wanted(uint16_t compression)
{
	switch (compression) {
	case COMPRESSION_NONE:
	case COMPRESSION_CCITTRLE:
	case COMPRESSION_CCITTRLEW:
	case COMPRESSION_CCITTFAX3:
	case COMPRESSION_CCITTFAX4:
	case COMPRESSION_LZW:
	case COMPRESSION_JPEG:
	case COMPRESSION_ADOBE_DEFLATE:
	case COMPRESSION_DEFLATE:
	case COMPRESSION_PACKBITS:
		return TIFFIsCODECConfigured(compression);
	default:
		return false;
	}
}

static bool read_palette(TIFF *tiff, struct tiff_layout *l)
{
	uint16_t *map[3], most = 0;
	size_t n;

	if (l->bits > 8 || !TIFFGetField(tiff, TIFFTAG_COLORMAP, &map[0], &map[1], &map[2]))
		return false;
	n = (size_t)1 << l->bits;
	for (size_t i = 0; i < n; i++)
		for (unsigned c = 0; c < 3; c++)
			most = map[c][i] > most ? map[c][i] : most;
	l->palette_grey = true;
	for (size_t i = 0; i < n; i++) {
		/* Some writers fill the 16-bit map with 8-bit values. */
		for (unsigned c = 0; c < 3; c++)
			l->palette[i][c] = (uint8_t)(most < 256 ? map[c][i] : map[c][i] >> 8);
		if (l->palette[i][0] != l->palette[i][1] || l->palette[i][1] != l->palette[i][2])
			l->palette_grey = false;
	}
	return true;
}

static void read_samples(TIFF *tiff, struct tiff_layout *l)
{
	uint16_t format, ink = INKSET_CMYK, planar, n_extra = 0, *extra = NULL;

	TIFFGetFieldDefaulted(tiff, TIFFTAG_BITSPERSAMPLE, &l->bits);
	TIFFGetFieldDefaulted(tiff, TIFFTAG_SAMPLESPERPIXEL, &l->samples);
	TIFFGetFieldDefaulted(tiff, TIFFTAG_SAMPLEFORMAT, &format);
	TIFFGetFieldDefaulted(tiff, TIFFTAG_PLANARCONFIG, &planar);
	if (!TIFFGetField(tiff, TIFFTAG_PHOTOMETRIC, &l->photometric))
		l->photometric = l->samples >= 3 ? PHOTOMETRIC_RGB :
				 l->compression >= COMPRESSION_CCITTRLE &&
				 l->compression <= COMPRESSION_CCITTFAX4 ? PHOTOMETRIC_MINISWHITE :
				 PHOTOMETRIC_MINISBLACK;
	l->planar = planar == PLANARCONFIG_SEPARATE && l->samples > 1;
	l->tiled = TIFFIsTiled(tiff);
	l->exotic = (format != SAMPLEFORMAT_UINT && format != SAMPLEFORMAT_VOID) ||
		    (l->bits != 1 && l->bits != 2 && l->bits != 4 && l->bits != 8 &&
		     l->bits != 16);
	switch (l->photometric) {
	case PHOTOMETRIC_MINISWHITE:
	case PHOTOMETRIC_MINISBLACK:
		l->colours = 1;
		break;
	case PHOTOMETRIC_PALETTE:
		l->colours = 1;
		l->exotic |= !read_palette(tiff, l);
		break;
	case PHOTOMETRIC_YCBCR:
		/* The JPEG decoder turns it into RGB for us; see tiff_draw(). */
		l->colours = 3;
		l->exotic |= l->compression != COMPRESSION_JPEG || l->planar || l->bits != 8;
		break;
	case PHOTOMETRIC_RGB:
		l->colours = 3;
		break;
	case PHOTOMETRIC_SEPARATED:
		l->colours = 4;
		TIFFGetFieldDefaulted(tiff, TIFFTAG_INKSET, &ink);
		l->exotic |= ink != INKSET_CMYK;
		break;
	default:
		l->colours = 3;
		l->exotic = true;
	}
	l->exotic |= l->samples < l->colours;
	TIFFGetFieldDefaulted(tiff, TIFFTAG_EXTRASAMPLES, &n_extra, &extra);
	if (n_extra && extra && l->samples > l->colours && l->colours != 4)
		l->alpha = extra[0] == EXTRASAMPLE_ASSOCALPHA ? ALPHA_ASSOCIATED :
			   extra[0] == EXTRASAMPLE_UNASSALPHA ? ALPHA_UNASSOCIATED : ALPHA_NONE;
}

static void read_resolution(TIFF *tiff, struct image *im)
{
	uint16_t unit = RESUNIT_INCH;
	float x = 0, y = 0;

	TIFFGetFieldDefaulted(tiff, TIFFTAG_RESOLUTIONUNIT, &unit);
	if (unit == RESUNIT_NONE || !TIFFGetField(tiff, TIFFTAG_XRESOLUTION, &x) ||
	    !TIFFGetField(tiff, TIFFTAG_YRESOLUTION, &y))
		return;
	im->xdpi = unit == RESUNIT_CENTIMETER ? x * 2.54 : x;
	im->ydpi = unit == RESUNIT_CENTIMETER ? y * 2.54 : y;
}

static enum rc read_page(struct document *d, uint32_t index, struct tiff_layout *l,
			 struct image *im, struct err *err)
{
	uint16_t orientation = ORIENTATION_TOPLEFT;

	memset(l, 0, sizeof(*l));
	trouble_clear(d);
	if (!d->chain.offsets[index])
		return err_set(err, RC_FAILED, "damaged",
			       "TIFF: the file ends before the directory of this page");
	if (!TIFFSetSubDirectory(d->tiff, d->chain.offsets[index]) ||
	    !TIFFGetField(d->tiff, TIFFTAG_IMAGEWIDTH, &l->width) ||
	    !TIFFGetField(d->tiff, TIFFTAG_IMAGELENGTH, &l->height))
		return tiff_fail(d, err, "broken directory");
	TIFFGetFieldDefaulted(d->tiff, TIFFTAG_COMPRESSION, &l->compression);
	if (!codec_wanted(l->compression))
		return err_set(err, RC_FAILED, "unsupported", "TIFF: %s (compression %u)",
			       l->compression == COMPRESSION_OJPEG ? "old-style JPEG" :
			       "unsupported compression", l->compression);
	read_samples(d->tiff, l);
	TIFFGetFieldDefaulted(d->tiff, TIFFTAG_ORIENTATION, &orientation);
	*im = (struct image){ .width = l->width, .height = l->height,
			      .orientation = orientation };
	im->channels = l->exotic || l->colours > 1 ||
		       (l->photometric == PHOTOMETRIC_PALETTE && !l->palette_grey) ? 3 : 1;
	read_resolution(d->tiff, im);
	trouble_clear(d); /* a directory that was good enough; from here on it is about pixels */
	return RC_OK;
}

static enum rc tiff_measure(struct document *d, uint32_t index, struct page *page,
			    struct err *err)
{
	struct tiff_layout l;
	struct image im;
	enum rc rc = read_page(d, index, &l, &im, err);

	return rc ? rc : image_measure(&im, &d->limits, page, err);
}

/* Rows that a decoder gave up on. */
static enum rc judge_loss(struct document *d, const struct tiff_layout *l, struct page *page,
			  struct err *err)
{
	bool recovers = l->compression == COMPRESSION_CCITTFAX3 ||
			l->compression == COMPRESSION_CCITTRLE ||
			l->compression == COMPRESSION_CCITTRLEW;

	if (!d->n_lost)
		return RC_OK;
	if (recovers && d->n_lost <= l->height / FAX_BAD_ROWS) {
		page_warn(page, "TIFF: %u bad rows: %s", d->n_lost, d->lost);
		return RC_OK;
	}
	return err_set(err, RC_FAILED, "damaged", "TIFF: %s", d->lost);
}

static enum rc tiff_render(struct document *d, uint32_t index, struct page *page,
			   struct raster *raster, struct err *err)
{
	struct canvas canvas = { 0 };
	struct tiff_layout l;
	struct image im;
	enum rc rc = read_page(d, index, &l, &im, err);

	if (rc)
		return rc;
	rc = check_image_size(l.width, l.height, &d->limits, err);
	if (!rc)
		rc = canvas_init(&canvas, &im, &d->limits, raster, err);
	if (rc)
		goto out;
	err->reason[0] = '\0';
	rc = tiff_draw(d->tiff, &l, &d->limits, &canvas, err);
	if (rc && !err->reason[0])
		rc = tiff_fail(d, err, "broken image");
	else if (!rc && (d->error[0] || d->source.error))
		rc = tiff_fail(d, err, "broken image");
	if (!rc)
		rc = judge_loss(d, &l, page, err);
	if (!rc)
		canvas_finish(&canvas, page);
out:
	canvas_release(&canvas);
	return rc;
}

const struct decoder tiff_decoder = { "tiff", tiff_open, tiff_measure, tiff_render, tiff_close };
