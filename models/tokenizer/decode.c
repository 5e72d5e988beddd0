/* SPDX-License-Identifier: MIT
 *
 * decode: ids to text. Tokens are bytes, and a character may be spread over several: their bytes
 * are put together first, and what is no UTF-8 then is replaced.
 */
#include "tokenizer/internal.h"
#include "tokenizer/unicode.h"

#include <string.h>

size_t tokenizer_size(const struct tokenizer *t)
{
	return t->size;
}

const char *tokenizer_bytes(const struct tokenizer *t, uint32_t id, size_t *len)
{
	if (id >= t->size || !t->token[id].len)
		return NULL;
	*len = t->token[id].len;
	return t->bytes.data + t->token[id].at;
}

bool tokenizer_find(const struct tokenizer *t, const char *text, uint32_t *id)
{
	return strings_find(&t->added_names, text, strlen(text), id);
}

bool tokenizer_is_special(const struct tokenizer *t, uint32_t id)
{
	return id < t->size && t->token[id].special;
}

bool tokenizer_eos(const struct tokenizer *t, uint32_t *id)
{
	*id = t->eos;
	return t->eos != NO_TOKEN;
}

void token_stream_push(struct token_stream *stream, const struct tokenizer *t, uint32_t id,
		       struct buf *out)
{
	size_t len = 0, used = 0, rest;
	const char *bytes = tokenizer_bytes(t, id, &len);

	/* Byte by byte while something is kept back: it is whole or wrong after three at most. */
	while (stream->len && used < len) {
		char joined[4];

		memcpy(joined, stream->carry, stream->len);
		joined[stream->len] = bytes[used++];
		utf8_replace(out, joined, stream->len + 1, &rest);
		memcpy(stream->carry, joined + stream->len + 1 - rest, rest);
		stream->len = rest;
	}
	if (used == len)
		return;
	utf8_replace(out, bytes + used, len - used, &rest);
	memcpy(stream->carry, bytes + len - rest, rest);
	stream->len = rest;
}

void token_stream_end(struct token_stream *stream, struct buf *out)
{
	utf8_replace(out, (const char *)stream->carry, stream->len, NULL);
	stream->len = 0;
}

void tokenizer_decode(const struct tokenizer *t, const uint32_t *ids, size_t count,
		      bool skip_special, struct buf *out)
{
	struct token_stream stream = {0};

	for (size_t i = 0; i < count; i++)
		if (!skip_special || !tokenizer_is_special(t, ids[i]))
			token_stream_push(&stream, t, ids[i], out);
	token_stream_end(&stream, out);
}
