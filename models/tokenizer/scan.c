/* SPDX-License-Identifier: MIT
 *
 * scan: a pull reader of JSON over memory, without recursion.
 */
#include "tokenizer/scan.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#define DEPTH_MAX    64
#define STRING_BYTES ((size_t)1 << 20)

void scan_init(struct scan *s, struct span span, const char *begin, const char *file,
	       const char *path, struct err *err)
{
	*s = (struct scan){.at = span.s,
			   .end = span.s + span.len,
			   .begin = begin,
			   .file = file,
			   .path = path,
			   .err = err};
	buf_init(&s->text, STRING_BYTES);
}

void scan_release(struct scan *s)
{
	buf_release(&s->text);
}

bool scan_fail(struct scan *s, const char *format, ...)
{
	char what[256];
	va_list ap;

	if (s->failed)
		return false;
	va_start(ap, format);
	vsnprintf(what, sizeof(what), format, ap);
	va_end(ap);
	err_set(s->err, RC_FATAL, "tokenizer", "%s: %s%s%s (byte %zu)", s->file, s->path,
		*s->path ? ": " : "", what, (size_t)(s->at - s->begin));
	s->failed = true;
	return false;
}

char scan_peek(struct scan *s)
{
	while (s->at < s->end &&
	       (*s->at == ' ' || *s->at == '\n' || *s->at == '\t' || *s->at == '\r'))
		s->at++;
	return s->at < s->end ? *s->at : 0;
}

static bool take(struct scan *s, char c)
{
	if (scan_peek(s) != c)
		return false;
	s->at++;
	return true;
}

bool scan_open(struct scan *s, char bracket)
{
	if (s->failed)
		return false;
	return take(s, bracket) || scan_fail(s, "'%c' expected", bracket);
}

bool scan_more(struct scan *s, char bracket, bool *first)
{
	char close = bracket == '[' ? ']' : '}';

	if (s->failed || take(s, close))
		return false;
	if (!*first && !take(s, ','))
		return scan_fail(s, "',' or '%c' expected", close);
	*first = false;
	return true;
}

static int hex4(const char *s, const char *end)
{
	int value = 0;

	if (end - s < 4)
		return -1;
	for (int i = 0; i < 4; i++) {
		char c = s[i];
		int digit = c >= '0' && c <= '9'   ? c - '0'
			    : c >= 'a' && c <= 'f' ? c - 'a' + 10
			    : c >= 'A' && c <= 'F' ? c - 'A' + 10
						   : -1;
		if (digit < 0)
			return -1;
		value = value * 16 + digit;
	}
	return value;
}

static void add_code_point(struct buf *out, uint32_t c)
{
	if (c < 0x80) {
		buf_addc(out, (char)c);
		return;
	}
	if (c < 0x800) {
		buf_addc(out, (char)(0xc0 | c >> 6));
	} else {
		if (c < 0x10000) {
			buf_addc(out, (char)(0xe0 | c >> 12));
		} else {
			buf_addc(out, (char)(0xf0 | c >> 18));
			buf_addc(out, (char)(0x80 | (c >> 12 & 0x3f)));
		}
		buf_addc(out, (char)(0x80 | (c >> 6 & 0x3f)));
	}
	buf_addc(out, (char)(0x80 | (c & 0x3f)));
}

/* Behind a backslash. */
static bool scan_escape(struct scan *s)
{
	static const char from[] = "\"\\/bfnrt", to[] = "\"\\/\b\f\n\r\t";
	const char *found;
	int c, low;

	if (s->at == s->end)
		return scan_fail(s, "string without an end");
	if (*s->at != 'u') {
		found = *s->at ? strchr(from, *s->at) : NULL;
		if (!found)
			return scan_fail(s, "unknown escape");
		buf_addc(&s->text, to[found - from]);
		s->at++;
		return true;
	}
	c = hex4(++s->at, s->end);
	if (c < 0)
		return scan_fail(s, "four hex digits expected");
	s->at += 4;
	if (c >= 0xd800 && c < 0xe000) {
		low = s->end - s->at >= 6 && s->at[0] == '\\' && s->at[1] == 'u'
			      ? hex4(s->at + 2, s->end)
			      : -1;
		if (c >= 0xdc00 || low < 0xdc00 || low > 0xdfff)
			return scan_fail(s, "half of a surrogate pair");
		s->at += 6;
		c = 0x10000 + ((c - 0xd800) << 10) + (low - 0xdc00);
	}
	add_code_point(&s->text, (uint32_t)c);
	return true;
}

