/* SPDX-License-Identifier: MIT
 *
 * text: text.txt and text.md, the pages one after the other for people to read.
 *
 * Every page has a mark, also one that is blank or failed, and then says so: nobody has to compare
 * with the original to see that something is missing.  The text of a page cannot forge a mark of
 * the Markdown file: plain text is escaped, and in Markdown a comment that looks like one is
 * changed.
 */
#include "write.h"

#include <stdio.h>
#include <string.h>

#define PAGE_TEXT_MAX (512u << 20)

static void end_line(struct sink *sink, const char *text, size_t len)
{
	if (len && text[len - 1] != '\n')
		sink_adds(sink, "\n");
}

static void txt_page(struct sink *sink, const struct leaf *leaf, struct buf *kept)
{
	struct buf state;

	(void)kept;
	buf_init(&state, 8192);
	leaf_describe(&state, leaf);
	sink_addf(sink, "%s[page %u%s%s]\n", leaf->page > 1 ? "\f" : "", leaf->page,
		  state.len ? ": " : "", state.len ? state.data : "");
	buf_release(&state);
	if (*leaf->text)
		sink_adds(sink, "\n");
	for (const char *p = leaf->text; *p;) { /* a form feed only between pages */
		size_t n = strcspn(p, "\f");

		sink_add(sink, p, n);
		p += n;
		if (*p == '\f') {
			sink_adds(sink, "\n");
			p++;
		}
	}
	end_line(sink, leaf->text, strlen(leaf->text));
}

const struct output output_text_txt = { .name = "text.txt", .page = txt_page };

/* Where a line starts, these make lists, headings, rules, code and tables; numbers: see below. */
static bool starts_block(char c)
{
	return c && strchr("#+-=:|", c);
}

/* Anywhere in a line: emphasis, code, links, HTML, entities. */
static bool is_markup(char c)
{
	return c && strchr("\\`*_[]<>&~", c);
}

static void escape_line(struct buf *out, const char *line, size_t len)
{
	size_t i = 0, digits;

	for (; i < len && (line[i] == ' ' || line[i] == '\t'); i++)
		buf_adds(out, "&nbsp;");
	digits = strspn(line + i, "0123456789");
	if (digits && i + digits < len && strchr(".)", line[i + digits])) { /* "1." is a list */
		buf_add(out, line + i, digits);
		i += digits;
		buf_addc(out, '\\');
		buf_addc(out, line[i++]);
	} else if (i < len && starts_block(line[i])) {
		buf_addc(out, '\\');
		buf_addc(out, line[i++]);
	}
	for (; i < len; i++) {
		if (is_markup(line[i]))
			buf_addc(out, '\\');
		buf_addc(out, line[i]);
	}
}

static bool is_blank_line(const char *line, size_t len)
{
	return strspn(line, " \t\r") >= len;
}

/* A line break is two spaces at the end of a line, but not at the end of a paragraph. */
void markdown_escape(struct buf *out, const char *text)
{
	while (*text) {
		size_t len = strcspn(text, "\n");
		const char *next = text + len + (text[len] == '\n');

		if (!is_blank_line(text, len)) {
			escape_line(out, text, len);
			if (*next && !is_blank_line(next, strcspn(next, "\n")))
				buf_adds(out, "  ");
		}
		buf_addc(out, '\n');
		text = next;
	}
}

/* Markdown and HTML as the recogniser wrote them, but for page marks. */
static void add_verbatim(struct sink *sink, const char *text)
{
	static const char mark[] = "<!-- page ";

	for (const char *found; (found = strstr(text, mark)); text = found + strlen(mark)) {
		sink_add(sink, text, (size_t)(found - text));
		sink_adds(sink, "<!-- (page) ");
	}
	sink_adds(sink, text);
}

static void md_text(struct sink *sink, const struct leaf *leaf)
{
	size_t len = strlen(leaf->text);
	struct buf escaped;

	if (strcmp(leaf->format, "text")) {
		add_verbatim(sink, leaf->text);
		end_line(sink, leaf->text, len);
		return;
	}
	buf_init(&escaped, PAGE_TEXT_MAX);
	markdown_escape(&escaped, leaf->text);
	if (escaped.overflow)
		BUG("page %u has too much text", leaf->page);
	sink_add(sink, escaped.data, escaped.len);
	buf_release(&escaped);
}

static void md_page(struct sink *sink, const struct leaf *leaf, struct buf *kept)
{
	struct buf words, escaped;

	(void)kept;
	sink_addf(sink, "%s<!-- page %u -->\n", leaf->page > 1 ? "\n" : "", leaf->page);
	buf_init(&words, 8192);
	buf_init(&escaped, 8 * 8192);
	leaf_describe(&words, leaf);
	if (words.len) {
		markdown_escape(&escaped, words.data);
		sink_addf(sink, "\n> **Page %u: %.*s**\n", leaf->page, (int)escaped.len - 1,
			  escaped.data);
	}
	buf_release(&words);
	buf_release(&escaped);
	if (*leaf->text) {
		sink_adds(sink, "\n");
		md_text(sink, leaf);
	}
}

const struct output output_text_md = { .name = "text.md", .page = md_page };
