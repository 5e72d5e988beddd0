/* SPDX-License-Identifier: MIT */
#include "base/name.h"

#include <stdint.h>
#include <string.h>

size_t utf8_sequence(const char *s, size_t len)
{
	const unsigned char *p = (const unsigned char *)s;
	size_t n;

	if (!len)
		return 0;
	if (p[0] < 0x80)
		return 1;
	if (p[0] < 0xc2 || p[0] > 0xf4)
		return 0;
	n = p[0] < 0xe0 ? 2 : p[0] < 0xf0 ? 3 : 4;
	if (len < n)
		return 0;
	for (size_t i = 1; i < n; i++)
		if ((p[i] & 0xc0) != 0x80)
			return 0;
	if ((p[0] == 0xe0 && p[1] < 0xa0) || (p[0] == 0xed && p[1] > 0x9f) ||
	    (p[0] == 0xf0 && p[1] < 0x90) || (p[0] == 0xf4 && p[1] > 0x8f))
		return 0;
	return n;
}

bool utf8_valid(const char *s, size_t len)
{
	for (size_t i = 0, n; i < len; i += n)
		if (!(n = utf8_sequence(s + i, len - i)))
			return false;
	return true;
}

/* Code point of a valid sequence of n bytes. */
static uint32_t code_point(const char *s, size_t n)
{
	const unsigned char *p = (const unsigned char *)s;
	uint32_t c = n == 1 ? p[0] : p[0] & (0x7fu >> n);

	for (size_t i = 1; i < n; i++)
		c = c << 6 | (p[i] & 0x3f);
	return c;
}

/* C0, DEL, C1, line separators, and the bidirectional controls that can disguise a name. */
static bool is_deceptive(uint32_t c)
{
	return c < 0x20 || (c >= 0x7f && c < 0xa0) || (c >= 0x200e && c <= 0x200f) ||
	       (c >= 0x2028 && c <= 0x202e) || (c >= 0x2066 && c <= 0x2069) || c == 0xfeff;
}

void name_escape(struct buf *out, const char *s, size_t len)
{
	for (size_t i = 0, n; i < len; i += n) {
		n = utf8_sequence(s + i, len - i);
		if (n == 1 && s[i] == '\\') {
			buf_adds(out, "\\\\");
		} else if (n && !is_deceptive(code_point(s + i, n))) {
			buf_add(out, s + i, n);
		} else {
			n = n ? n : 1;
			for (size_t k = 0; k < n; k++)
				buf_addf(out, "\\x%02x", (unsigned char)s[i + k]);
		}
	}
}

static bool is_plain(uint32_t c)
{
	if (c >= 0x80)
		return !is_deceptive(c);
	return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') ||
	       (c && strchr("._/~+,=@-", (int)c));
}

void name_encode(struct buf *out, const char *s, size_t len)
{
	for (size_t i = 0, n; i < len; i += n) {
		n = utf8_sequence(s + i, len - i);
		if (n && is_plain(code_point(s + i, n))) {
			buf_add(out, s + i, n);
		} else {
			n = n ? n : 1;
			for (size_t k = 0; k < n; k++)
				buf_addf(out, "%%%02X", (unsigned char)s[i + k]);
		}
	}
}

static int hex_digit(char c)
{
	if (c >= '0' && c <= '9')
		return c - '0';
	if (c >= 'A' && c <= 'F')
		return c - 'A' + 10;
	if (c >= 'a' && c <= 'f')
		return c - 'a' + 10;
	return -1;
}

bool name_decode(struct buf *out, const char *s, size_t len)
{
	for (size_t i = 0; i < len; i++) {
		int hi, lo;

		if (s[i] != '%') {
			buf_addc(out, s[i]);
			continue;
		}
		if (len - i < 3 || (hi = hex_digit(s[i + 1])) < 0 || (lo = hex_digit(s[i + 2])) < 0 ||
		    (hi | lo) == 0)
			return false;
		buf_addc(out, (char)(hi << 4 | lo));
		i += 2;
	}
	return !out->overflow;
}

void utf8_repair(struct buf *out, const char *s, size_t len)
{
	for (size_t i = 0, n; i < len; i += n) {
		n = utf8_sequence(s + i, len - i);
		if (n) {
			buf_add(out, s + i, n);
		} else {
			buf_adds(out, "\xef\xbf\xbd");
			n = 1;
		}
	}
}

void name_sanitise(struct buf *out, const char *path, size_t len)
{
	size_t start = out->len;
	size_t end = len;
	size_t begin;

	while (end && path[end - 1] == '/')
		end--;
	begin = end;
	while (begin && path[begin - 1] != '/' && path[begin - 1] != '\\')
		begin--;
	for (size_t i = begin, n; i < end && out->len - start < 97; i += n) {
		n = utf8_sequence(path + i, end - i);
		if (!n || is_deceptive(code_point(path + i, n))) {
			n = n ? n : 1;
			buf_addc(out, '_');
		} else if (out->len == start && path[i] == '.') {
			buf_addc(out, '_');
		} else {
			buf_add(out, path + i, n);
		}
	}
	if (out->len == start)
		buf_adds(out, "unnamed");
}
