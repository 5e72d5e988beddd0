/* SPDX-License-Identifier: MIT
 *
 * html: the tree of a model's HTML, written as Markdown or as plain HTML again.
 *
 * Only tags and attributes that stand for a document's content are written: what a model says can
 * bring no script, no style and no address into a result.
 */
#ifndef MODELS_HTML_H
#define MODELS_HTML_H

#include "base/buf.h"

#include <gumbo.h>
#include <stdbool.h>

/* What is inside the node, without its own tag. */
void html_write(struct buf *out, const GumboNode *);
/* The first <img> gets the address *picture, which is NULL from then on. */
void html_write_markdown(struct buf *out, const GumboNode *, const char **picture);

/* Of one node, with its own tag. */
void html_write_markdown_node(struct buf *out, const GumboNode *);

/*
 * Any HTML as what a browser may be given inside a <div>: beside the rules above, formulas are TeX
 * between dollars, check boxes cannot be changed, and an <img> has its address where known() knows
 * it, or else is its alt. false: too large or with too many tags to be read, nothing was written.
 */
bool html_clean(struct buf *out, const char *html, size_t len,
		bool (*known)(void *arg, const char *address), void *arg);

#endif
