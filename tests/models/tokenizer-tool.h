/* SPDX-License-Identifier: MIT
 *
 * tokenizer-tool: what tests/models/tokenizer-reference.py runs:
 *
 *   test-tokenizer FOLDER MODE...
 *
 * Strings come on standard input, each as a 32-bit length and its bytes. A mode is "ids" (of added
 * tokens too), "plain" (text is only text), "template": for each string the number of its ids, the
 * ids, the length of what they decode to, and that; or "time": one line with the seconds to load,
 * encode and decode, the best of five.
 */
#include "tokenizer/tokenizer.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

struct strings_in {
	char **s;
	uint32_t *len;
	size_t count, bytes;
};

static double seconds(void)
{
	struct timespec now;

	clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &now);
	return (double)now.tv_sec + (double)now.tv_nsec * 1e-9;
}

static void read_strings(struct strings_in *in, FILE *f)
{
	uint32_t len;

	memset(in, 0, sizeof(*in));
	while (fread(&len, 4, 1, f) == 1) {
		in->s = xrealloc(in->s, (in->count + 1) * sizeof(*in->s));
		in->len = xrealloc(in->len, (in->count + 1) * sizeof(*in->len));
		in->s[in->count] = xmalloc(len + 1ul);
		if (fread(in->s[in->count], 1, len, f) != len)
			die(EX_USAGE_ERROR, "a string is cut off");
		in->len[in->count++] = len;
		in->bytes += len;
	}
}

static void release_strings(struct strings_in *in)
{
	for (size_t i = 0; i < in->count; i++)
		free(in->s[i]);
	free(in->s);
	free(in->len);
}

static void tool_print(struct tokenizer *t, const struct strings_in *in, unsigned flags)
{
	struct token_ids ids = {0};
	struct buf text;
	struct err err;

	buf_init(&text, (size_t)1 << 30);
	for (size_t i = 0; i < in->count; i++) {
		uint32_t n;

		ids.count = 0;
		buf_clear(&text);
		if (tokenizer_encode(t, in->s[i], in->len[i], flags, &ids, &err))
			die(EX_SOME_FAILED, "%s", err.text);
		n = (uint32_t)ids.count;
		fwrite(&n, 4, 1, stdout);
		fwrite(ids.id, 4, n, stdout);
		tokenizer_decode(t, ids.id, ids.count, false, &text);
		n = (uint32_t)text.len;
		fwrite(&n, 4, 1, stdout);
		fwrite(text.data, 1, n, stdout);
	}
	buf_release(&text);
	token_ids_release(&ids);
}

static void tool_time(const char *folder, const struct strings_in *in)
{
	double best[3] = {1e9, 1e9, 1e9}, from, took[3];
	struct token_ids *ids = xcalloc(in->count, sizeof(*ids));
	struct buf text;
	struct err err;

	buf_init(&text, (size_t)1 << 30);
	for (int round = 0; round < 5; round++) {
		struct tokenizer *t;

		from = seconds();
		if (tokenizer_open(&t, folder, &err))
			die(EX_CONFIGURATION, "%s", err.text);
		took[0] = seconds() - from;
		from = seconds();
		for (size_t i = 0; i < in->count; i++) {
			ids[i].count = 0;
			if (tokenizer_encode(t, in->s[i], in->len[i], 0, &ids[i], &err))
				die(EX_SOME_FAILED, "%s", err.text);
		}
		took[1] = seconds() - from;
		from = seconds();
		for (size_t i = 0; i < in->count; i++) {
			buf_clear(&text);
			tokenizer_decode(t, ids[i].id, ids[i].count, false, &text);
		}
		took[2] = seconds() - from;
		tokenizer_free(t);
		for (int k = 0; k < 3; k++)
			best[k] = took[k] < best[k] ? took[k] : best[k];
	}
	printf("%.6f %.6f %.6f\n", best[0], best[1], best[2]);
	for (size_t i = 0; i < in->count; i++)
		token_ids_release(&ids[i]);
	free(ids);
	buf_release(&text);
}

static int tool_main(const char *folder, const char *mode)
{
	struct strings_in in;
	struct tokenizer *t;
	struct err err;

	read_strings(&in, stdin);
	if (!strcmp(mode, "time")) {
		tool_time(folder, &in);
		release_strings(&in);
		return 0;
	}
	if (tokenizer_open(&t, folder, &err))
		die(EX_CONFIGURATION, "%s", err.text);
	tool_print(t, &in,
		   !strcmp(mode, "ids")	   ? ENCODE_ADDED
		   : strcmp(mode, "plain") ? ENCODE_ADDED | ENCODE_TEMPLATE
					   : 0);
	tokenizer_free(t);
	release_strings(&in);
	return 0;
}
