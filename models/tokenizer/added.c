/* SPDX-License-Identifier: MIT
 *
 * added: finds the added tokens in a text, the leftmost, and of those that begin there the longest.
 *
 * Tokens that are not `normalized` are looked for in the text as it is, the others in what the
 * normaliser makes of it, themselves normalised. A match that its flags discard is passed over
 * whole, as the reference does.
 */
#include "tokenizer/internal.h"
#include "tokenizer/unicode.h"

#include <stdlib.h>
#include <string.h>

static int compare(const void *a, const void *b)
{
	const struct added *x = *(const struct added *const *)a,
			   *y = *(const struct added *const *)b;
	unsigned char first_x = (unsigned char)*x->text, first_y = (unsigned char)*y->text;

	if (first_x != first_y)
		return first_x < first_y ? -1 : 1;
	if (x->len != y->len)
		return x->len > y->len ? -1 : 1;
	return x->id < y->id ? -1 : x->id > y->id;
}

static void matcher_make(struct matcher *m, const struct tokenizer *t, bool normalized)
{
	size_t at = 0;

	m->token = xcalloc(t->added_count + 1, sizeof(*m->token));
	for (size_t i = 0; i < t->added_count; i++)
		if (t->added[i].normalized == normalized)
			m->token[m->count++] = &t->added[i];
	qsort(m->token, m->count, sizeof(*m->token), compare);
	for (unsigned c = 0; c < 256; c++) {
		m->first[c] = at;
		while (at < m->count && (unsigned char)*m->token[at]->text == c)
			at++;
	}
	m->first[256] = at;
}

void added_prepare(struct tokenizer *t)
{
	matcher_make(&t->raw, t, false);
	matcher_make(&t->normalized, t, true);
}

void added_release(struct tokenizer *t)
{
	for (size_t i = 0; i < t->added_count; i++)
		free(t->added[i].text);
	free(t->added);
	free(t->raw.token);
	free(t->normalized.token);
	strings_release(&t->added_names);
}

static const struct added *match_at(const struct matcher *m, const char *s, size_t len)
{
	unsigned char c = (unsigned char)*s;

	for (size_t i = m->first[c]; i < m->first[c + 1]; i++) {
		const struct added *a = m->token[i];

		if (a->len <= len && !memcmp(a->text, s, a->len))
			return a;
	}
	return NULL;
}

static bool is_class(const char *s, size_t at, unsigned char class)
{
	uint32_t c;

	utf8_get(s + at, &c);
	return unicode_classes()[c] & class;
}

static bool stands_alone(const char *s, size_t len, size_t start, size_t stop)
{
	return (!start || !is_class(s, utf8_back(s, start), CLASS_WORD)) &&
	       (stop == len || !is_class(s, stop, CLASS_WORD));
}

bool added_next(const struct matcher *m, const char *s, size_t len, size_t *at, size_t done,
		struct added_match *match)
{
	while (*at < len) {
		const struct added *a = match_at(m, s + *at, len - *at);
		size_t start = *at, stop;
		uint32_t c;

		if (!a) {
			++*at;
			continue;
		}
		stop = *at += a->len;
		if (a->single_word && !stands_alone(s, len, start, stop))
			continue;
		while (a->lstrip && start > done && is_class(s, utf8_back(s, start), CLASS_SPACE))
			start = utf8_back(s, start);
		while (a->rstrip && stop < len && is_class(s, stop, CLASS_SPACE))
			stop += utf8_get(s + stop, &c);
		*match = (struct added_match){a, start, stop};
		return true;
	}
	return false;
}
