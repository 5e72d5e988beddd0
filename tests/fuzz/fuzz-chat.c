/* SPDX-License-Identifier: MIT
 *
 * The chat template and prompt.txt of a model folder, and the text that a prompt is about, parted
 * by lines of "---": whatever they say, no special token but the template's own comes out.
 */
#include "fuzz.h"

#include "chat.h"

enum { ROWS = 2, COLUMNS = 3 };

static struct tokenizer *tokenizer;
static uint32_t start_token, end_token;

static void prepare(void)
{
	struct err err;

	CHECK(tokenizer_open(&tokenizer, "tests/golden/tokenizer/qwen2", &err) == RC_OK);
	CHECK(tokenizer_find(tokenizer, "<|im_start|>", &start_token));
	CHECK(tokenizer_find(tokenizer, "<|im_end|>", &end_token));
}

static size_t count_of(const struct token_ids *ids, uint32_t id)
{
	size_t n = 0;

	for (size_t i = 0; i < ids->count; i++)
		n += ids->id[i] == id;
	return n;
}

static void check_prompt(const struct chat *c, const struct chat_message *m)
{
	struct token_ids ids = {0};
	size_t first, turns = c->system ? 3 : 2, special = 0;
	struct err err;
	enum rc rc = chat_build(c, m, &ids, &first, &err);

	if (rc) {
		check_err(rc, &err);
	} else {
		for (size_t i = 0; i < ids.count; i++) {
			CHECK(ids.id[i] < c->config->text.vocab);
			special += tokenizer_is_special(tokenizer, ids.id[i]);
		}
		CHECK(count_of(&ids, start_token) == turns &&
		      count_of(&ids, end_token) == turns - 1);
		CHECK(special == 2 * turns - 1);
		CHECK(!m->rows || ids.id[first - 1] == c->config->vision_start);
		for (size_t i = 0; i < (size_t)m->rows * m->columns; i++)
			CHECK(ids.id[first + i] == c->config->image_token);
	}
	token_ids_release(&ids);
}

static void write_parts(int folder, const char *at, const char *end, const char *rest[2])
{
	static const char *const names[] = {"chat_template.jinja", "chat_template.json",
					    "tokenizer_config.json", "prompt.txt"};

	for (size_t i = 0; i < ARRAY_SIZE(names); i++) {
		const char *stop = memmem(at, (size_t)(end - at), "---\n", 4);

		unlinkat(folder, names[i], 0);
		/* An empty part is a file that is not there. */
		if (at < (stop ? stop : end))
			fuzz_write(folder, names[i], at, (size_t)((stop ? stop : end) - at));
		at = stop ? stop + 4 : end;
	}
	rest[0] = at;
	rest[1] = end;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static const enum family families[] = {FAMILY_QWEN3, FAMILY_QWEN2_5_VL, FAMILY_QWEN3_VL};
	int folder = fuzz_folder();
	const char *rest[2];

	if (!tokenizer)
		prepare();
	write_parts(folder, (const char *)data, (const char *)data + size, rest);
	for (size_t f = 0; f < ARRAY_SIZE(families); f++) {
		struct model_config config = {.family = families[f],
					      .text.vocab = 2000,
					      .vision.depth = f > 0,
					      .vision_start = 1901,
					      .image_token = 1902,
					      .vision_end = 1903};
		char *text = strndup(rest[0], (size_t)(rest[1] - rest[0]));
		struct chat_message m = {.rows = f ? ROWS : 0, .columns = COLUMNS, .text = text};
		struct chat chat;
		struct err err;
		enum rc rc = chat_open(&chat, fuzz_path, &config, tokenizer, &err);

		if (rc) {
			check_err(rc, &err);
			free(text);
			return 0;
		}
		m.prompt = chat.prompt ? chat.prompt : "Read it.";
		check_prompt(&chat, &m);
		chat_release(&chat);
		free(text);
	}
	return 0;
}
