/* SPDX-License-Identifier: MIT
 *
 * web: the mode that turns what a recogniser wrote, Markdown or HTML, into HTML for a browser.
 *
 * Its text is whatever somebody wrote on a page or a model made of it, so nothing of it is
 * believed: Markdown is turned into HTML by md4c, and all HTML is read by gumbo and written anew,
 * tag by listed tag (models/html.h).  No script, no style and no address comes through but those of
 * blocks that were cut out of this page.  Formulas stay TeX between dollars, as text.  No file can
 * be opened here: text comes and HTML leaves by pipe.
 *
 * md4c was chosen over cmark, which knows neither tables nor formulas.
 */
#include "airlock.h"
#include "base/lines.h"
#include "base/log.h"
#include "decode.h"
#include "html.h"

#include <md4c-html.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define WEB_REQUEST_MAX (64u << 20)
#define HTML_MAX	(64u << 20)

/* "#block-N" of a block that was cut out; the writer puts the file in its place. */
static bool is_own_picture(void *arg, const char *address)
{
	const json_t *blocks = arg, *block;
	char own[40];
	size_t i;

	json_array_foreach(blocks, i, block)
	{
		snprintf(own, sizeof(own), "#block-%" JSON_INTEGER_FORMAT, json_integer_value(block));
		if (!strcmp(address, own))
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

bool web_render(struct buf *out, const char *format, const char *text, json_t *blocks)
{
	struct buf html;
	bool clean;

	buf_init(&html, HTML_MAX);
	if (!strcmp(format, "markdown"))
		add_markdown(&html, text);
	else
		buf_adds(&html, text);
	clean = !html.overflow &&
		html_clean(out, html.data ? html.data : "", html.len, is_own_picture, blocks);
	buf_release(&html);
	return clean && !out->overflow;
}

/* The answer as it goes out, so that `most` counts its escapes too. */
static json_t *answer_to(const char *format, const char *text, json_t *blocks, size_t most)
{
	json_t *answer = NULL;
	struct buf html;
	struct err err;
	char *line;

	buf_init(&html, HTML_MAX);
	if (!web_render(&html, format, text, blocks)) {
		err_set(&err, RC_FAILED, "html",
			"its text is not turned into HTML: it is too long, or has too many tags");
		answer = airlock_error(&err);
	} else {
		answer = json_pack("{s:s#}", "html", html.data ? html.data : "", (int)html.len);
		if (!answer)
			die(EX_BUG, "the HTML is not UTF-8");
		line = airlock_dump(answer);
		if (strlen(line) > most) {
			json_decref(answer);
			err_set(&err, RC_FAILED, "limit:result-kibibytes",
				"its text takes more than %zu KiB as HTML", most >> 10);
			answer = airlock_error(&err);
		}
		free(line);
	}
	buf_release(&html);
	return answer;
}

int web_main(void)
{
	const char *format, *text;
	json_t *request, *blocks, *answer;
	struct lines lines;
	json_int_t most;
	json_error_t why;
	struct err err;
	int failed;
	size_t len;
	char *line;

	lines_init(&lines, STDIN_FILENO, WEB_REQUEST_MAX);
	if (lines_next(&lines, &line, &len) != LINES_ONE)
		die(EX_USAGE_ERROR, "the request cannot be read");
	request = airlock_parse(line, len, &err);
	if (!request)
		die(EX_USAGE_ERROR, "%s", err.text);
	if (json_unpack_ex(request, &why, 0, "{s:{s:s, s:s, s:o, s:I}}", "html", "format", &format,
			   "text", &text, "figures", &blocks, "bytes", &most))
		die(EX_USAGE_ERROR, "request: %s", why.text);
	answer = answer_to(format, text, blocks, (size_t)most);
	failed = airlock_write(STDOUT_FILENO, answer);
	json_decref(answer);
	json_decref(request);
	lines_release(&lines);
	return failed ? EX_WORK_REMAINS : EX_ALL_DONE;
}
