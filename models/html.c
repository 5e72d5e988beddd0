/* SPDX-License-Identifier: MIT
 *
 * Two walks over a tree, with a bound on their depth: what lies deeper is dropped.
 *
 * Blocks of Markdown are parted by one empty line: whoever begins one calls begin_block(), which
 * writes as many line ends as are missing.
 *
 * Markdown has contexts in which its own escapes do not count: code, and blocks of HTML, which any
 * line can begin that is a tag alone. So text has no "<" before a letter in any of them, and what
 * stays as it is (code, math, tables) is kept from ending its context early.
 */
#include "html.h"

#include "base/num.h"

#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <strings.h>

#define DEPTH_MAX      200
#define TEXT_MAX       (4u << 20)
#define CLEAN_TAGS_MAX 20000 /* each may look for its start through all that are open */

static const char *const tags[] = {
	"math",	 "br",	  "i",	     "b",      "u",	"del",	"sup",	"sub",	"table", "tr",
	"td",	 "p",	  "th",	     "div",    "pre",	"h1",	"h2",	"h3",	"h4",	 "h5",
	"h6",	 "ul",	  "ol",	     "li",     "input", "span", "img",	"hr",	"thead", "tbody",
	"tfoot", "small", "caption", "strong", "em",	"big",	"code", "chem",
};
static const char *const attributes[] = {
	"colspan", "rowspan", "display", "checked", "type",
	"border",  "value",   "alt",	 "align",   "start",
};
static const char *const single[] = {"br", "hr", "img", "input"};

static bool listed(const char *const *list, size_t n, const char *word)
{
	for (size_t i = 0; i < n; i++)
		if (!strcmp(list[i], word))
			return true;
	return false;
}

/* The tag's name, also of one that HTML does not know, in small letters; "" when it is not listed.
 */
static const char *name_of(const GumboNode *node, char name[16])
{
	GumboStringPiece piece = node->v.element.original_tag;
	const char *known = gumbo_normalized_tagname(node->v.element.tag);
	size_t n = 0;

	if (*known) {
		snprintf(name, 16, "%s", known);
	} else {
		gumbo_tag_from_original_text(&piece);
		for (; piece.data && n < piece.length && n < 15; n++)
			name[n] = (char)(piece.data[n] >= 'A' && piece.data[n] <= 'Z'
						 ? piece.data[n] + 32
						 : piece.data[n]);
		name[n] = '\0';
	}
	if (!strcmp(name, "x-equation")) /* as md4c writes formulas */
		return "math";
	return listed(tags, ARRAY_SIZE(tags), name) ? name : "";
}

static const char *attribute(const GumboNode *node, const char *name)
{
	const GumboAttribute *a = gumbo_get_attribute(&node->v.element.attributes, name);

	return a ? a->value : NULL;
}

static const GumboVector *children_of(const GumboNode *node)
{
	static const GumboVector none;

	if (node->type == GUMBO_NODE_DOCUMENT)
		return &node->v.document.children;
	return node->type == GUMBO_NODE_ELEMENT || node->type == GUMBO_NODE_TEMPLATE
		       ? &node->v.element.children
		       : &none;
}

static bool is_text(const GumboNode *node)
{
	return node->type == GUMBO_NODE_TEXT || node->type == GUMBO_NODE_WHITESPACE ||
	       node->type == GUMBO_NODE_CDATA;
}

/* ---- HTML ---- */

struct writer {
	struct buf *out;
	bool browser; /* for html_clean() */
	bool (*known)(void *arg, const char *address);
	void *arg;
};

static void escape(struct buf *out, const char *s)
{
	for (; *s; s++) {
		switch (*s) {
		case '&':
			buf_adds(out, "&amp;");
			break;
		case '<':
			buf_adds(out, "&lt;");
			break;
		case '>':
			buf_adds(out, "&gt;");
			break;
		case '"':
			buf_adds(out, "&quot;");
			break;
		default:
			buf_addc(out, *s);
		}
	}
}

