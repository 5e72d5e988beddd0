/* SPDX-License-Identifier: MIT
 *
 * The tokenizer against golden ids of the reference implementation, and what it promises besides:
 * scanners by hand find the same words as PCRE2, text cannot speak for the template, a stream of
 * tokens decodes as the whole does, and nothing is quadratic.
 *
 * The golden files are made by tests/models/tokenizer-reference.py; a FOLDER and a mode run the
 * tool that it compares with.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "tokenizer-tool.h"
#include "tokenizer/split.h"
#include "tokenizer/unicode.h"
#include "base/num.h"

#include <unistd.h>

#define GOLDEN "tests/golden/tokenizer/"
#define REAL   "../shared/tokenizers/"

static struct strings_in golden;

static struct tokenizer *open_or_fail(const char *folder)
{
	struct tokenizer *t;
	struct err err;

	if (tokenizer_open(&t, folder, &err))
		fail_msg("%s", err.text);
	return t;
}

static uint32_t fnv(uint32_t h, const void *data, size_t len)
{
	const unsigned char *bytes = data;

	for (size_t i = 0; i < len; i++)
		h = (h ^ bytes[i]) * 0x01000193u;
	return h;
}

static uint32_t hash_of(struct tokenizer *t, const char *s, size_t len, unsigned flags)
{
	struct token_ids ids = {0};
	struct buf text;
	struct err err;
	uint32_t h;

	buf_init(&text, 1 << 20);
	if (tokenizer_encode(t, s, len, flags, &ids, &err))
		fail_msg("%s", err.text);
	tokenizer_decode(t, ids.id, ids.count, false, &text);
	h = fnv(0x811c9dc5u, ids.id, ids.count * sizeof(*ids.id));
	h = fnv(h, text.data, text.len);
	token_ids_release(&ids);
	buf_release(&text);
	return h;
}

static void check_golden(const char *folder, const char *hashes)
{
	static const unsigned flags[] = {ENCODE_ADDED, 0, ENCODE_ADDED | ENCODE_TEMPLATE};
	struct tokenizer *t = open_or_fail(folder);
	FILE *f = fopen(hashes, "rb");
	size_t wrong = 0;

	assert_non_null(f);
	for (size_t mode = 0; mode < ARRAY_SIZE(flags); mode++) {
		for (size_t i = 0; i < golden.count; i++) {
			uint32_t want;

			assert_int_equal(fread(&want, 4, 1, f), 1);
			if (hash_of(t, golden.s[i], golden.len[i], flags[mode]) == want)
				continue;
			if (!wrong++)
				print_error("%s: mode %zu: string %zu differs\n", folder, mode, i);
		}
	}
	fclose(f);
	tokenizer_free(t);
	assert_int_equal(wrong, 0);
}

static void test_small_vocabularies(void **state)
{
	static const char *const names[] = {"qwen2", "qwen35", "o200k", "llama3", "gpt2", "odd"};

	(void)state;
	assert_true(golden.count > 900);
	for (size_t i = 0; i < ARRAY_SIZE(names); i++) {
		char *folder = xasprintf(GOLDEN "%s", names[i]);
		char *hashes = xasprintf(GOLDEN "%s.golden", names[i]);

		check_golden(folder, hashes);
		free(folder);
		free(hashes);
	}
}

static void test_real_vocabularies(void **state)
{
	(void)state;
	if (access(REAL "qwen3/tokenizer.json", R_OK) || access(REAL "o200k/tokenizer.json", R_OK))
		skip();
	check_golden(REAL "qwen3", GOLDEN "real-qwen3.golden");
	check_golden(REAL "o200k", GOLDEN "real-o200k.golden");
}

/* The same pieces, both ways, in one text. */
static void compare_splits(struct split *a, struct split *b, const char *s, size_t len)
{
	struct split_at at_a = {0}, at_b = {0};
	size_t start_a, stop_a, start_b, stop_b, end = 0;
	struct err err;
	enum rc rc;

	for (;;) {
		bool more = split_next(a, s, len, &at_a, &start_a, &stop_a, &rc, &err);

		assert_int_equal(split_next(b, s, len, &at_b, &start_b, &stop_b, &rc, &err), more);
		assert_int_equal(rc, RC_OK);
		if (!more)
			break;
		if (start_a != start_b || stop_a != stop_b)
			fail_msg("byte %zu: by hand to %zu, by PCRE2 from %zu to %zu", start_a,
				 stop_a, start_b, stop_b);
		end = stop_a;
	}
	assert_int_equal(end, len);
}

static void add_point(struct buf *out, uint32_t c)
{
	if (c < 0x80) {
		buf_addc(out, (char)c);
		return;
	}
	if (c >= 0x10000) {
		buf_addc(out, (char)(0xf0 | c >> 18));
		buf_addc(out, (char)(0x80 | (c >> 12 & 0x3f)));
	} else if (c >= 0x800) {
		buf_addc(out, (char)(0xe0 | c >> 12));
	}
	buf_addc(out, (char)(c >= 0x800 ? 0x80 | (c >> 6 & 0x3f) : 0xc0 | c >> 6));
	buf_addc(out, (char)(0x80 | (c & 0x3f)));
}

