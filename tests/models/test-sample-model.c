/* SPDX-License-Identifier: MIT
 *
 * The sample model reads: pages that it never saw, in a font and with words that it was not trained
 * on, go the whole way from pixels to text (samples/model/train.py drew and wrote them down). Less than
 * one letter in twenty may be wrong, in bf16 as in fp32, and on a GPU in fp8.
 */
#include "base/buf.h"
#include "base/num.h"
#include "engine.h"
#include "image.h"
#include "on-compute.h"
#include "tokenizer/tokenizer.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#define PAGES_MAX 64
#define PROMPT_MAX 512
#define TOKENS_MAX 128

#ifdef ON_CUDA
#define OTHER_NUMBER NUMBER_E4M3
#define OTHER_NAME   "fp8"
#define EVERY	     3 /* page: the emulation is slow */
#else
#define OTHER_NUMBER NUMBER_F32
#define OTHER_NAME   "fp32"
#define EVERY	     1
#endif

static const char *folder(void)
{
	const char *given = getenv("CLOISTER_SAMPLE_MODEL");

	return given ? given : "samples/model";
}

struct page {
	char *name, *text;
	unsigned prompt[PROMPT_MAX];
	struct engine_page seen;
	struct features features;
};

struct reader {
	struct pool *pool;
	struct model model;
	struct tokenizer *tokenizer;
	struct page pages[PAGES_MAX];
	size_t count;
	FILE *list;
};

static struct image read_pgm(const char *path)
{
	struct image image = {0};
	FILE *f = fopen(path, "rb");
	int c;

	if (!f || fscanf(f, "P5 %u %u 255", &image.width, &image.height) != 2 || fgetc(f) != '\n')
		fail_msg("%s is not the page it should be", path);
	image.rgb = xmalloc((size_t)image.width * image.height * 3);
	for (size_t i = 0; i < (size_t)image.width * image.height; i++) {
		c = fgetc(f);
		assert_int_not_equal(c, EOF);
		memset(image.rgb + 3 * i, c, 3);
	}
	fclose(f);
	return image;
}

static size_t add_text(struct reader *r, const char *text, unsigned *prompt, size_t at)
{
	struct token_ids ids = {0};
	struct err err;

	if (tokenizer_encode(r->tokenizer, text, strlen(text), ENCODE_ADDED, &ids, &err) != RC_OK)
		fail_msg("%s", err.text);
	for (size_t i = 0; i < ids.count; i++)
		prompt[at + i] = ids.id[i];
	at += ids.count;
	token_ids_release(&ids);
	return at;
}

/* Through the tower, and into the prompt that the model was trained with. */
static size_t look_at(struct reader *r, struct page *p)
{
	const struct model_config *c = &r->model.config;
	char *path = xasprintf("%s/held-back/%s", folder(), p->name);
	struct image image = read_pgm(path);
	unsigned rows, columns;
	float *patches;
	struct err err;
	size_t n, tokens;

	if (image_patches(c, &image, r->pool, &patches, &rows, &columns, &err) != RC_OK)
		fail_msg("%s", err.text);
	tokens = (size_t)rows * columns / c->vision.merge / c->vision.merge;
	if (r->model.compute->calls->see(r->model.compute, patches, rows, columns, &p->features, &err) != RC_OK)
		fail_msg("%s", err.text);
	n = add_text(r, "<|im_start|>user\n<|vision_start|>", p->prompt, 0);
	p->seen = (struct engine_page){{n, rows / c->vision.merge, columns / c->vision.merge}, &p->features, {0}};
	assert_true(tokens < PROMPT_MAX - 64);
	/* No two pages are alike, nor are their names. */
	memcpy(p->seen.digest, p->name, strlen(p->name));
	for (size_t i = 0; i < tokens; i++)
		p->prompt[n++] = c->image_token;
	n = add_text(r, "<|vision_end|>Read the text.<|im_end|>\n<|im_start|>assistant\n", p->prompt, n);
	free(patches);
	image_release(&image);
	free(path);
	return n;
}

static void reader_open(struct reader *r, enum number number)
{
	char *path = xasprintf("%s/held-back/texts.tsv", folder()), *line = NULL;
	size_t size = 0, read = 0;
	struct err err;

	*r = (struct reader){0};
	if (pool_open(&r->pool, 0, &err) != RC_OK || model_open(&r->model, folder(), COMPUTE_OPEN,
								     &(struct compute_options){.weights = number}, r->pool, &err) != RC_OK ||
		tokenizer_open(&r->tokenizer, folder(), &err) != RC_OK)
		fail_msg("%s", err.text);
	assert_int_equal(r->model.config.vision.deepstacks, 1);
	r->list = fopen(path, "r");
	if (!r->list)
		fail_msg("%s is missing", path);
	/* NAME, tabulator, what stands on the page. */
	while (r->count < PAGES_MAX && getline(&line, &size, r->list) > 0) {
		char *tab = strchr(line, '\t');

		assert_non_null(tab);
		if (read++ % EVERY)
			continue;
		line[strcspn(line, "\n")] = 0;
		*tab = 0;
		assert_true(strlen(line) <= sizeof(r->pages[0].seen.digest));
		r->pages[r->count].name = xstrdup(line);
		r->pages[r->count++].text = xstrdup(tab + 1);
	}
	free(line);
	free(path);
	fclose(r->list);
}