/* Text alone. */
static void add_raw(struct buf *out, const GumboNode *node, unsigned depth)
{
	const GumboVector *list = children_of(node);

	if (is_text(node))
		buf_adds(out, node->v.text.text);
	for (unsigned i = 0; depth < DEPTH_MAX && i < list->length; i++)
		add_raw(out, list->data[i], depth + 1);
}

static struct buf raw_text(const GumboNode *node)
{
	struct buf text;

	buf_init(&text, TEXT_MAX);
	add_raw(&text, node, 0);
	return text;
}

static const char *math_mark(const GumboNode *node)
{
	const char *display = attribute(node, "display"), *type = attribute(node, "type");
	bool block =
		(display && !strcasecmp(display, "block")) ||
		(type && !strcasecmp(type, "display")); /* <x-equation> of Markdown's readers */

	return block ? "$$" : "$";
}

static bool is_choice(const GumboNode *input)
{
	const char *type = attribute(input, "type");

	return type && (!strcasecmp(type, "checkbox") || !strcasecmp(type, "radio"));
}

/* What a browser would ask somebody for, act upon, or draw in its own way. */
static bool write_for_browser(struct writer *w, const GumboNode *node, const char *name)
{
	const char *alt = attribute(node, "alt"), *src = attribute(node, "src"),
		   *value = attribute(node, "value");
	struct buf text;

	if (!strcmp(name, "math")) {
		text = raw_text(node);
		buf_addf(w->out, "<span class=\"math\">%s", math_mark(node));
		escape(w->out, text.data ? text.data : "");
		buf_addf(w->out, "%s</span>", math_mark(node));
		buf_release(&text);
	} else if (!strcmp(name, "img") && src && w->known(w->arg, src)) {
		buf_adds(w->out, "<img src=\"");
		escape(w->out, src);
		buf_adds(w->out, "\" alt=\"");
		escape(w->out, alt ? alt : "");
		buf_adds(w->out, "\">");
	} else if (!strcmp(name, "img") && alt && *alt) {
		buf_adds(w->out, "<span class=\"picture\">");
		escape(w->out, alt);
		buf_adds(w->out, "</span>");
	} else if (!strcmp(name, "img")) {
		return true; /* Nanonets' words for a picture follow */
	} else if (!strcmp(name, "input") && is_choice(node)) {
		buf_addf(w->out, "<input type=\"checkbox\" disabled%s>",
			 attribute(node, "checked") ? " checked" : "");
	} else if (!strcmp(name, "input")) {
		escape(w->out, value ? value : "");
	} else {
		return false;
	}
	return true;
}

static void write_inside(struct writer *w, const GumboNode *node, unsigned depth);

static void write_attributes(struct writer *w, const GumboVector *list)
{
	for (unsigned i = 0; i < list->length; i++) {
		const GumboAttribute *a = list->data[i];

		if (!listed(attributes, ARRAY_SIZE(attributes), a->name))
			continue;
		buf_addf(w->out, " %s=\"", a->name);
		escape(w->out, a->value);
		buf_addc(w->out, '"');
	}
}

static void write_node(struct writer *w, const GumboNode *node, unsigned depth)
{
	char storage[16];
	const char *name;

	if (is_text(node)) {
		escape(w->out, node->v.text.text);
		return;
	}
	if ((node->type != GUMBO_NODE_ELEMENT && node->type != GUMBO_NODE_TEMPLATE) ||
	    depth > DEPTH_MAX)
		return;
	name = name_of(node, storage);
	if (node->v.element.tag == GUMBO_TAG_SCRIPT || node->v.element.tag == GUMBO_TAG_STYLE ||
	    (w->browser && write_for_browser(w, node, name)))
		return;
	if (!*name) {
		write_inside(w, node, depth);
		return;
	}
	buf_addf(w->out, "<%s", name);
	write_attributes(w, &node->v.element.attributes);
	buf_addc(w->out, '>');
	if (listed(single, ARRAY_SIZE(single), name))
		return;
	write_inside(w, node, depth);
	buf_addf(w->out, "</%s>", name);
}

