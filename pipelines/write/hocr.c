/* SPDX-License-Identifier: MIT
 *
 * hocr: document.hocr, hOCR 1.2 as XHTML.
 *
 *   ocr_page > ocr_carea > ocr_par > ocr_line > ocrx_word
 *
 * Boxes are those that the recogniser gave, or around them; where it gave none, an element has
 * none, and a block without lines stays a block: no box is made up.  Paragraphs come from the
 * text, whose lines are the lines with boxes, with an empty line between paragraphs; where they do
 * not match, the page is one paragraph.
 */
#include "write.h"
#include "base/name.h"
#include "base/num.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define ESCAPED_MAX (512u << 20)

void xml_escape(struct buf *out, const char *text)
{
	size_t len = strlen(text);

	for (size_t i = 0, n; i < len; i += n) {
		unsigned char c = (unsigned char)text[i];

		n = utf8_sequence(text + i, len - i);
		if (!n)
			n = 1; /* not UTF-8: left out */
		else if (c == '&')
			buf_adds(out, "&amp;");
		else if (c == '<')
			buf_adds(out, "&lt;");
		else if (c == '>')
			buf_adds(out, "&gt;");
		else if (c == '"')
			buf_adds(out, "&quot;");
		else if (n == 3 && !memcmp(text + i, "\xef\xbf", 2) && (text[i + 2] & 0x3e) == 0x3e)
			continue; /* U+FFFE, U+FFFF */
		else if (c >= 0x20 || c == '\t' || c == '\n')
			buf_add(out, text + i, n);
	}
}

static void add_text(struct sink *sink, const char *text)
{
	struct buf escaped;

	buf_init(&escaped, ESCAPED_MAX);
	xml_escape(&escaped, text);
	if (escaped.len)
		sink_add(sink, escaped.data, escaped.len);
	buf_release(&escaped);
}

struct box {
	int x0, y0, x1, y1;
	bool known;
};

static struct box box_of(const json_t *obj)
{
	struct box b = { 0 };

	b.known = !json_unpack(json_object_get(obj, "box"), "[iiii]", &b.x0, &b.y0, &b.x1, &b.y1);
	return b;
}

static struct box box_union(struct box a, struct box b)
{
	if (!a.known || !b.known)
		return a.known ? a : b;
	return (struct box){ a.x0 < b.x0 ? a.x0 : b.x0, a.y0 < b.y0 ? a.y0 : b.y0,
			     a.x1 > b.x1 ? a.x1 : b.x1, a.y1 > b.y1 ? a.y1 : b.y1, true };
}

/* The line's box and those of its words, which Tesseract's may leave by a pixel or two. */
static struct box line_box(const json_t *line)
{
	struct box box = box_of(line);
	json_t *word;
	size_t i;

	json_array_foreach(json_object_get(line, "words"), i, word)
		box = box_union(box, box_of(word));
	return box;
}

/* The title attribute, with what else belongs into it. */
static void add_title(struct sink *sink, struct box b, const char *more)
{
	if (!b.known && !*more)
		return;
	sink_adds(sink, " title=\"");
	if (b.known)
		sink_addf(sink, "bbox %d %d %d %d", b.x0, b.y0, b.x1, b.y1);
	sink_addf(sink, "%s%s\"", b.known && *more ? "; " : "", more);
}

/* Where we are on the page; numbers make the ids unique. */
struct place {
	struct sink *sink;
	const struct leaf *leaf;
	unsigned block, line, word;
	char angle[32]; /* property of every line of a turned page */
};

static void add_word(struct place *at, const json_t *word)
{
	const json_t *confidence = json_object_get(word, "confidence");
	const char *text = json_string_value(json_object_get(word, "text"));
	struct box box = box_of(word);
	char wconf[32] = "";

	if (!text || !*text)
		return;
	if (!box.known) {
		add_text(at->sink, text);
		sink_adds(at->sink, " ");
		return;
	}
	if (json_is_number(confidence))
		snprintf(wconf, sizeof(wconf), "x_wconf %ld",
			 lround(100 * json_number_value(confidence)));
	sink_addf(at->sink, "\n     <span class=\"ocrx_word\" id=\"word_%u_%u\"", at->leaf->page,
		  ++at->word);
	add_title(at->sink, box, wconf);
	sink_adds(at->sink, ">");
	add_text(at->sink, text);
	sink_adds(at->sink, "</span>");
}

static void add_line(struct place *at, const json_t *line)
{
	json_t *word;
	size_t i;

	sink_addf(at->sink, "    <span class=\"ocr_line\" id=\"line_%u_%u\"", at->leaf->page,
		  ++at->line);
	add_title(at->sink, line_box(line), at->angle);
	sink_adds(at->sink, ">");
	json_array_foreach(json_object_get(line, "words"), i, word)
		add_word(at, word);
	sink_adds(at->sink, "\n    </span>\n");
}

/* A content area with its one paragraph, open or closed. */
static void open_block(struct place *at, struct box box)
{
	sink_addf(at->sink, "  <div class=\"ocr_carea\" id=\"block_%u_%u\"", at->leaf->page,
		  ++at->block);
	add_title(at->sink, box, "");
	sink_addf(at->sink, ">\n   <p class=\"ocr_par\" id=\"par_%u_%u\"", at->leaf->page,
		  at->block);
	add_title(at->sink, box, "");
	sink_adds(at->sink, ">\n");
}

