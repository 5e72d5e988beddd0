/* SPDX-License-Identifier: MIT
 *
 * pdf_parts: what the files of the PDF decoder say to each other.
 *
 *   pdf.c          the decoder: opening, sizes, rendering through poppler and cairo
 *   pdf_facts.c    what a page is made of, read from its objects through qpdf
 *   pdf_content.c  the operators of a content stream that matter for that
 *   pdf_stream.c   whether the data of an image is whole
 *   pdf_jpeg.c     JPEG data, without poppler's colour management
 *   pdf_text.c     the text layer and whether to believe it
 *   pdf_trouble.c  what poppler and libjpeg complain about
 */
#ifndef DECODE_PDF_PARTS_H
#define DECODE_PDF_PARTS_H

#include "decode/decode.h"

#include <glib.h>
#include <poppler.h>
#include <qpdf/qpdf-c.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

/* pdf_content.c */

/* a b c d e f of PDF 32000-1, 8.3.3: x' = a x + c y + e, y' = b x + d y + f. */
struct matrix {
	double a, b, c, d, e, f;
};
/* First `m`, then `n`. */
struct matrix matrix_multiply(const struct matrix *m, const struct matrix *n);

struct box {
	double x0, y0, x1, y1; /* x0 <= x1, y0 <= y1 */
};
/* Bounds of a box after the transformation. */
struct box box_transform(const struct box *b, const struct matrix *m);
double box_area(const struct box *b);
struct box box_intersect(const struct box *a, const struct box *b);

struct content_state {
	struct matrix ctm;
	int text_mode; /* operator Tr: 3 and 7 paint nothing */
};

/* What a stream did, counted. */
struct content_counts {
	unsigned long shown;  /* strings painted */
	unsigned long hidden; /* strings placed but not painted: the layer of an OCR program */
	unsigned long paths;  /* fills, strokes and shadings */
	unsigned long others; /* clips, transparency, forms, layers: what changes how the rest shows */
	bool inexact;         /* nested too deeply: the matrices are not to be trusted */
};

struct content_sink {
	struct content_counts counts;
	void *ctx;
	/* /NAME Do; name has its slash. */
	void (*draw)(void *ctx, const char *name, const struct content_state *state);
	/* BI ... EI */
	void (*draw_inline)(void *ctx, double width, double height,
			    const struct content_state *state);
};

void content_run(struct content_sink *sink, const unsigned char *data, size_t len,
		 const struct content_state *start);

/* pdf_facts.c */

struct pdf_image {
	uint32_t width, height;
	struct matrix place; /* unit square of the image to points of the page as shown */
	bool is_mask; /* what lies beneath may show: a stencil, or an image with a mask */
	bool is_grey; /* DeviceGray without a mask */
	qpdf_oh object; /* 0 for an inline image; valid until facts_release() */
};

/* The drawn images are kept up to this many; more are counted only. */
#define FACTS_IMAGES 32

struct pdf_facts {
	bool known;           /* false: this page's objects could not be read, or only in part */
	double user_unit;     /* points of the page per 1/72 inch */
	double width, height; /* as shown, in points: crop box, turned */
	double image_cover;   /* share of the page under images, at most 1, overlaps counted twice */
	unsigned images;
	struct pdf_image image[FACTS_IMAGES];
	struct content_counts counts;
	unsigned annotations;
	unsigned fonts, fonts_unmapped; /* unmapped: no way from codes to characters is declared */
};

struct pdf_objects;

/* The document's bytes are mapped, not copied. NULL when qpdf cannot read it: then facts are
 * never known. */
struct pdf_objects *objects_open(int fd, const char *password, uint32_t pages);
/* This password certainly does not open the document. */
bool objects_refuse_password(int fd, const char *password);
void objects_close(struct pdf_objects *o);

/* RC_FAILED only for limit:image-megapixels; a page that cannot be understood has known = false.
 * o may be NULL. */
enum rc objects_facts(struct pdf_objects *o, uint32_t index, const struct limits *limits,
		      struct pdf_facts *facts, struct err *err);
/* Let go of the page's objects; facts' images may not be used afterwards. */
void objects_release(struct pdf_objects *o);

/* pdf_stream.c
 * Is the data of this image whole, as far as can be told without poppler, which pads silently?
 * RC_FAILED with reason "damaged". `whole_check` also decodes what only decoding can tell. */
enum rc stream_check(qpdf_data q, const struct pdf_image *image, bool thorough, struct err *err);
/* As above for all images of a page. */
enum rc objects_check_images(struct pdf_objects *o, const struct pdf_facts *facts, bool thorough,
			     struct err *err);

/* Read an image that is nothing but a JPEG of grey or RGB pixels into out->pixels, which has room
 * for three channels; sets out's size. false when poppler has to do it. */
bool stream_read_jpeg(qpdf_data q, const struct pdf_image *image, struct raster *out);
/* As above for the first image of a page. */
bool objects_read_jpeg(struct pdf_objects *o, const struct pdf_facts *facts, struct raster *out);

/* pdf_jpeg.c */

/* Share of the lines that are there, 0..1; decodes at an eighth of the size. */
double pdf_jpeg_share(const unsigned char *data, size_t len);
/* Fill out->pixels. false unless size and channels are out's and there is nothing to complain. */
bool pdf_jpeg_read(const unsigned char *data, size_t len, struct raster *out);

/* pdf_text.c
 * Fill page->evidence, and page->result when the layer is believed. scale = pixels a point. */
void text_layer_take(PopplerPage *pp, const struct pdf_facts *facts, double scale,
		     struct page *page);

/* pdf_trouble.c */

struct trouble {
	struct page *page; /* gets the warnings; NULL: they are dropped */
	bool lost;         /* something said so far means that content is missing */
	char first[256];   /* the first such message */
	char last[256];    /* repeated messages are told once */
	GLogFunc old_handler;
	FILE *old_stderr;
};

/* Between the two, GLib's messages and whatever libraries print on stderr come here. One at a
 * time. */
void trouble_begin(struct trouble *t, struct page *page);
void trouble_end(struct trouble *t);

#endif
