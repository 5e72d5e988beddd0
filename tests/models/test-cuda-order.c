/* SPDX-License-Identifier: MIT
 *
 * Which products the GPU is asked for: two for each matrix, so that a row's bits are its own; or one, where any
 * order of sums will do. Then a result is no longer the same to the bit, but what the model makes of its tokens
 * is the same within the rounding, whatever gave way to it.
 */
#define ON_CUDA
#include "on-compute.h"

#include "engine.h"
#include "kernels/ops.h"

#include "cuda-gpu.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

enum { SEQUENCES = 6, REQUESTS = 5, TOKENS_MAX = 128 };

static void test_rounds_up(void **state)
{
	static const size_t rows[][2] = {{1, 1}, {2, 2}, {3, 4}, {64, 64}, {65, 128}, {2049, 4096}, {4096, 4096}};

	(void)state;
	for (size_t i = 0; i < sizeof(rows) / sizeof(*rows); i++) {
		assert_int_equal(gpu_rows_like(GPU_ANY, rows[i][0]), rows[i][1]);
		if (rows[i][0] <= GPU_FEW_MOST)
			assert_int_equal(gpu_rows_like(GPU_FEW, rows[i][0]), 64);
		assert_int_equal(gpu_rows_like(GPU_MANY, rows[i][0]), 2048);
	}
}

static void open_model(struct model *m, const char *name, bool any_order)
{
	struct compute_options options = {.weights = NUMBER_BF16,
					  .sequences = SEQUENCES,
					  .cache_size = 1 << 20,
					  .any_order = any_order};
	char *folder = xasprintf("tests/golden/models/%s", name);
	struct err err;

	if (model_open(m, folder, compute_open_cuda, &options, NULL, &err) != RC_OK)
		fail_msg("%s", err.text);
	free(folder);
}

static struct text_row row_of(const struct text_sequence *s, size_t i, bool written, float *logits)
{
	unsigned at = (unsigned)i;

	return (struct text_row){.sequence = s,
				 .index = i,
				 .position = {at, at, at},
				 .written = written,
				 .token = (at * at + s->slot * 31) % 290,
				 .logits = logits};
}

/* The logits of a step of five tokens of a prompt and two that were written; what it asked for is counted. */
static float *mixed_step(const char *name, bool any_order)
{
	uint32_t blocks[] = {0, 1, 2};
	struct text_sequence a = {blocks, 1, 0}, b = {blocks + 1, 1, 1}, c = {blocks + 2, 1, 2};
	struct text_row rows[16];
	struct model m;
	float *logits;
	size_t vocab, n = 0;
	struct err err;

	open_model(&m, name, any_order);
	vocab = m.config.text.vocab;
	logits = xcalloc(3 * vocab, sizeof(*logits));
	assert_int_equal(m.compute->calls->reserve(m.compute, 3, &err), RC_OK);
	for (size_t i = 0; i < 9; i++)
		rows[n++] = row_of(&a, i, false, NULL);
	for (size_t i = 0; i < 4; i++)
		rows[n++] = row_of(&b, i, false, NULL);
	compute_forward(m.compute, rows, n);
	memset(emulated_products, 0, sizeof(emulated_products));
	memset(emulated_rows, 0, sizeof(emulated_rows));
	n = 0;
	rows[n++] = row_of(&a, 9, true, logits);
	for (size_t i = 0; i < 5; i++)
		rows[n++] = row_of(&c, i, false, i == 4 ? logits + 2 * vocab : NULL);
	rows[n++] = row_of(&b, 4, true, logits + vocab);
	compute_forward(m.compute, rows, n);
	model_close(&m);
	return logits;
}

static void test_mixed_step(void **state)
{
	float *own = mixed_step(*state, false), *any;
	size_t matrices = emulated_products[GPU_MANY];
	struct model m;

	open_model(&m, *state, false);
	if (!m.config.text.experts)
		assert_int_equal(matrices, 4 * m.config.text.layers);
	assert_in_range(matrices, 3 * m.config.text.layers, 4 * m.config.text.layers);
	assert_int_equal(emulated_rows[GPU_MANY], 5 * matrices);
	assert_int_equal(emulated_products[GPU_FEW], matrices + 1); /* and the head */
	assert_int_equal(emulated_rows[GPU_FEW], 2 * matrices + 3);
	assert_int_equal(emulated_products[GPU_ANY], 0);
	any = mixed_step(*state, true);
	assert_int_equal(emulated_products[GPU_ANY], matrices + 1);
	assert_int_equal(emulated_rows[GPU_ANY], 7 * matrices + 3);
	assert_int_equal(emulated_products[GPU_MANY] + emulated_products[GPU_FEW], 0);
	assert_true(furthest(any, own, 3 * m.config.text.vocab) <= 0.01);
	model_close(&m);
	free(own);
	free(any);
}

