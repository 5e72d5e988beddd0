/* SPDX-License-Identifier: MIT
 *
 * web: document.html, the whole document for a browser, a section a page.
 *
 * Nothing is parsed here: what a recogniser wrote as Markdown or HTML comes as HTML from
 * cloister-decode --html, in the page's record, and is stored as it is; the policy in the head
 * forbids the browser all but this document's own pictures, should that program have been taken
 * over.  Plain text, and what could not be made HTML, stands there as the text that it is.
 */
#include "write.h"
#include "base/name.h"

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

/* Pictures that the text does not show come after it. */
static void add_other_pictures(struct buf *out, const struct leaf *leaf)
{
	json_t *figure;
	size_t i;

	json_array_foreach(leaf->figures, i, figure)
	{
		const char *file = json_string_value(json_object_get(figure, "file"));

		if (file && !(leaf->html && strstr(leaf->html, file)))
			buf_addf(out, "\n<p><img src=\"%s\" alt=\"\"></p>", file);
	}
}

static void add_text(struct buf *out, const struct leaf *leaf)
{
	if (leaf->html) {
		buf_adds(out, leaf->html);
		return;
	}
	buf_adds(out, "<div class=\"plain\">");
	xml_escape(out, leaf->text);
	buf_adds(out, "</div>");
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
	if (*leaf->text)
		add_text(&text, leaf);
	add_other_pictures(&text, leaf);
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
