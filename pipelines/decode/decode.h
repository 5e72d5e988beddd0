/* SPDX-License-Identifier: MIT
 *
 * decode: the parts of cloister-decode.
 *
 * One process per document. main.c warms up, enters the sandbox, tells the kind of the bytes
 * (sniff.c) and serves pages through a table of decoders, one file a format.  A decoder never
 * sees the slot protocol: it is asked for the size of a page, then told to fill a raster.
 */
#ifndef DECODE_DECODE_H
#define DECODE_DECODE_H

#include "base/err.h"
#include "pipeline.h"

#include <jansson.h>
#include <stdbool.h>
#include <stdint.h>

enum document_kind {
	KIND_UNKNOWN,
	KIND_PDF,
	KIND_PNG,
	KIND_JPEG,
	KIND_TIFF,
	KIND_JP2,
	KIND_PNM,
	KIND_WEBP,
	KIND_ARCHIVE,
	KIND_COUNT,
};

const char *document_kind_name(enum document_kind kind);

/* Tell a document by its first bytes (and, for tar and PDF with leading junk, a little further).
 * KIND_UNKNOWN with err (reason "empty" or "unknown-type", text says what the bytes look like, so
 * that a user understands: "looks like a Microsoft Office document"). */
enum document_kind sniff(int fd, struct err *err);

/* 8-bit raster, rows top down without padding: pixels[(y * width + x) * channels + c].
 * channels 1 = grey (0 black .. 255 white), 3 = sRGB. Memory belongs to the caller. */
struct raster {
	uint32_t width, height;
	uint32_t channels;
	uint8_t *pixels;
};

/* What a decoder says about a page before its pixels exist, and after. */
struct page {
	uint32_t width, height; /* of the raster, after rotation */
	uint32_t channels;      /* upper bound before, exact after */
	double dpi;             /* of the raster; 0 where the file does not say */
	bool native;            /* the document's own pixels, not resampled */
	bool has_content;       /* the page has images, text or drawing: white would be suspect */
	json_t *result;         /* text layer taken instead of pixels, else NULL; owned */
	json_t *evidence;       /* why the text layer was taken or not, or NULL; owned */
	json_t *warnings;       /* array of strings or NULL; owned */
};
void page_release(struct page *page);
/* Append a warning (printf-like), at most 20 a page, each repaired and cut to 300 bytes. */
void page_warn(struct page *page, const char *format, ...) __attribute__((format(printf, 2, 3)));

struct document; /* each decoder has its own */

/* A decoder. Errors: RC_FAILED = this page (measure, render) or document (open); limits are
 * checked before memory is asked for, and named. Pages count from 0 here. */
struct decoder {
	const char *name;
	/* fd stays open and is borrowed for the life of the document. */
	enum rc (*open)(struct document **doc, int fd, const struct pipeline *p, uint32_t *pages,
			struct err *err);
	enum rc (*measure)(struct document *doc, uint32_t index, struct page *page,
			   struct err *err);
	/* raster->width, height are page's; pixels has room for page->channels; a decoder that finds
	 * the page grey may write one channel and set raster->channels = 1. */
	enum rc (*render)(struct document *doc, uint32_t index, struct page *page,
			  struct raster *raster, struct err *err);
	void (*close)(struct document *doc);
};

extern const struct decoder pdf_decoder, png_decoder, jpeg_decoder, tiff_decoder, jp2_decoder,
	pnm_decoder, webp_decoder;

/* Before the sandbox: load what poppler and fontconfig open lazily. */
void pdf_warm_up(void);

/* raster.c: helpers every decoder uses.
 * Check width x height against the limits; channels * width * height fits. dpi is lowered by the
 * caller where it may be; these say when it may not. Reasons limit:page-megapixels,
 * limit:page-side-pixels, limit:image-megapixels. */
enum rc check_raster_size(uint64_t width, uint64_t height, const struct limits *limits,
			  struct err *err);
enum rc check_image_size(uint64_t width, uint64_t height, const struct limits *limits,
			 struct err *err);
/* Turn in place of a same-sized scratch copy: degrees clockwise 90, 180, 270, and mirror, as in
 * EXIF orientation 1..8 (TIFF 6.0 tag 274). dst has the turned size. */
void raster_orient(const struct raster *src, struct raster *dst, unsigned orientation);
/* All pixels grey within `tolerance`: pack to one channel in place and return true. */
bool raster_to_grey_if_grey(struct raster *r, unsigned tolerance);
/* Blend over white: src RGBA or grey+alpha, one row. */
void row_over_white_rgba(const uint8_t *src, uint8_t *dst_rgb, uint32_t width);
void row_over_white_ga(const uint8_t *src, uint8_t *dst_grey, uint32_t width);

/* blank.c: share of ink, 0..1: pixels clearly darker than the paper that are not lone specks. */
double raster_ink(const struct raster *r);

/* unpack.c, ticket.c, figures.c, web.c: the other modes of the program, from inside the sandbox; the exit code.
 * name is the document's display name, which a member of a plain .gz takes. */
int unpack_main(const char *name, const struct pipeline *p);
int ticket_main(const char *name);
int figures_main(void);
int web_main(void);

/* figures.c: what lies in a box of the page, turned clockwise by rotation, as PNG. The box must not be
 * empty and lie on the page. false: it takes more than `out` holds. */
struct buf;
struct picture;
bool figure_write(struct buf *out, const struct picture *page, const uint32_t box[4],
		  unsigned rotation, double dpi);

/* web.c: Markdown or HTML as HTML that is safe for a browser. An image is shown where its address is
 * "#block-N" and `blocks` has N; the writer puts the file there. false: too much for the readers, or
 * for `out`. */
bool web_render(struct buf *out, const char *format, const char *text, json_t *blocks);

#endif