static void write_inside(struct writer *w, const GumboNode *node, unsigned depth)
{
	const GumboVector *list = children_of(node);

	for (unsigned i = 0; i < list->length; i++)
		write_node(w, list->data[i], depth + 1);
}

void html_write(struct buf *out, const GumboNode *node)
{
	struct writer w = {.out = out};

	write_inside(&w, node, 0);
}

bool html_clean(struct buf *out, const char *html, size_t len,
		bool (*known)(void *arg, const char *address), void *arg)
{
	struct writer w = {out, true, known, arg};
	GumboOptions options = kGumboDefaultOptions;
	GumboOutput *tree;
	size_t tags_in_it = 0;

	for (const char *p = html; (p = memchr(p, '<', len - (size_t)(p - html))); p++)
		tags_in_it++;
	if (len > TEXT_MAX || tags_in_it > CLEAN_TAGS_MAX)
		return false;
	options.max_errors = 0;
	options.fragment_context = GUMBO_TAG_DIV; /* nothing of it is a head or a frameset */
	tree = gumbo_parse_with_options(&options, html, len);
	write_inside(&w, tree->root, 0);
	gumbo_destroy_output(&options, tree);
	return true;
}

/* ---- Markdown ---- */

struct markdown {
	struct buf *out;
	char indent[64]; /* of the list that is being written */
	bool number;	 /* it is a numbered one ... */
	unsigned item;	 /* ... at this number */
	const char **picture;
};

static void inside(struct markdown *m, const GumboNode *node, unsigned depth);

static void begin_line(struct markdown *m)
{
	while (m->out->len && strchr(" \t", m->out->data[m->out->len - 1]))
		m->out->data[--m->out->len] = '\0';
	if (m->out->len && m->out->data[m->out->len - 1] != '\n')
		buf_addc(m->out, '\n');
}

static void begin_block(struct markdown *m)
{
	begin_line(m);
	if (m->out->len > 1 && m->out->data[m->out->len - 2] != '\n' && !*m->indent)
		buf_addc(m->out, '\n');
}

/* An empty line, in a list too: it ends whatever block was open. */
static void end_block(struct markdown *m)
{
	begin_line(m);
	if (m->out->len > 1 && m->out->data[m->out->len - 2] != '\n')
		buf_addc(m->out, '\n');
}

static bool at_line_start(const struct markdown *m)
{
	return !m->out->len || m->out->data[m->out->len - 1] == '\n';
}

/* Could be a tag, or becomes one with what follows. */
static bool begins_tag(const char *s)
{
	return *s == '<' && !strspn(s + 1, " \t\r\n=0123456789");
}

/* White space counts as one space, none where a line begins. */
static void add_text(struct markdown *m, const char *s)
{
	for (; *s; s++) {
		bool space = strchr(" \t\r\n", *s) != NULL;

		if (space && (at_line_start(m) || m->out->data[m->out->len - 1] == ' '))
			continue;
		if (at_line_start(m))
			buf_adds(m->out, m->indent);
		if (begins_tag(s)) {
			buf_adds(m->out, "&lt;");
			continue;
		}
		if (strchr("\\`*_[]<>&~$", *s) || (at_line_start(m) && strchr("#+-=:|", *s)))
			buf_addc(m->out, '\\');
		buf_addc(m->out, space ? ' ' : *s);
	}
}

static void around(struct markdown *m, const char *mark, const GumboNode *node, unsigned depth)
{
	size_t start;

	/* Three of them would begin a block of code. */
	if (*mark == '~' && m->out->len && m->out->data[m->out->len - 1] == '~') {
		inside(m, node, depth);
		return;
	}
	if (at_line_start(m))
		buf_adds(m->out, m->indent);
	buf_adds(m->out, mark);
	start = m->out->len;
	inside(m, node, depth);
	if (m->out->len == start && !m->out->overflow)
		m->out->data[m->out->len -= strlen(mark)] = '\0';
	else
		buf_adds(m->out, mark);
}