static void reader_close(struct reader *r)
{
	for (size_t i = 0; i < r->count; i++) {
		free(r->pages[i].name);
		free(r->pages[i].text);
		r->model.compute->calls->forget(r->model.compute, &r->pages[i].features);
	}
	tokenizer_free(r->tokenizer);
	model_close(&r->model);
	pool_close(r->pool);
}

/* Characters of UTF-8, a line's end written as it stands in texts.tsv. */
static size_t characters(const char *text, unsigned *out)
{
	size_t n = 0;

	for (const unsigned char *s = (const unsigned char *)text; *s; s++) {
		if (*s == '\\' && s[1] == 'n')
			out[n++] = '\n', s++;
		else if ((*s & 0xc0) == 0x80)
			out[n - 1] = out[n - 1] << 8 | *s;
		else
			out[n++] = *s;
	}
	return n;
}

/* Letters to insert, remove or replace. */
static size_t distance(const unsigned *a, size_t n, const unsigned *b, size_t m)
{
	size_t row[1024];

	for (size_t j = 0; j <= m; j++)
		row[j] = j;
	for (size_t i = 1; i <= n; i++) {
		size_t corner = row[0];

		row[0] = i;
		for (size_t j = 1; j <= m; j++) {
			size_t best = corner + (a[i - 1] != b[j - 1]);

			corner = row[j];
			best = best < corner + 1 ? best : corner + 1;
			row[j] = best < row[j - 1] + 1 ? best : row[j - 1] + 1;
		}
	}
	return row[m];
}

static void read_all(struct reader *r, size_t *wrong, size_t *letters)
{
	struct engine_options options = {.cache_size = 64u << 20,
					 .sequences = 16,
					 .vocab = (unsigned)tokenizer_size(r->tokenizer)};
	unsigned want[1024], got[1024];
	struct engine_result result;
	struct engine *e;
	struct err err;
	size_t taken = 0;

	if (engine_open(&e, &r->model, &options, &err) != RC_OK)
		fail_msg("%s", err.text);
	for (size_t i = 0; i < r->count; i++) {
		struct engine_request q = {.id = i, .prompt = r->pages[i].prompt, .pages = &r->pages[i].seen, .page_count = 1,
			.most = TOKENS_MAX, .sampling = {.top_p = 1, .repetition_penalty = 1}};

		q.prompt_count = look_at(r, &r->pages[i]);
		if (engine_add(e, &q, &err) != RC_OK)
			fail_msg("%s", err.text);
	}
	while (taken < r->count) {
		struct page *p;
		struct buf text;
		size_t n, errors;

		if (!engine_take(e, &result)) {
			assert_true(engine_step(e));
			continue;
		}
		p = &r->pages[result.id];
		buf_init(&text, 1u << 16);
		tokenizer_decode(r->tokenizer, result.tokens, result.count, true, &text);
		buf_add(&text, "", 1);
		n = characters(p->text, want);
		errors = distance(want, n, got, characters((char *)text.data, got));
		if (errors)
			print_message("%s: \"%s\" read as \"%s\"\n", p->name, p->text, (char *)text.data);
		*wrong += errors;
		*letters += n;
		taken++;
		buf_release(&text);
		free(result.tokens);
		free(result.log_probabilities);
	}
	engine_close(e);
}

static void test_reads(void **state)
{
	enum number number = *(const enum number *)*state;
	size_t wrong = 0, letters = 0;
	struct reader r;

	if (number == NUMBER_E4M3 && compute_lacks_fp8())
		skip();
	reader_open(&r, number);
	assert_true(r.count >= 24 / EVERY);
	read_all(&r, &wrong, &letters);
	print_message("# %s: %zu of %zu letters wrong, error rate %.4f\n", number_name(number), wrong, letters,
		(double)wrong / (double)letters);
	assert_true(wrong * 20 < letters);
	reader_close(&r);
}

int main(void)
{
	static enum number bf16 = NUMBER_BF16, other = OTHER_NUMBER;
	const struct CMUnitTest tests[] = {
		{"reads held-back pages in bf16", test_reads, NULL, NULL, &bf16},
		{"reads held-back pages in " OTHER_NAME, test_reads, NULL, NULL, &other},
	};

	if (access("samples/model/model.safetensors", F_OK)) {
		puts("1..0 # SKIP samples/model has no weights yet (see its README.md)");
		return 0;
	}
	cmocka_set_message_output(CM_OUTPUT_TAP);
	if (compute_missing()) {
		printf("1..0 # SKIP %s\n", compute_missing());
		return 0;
	}
	return cmocka_run_group_tests(tests, NULL, NULL);
}