bool scan_string(struct scan *s, struct span *out)
{
	const char *from;

	if (s->failed)
		return false;
	if (!take(s, '"'))
		return scan_fail(s, "string expected");
	buf_clear(&s->text);
	for (from = s->at;; s->at++) {
		if (s->at == s->end)
			return scan_fail(s, "string without an end");
		if ((unsigned char)*s->at < 0x20)
			return scan_fail(s, "control character in a string");
		if (*s->at == '"')
			break;
		if (*s->at != '\\')
			continue;
		buf_add(&s->text, from, (size_t)(s->at - from));
		s->at++;
		if (!scan_escape(s))
			return false;
		from = s->at--;
	}
	*out = (struct span){from, (size_t)(s->at++ - from)};
	if (s->text.len || s->text.overflow) {
		buf_add(&s->text, out->s, out->len);
		*out = (struct span){s->text.data, s->text.len};
	}
	if (s->text.overflow || out->len > STRING_BYTES)
		return scan_fail(s, "string is too long");
	return true;
}

bool scan_key(struct scan *s, struct span *out)
{
	if (!scan_string(s, out))
		return false;
	return take(s, ':') || scan_fail(s, "':' expected");
}

bool scan_number(struct scan *s, uint32_t max, uint32_t *out)
{
	const char *from;
	uint64_t value = 0;

	if (s->failed)
		return false;
	scan_peek(s);
	for (from = s->at; s->at < s->end && *s->at >= '0' && *s->at <= '9'; s->at++) {
		value = value * 10 + (uint64_t)(*s->at - '0');
		if (value > max)
			return scan_fail(s, "number over %u", max);
	}
	if (s->at == from || (*from == '0' && s->at > from + 1) ||
	    (s->at < s->end && (*s->at == '.' || *s->at == 'e' || *s->at == 'E')))
		return scan_fail(s, "whole number from 0 to %u expected", max);
	*out = (uint32_t)value;
	return true;
}

/* Over a string's end; its contents are looked at by whoever reads the span. */
static bool skip_string(struct scan *s)
{
	for (s->at++; s->at < s->end; s->at++) {
		if (*s->at == '"') {
			s->at++;
			return true;
		}
		if (*s->at == '\\' && ++s->at == s->end)
			break;
	}
	return scan_fail(s, "string without an end");
}

static bool skip_nested(struct scan *s)
{
	unsigned depth = 0;

	while (s->at < s->end) {
		switch (*s->at) {
		case '"':
			if (!skip_string(s))
				return false;
			continue;
		case '{':
		case '[':
			if (++depth > DEPTH_MAX)
				return scan_fail(s, "nested more than %d deep", DEPTH_MAX);
			break;
		case '}':
		case ']':
			depth--;
		}
		s->at++;
		if (!depth)
			return true;
	}
	return scan_fail(s, "value without an end");
}

bool scan_value(struct scan *s, struct span *out)
{
	char c = scan_peek(s);

	if (s->failed)
		return false;
	out->s = s->at;
	if (c == '"' || c == '{' || c == '[') {
		if (!(c == '"' ? skip_string(s) : skip_nested(s)))
			return false;
	} else {
		while (s->at < s->end && !memchr(",]}: \n\t\r", *s->at, 8))
			s->at++;
	}
	out->len = (size_t)(s->at - out->s);
	return out->len || scan_fail(s, "value expected");
}

bool scan_finish(struct scan *s)
{
	if (s->failed)
		return false;
	return !scan_peek(s) && s->at == s->end ? true : scan_fail(s, "more than one value");
}
