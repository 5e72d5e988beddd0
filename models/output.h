/* SPDX-License-Identifier: MIT
 *
 * output: from what a model wrote about a page to what a result says.
 *
 *   text      as it is
 *   markdown  as it is: <img>, <watermark>, <page_number>, <signature> and HTML tables are
 *             conventions of the text (Nanonets), and stay
 *   layout    Chandra's HTML: top-level <div data-bbox data-label>, boxes on a scale of 1024;
 * becomes Markdown, and blocks with box, label and HTML; pictures among them are marked
 *             for the supervisor to cut out (airlock.h)
 *
 * Thoughts before </think> are never part of the answer. Whatever a model writes gives some text:
 * HTML that is broken is read as browsers read it, and without any block all of it counts.
 */
#ifndef MODELS_OUTPUT_H
#define MODELS_OUTPUT_H

#include "base/buf.h"

#include <jansson.h>
#include <stdbool.h>
#include <stdint.h>

enum output_kind { OUTPUT_PLAIN, OUTPUT_MARKDOWN, OUTPUT_LAYOUT, OUTPUT_KINDS };

extern const char *const output_kind_names[OUTPUT_KINDS];

struct output {
	const char *format; /* of the airlock protocol */
	struct buf text;
	json_t *blocks; /* or NULL; owned */
};

struct output_options {
	enum output_kind kind;
	bool heads;		/* layout: page headers and footers are part of the text */
	uint32_t width, height; /* of the page, in whose pixels boxes are */
};

/* reply is valid UTF-8; NULs in it are dropped. */
void output_make(struct output *, const struct output_options *, const char *reply, size_t len);
void output_release(struct output *);

/* output_layout.c */
void output_layout(struct output *, const struct output_options *, const char *html, size_t len);

#endif