static void tagged(struct markdown *m, const char *name, const GumboNode *node, unsigned depth)
{
	buf_addf(m->out, "<%s>", name);
	inside(m, node, depth);
	buf_addf(m->out, "</%s>", name);
}

/* LaTeX does not mind a space; Markdown would see a tag, a link, or the end of the paragraph. */
static void add_latex(struct buf *out, const char *s)
{
	for (; *s; s++) {
		if (*s == '\n' && strchr("\n`~", s[1 + strspn(s + 1, " \t\r")]))
			buf_addc(out, ' ');
		else
			buf_addc(out, *s);
		if (begins_tag(s) || (s[0] == ']' && s[1] == '('))
			buf_addc(out, ' ');
	}
}

static void add_math(struct markdown *m, const GumboNode *node)
{
	const char *mark = math_mark(node);
	bool block = mark[1];
	struct buf text = raw_text(node);

	if (block)
		begin_block(m);
	buf_adds(m->out, mark);
	add_latex(m->out, text.data ? text.data : "");
	buf_adds(m->out, mark);
	if (block)
		begin_block(m);
	buf_release(&text);
}

static void add_list(struct markdown *m, const GumboNode *node, bool number, unsigned depth)
{
	struct markdown sub = {.out = m->out, .number = number, .item = 1, .picture = m->picture};

	snprintf(sub.indent, sizeof(sub.indent), "%s", m->indent);
	begin_block(m);
	inside(&sub, node, depth);
	begin_line(m);
}

static void add_item(struct markdown *m, const GumboNode *node, unsigned depth)
{
	struct markdown sub = *m;

	begin_line(m);
	buf_adds(m->out, m->indent);
	if (m->number)
		buf_addf(m->out, "%u. ", m->item++);
	else
		buf_adds(m->out, "- ");
	if (strlen(sub.indent) + 4 < sizeof(sub.indent))
		strcat(sub.indent, m->number ? "   " : "  ");
	inside(&sub, node, depth);
	begin_line(m);
}

static void add_image(struct markdown *m, const GumboNode *node)
{
	const char *alt = attribute(node, "alt");

	buf_adds(m->out, "![");
	if (alt)
		add_text(m, alt);
	buf_addf(m->out, "](%s)", *m->picture ? *m->picture : "");
	*m->picture = NULL;
}

static void add_box(struct markdown *m, const GumboNode *node)
{
	const char *value = attribute(node, "value");

	if (is_choice(node))
		buf_adds(m->out, attribute(node, "checked") ? "☑" : "☐");
	else if (value)
		add_text(m, value);
}

/* Between backticks where that is all it takes, else as a tag with escaped text. */
static void add_code(struct markdown *m, const GumboNode *node, unsigned depth)
{
	struct buf text = raw_text(node);

	if (text.len && strpbrk(text.data, "`<[\n"))
		tagged(m, "code", node, depth);
	else if (text.len)
		buf_addf(m->out, "`%s`", text.data);
	buf_release(&text);
}

/* Between fences longer than any that is in it. */
static void add_preformatted(struct markdown *m, const GumboNode *node)
{
	struct buf text = raw_text(node);
	size_t fence = 3;

	for (const char *s = text.data; s && (s = strchr(s, '`')); s += strspn(s, "`"))
		fence = max_u64(fence, strspn(s, "`") + 1);
	end_block(m);
	for (size_t i = 0; i < fence; i++)
		buf_addc(m->out, '`');
	buf_addc(m->out, '\n');
	buf_add(m->out, text.data, text.len);
	begin_line(m);
	for (size_t i = 0; i < fence; i++)
		buf_addc(m->out, '`');
	buf_addc(m->out, '\n');
	buf_release(&text);
}

