/* SPDX-License-Identifier: MIT
 *
 * Chandra's layout HTML (datalab-to/chandra, chandra/output.py): each top-level <div> is a block of
 * the page with a label and a box; in reading order.
 *
 * The HTML comes from a model and may be anything. libgumbo reads it by HTML5's own rules, as a
 * browser would; it was chosen over libxml2, whose HTML parser knows HTML 4 alone, drops what it
 * does not know, and brings an XML parser with files and network along.
 */
#include "html.h"
#include "output.h"

#include "base/num.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define SCALE	 1024.0
#define HTML_MAX (4u << 20) /* of a page; the tree takes a hundred times as much */

/* "[x0, y0, x1, y1]" or "x0 y0 x1 y1". */
static bool parse_box(const char *s, double box[4])
{
	unsigned n = 0;

	while (s && n < 4) {
		char *end;

		s += strspn(s, " \t\n[],;");
		box[n] = strtod(s, &end);
		if (end == s || !isfinite(box[n]))
			return false;
		n++;
		s = end;
	}
	return n == 4;
}

/* A corner that lies beyond its opposite, or off the page, makes no box. */
static json_t *box_of(const char *text, const struct output_options *o)
{
	double box[4];

	if (!parse_box(text, box))
		return NULL;
	for (unsigned i = 0; i < 4; i++) {
		double side = i % 2 ? o->height : o->width;

		box[i] = fmin(fmax(floor(box[i] * side / SCALE), 0), side);
	}
	if (box[2] <= box[0] || box[3] <= box[1])
		return NULL;
	return json_pack("[i,i,i,i]", (int)box[0], (int)box[1], (int)box[2], (int)box[3]);
}

static const char *attribute(const GumboNode *node, const char *name)
{
	const GumboAttribute *a = node->type == GUMBO_NODE_ELEMENT
					  ? gumbo_get_attribute(&node->v.element.attributes, name)
					  : NULL;

	return a ? a->value : NULL;
}

/* Whatever white space the text ends with becomes this; an empty one stays empty. */
static void end_with(struct buf *text, const char *end)
{
	while (text->len && strchr(" \n", text->data[text->len - 1]))
		text->data[--text->len] = '\0';
	if (text->len)
		buf_adds(text, end);
}

static bool is_head(const char *label)
{
	return !strcmp(label, "Page-Header") || !strcmp(label, "Page-Footer");
}

/* A picture, if it is known where on the page. */
static bool is_figure(const char *label, const json_t *block)
{
	static const char *const labels[] = {"Image", "Figure", "Diagram"};

	for (size_t i = 0; i < ARRAY_SIZE(labels); i++)
		if (!strcmp(label, labels[i]))
			return json_object_get(block, "box");
	return false;
}

static json_t *block_of(const GumboNode *node, const char *label, const struct output_options *o)
{
	json_t *block = json_pack("{s:s*}", "label", label),
	       *box = box_of(attribute(node, "data-bbox"), o);
	struct buf html;

	buf_init(&html, HTML_MAX);
	html_write(&html, node);
	json_object_set_new(block, "html",
			    json_stringn_nocheck(html.data ? html.data : "", html.len));
	buf_release(&html);
	if (box)
		json_object_set_new(block, "box", box);
	return block;
}

static void add_block(struct output *out, const struct output_options *o, const GumboNode *node)
{
	const char *label = attribute(node, "data-label"), *picture = NULL;
	json_t *block = block_of(node, label, o);
	char address[32];

	if (is_figure(label, block)) {
		json_object_set_new(block, "figure", json_true());
		snprintf(address, sizeof(address), "#block-%zu", json_array_size(out->blocks));
		picture = address;
	}
	json_array_append_new(out->blocks, block);
	if (is_head(label) && !o->heads)
		return;
	end_with(&out->text, "\n\n");
	html_write_markdown(&out->text, node, &picture);
	if (picture) { /* no <img> of its own */
		end_with(&out->text, "\n\n");
		buf_addf(&out->text, "![](%s)\n", picture);
	}
}

/* Text beside the blocks has no place on the page, but it was read. */
static void add_blocks(struct output *out, const struct output_options *o, const GumboNode *body)
{
	const GumboVector *list = &body->v.element.children;

	out->blocks = json_array();
	for (unsigned i = 0; i < list->length; i++) {
		const GumboNode *node = list->data[i];

		if (attribute(node, "data-label")) {
			add_block(out, o, node);
		} else {
			end_with(&out->text, "\n\n");
			html_write_markdown_node(&out->text, node);
		}
	}
	end_with(&out->text, "\n");
}

void output_layout(struct output *out, const struct output_options *o, const char *html, size_t len)
{
	GumboOptions options = kGumboDefaultOptions;
	const GumboNode *root;
	GumboOutput *tree;

	options.max_errors = 0;
	tree = gumbo_parse_with_options(&options, html, min_u64(len, HTML_MAX));
	root = tree->root;
	for (unsigned i = 0; i < root->v.element.children.length; i++) {
		const GumboNode *child = root->v.element.children.data[i];

		if (child->type == GUMBO_NODE_ELEMENT && child->v.element.tag == GUMBO_TAG_BODY)
			add_blocks(out, o, child);
	}
	gumbo_destroy_output(&options, tree);
}
