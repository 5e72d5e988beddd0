/* SPDX-License-Identifier: MIT
 *
 * pdf_trouble: what poppler and the libraries beneath it complain about while they work.
 *
 * poppler-glib hands every error of poppler to g_log(), domain "Poppler", level INFO; GLib warns
 * the same way; libjpeg prints on the stream `stderr`.  Both are caught for the length of one call
 * (glibc's stderr is a variable, and a cookie stream needs no descriptor, so this works in the
 * sandbox).
 *
 * poppler_page_render() returns nothing: it draws what it can.  So the messages decide whether a
 * page is whole.  The policy: a message about the data of a compressed stream, or about an image
 * or font program that could not be read, means that content is lost, and the page fails; every
 * other message (syntax that poppler repaired, an unknown operator, a missing annotation) is a
 * warning.  What poppler pads without a word is found by pdf_stream.c.
 */
#include "pdf_parts.h"

#include "base/num.h"

#include <stdio.h>
#include <string.h>

/* Parts of messages, from poppler 22.12 and libjpeg's jerror.h. */
static const char *const losses[] = {
	"in flate stream",
	"Bad LZW stream",
	"in CCITTFax stream",
	"Invalid CCITTFax code",
	"JBIG2 symbol",
	"JBIG2 halftone",
	"JBIG2 generic",
	"in JBIG2",
	"JBIG2 MMR",
	"JBIG2 stream",
	"JBIG2 combine",
	"must be a page information segment",
	"Did no succeed opening JPX Stream.", /* the last of its attempts */
	"Bad image parameters",
	"Unknown filter",
	"premature end of data segment",
	"bad Huffman code",
	"Premature end of JPEG",
	"Unsupported JPEG",
};

/* A JBIG2 decoder that stops short of the segment's end has not decoded it; a few bytes are
 * padding. */
static bool stopped_short(const char *message)
{
	const char *p = strstr(message, " extraneous bytes after segment");
	size_t digits = 0;

	while (p && digits < 10 && p - digits > message && g_ascii_isdigit(p[-1 - (long)digits]))
		digits++;
	return digits >= 3;
}

static bool means_loss(const char *message)
{
	for (size_t i = 0; i < ARRAY_SIZE(losses); i++) {
		if (strstr(message, losses[i]))
			return true;
	}
	return stopped_short(message);
}

static struct trouble *current;
static FILE *catcher;
static char line[512];
static size_t line_len;

/* poppler ends some messages with its own mark for a newline. */
static void note(struct trouble *t, const char *message)
{
	char text[sizeof(t->first)];
	size_t len;

	snprintf(text, sizeof(text), "%s", message);
	len = strlen(text);
	if (len >= 4 && strcmp(text + len - 4, "<0a>") == 0)
		text[len - 4] = '\0';
	if (!t->lost && means_loss(text)) {
		t->lost = true;
		memcpy(t->first, text, sizeof(text));
	}
	if (t->page && strcmp(text, t->last) != 0)
		page_warn(t->page, "%s", text);
	memcpy(t->last, text, sizeof(text));
}

static void on_log(const gchar *domain, GLogLevelFlags level, const gchar *message, gpointer data)
{
	bool poppler = domain && strcmp(domain, "Poppler") == 0;

	if (poppler ? !g_str_has_prefix(message, "Syntax warning") :
		      (level & (G_LOG_LEVEL_ERROR | G_LOG_LEVEL_CRITICAL | G_LOG_LEVEL_WARNING)))
		note(data, message);
}

static ssize_t on_stderr(void *cookie, const char *data, size_t len)
{
	(void)cookie;
	for (size_t i = 0; i < len; i++) {
		if (data[i] != '\n' && line_len < sizeof(line) - 1) {
			line[line_len++] = data[i];
			continue;
		}
		line[line_len] = '\0';
		if (line_len > 0 && current)
			note(current, line);
		line_len = 0;
	}
	return (ssize_t)len;
}

void trouble_begin(struct trouble *t, struct page *page)
{
	*t = (struct trouble){ .page = page };
	if (!catcher) {
		cookie_io_functions_t io = { .write = on_stderr };

		catcher = fopencookie(NULL, "w", io);
		if (!catcher)
			BUG("no memory for a stream");
		setvbuf(catcher, NULL, _IONBF, 0);
	}
	if (current)
		BUG("trouble_begin() twice");
	current = t;
	t->old_handler = g_log_set_default_handler(on_log, t);
	t->old_stderr = stderr;
	stderr = catcher;
}

void trouble_end(struct trouble *t)
{
	stderr = t->old_stderr;
	g_log_set_default_handler(t->old_handler, NULL);
	on_stderr(NULL, "\n", 1);
	current = NULL;
}