/* An empty line would end the HTML, and what follows in the table would be Markdown. */
static void add_table(struct markdown *m, const GumboNode *node)
{
	struct buf html;

	buf_init(&html, TEXT_MAX);
	html_write(&html, node);
	end_block(m);
	buf_adds(m->out, "<table>");
	for (const char *s = html.data; s && *s; s++)
		if (*s != '\n' || s[1 + strspn(s + 1, " \t\r")] != '\n')
			buf_addc(m->out, *s);
	buf_adds(m->out, "</table>");
	end_block(m);
	buf_release(&html);
}

static void add_heading(struct markdown *m, const GumboNode *node, unsigned level, unsigned depth)
{
	begin_block(m);
	for (unsigned i = 0; i < level; i++)
		buf_addc(m->out, '#');
	buf_addc(m->out, ' ');
	inside(m, node, depth);
	begin_block(m);
}

static bool inline_element(struct markdown *m, const GumboNode *node, const char *name,
			   unsigned depth)
{
	if (!strcmp(name, "b") || !strcmp(name, "strong"))
		around(m, "**", node, depth);
	else if (!strcmp(name, "i") || !strcmp(name, "em"))
		around(m, "*", node, depth);
	else if (!strcmp(name, "del"))
		around(m, "~~", node, depth);
	else if (!strcmp(name, "sup") || !strcmp(name, "sub") || !strcmp(name, "u") ||
		 !strcmp(name, "chem"))
		tagged(m, name, node, depth);
	else if (!strcmp(name, "br"))
		buf_adds(m->out, at_line_start(m) ? "" : "  \n");
	else if (!strcmp(name, "img"))
		add_image(m, node);
	else if (!strcmp(name, "input"))
		add_box(m, node);
	else if (!strcmp(name, "code"))
		add_code(m, node, depth);
	else if (!strcmp(name, "math"))
		add_math(m, node);
	else
		return false;
	return true;
}

static void element(struct markdown *m, const GumboNode *node, unsigned depth)
{
	char storage[16];
	const char *name = name_of(node, storage);

	if (inline_element(m, node, name, depth) || node->v.element.tag == GUMBO_TAG_SCRIPT ||
	    node->v.element.tag == GUMBO_TAG_STYLE)
		return;
	if (name[0] == 'h' && name[1] >= '1' && name[1] <= '6') {
		add_heading(m, node, (unsigned)(name[1] - '0'), depth);
	} else if (!strcmp(name, "ul") || !strcmp(name, "ol")) {
		add_list(m, node, *name == 'o', depth);
	} else if (!strcmp(name, "li")) {
		add_item(m, node, depth);
	} else if (!strcmp(name, "table")) {
		add_table(m, node);
	} else if (!strcmp(name, "pre")) {
		add_preformatted(m, node);
	} else if (!strcmp(name, "hr")) {
		begin_block(m);
		buf_adds(m->out, "---\n");
	} else if (!strcmp(name, "p") || !strcmp(name, "div") || !strcmp(name, "caption")) {
		begin_block(m);
		inside(m, node, depth);
		begin_block(m);
	} else {
		inside(m, node, depth);
	}
}

static void one(struct markdown *m, const GumboNode *node, unsigned depth)
{
	if (is_text(node))
		add_text(m, node->v.text.text);
	else if (node->type == GUMBO_NODE_ELEMENT && depth <= DEPTH_MAX)
		element(m, node, depth);
}

static void inside(struct markdown *m, const GumboNode *node, unsigned depth)
{
	const GumboVector *list = children_of(node);

	for (unsigned i = 0; i < list->length; i++)
		one(m, list->data[i], depth + 1);
}

void html_write_markdown(struct buf *out, const GumboNode *node, const char **picture)
{
	struct markdown m = {.out = out, .picture = picture};

	inside(&m, node, 0);
	begin_line(&m);
}

void html_write_markdown_node(struct buf *out, const GumboNode *node)
{
	const char *none = NULL;
	struct markdown m = {.out = out, .picture = &none};

	one(&m, node, 0);
}
