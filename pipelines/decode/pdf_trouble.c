/* SPDX-License-Identifier: MIT
 *
 * pdf_trouble: what poppler and the libraries beneath it complain about while they work.
 *
 * poppler-glib hands every error of poppler to g_log(), domain "Poppler"; cairo and GLib warn the
 * same way; libjpeg prints on the stream `stderr`.  Both are caught for the length of one call
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

/* Parts of messages, from poppler 22.12's sources and libjpeg's jerror.h. */
static const char *const losses[] = {
	/* Flate, LZW, run length */
	"in flate stream",
	"EOF in flate",
	"Bad LZW stream",
	/* CCITT */
	"in CCITTFax stream",
	/* JBIG2 */
	"JBIG2 stream",
	"in JBIG2",
	"Bad JBIG2",
	"in generic bitmap",
	/* JPEG 2000 */
	"JPX",
	"OpenJPEG",
	"openjpeg",
	"penJpeg",
	/* images and streams as such */
	"Bad image parameters",
	"Unknown filter",
	"Unknown compression method",
	"premature end of data segment",
	"bad Huffman code",
	"Premature end of JPEG",
	"Invalid JPEG file structure",
	"Unsupported JPEG",
	"DCT",
};

static struct trouble *current;
static FILE *catcher;
static char line[512];
static size_t line_len;

static void note(struct trouble *t, const char *message)
{
	for (size_t i = 0; i < ARRAY_SIZE(losses) && !t->lost; i++) {
		if (!strstr(message, losses[i]))
			continue;
		t->lost = true;
		snprintf(t->first, sizeof(t->first), "%s", message);
	}
	if (t->page)
		page_warn(t->page, "%s", message);
}

static void on_log(const gchar *domain, GLogLevelFlags level, const gchar *message, gpointer data)
{
	(void)domain;
	if (level & (G_LOG_LEVEL_ERROR | G_LOG_LEVEL_CRITICAL | G_LOG_LEVEL_WARNING))
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
