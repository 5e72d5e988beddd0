/* SPDX-License-Identifier: MIT
 *
 * A tokenizer.json is hostile: what is wrong with it is said with file and field, and nothing in it
 * crashes the reader. First faults by hand, each with the words that its error must hold; then the
 * small vocabularies of the golden tests, mutated at random from a seed.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "tokenizer/tokenizer.h"
#include "base/num.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define GOLDEN	  "tests/golden/tokenizer/"
#define MUTATIONS 400 /* of each vocabulary */
#define SEED	  1

static char *read_file(const char *path, size_t *len)
{
	FILE *f = fopen(path, "rb");
	char *data = xmalloc(1 << 20);

	assert_non_null(f);
	*len = fread(data, 1, (1 << 20) - 1, f);
	data[*len] = 0;
	fclose(f);
	return data;
}

/* Replace the first `from` by `to`. */
static char *replaced(const char *s, const char *from, const char *to)
{
	const char *found = strstr(s, from);

	if (!found)
		fail_msg("the fixture has no %s", from);
	return xasprintf("%.*s%s%s", (int)(found - s), s, to, found + strlen(from));
}

static void expect_error(const char *json, size_t len, const char *words)
{
	struct tokenizer *t;
	struct err err = {0};

	assert_int_equal(tokenizer_parse(&t, json, len, "tokenizer.json", &err), RC_FATAL);
	assert_null(t);
	if (strncmp(err.text, "tokenizer.json: ", 16) || !strstr(err.text, words))
		fail_msg("expected \"%s\" in: %s", words, err.text);
}

static const struct {
	const char *from, *to, *words;
} faults[] = {
	{"\"version\"", "\"verso\"", "\"verso\" is not known"},
	{"\"truncation\"", "\"version\"", "\"version\" a second time"},
	{"\"model\":{", "\"model\":[", "model: '{' expected"},
	{"\"type\":\"BPE\"", "\"type\":\"Unigram\"", "model.type: \"Unigram\""},
	{"\"type\":\"BPE\"", "\"typ\":\"BPE\"", "model: field \"typ\""},
	{"\"dropout\":null", "\"dropout\":0.1", "model.dropout: 0.1"},
	{"\"byte_fallback\":false", "\"byte_fallback\":true", "model.byte_fallback: true"},
	{"\"ignore_merges\":false", "\"ignore_merges\":1", "model.ignore_merges: 1"},
	{"\"end_of_word_suffix\":null", "\"end_of_word_suffix\":\"</w>\"",
	 "model.end_of_word_suffix"},
	{"\"!\":0,", "", "model.vocab: no token for byte 0x21"},
	{"\"!\":0,", "\"!\":1,", "model.vocab: id 1 a second time"},
	{"\"!\":0,", "\"!\":0,\"!\":4000,", "model.vocab: the token of id 4000 a second time"},
	{"\"!\":0,", "\"!\":4194304,", "model.vocab: number over"},
	{"\"!\":0,", "\"!\":-1,", "model.vocab: whole number"},
	{"\"!\":0,", "\"!\":0.5,", "model.vocab: whole number"},
	{"\"!\":0,", "\"!\":99999999999999999999999999,", "model.vocab: number over"},
	{"\"!\":0,", "\"!\":[[0]],", "model.vocab: whole number"},
	{"\"!\":0,", "\"!\":0,\"\":4000,", "model.vocab: a token of 0 bytes"},
	{"\"!\":0,", "\"!\":0,\"\\ud800\":4000,", "model.vocab: half of a surrogate pair"},
	{"\"!\":0,", "\"!\":0,\"\xff\":4000,", "not UTF-8"},
	{"\"merges\":[[", "\"merges\":[[\"never seen\",\"x\"],[", "model.merges: [0]: a part"},
	{"\"merges\":[[", "\"merges\":[[\"!\",\"!\"],[", "model.merges: [0]: its result"},
	{"\"merges\":[[", "\"merges\":[[\"!\"],[", "model.merges: two parts"},
	{"\"merges\":[[", "\"merges\":[[\"!\",\"!\",\"!\"],[", "model.merges: two parts"},
	{"\"merges\":[[", "\"merges\":[\"! ! !\",[", "model.merges: two parts"},
	{"\"merges\":[[", "\"merges\":[7,[", "model.merges: '[' expected"},
	{"\"merges\":[", "\"merge\":[", "\"merge\" is not known"},
	{"\"normalizer\":{\"type\":\"NFC\"}", "\"normalizer\":{\"type\":\"NFKC\"}",
	 "normalizer.type: \"NFKC\""},
	{"\"normalizer\":{\"type\":\"NFC\"}", "\"normalizer\":{\"type\":\"NFC\",\"strip\":1}",
	 "normalizer: field \"strip\""},
	{"\"behavior\":\"Isolated\"", "\"behavior\":\"MergedWithNext\"",
	 "pre_tokenizer.pretokenizers[0].behavior: \"MergedWithNext\""},
	{"\"invert\":false", "\"invert\":0", "pretokenizers[0].invert: true or false"},
	{"\"Regex\":\"(?i:", "\"Regex\":\"(?m:", "pre_tokenizer: a group that is not known"},
	{"\"Regex\":\"(?i:", "\"Regex\":\"\\\\w(?i:", "pre_tokenizer: an escape that is not known"},
	{"\"Regex\":\"(?i:", "\"Regex\":\"[a&&b](?i:", "pre_tokenizer: '&&' in brackets"},
	{"\"Regex\":\"(?i:", "\"Regex\":\"(((?i:", "pre_tokenizer: missing closing parenthesis"},
	{"\"Regex\":\"(?i:", "\"Regexp\":\"(?i:", "pretokenizers[0].pattern"},
	{"{\"type\":\"ByteLevel\"", "{\"type\":\"Metaspace\"",
	 "pre_tokenizer.pretokenizers[1].type"},
	{"\"use_regex\":", "\"use_regexp\":", "field \"use_regexp\""},
	{"\"decoder\":{\"type\":\"ByteLevel\"", "\"decoder\":{\"type\":\"WordPiece\"",
	 "decoder.type"},
	{"\"post_processor\":null", "\"post_processor\":{\"type\":\"Bert\"}",
	 "post_processor.type"},
	{"\"post_processor\":null",
	 "\"post_processor\":{\"type\":\"TemplateProcessing\",\"single\":"
	 "[{\"SpecialToken\":{\"id\":\"x\"}}],\"special_tokens\":{\"x\":{\"ids\":[999999]}}}",
	 "post_processor.special_tokens: no token"},
	{"\"special\":true", "\"special\":3", "added_tokens[2].special"},
	{"\"content\":\"<|im_end|>\"", "\"content\":\"<|im_start|>\"", "added_tokens["},
	{"\"content\":\"<|im_end|>\"", "\"content\":\"\"", "].content: 1 to"},
	{"\"content\":\"<|im_end|>\"", "\"content\":\"a\"", "but model.vocab has it as"},
	{"\"added_tokens\":[{\"id\":", "\"added_tokens\":[{\"id\":99999999999",
	 "added_tokens[0].id"},
	{"\"added_tokens\":[{", "\"added_tokens\":[{\"id\":1,",
	 "added_tokens: duplicate object key"},
};

