/* SPDX-License-Identifier: MIT
 *
 * unicode: classes of characters, NFC, and repair of UTF-8.
 *
 * The classes are one byte a code point, from utf8proc and the ranges that it may not know yet.
 *
 * NFC: nearly all text is NFC already. Only runs of characters marked CLASS_JOINS, with the one
 * before, which they may join, are normalised; all else is copied. A character that the reference's
 * older Unicode does not know is not marked, so it parts such runs, as it does there.
 */
#include "tokenizer/unicode.h"
#include "tokenizer/unicode-data.h"
#include "base/err.h"
#include "base/num.h"

#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <utf8proc.h>

/* Canonical decompositions are at most this long, in code points. */
#define DECOMPOSED_MAX 4

static unsigned char classes[CODE_POINTS];
static pthread_once_t classes_once = PTHREAD_ONCE_INIT;

static const struct unicode_range spaces[] = {
	{0x9, 0xd},
	{0x20, 0x20},
	{0x85, 0x85},
	{0xa0, 0xa0},
	{0x1680, 0x1680},
	{0x2000, 0x200a},
	{0x2028, 0x2029},
	{0x202f, 0x202f},
	{0x205f, 0x205f},
	{0x3000, 0x3000},
	{0},
};

/* Alphabetic by Other_Alphabetic alone, and Join_Control. */
static const struct unicode_range words[] = {
	{0x200c, 0x200d},   {0x24b6, 0x24e9},	{0x1f130, 0x1f149},
	{0x1f150, 0x1f169}, {0x1f170, 0x1f189}, {0},
};

/* Hangul vowels and finals join what stands before them, and are no marks. */
static const struct unicode_range jamo[] = {{0x1161, 0x1175}, {0x11a8, 0x11c2}, {0}};

static void mark(const struct unicode_range *ranges, unsigned char set, unsigned char clear)
{
	for (; ranges->last; ranges++)
		for (uint32_t c = ranges->first; c <= ranges->last; c++)
			classes[c] = (unsigned char)((classes[c] & ~clear) | set);
}

static unsigned char class_of_category(const char *category)
{
	switch (category[0]) {
	case 'L':
		return CLASS_WORD | (category[1] == 'l'				? CLASS_LOWER
				     : category[1] == 'u' || category[1] == 't' ? CLASS_UPPER
										: CLASS_OTHER);
	case 'M':
		return CLASS_WORD | CLASS_MARK | CLASS_JOINS;
	case 'N':
		return category[1] == 'o' ? CLASS_NUMBER : CLASS_NUMBER | CLASS_WORD;
	case 'P':
		return category[1] == 'c' ? CLASS_WORD : 0;
	}
	return 0;
}

/* NFC replaces c by something else. */
static bool decomposes_for_good(uint32_t c)
{
	const utf8proc_property_t *property = utf8proc_get_property((utf8proc_int32_t)c);
	utf8proc_int32_t out[8];
	utf8proc_ssize_t count;

	if (property->decomp_seqindex == UINT16_MAX || property->decomp_type)
		return false;
	count = utf8proc_decompose_char((utf8proc_int32_t)c, out, ARRAY_SIZE(out),
					UTF8PROC_STABLE | UTF8PROC_DECOMPOSE, NULL);
	if (count < 1 || count > (utf8proc_ssize_t)ARRAY_SIZE(out))
		return false;
	count = utf8proc_normalize_utf32(out, count, UTF8PROC_STABLE | UTF8PROC_COMPOSE);
	return count != 1 || out[0] != (utf8proc_int32_t)c;
}

static void classes_make(void)
{
	for (uint32_t c = 0; c < CODE_POINTS; c++) {
		classes[c] = class_of_category(utf8proc_category_string((utf8proc_int32_t)c));
		if (decomposes_for_good(c))
			classes[c] |= CLASS_JOINS;
	}
	for (const struct unicode_newer *n = unicode_newer_ranges; n->last; n++)
		for (uint32_t c = n->first; c <= n->last; c++)
			classes[c] = class_of_category(n->category);
	mark(spaces, CLASS_SPACE, 0);
	mark(words, CLASS_WORD, 0);
	mark(jamo, CLASS_JOINS, 0);
	mark(unicode_frozen_ranges, 0, CLASS_JOINS);
}

const unsigned char *unicode_classes(void)
{
	pthread_once(&classes_once, classes_make);
	return classes;
}

void unicode_newer(struct buf *out, const char *name, size_t len)
{
	for (const struct unicode_newer *n = unicode_newer_ranges; n->last; n++)
		if (!strncmp(n->category, name, len))
			buf_addf(out, "\\x{%x}-\\x{%x}", n->first, n->last);
}

/*
 * Length of the sequence at s: positive when it is well formed; negative: so many bytes are the
 * maximal subpart of an ill-formed one (Unicode 3.9, table 3-7). *cut: it is ill-formed only in
 * that the text ends.
 */
static int utf8_step(const unsigned char *s, size_t len, bool *cut)
{
	unsigned low = 0x80, high = 0xbf;
	int need;

	*cut = false;
	if (s[0] < 0x80)
		return 1;
	if (s[0] < 0xc2 || s[0] > 0xf4)
		return -1;
	need = s[0] < 0xe0 ? 2 : s[0] < 0xf0 ? 3 : 4;
	if (s[0] == 0xe0)
		low = 0xa0;
	if (s[0] == 0xed)
		high = 0x9f;
	if (s[0] == 0xf0)
		low = 0x90;
	if (s[0] == 0xf4)
		high = 0x8f;
	for (int i = 1; i < need; i++) {
		if ((size_t)i == len) {
			*cut = true;
			return -i;
		}
		if (s[i] < low || s[i] > high)
			return -i;
		low = 0x80;
		high = 0xbf;
	}
	return need;
}

