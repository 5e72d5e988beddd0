/* SPDX-License-Identifier: MIT
 *
 * Which conversion a reply takes.
 */
#include "output.h"

#include <string.h>

#define TEXT_MAX (64u << 20)

const char *const output_kind_names[OUTPUT_KINDS] = {"text", "markdown", "layout"};

static const char *behind_thoughts(const char *reply, size_t len)
{
	static const char end[] = "</think>";
	const char *found = memmem(reply, len, end, strlen(end));

	return found ? found + strlen(end) : reply;
}

/* A model may say any byte; no line of the protocol can hold this one. */
static void add_without_nul(struct buf *out, const char *s, size_t len)
{
	for (size_t n; len; s += n, len -= n) {
		n = strnlen(s, len);
		buf_add(out, s, n);
		n += n < len;
	}
}

void output_make(struct output *o, const struct output_options *options, const char *reply,
		 size_t len)
{
	const char *answer = behind_thoughts(reply, len);
	struct buf clean;

	len -= (size_t)(answer - reply);
	while (len && strchr(" \t\r\n", *answer)) {
		answer++;
		len--;
	}
	*o = (struct output){.format = options->kind == OUTPUT_PLAIN ? "text" : "markdown"};
	buf_init(&o->text, TEXT_MAX);
	buf_init(&clean, TEXT_MAX);
	add_without_nul(&clean, answer, len);
	if (options->kind == OUTPUT_LAYOUT)
		output_layout(o, options, clean.data ? clean.data : "", clean.len);
	else
		buf_add(&o->text, clean.data, clean.len);
	buf_release(&clean);
}

void output_release(struct output *o)
{
	buf_release(&o->text);
	json_decref(o->blocks);
	*o = (struct output){0};
}
