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

/* What is inside the node, without its own tag. */
void html_write(struct buf *out, const GumboNode *);
void html_write_markdown(struct buf *out, const GumboNode *);

/* Of one node, with its own tag. */
void html_write_markdown_node(struct buf *out, const GumboNode *);

#endif
