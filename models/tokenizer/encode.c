/* SPDX-License-Identifier: MIT
 *
 * encode: text to ids, in the order of the reference: added tokens of the text as it is,
 * normalisation of what lies between, added tokens of that, splits, merging.
 */
#include "tokenizer/internal.h"
#include "tokenizer/unicode.h"

#include <stdlib.h>

struct encoding {
	struct tokenizer *t;
	unsigned flags;
	struct token_ids *out;
	struct err *err;
};

void token_ids_add(struct token_ids *ids, uint32_t id)
{
	if (ids->count == ids->cap) {
		ids->cap = ids->cap ? ids->cap * 2 : 256;
		ids->id = xrealloc(ids->id, ids->cap * sizeof(*ids->id));
	}
	ids->id[ids->count++] = id;
}

void token_ids_release(struct token_ids *ids)
{
	free(ids->id);
	*ids = (struct token_ids){0};
}

/* s, cut by the splits from `level` on. */
static enum rc encode_words(struct encoding *e, size_t level, const char *s, size_t len)
{
	struct split_at at = {0};
	size_t start, stop;
	enum rc rc = RC_OK;

	if (level == e->t->prefix_before && *s != ' ') {
		struct buf prefixed;

		buf_init(&prefixed, len + 1);
		buf_addc(&prefixed, ' ');
		buf_add(&prefixed, s, len);
		rc = encode_words(e, level, prefixed.data, prefixed.len);
		buf_release(&prefixed);
		return rc;
	}
	if (level == e->t->split_count) {
		bpe_word(e->t, s, len, e->out);
		return RC_OK;
	}
	while (split_next(e->t->split[level], s, len, &at, &start, &stop, &rc, e->err)) {
		rc = encode_words(e, level + 1, s + start, stop - start);
		if (rc)
			break;
	}
	return rc;
}

static enum rc encode_added(struct encoding *, const struct matcher *, const char *s, size_t len);

/* What lies between added tokens. */
static enum rc encode_between(struct encoding *e, const struct matcher *found, const char *s,
			      size_t len)
{
	struct tokenizer *t = e->t;
	struct buf normal;
	enum rc rc;

	if (found == &t->normalized)
		return encode_words(e, 0, s, len);
	buf_init(&normal, len * 4 + 16);
	if (t->nfc && unicode_nfc(&normal, s, len)) {
		s = normal.data;
		len = normal.len;
	}
	rc = encode_added(e, &t->normalized, s, len);
	buf_release(&normal);
	return rc;
}

static enum rc encode_added(struct encoding *e, const struct matcher *m, const char *s, size_t len)
{
	size_t at = 0, done = 0;
	struct added_match match;
	enum rc rc;

	while (e->flags & ENCODE_ADDED && m->count && added_next(m, s, len, &at, done, &match)) {
		if (match.start > done) {
			rc = encode_between(e, m, s + done, match.start - done);
			if (rc)
				return rc;
		}
		token_ids_add(e->out, match.token->id);
		done = match.stop;
	}
	return done < len ? encode_between(e, m, s + done, len - done) : RC_OK;
}

enum rc tokenizer_encode(struct tokenizer *t, const char *text, size_t len, unsigned flags,
			 struct token_ids *out, struct err *err)
{
	struct encoding e = {t, flags, out, err};
	size_t before = out->count;
	struct buf repaired;
	enum rc rc;

	if (len > TEXT_MAX)
		return err_set(err, RC_FAILED, "text-too-long", "a text of %zu bytes", len);
	buf_init(&repaired, len * 3 + 1);
	if (utf8_valid_prefix(text, len) != len) {
		utf8_replace(&repaired, text, len, NULL);
		text = repaired.data;
		len = repaired.len;
	}
	for (size_t i = 0; flags & ENCODE_TEMPLATE && i < t->before.count; i++)
		token_ids_add(out, t->before.id[i]);
	rc = encode_added(&e, &t->raw, text, len);
	for (size_t i = 0; flags & ENCODE_TEMPLATE && i < t->after.count; i++)
		token_ids_add(out, t->after.id[i]);
	if (rc)
		out->count = before;
	buf_release(&repaired);
	return rc;
}
