/* SPDX-License-Identifier: MIT
 *
 * web: document.html, the whole document for a browser, a section a page.
 *
 * Its text is whatever somebody wrote on a page or a model made of it, so nothing of it is
 * believed: Markdown is turned into HTML by md4c, and all HTML is read by gumbo and written anew,
 * tag by listed tag (models/html.h).  No script, no style and no address comes through but those of
 * this document's own pictures, and the policy in its head forbids the browser anything else.
 * Formulas stay TeX between dollars, as text.  What cannot be read as HTML stands there as the text
 * that it is.
 *
 * md4c was chosen over cmark, which knows neither tables nor formulas.
 */
#include "write.h"
#include "html.h"
#include "base/name.h"

#include <md4c-html.h>
#include <stdlib.h>
#include <string.h>

#define HTML_MAX (256u << 20)

static const char style[] =
	"body{max-width:50em;margin:2em auto;padding:0 1em;font-family:serif;line-height:1.4}"
	"section{border-top:1px solid #999;margin-top:2em}"
	".page{color:#666;font-size:80%}.state{font-weight:bold}"
	"table{border-collapse:collapse;margin:1em 0}td,th{border:1px solid #999;padding:.2em .4em}"
	"img{max-width:100%;height:auto}.picture{font-style:italic}"
	".plain{white-space:pre-wrap}pre{overflow-x:auto}";

static void begin(struct sink *sink, const struct job *job)
{
	struct buf name;

	buf_init(&name, HTML_MAX);
	xml_escape(&name, job->name);
	sink_addf(sink,
		  "<!DOCTYPE html>\n<html>\n<head>\n<meta charset=\"utf-8\">\n"
		  "<meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; "
		  "img-src 'self' file:; style-src 'unsafe-inline'\">\n"
		  "<meta name=\"viewport\" content=\"width=device-width\">\n"
		  "<meta name=\"generator\" content=\"cloister %s\">\n<title>%s</title>\n"
		  "<style>%s</style>\n</head>\n<body>\n<h1>%s</h1>\n",
		  CLOISTER_VERSION, name.len ? name.data : "", style, name.len ? name.data : "");
	buf_release(&name);
}

static bool is_own_picture(void *arg, const char *address)
{
	const struct leaf *leaf = arg;
	json_t *figure;
	size_t i;

	json_array_foreach(leaf->figures, i, figure)
	{
		const char *file = json_string_value(json_object_get(figure, "file"));

		if (file && !strcmp(file, address))
			return true;
	}
	return false;
}

static void on_html(const MD_CHAR *text, MD_SIZE len, void *arg)
{
	buf_add(arg, text, len);
}

/* Nanonets' <page_number> is no tag to a reader of Markdown, for which <page-number> would be one.
 */
static char *with_page_numbers(const char *text)
{
	static const char name[] = "page_number>";
	char *copy = xstrdup(text);

	for (char *p = copy; (p = strstr(p, name)); p += strlen(name))
		if ((p > copy && p[-1] == '<') || (p > copy + 1 && !memcmp(p - 2, "</", 2)))
			p[strlen("page")] = '-';
	return copy;
}

static void add_markdown(struct buf *html, const char *markdown)
{
	const unsigned flags = MD_FLAG_TABLES | MD_FLAG_STRIKETHROUGH | MD_FLAG_TASKLISTS |
			       MD_FLAG_LATEXMATHSPANS | MD_FLAG_NOINDENTEDCODEBLOCKS;
	char *text = with_page_numbers(markdown);

	if (md_html(text, (MD_SIZE)strlen(text), on_html, html, flags, 0))
		html->overflow = true;
	free(text);
}

/* false: it is plain text, or too much for the reader. */
static bool add_markup(struct buf *out, const struct leaf *leaf)
{
	struct buf html;
	bool clean;

	if (!strcmp(leaf->format, "text"))
		return false;
	buf_init(&html, HTML_MAX);
	if (!strcmp(leaf->format, "markdown"))
		add_markdown(&html, leaf->text);
	else
		buf_adds(&html, leaf->text);
	clean = !html.overflow &&
		html_clean(out, html.data ? html.data : "", html.len, is_own_picture, (void *)leaf);
	buf_release(&html);
	return clean;
}

/* Pictures that the text does not show come after it. */
static void add_other_pictures(struct buf *out, const struct leaf *leaf)
{
	json_t *figure;
	size_t i;

	json_array_foreach(leaf->figures, i, figure)
	{
		const char *file = json_string_value(json_object_get(figure, "file"));

		if (file && !strstr(leaf->text, file))
			buf_addf(out, "\n<p><img src=\"%s\" alt=\"\"></p>", file);
	}
}

void web_text(struct buf *out, const struct leaf *leaf)
{
	if (!add_markup(out, leaf)) {
		buf_adds(out, "<div class=\"plain\">");
		xml_escape(out, leaf->text);
		buf_adds(out, "</div>");
	}
	add_other_pictures(out, leaf);
}

static void page(struct sink *sink, const struct leaf *leaf, struct buf *kept)
{
	struct buf text;

	(void)kept;
	buf_init(&text, HTML_MAX);
	leaf_describe(&text, leaf);
	sink_addf(sink, "<section id=\"page-%u\">\n<p class=\"page\">Page %u</p>\n", leaf->page,
		  leaf->page);
	if (text.len) {
		struct buf escaped;

		buf_init(&escaped, HTML_MAX);
		xml_escape(&escaped, text.data);
		sink_addf(sink, "<p class=\"state\">%s</p>\n", escaped.data);
		buf_release(&escaped);
	}
	buf_clear(&text);
	if (*leaf->text || leaf->figures)
		web_text(&text, leaf);
	if (text.overflow)
		BUG("page %u has too much text", leaf->page);
	if (text.len)
		sink_add(sink, text.data, text.len);
	sink_adds(sink, "\n</section>\n");
	buf_release(&text);
}

static void end(struct sink *sink, const struct job *job, const struct totals *totals,
		const struct buf *kept)
{
	(void)job;
	(void)totals;
	(void)kept;
	sink_adds(sink, "</body>\n</html>\n");
}

const struct output output_document_html = {"document.html", begin, page, end};