size_t utf8_valid_prefix(const char *s, size_t len)
{
	size_t i = 0;
	bool cut;

	while (i < len) {
		uint64_t eight;
		int n;

		if (len - i >= 8) {
			memcpy(&eight, s + i, 8);
			if (!(eight & 0x8080808080808080u)) {
				i += 8;
				continue;
			}
		}
		n = utf8_step((const unsigned char *)s + i, len - i, &cut);
		if (n < 0)
			break;
		i += (size_t)n;
	}
	return i;
}

void utf8_replace(struct buf *out, const char *s, size_t len, size_t *rest)
{
	if (rest)
		*rest = 0;
	while (len) {
		size_t good = utf8_valid_prefix(s, len);
		bool cut;
		int n;

		buf_add(out, s, good);
		s += good;
		len -= good;
		if (!len)
			return;
		n = -utf8_step((const unsigned char *)s, len, &cut);
		if (cut && rest) {
			*rest = len;
			return;
		}
		buf_adds(out, "\xef\xbf\xbd");
		s += n;
		len -= (size_t)n;
	}
}

static utf8proc_propval_t combining(utf8proc_int32_t c)
{
	return utf8proc_get_property(c)->combining_class;
}

/* A stable counting sort of each run of marks: a hostile run may be as long as the text. */
static void canonical_order(utf8proc_int32_t *points, size_t count)
{
	utf8proc_int32_t *sorted = NULL;

	for (size_t i = 0, end; i < count; i = end) {
		size_t before[257] = {0};
		bool ordered = true;

		end = i + 1;
		if (!combining(points[i]))
			continue;
		while (end < count && combining(points[end])) {
			ordered &= combining(points[end - 1]) <= combining(points[end]);
			end++;
		}
		if (ordered)
			continue;
		if (!sorted)
			sorted = xmalloc(count * sizeof(*sorted));
		for (size_t k = i; k < end; k++)
			before[combining(points[k]) + 1]++;
		for (size_t k = 1; k < ARRAY_SIZE(before); k++)
			before[k] += before[k - 1];
		for (size_t k = i; k < end; k++)
			sorted[before[combining(points[k])]++] = points[k];
		memcpy(points + i, sorted, (end - i) * sizeof(*points));
	}
	free(sorted);
}

/* Append s, normalised. */
static void normalise(struct buf *out, const char *s, size_t len)
{
	utf8proc_int32_t *points = xmalloc((len * DECOMPOSED_MAX) * sizeof(*points));
	size_t count = 0;
	utf8proc_ssize_t composed;

	for (size_t i = 0; i < len;) {
		utf8proc_int32_t parts[32];
		utf8proc_ssize_t n;
		uint32_t c;

		i += utf8_get(s + i, &c);
		n = utf8proc_decompose_char((utf8proc_int32_t)c, parts, ARRAY_SIZE(parts),
					    UTF8PROC_STABLE | UTF8PROC_DECOMPOSE, NULL);
		if (n < 1 || n > DECOMPOSED_MAX)
			BUG("decomposition of U+%04X", c);
		for (utf8proc_ssize_t k = 0; k < n; k++)
			points[count++] = parts[k];
	}
	canonical_order(points, count);
	composed = utf8proc_normalize_utf32(points, (utf8proc_ssize_t)count,
					    UTF8PROC_STABLE | UTF8PROC_COMPOSE);
	for (utf8proc_ssize_t i = 0; i < composed; i++) {
		utf8proc_uint8_t bytes[4];
		utf8proc_ssize_t n = utf8proc_encode_char(points[i], bytes);

		buf_add(out, bytes, (size_t)n);
	}
	free(points);
}

static size_t joining(const char *s, size_t from, size_t len)
{
	const unsigned char *class = unicode_classes();

	while (from < len) {
		uint32_t c;
		size_t n = utf8_get(s + from, &c);

		if (c >= 0x300 && (class[c] & CLASS_JOINS))
			break;
		from += n;
	}
	return from;
}

static bool is_frozen(uint32_t c)
{
	for (const struct unicode_range *r = unicode_frozen_ranges; r->last; r++)
		if (c >= r->first && c <= r->last)
			return true;
	return false;
}

bool unicode_nfc(struct buf *out, const char *s, size_t len)
{
	const unsigned char *class = unicode_classes();
	size_t done = 0, at = joining(s, 0, len);

	if (at == len)
		return false;
	while (at < len) {
		size_t begin = at, end = at;
		uint32_t c;

		if (at > done) {
			begin = utf8_back(s, at);
			utf8_get(s + begin, &c);
			if (is_frozen(c))
				begin = at;
		}
		while (end < len) {
			size_t n = utf8_get(s + end, &c);

			if (!(class[c] & CLASS_JOINS))
				break;
			end += n;
		}
		buf_add(out, s + done, begin - done);
		normalise(out, s + begin, end - begin);
		done = end;
		at = joining(s, end, len);
	}
	buf_add(out, s + done, len - done);
	return true;
}