static uint64_t state_of_random = 88172645463325252u;

static uint32_t random_below(uint32_t n)
{
	state_of_random ^= state_of_random << 13;
	state_of_random ^= state_of_random >> 7;
	state_of_random ^= state_of_random << 17;
	return (uint32_t)(state_of_random >> 33) % n;
}

/* Every assigned code point among letters, spaces, quotes and digits; then many in random order. */
static void make_points(struct buf *out)
{
	static const uint32_t mixed[] = {'a',	 'A',  ' ',   '\n',  '\r',  '1',   '\'',
					 '\'',	 's',  'L',   'l',   't',   'r',   'E',
					 'v',	 'm',  'd',   '/',   '.',   0x301, 0x2b0,
					 0x4e2d, 0xa0, 0x1c5, 0x17f, 0x93c, 0x3000};

	for (uint32_t c = 0; c < 0xe0200; c++) {
		if (c == 0x32400)
			c = 0xe0000;
		if (c >= 0xd800 && c < 0xe000)
			continue;
		buf_addc(out, "a A\n1'"[c % 6]);
		add_point(out, c);
		buf_addc(out, "bB 2/"[c % 5]);
	}
	for (int i = 0; i < 300000; i++) {
		uint32_t c = random_below(3) ? mixed[random_below(ARRAY_SIZE(mixed))]
					     : random_below(0x3000);
		add_point(out, c);
	}
}

static void test_words_as_by_regex(void **state)
{
	static const char *const names[] = {"qwen2", "qwen35", "llama3", "o200k"};
	static const char *const regexes[] = {
		"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\\r\\n\\p{L}\\p{N}]?\\p{L}+|\\p{N}| "
		"?[^\\s\\p{L}\\p{N}]+[\\r\\n]*|\\s*[\\r\\n]+|\\s+(?!\\S)|\\s+",
		"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\\r\\n\\p{L}\\p{N}]?[\\p{L}\\p{M}]+|\\p{N}| "
		"?[^\\s\\p{L}\\p{M}\\p{N}]+[\\r\\n]*|\\s*[\\r\\n]+|\\s+(?!\\S)|\\s+",
		"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\\r\\n\\p{L}\\p{N}]?\\p{L}+|\\p{N}{1,3}| "
		"?[^\\s\\p{L}\\p{N}]+[\\r\\n]*|\\s*[\\r\\n]+|\\s+(?!\\S)|\\s+",
		"[^\\r\\n\\p{L}\\p{N}]?[\\p{Lu}\\p{Lt}\\p{Lm}\\p{Lo}\\p{M}]*[\\p{Ll}\\p{Lm}\\p{Lo}"
		"\\p{"
		"M}]+(?i:'s|'t|'re|'ve|'m|'ll|'d)?|[^\\r\\n\\p{L}\\p{N}]?[\\p{Lu}\\p{Lt}\\p{Lm}\\p{"
		"Lo}"
		"\\p{M}]+[\\p{Ll}\\p{Lm}\\p{Lo}\\p{M}]*(?i:'s|'t|'re|'ve|'m|'ll|'d)?|\\p{N}{1,3}| "
		"?[^\\s\\p{L}\\p{N}]+[\\r\\n/]*|\\s*[\\r\\n]+|\\s+(?!\\S)|\\s+",
	};
	struct buf points;

	(void)state;
	buf_init(&points, 16 << 20);
	make_points(&points);
	assert_false(points.overflow);
	assert_int_equal(utf8_valid_prefix(points.data, points.len), points.len);
	for (size_t i = 0; i < ARRAY_SIZE(regexes); i++) {
		size_t len = strlen(regexes[i]);
		struct split *hand, *regex;
		struct err err;

		print_message("# %s\n", names[i]);
		assert_non_null(words_known(regexes[i], len));
		assert_int_equal(
			split_new(&hand, regexes[i], len, SPLIT_KEEP_ALL, SPLIT_BEST, "", &err),
			RC_OK);
		assert_int_equal(
			split_new(&regex, regexes[i], len, SPLIT_KEEP_ALL, SPLIT_REGEX, "", &err),
			RC_OK);
		compare_splits(hand, regex, points.data, points.len);
		split_free(hand);
		split_free(regex);
	}
	buf_release(&points);
}

static void check_text(struct tokenizer *t, const char *s, unsigned flags, size_t count,
		       uint32_t first)
{
	struct token_ids ids = {0};
	struct buf text;
	struct err err;

	buf_init(&text, 4096);
	assert_int_equal(tokenizer_encode(t, s, strlen(s), flags, &ids, &err), RC_OK);
	tokenizer_decode(t, ids.id, ids.count, false, &text);
	assert_string_equal(text.data, s);
	if (count)
		assert_int_equal(ids.count, count);
	assert_int_equal(ids.id[0] == first, flags & ENCODE_ADDED);
	for (size_t i = 0; !(flags & ENCODE_ADDED) && i < ids.count; i++)
		assert_false(tokenizer_is_special(t, ids.id[i]));
	token_ids_release(&ids);
	buf_release(&text);
}