static void test_faults_are_named(void **state)
{
	size_t len;
	char *json = read_file(GOLDEN "qwen2/tokenizer.json", &len), *broken;

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(faults); i++) {
		broken = replaced(json, faults[i].from, faults[i].to);
		expect_error(broken, strlen(broken), faults[i].words);
		free(broken);
	}
	expect_error(json, len - 1, "byte ");
	expect_error(json, 0, "'{' expected");
	expect_error("{}", 2, "model: missing");
	broken = xasprintf("%s{}", json);
	expect_error(broken, len + 2, "more than one value");
	free(broken);
	broken = xmalloc(1 << 20);
	memset(broken, '[', 1 << 20);
	memcpy(broken, "{\"model\":", 9);
	expect_error(broken, 1 << 20, "nested more than 64 deep");
	free(broken);
	free(json);
}

static void write_file(const char *folder, const char *name, const char *text)
{
	char *path = xasprintf("%s/%s", folder, name);
	FILE *f = fopen(path, "wb");

	assert_non_null(f);
	fputs(text, f);
	fclose(f);
	free(path);
}

static void expect_config(const char *folder, const char *config, const char *words)
{
	struct tokenizer *t;
	struct err err = {0};

	write_file(folder, "tokenizer_config.json", config);
	assert_int_equal(tokenizer_open(&t, folder, &err), words ? RC_FATAL : RC_OK);
	if (words && !strstr(err.text, words))
		fail_msg("expected \"%s\" in: %s", words, err.text);
	tokenizer_free(t);
}