static void close_block(struct place *at)
{
	sink_adds(at->sink, "   </p>\n  </div>\n");
}

/* The next line of text that is not blank, or NULL; *gap: there were blank ones before it. */
static const char *next_line(const char *text, bool *gap)
{
	for (*gap = false; *text; *gap = true) {
		if (text[strspn(text, " \t")] != '\n')
			return text[strspn(text, " \t")] ? text : NULL;
		text += strspn(text, " \t") + 1;
	}
	return NULL;
}

static const char *after_line(const char *text)
{
	text += strcspn(text, "\n");
	return *text ? text + 1 : text;
}

static size_t count_lines(const char *text)
{
	size_t lines = 0;
	bool gap;

	while ((text = next_line(text, &gap))) {
		lines++;
		text = after_line(text);
	}
	return lines;
}

/* How many lines from `first` on are one paragraph; *text follows them. */
static size_t paragraph_length(const char **text, size_t left)
{
	size_t n = 0;
	bool gap;

	for (const char *line; n < left && (line = next_line(*text, &gap)); n++) {
		if (gap && n)
			break;
		*text = after_line(line);
	}
	return n ? n : left;
}

static void add_lines(struct place *at, const json_t *lines)
{
	const char *text = at->leaf->read;
	size_t n = json_array_size(lines);
	bool match = count_lines(text) == n;

	for (size_t i = 0, end; i < n; i = end) {
		struct box box = { 0 };

		end = match ? i + paragraph_length(&text, n - i) : n;
		for (size_t k = i; k < end; k++)
			box = box_union(box, line_box(json_array_get(lines, k)));
		open_block(at, box);
		for (size_t k = i; k < end; k++)
			add_line(at, json_array_get(lines, k));
		close_block(at);
	}
}

/* Blocks as models give them: text with one box. false when none of them has text. */
static bool add_blocks(struct place *at, const json_t *blocks)
{
	bool any = false;
	json_t *block;
	size_t i;

	json_array_foreach(blocks, i, block) {
		const char *text = json_string_value(json_object_get(block, "text"));

		if (!text || !*text)
			continue;
		open_block(at, box_of(block));
		add_text(at->sink, text);
		sink_adds(at->sink, "\n");
		close_block(at);
		any = true;
	}
	return any;
}

static void page(struct sink *sink, const struct leaf *leaf, struct buf *kept)
{
	const json_t *lines = json_object_get(leaf->result, "lines");
	struct place at = { .sink = sink, .leaf = leaf };
	const struct box whole = { 0, 0, (int)leaf->width, (int)leaf->height, true };
	char more[96];
	int n = snprintf(more, sizeof(more), "ppageno %u", leaf->page - 1);

	(void)kept;
	if (leaf->dpi >= 1 && leaf->dpi < 1e6)
		snprintf(more + n, sizeof(more) - (size_t)n, "; scan_res %ld %ld",
			 lround(leaf->dpi), lround(leaf->dpi));
	if (leaf->rotation)
		snprintf(at.angle, sizeof(at.angle), "textangle %u", leaf->rotation);
	sink_addf(sink, " <div class=\"ocr_page\" id=\"page_%u\"", leaf->page);
	add_title(sink, whole, more);
	sink_adds(sink, ">\n");
	if (json_array_size(lines)) {
		add_lines(&at, lines);
	} else if (!add_blocks(&at, json_object_get(leaf->result, "blocks")) && *leaf->text) {
		open_block(&at, (struct box){ 0 });
		add_text(sink, leaf->text);
		sink_adds(sink, "\n");
		close_block(&at);
	}
	sink_adds(sink, " </div>\n");
}

static void add_meta(struct sink *sink, const char *name, const char *content)
{
	sink_addf(sink, "  <meta name=\"%s\" content=\"", name);
	add_text(sink, content);
	sink_adds(sink, "\"/>\n");
}

static void begin(struct sink *sink, const struct job *job)
{
	const char *version = json_string_value(json_object_get(job->json, "cloister"));
	const char *reader = json_string_value(json_object_get(job->recogniser, "name"));
	const char *reader_version = json_string_value(json_object_get(job->recogniser, "version"));
	char *system = xasprintf("cloister %s, %s %s", version ? version : "",
				 reader ? reader : "recogniser", reader_version ? reader_version : "");
	char *pages = xasprintf("%u", job->pages);

	sink_adds(sink, "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<!DOCTYPE html>\n"
			"<html xmlns=\"http://www.w3.org/1999/xhtml\">\n <head>\n  <title>");
	add_text(sink, job->name);
	sink_adds(sink, "</title>\n");
	sink_adds(sink, "  <meta http-equiv=\"Content-Type\" content=\"text/html; charset=utf-8\"/>\n");
	add_meta(sink, "ocr-system", system);
	add_meta(sink, "ocr-capabilities",
		 "ocr_page ocr_carea ocr_par ocr_line ocrx_word ocrp_wconf");
	add_meta(sink, "ocr-number-of-pages", pages);
	sink_adds(sink, " </head>\n <body>\n");
	free(system);
	free(pages);
}

static void end(struct sink *sink, const struct job *job, const struct totals *totals,
		const struct buf *kept)
{
	(void)job;
	(void)totals;
	(void)kept;
	sink_adds(sink, " </body>\n</html>\n");
}

const struct output output_document_hocr = { "document.hocr", begin, page, end };