static void test_text_is_only_text(void **state)
{
	struct tokenizer *t = open_or_fail(GOLDEN "qwen2");
	struct buf text;
	uint32_t id, eos;

	(void)state;
	assert_true(tokenizer_find(t, "<|im_start|>", &id));
	assert_false(tokenizer_find(t, "<|im_", &eos));
	assert_false(tokenizer_eos(t, &eos));
	assert_true(tokenizer_is_special(t, id));
	assert_true(id < tokenizer_size(t));
	check_text(t, "<|im_start|>", ENCODE_ADDED, 1, id);
	check_text(t, "<|im_start|>", 0, 0, id);
	check_text(t, "<|im_start|><|im_end|><|im_end|>", ENCODE_ADDED, 3, id);
	check_text(t, "<|im_start|><|im_end|><|im_end|>", 0, 0, id);
	buf_init(&text, 64);
	tokenizer_decode(t, (const uint32_t[]){id, 0, id, UINT32_MAX}, 4, true, &text);
	assert_string_equal(text.data, "!");
	buf_release(&text);
	tokenizer_free(t);
}

/* Token by token, and the bytes that make no character as U+FFFD, one a maximal subpart. */
static void test_stream(void **state)
{
	static const char bytes[] = "a\xf0\x9f\x98\x80\xf0\x9f\x98z\xed\xa0\x80\xc0\xaf\xe2\x82";
	static const char want[] =
		"a\xf0\x9f\x98\x80\xef\xbf\xbdz\xef\xbf\xbd\xef\xbf\xbd\xef\xbf\xbd"
		"\xef\xbf\xbd\xef\xbf\xbd\xef\xbf\xbd";
	struct tokenizer *t = open_or_fail(GOLDEN "o200k");
	struct token_stream stream = {0};
	struct buf text;

	(void)state;
	buf_init(&text, 4096);
	for (size_t i = 0; i + 1 < sizeof(bytes); i++) {
		uint32_t id;
		size_t len = 0;

		for (id = 0; id < tokenizer_size(t); id++) {
			const char *token = tokenizer_bytes(t, id, &len);

			if (token && len == 1 && *token == bytes[i])
				break;
		}
		assert_true(id < tokenizer_size(t));
		token_stream_push(&stream, t, id, &text);
		assert_int_equal(utf8_valid_prefix(text.data, text.len), text.len);
	}
	token_stream_end(&stream, &text);
	assert_string_equal(text.data, want);
	buf_clear(&text);
	utf8_replace(&text, bytes, sizeof(bytes) - 1, NULL);
	assert_string_equal(text.data, want);
	buf_release(&text);
	tokenizer_free(t);
}

/* Texts of a megabyte, each the worst for some part; together they take a second or so. */
static void test_nothing_quadratic(void **state)
{
	static const char *const units[] = {
		"a", "ab",	     "1", " ", "\n ",  "<|",	       "\xcc\x81\xcc\xa3",
		"'", "\xe4\xb8\xad", "-", "A", "\xff", "<|im_start|>", "the "};
	static const char *const names[] = {"qwen2", "o200k", "odd"};
	size_t len = 1 << 20;
	char *s = xmalloc(len);
	double from = seconds(), limit = getenv("CLOISTER_SANITIZED") ? 100 : 30;

	(void)state;
	for (size_t n = 0; n < ARRAY_SIZE(names); n++) {
		char *folder = xasprintf(GOLDEN "%s", names[n]);
		struct tokenizer *t = open_or_fail(folder);

		for (size_t i = 0; i < ARRAY_SIZE(units); i++) {
			struct token_ids ids = {0};
			struct err err;

			for (size_t k = 0; k < len; k++)
				s[k] = units[i][k % strlen(units[i])];
			assert_int_equal(tokenizer_encode(t, s, len, ENCODE_ADDED, &ids, &err),
					 RC_OK);
			token_ids_release(&ids);
		}
		tokenizer_free(t);
		free(folder);
	}
	free(s);
	print_message("# 42 texts of 1 MiB: %.1f s\n", seconds() - from);
	assert_true(seconds() - from < limit);
}

int main(int argc, char **argv)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_small_vocabularies),
		cmocka_unit_test(test_real_vocabularies),
		cmocka_unit_test(test_words_as_by_regex),
		cmocka_unit_test(test_text_is_only_text),
		cmocka_unit_test(test_stream),
		cmocka_unit_test(test_nothing_quadratic),
	};
	FILE *f;
	int failed;

	if (argc > 2)
		return tool_main(argv[1], argv[2]);
	f = fopen(GOLDEN "strings", "rb");
	if (!f)
		die(EX_USAGE_ERROR, "run from the root of the source tree");
	read_strings(&golden, f);
	fclose(f);
	cmocka_set_message_output(CM_OUTPUT_TAP);
	failed = cmocka_run_group_tests(tests, NULL, NULL);
	release_strings(&golden);
	return failed;
}