static unsigned prompt_of(unsigned k, unsigned *tokens)
{
	unsigned n = 5 + 9 * k;

	for (unsigned i = 0; i < n; i++)
		tokens[i] = (k * 31 + i * i) % 290;
	return n;
}

static void request(struct engine *e, unsigned k)
{
	struct engine_request r = {.id = k, .most = 12 + 11 * k, .endless = true};
	unsigned prompt[TOKENS_MAX];
	struct err err;

	r.prompt = prompt;
	r.prompt_count = prompt_of(k, prompt);
	r.sampling = (struct sampling){.repetition_penalty = k % 2 ? 1.3 : 1, .top_p = 1, .seed = k};
	if (k % 3 == 2)
		r.sampling.temperature = 0.9;
	if (engine_add(e, &r, &err) != RC_OK)
		fail_msg("%s", err.text);
}

/* All of them side by side, in a cache of so many blocks; how often one gave way to another. */
static uint64_t write_texts(struct model *m, size_t blocks, struct engine_result *results)
{
	struct engine_options options = {.cache_size = blocks * m->compute->block_size, .sequences = SEQUENCES};
	struct engine_result one;
	struct engine *engine;
	uint64_t preempted;
	struct err err;

	if (engine_open(&engine, m, &options, &err) != RC_OK)
		fail_msg("%s", err.text);
	for (unsigned k = 0; k < REQUESTS; k++)
		request(engine, k);
	while (engine_step(engine))
		;
	while (engine_take(engine, &one))
		results[one.id] = one;
	preempted = engine_load(engine).preempted;
	engine_close(engine);
	return preempted;
}

/* The text's tokens one by one through a device that sums in one order. */
static void check_text(struct model *m, unsigned k, const struct engine_result *r)
{
	uint32_t blocks[TOKENS_MAX / KV_PAGE] = {0, 1, 2, 3};
	struct text_sequence s = {blocks, TOKENS_MAX / KV_PAGE, 0};
	struct text_row rows[TOKENS_MAX];
	unsigned tokens[TOKENS_MAX], n = prompt_of(k, tokens);
	size_t vocab = m->config.text.vocab;
	float *logits = xcalloc(vocab, sizeof(*logits));
	struct err err;

	assert_int_equal(r->finish, ENGINE_LENGTH);
	assert_int_equal(r->count, 12 + 11 * k);
	assert_int_equal(m->compute->calls->reserve(m->compute, TOKENS_MAX / KV_PAGE, &err), RC_OK);
	memcpy(tokens + n, r->tokens, r->count * sizeof(*tokens));
	for (size_t i = 0; i < n + r->count; i++) {
		rows[i] = row_of(&s, i, i >= n, i + 1 < n ? NULL : logits);
		rows[i].token = tokens[i];
	}
	for (size_t i = 0; i < r->count; i++) {
		float wanted;

		compute_forward(m->compute, i ? rows + n + i - 1 : rows, i ? 1 : n);
		wanted = (float)(logits[r->tokens[i]] - log_sum_exp(logits, vocab));
		if (!(fabsf(r->log_probabilities[i] - wanted) < 0.05f))
			fail_msg("text %u, token %zu: %g instead of %g", k, i, r->log_probabilities[i], wanted);
	}
	free(logits);
}

/* Records are made and done again, and the later give way to the earlier. */
static void test_texts(void **state)
{
	struct engine_result results[REQUESTS] = {0};
	struct model any, own;

	open_model(&any, *state, true);
	open_model(&own, *state, false);
	memset(emulated_products, 0, sizeof(emulated_products));
	emulated_replays = 0;
	assert_true(write_texts(&any, 6, results) > 0);
	assert_true(emulated_replays > 10);
	assert_int_equal(emulated_products[GPU_FEW] + emulated_products[GPU_MANY], 0);
	for (unsigned k = 0; k < REQUESTS; k++) {
		check_text(&own, k, &results[k]);
		free(results[k].tokens);
		free(results[k].log_probabilities);
	}
	model_close(&any);
	model_close(&own);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_rounds_up),
		cmocka_unit_test_prestate(test_mixed_step, (char *)"qwen3"),
		cmocka_unit_test_prestate(test_mixed_step, (char *)"qwen3-moe"),
		cmocka_unit_test_prestate(test_mixed_step, (char *)"qwen3-vl"),
		cmocka_unit_test_prestate(test_texts, (char *)"qwen3"),
	};

	cmocka_set_message_output(CM_OUTPUT_TAP);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
