/* SPDX-License-Identifier: MIT
 *
 * tokenizer.json, and behind a line of "---" its tokenizer_config.json: a tokenizer that is let
 * through knows every id it gives, and text comes back as it went in.
 */
#include "fuzz.h"

#include "tokenizer/tokenizer.h"

static const char text[] =
	"Don't WORLD \xe4\xbd\xa0\xe5\xa5\xbd 123\r\n\t e\xcc\x81 <|im_end|> aaaa\xff";

static void check_ids(const struct tokenizer *t, const struct token_ids *ids)
{
	size_t len;

	for (size_t i = 0; i < ids->count; i++)
		CHECK(ids->id[i] < tokenizer_size(t) && tokenizer_bytes(t, ids->id[i], &len));
}

/* By the whole, and token by token: the same valid UTF-8. */
static void check_decode(const struct tokenizer *t, const struct token_ids *ids)
{
	struct token_stream stream = {.len = 0};
	struct buf whole, pieces;

	buf_init(&whole, 1 << 20);
	buf_init(&pieces, 1 << 20);
	tokenizer_decode(t, ids->id, ids->count, false, &whole);
	for (size_t i = 0; i < ids->count; i++)
		token_stream_push(&stream, t, ids->id[i], &pieces);
	token_stream_end(&stream, &pieces);
	CHECK(whole.len == pieces.len &&
	      (!whole.len || !memcmp(whole.data, pieces.data, whole.len)));
	CHECK(!whole.len || utf8_valid(whole.data, whole.len));
	buf_release(&whole);
	buf_release(&pieces);
}

static void check_tokenizer(struct tokenizer *t)
{
	static const unsigned flags[] = {0, ENCODE_ADDED | ENCODE_TEMPLATE};
	struct err err;
	uint32_t id;

	CHECK(!tokenizer_eos(t, &id) || id < tokenizer_size(t));
	for (size_t i = 0; i < ARRAY_SIZE(flags); i++) {
		struct token_ids ids = {0};
		enum rc rc = tokenizer_encode(t, text, sizeof(text) - 1, flags[i], &ids, &err);

		if (rc)
			check_err(rc, &err);
		check_ids(t, &ids);
		check_decode(t, &ids);
		token_ids_release(&ids);
	}
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	const char *stop = memmem(data, size, "---\n", 4);
	size_t first = stop ? (size_t)(stop - (const char *)data) : size;
	int folder = fuzz_folder();
	struct tokenizer *t;
	struct err err;
	enum rc rc;

	fuzz_write(folder, "tokenizer.json", data, first);
	unlinkat(folder, "tokenizer_config.json", 0);
	if (stop)
		fuzz_write(folder, "tokenizer_config.json", stop + 4, size - first - 4);
	rc = tokenizer_open(&t, fuzz_path, &err);
	if (rc) {
		check_err(rc, &err);
		CHECK(!t && strstr(err.text, "tokenizer"));
		return 0;
	}
	check_tokenizer(t);
	tokenizer_free(t);
	return 0;
}