static void test_folders(void **state)
{
	char folder[] = "/tmp/cloister-tokenizer-XXXXXX", *path;
	struct tokenizer *t;
	struct err err;
	size_t len;
	char *json = read_file(GOLDEN "qwen2/tokenizer.json", &len);

	(void)state;
	assert_non_null(mkdtemp(folder));
	assert_int_equal(tokenizer_open(&t, folder, &err), RC_FATAL);
	assert_non_null(strstr(err.text, "tokenizer.json: No such file"));
	write_file(folder, "tokenizer.json", json);
	expect_config(folder, "{\"eos_token\":\"<|im_end|>\"}", NULL);
	expect_config(folder, "{\"eos_token\":{\"content\":\"<|im_end|>\"}}", NULL);
	expect_config(folder, "{\"eos_token\":\"</s>\"}", "tokenizer_config.json: eos_token");
	expect_config(folder, "{\"eos_token\":[]}", "tokenizer_config.json: eos_token");
	expect_config(folder, "[]", "tokenizer_config.json: an object");
	expect_config(folder, "{\"added_tokens_decoder\":{\"5\":{\"content\":\"<|im_end|>\"}}}",
		      "added_tokens_decoder.5");
	for (int i = 0; i < 2; i++) {
		path = xasprintf("%s/%s", folder, i ? "tokenizer.json" : "tokenizer_config.json");
		unlink(path);
		free(path);
	}
	rmdir(folder);
	free(json);
}

static uint64_t state_of_random = SEED * 0x9e3779b97f4a7c15u;

static size_t random_below(size_t n)
{
	state_of_random ^= state_of_random << 13;
	state_of_random ^= state_of_random >> 7;
	state_of_random ^= state_of_random << 17;
	return (size_t)(state_of_random >> 11) % n;
}

/* Where a mutation may matter: half of them near the small members at either end of the file. */
static size_t random_place(size_t len)
{
	size_t end = len < 3000 ? len : 3000;

	return random_below(2) ? random_below(len) : random_below(end);
}

static void mutate(char *s, size_t *len)
{
	static const char *const words[] = {"null", "[]", "{}",	     "\"",     "99999999", "-1",
					    "true", "[[", "\\u0000", "(?<!a*", "{9999}",   "*",
					    "\\",   ",",  "}",	     "]"};
	size_t at = random_place(*len), n, to;
	const char *word;

	switch (random_below(4)) {
	case 0:
		s[at] = (char)random_below(256);
		break;
	case 1:
		word = words[random_below(ARRAY_SIZE(words))];
		n = min_u64(strlen(word), *len - at);
		memcpy(s + at, word, n);
		break;
	case 2: /* cut */
		n = min_u64(random_below(200), *len - at);
		memmove(s + at, s + at + n, *len - at - n);
		*len -= n;
		break;
	case 3: /* repeat another part */
		to = random_place(*len);
		n = min_u64(random_below(60), *len - (at > to ? at : to));
		memmove(s + to, s + at, n);
		break;
	}
}

static bool try_one(const char *json, size_t len)
{
	static const char text[] =
		"Hello don't WORLD \xe4\xbd\xa0\xe5\xa5\xbd 123\r\n\t e\xcc\x81<|im_end|>\xff";
	struct token_ids ids = {0};
	struct tokenizer *t;
	struct buf out;
	struct err err = {0};
	char *exact = xmalloc(len + !len);

	/* Without a byte behind it, so that a sanitizer sees each that is read too far. */
	memcpy(exact, json, len);
	if (tokenizer_parse(&t, exact, len, "tokenizer.json", &err)) {
		assert_int_equal(strncmp(err.text, "tokenizer.json: ", 16), 0);
		free(exact);
		return false;
	}
	buf_init(&out, 1 << 16);
	if (!tokenizer_encode(t, text, sizeof(text) - 1, ENCODE_ADDED | ENCODE_TEMPLATE, &ids,
			      &err))
		tokenizer_decode(t, ids.id, ids.count, true, &out);
	for (size_t i = 0; i < ids.count; i++)
		assert_true(ids.id[i] < tokenizer_size(t));
	token_ids_release(&ids);
	buf_release(&out);
	tokenizer_free(t);
	free(exact);
	return true;
}

static void test_mutations(void **state)
{
	static const char *const names[] = {"qwen2", "qwen35", "o200k", "llama3", "odd"};
	size_t accepted = 0;

	(void)state;
	for (size_t n = 0; n < ARRAY_SIZE(names); n++) {
		char *path = xasprintf(GOLDEN "%s/tokenizer.json", names[n]);
		size_t len, now;
		char *json = read_file(path, &len), *copy = xmalloc(len + 1);

		assert_true(try_one(json, len));
		for (int i = 0; i < MUTATIONS; i++) {
			now = len;
			memcpy(copy, json, len);
			for (size_t k = random_below(3) + 1; k; k--)
				mutate(copy, &now);
			accepted += try_one(copy, now);
		}
		free(copy);
		free(json);
		free(path);
	}
	print_message("# figure: mutated tokenizer.json: %zu, %zu of them accepted, no crash\n",
		      MUTATIONS * ARRAY_SIZE(names), accepted);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_faults_are_named),
		cmocka_unit_test(test_folders),
		cmocka_unit_test(test_mutations),
	};

	cmocka_set_message_output(CM_OUTPUT_TAP);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
