/* SPDX-License-Identifier: MIT
 *
 * Adapters on the GPU against the CPU: several a row in either order, rows of others beside them, in a prompt
 * and behind it; projections whose parts are padded. Both round to bf16, not at the same places: their logits
 * are alike within a few of its steps, and far from those without adapters.
 */
#define ON_CUDA
#include "on-compute.h"

#include "model.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

enum { SEQUENCES = 4, PROMPT = 6, WRITTEN = 2, TOKENS = PROMPT + WRITTEN };

#define ALIKE 0.03 /* of the largest logit */

static struct pool *pool;
static char folder[] = "/tmp/cloister-test-XXXXXX";

/* By which adapters each sequence goes. */
static const struct adapted adapted[SEQUENCES] = {{0, {0}}, {1, {1}}, {2, {0, 1}}, {2, {1, 0}}};

/* What is run on both: a folder, or a configuration with random weights; two adapters. */
struct kind {
	const char *model;
	bool random;
	const char *adapters[2];
};

static enum rc open_kind(struct model *m, const struct kind *k, compute_opener *open,
			 const struct compute_options *options, struct err *err)
{
	enum rc rc;

	if (!k->random)
		return model_open(m, k->model, open, options, pool, err);
	*m = (struct model){0};
	rc = model_config_load_file(&m->config, k->model, err);
	return rc == RC_OK ? model_open_config(m, open, options, pool, err) : rc;
}

/* Logits of all tokens, [SEQUENCES][TOKENS][vocab]: prompts in one step, then one of each sequence a step. */
static float *logits_of(const struct kind *k, compute_opener *open, bool adapt, size_t *vocab)
{
	const struct compute_options options = {.weights = NUMBER_BF16, .sequences = SEQUENCES * PROMPT};
	struct text_row rows[SEQUENCES * PROMPT];
	struct text_sequence sequences[SEQUENCES];
	uint32_t blocks[SEQUENCES];
	struct model m;
	struct err err;
	float *logits;

	if (open_kind(&m, k, open, &options, &err) != RC_OK)
		fail_msg("%s", err.text);
	for (unsigned i = 0; i < 2; i++)
		if (model_adapt(&m, k->adapters[i], &err) != RC_OK)
			fail_msg("%s", err.text);
	assert_int_equal(m.compute->calls->reserve(m.compute, SEQUENCES, &err), RC_OK);
	*vocab = m.config.text.vocab;
	logits = xcalloc(SEQUENCES * TOKENS * *vocab, sizeof(*logits));
	for (uint32_t i = 0; i < SEQUENCES; i++) {
		blocks[i] = i;
		sequences[i] = (struct text_sequence){&blocks[i], 1, i};
		m.compute->calls->clear(m.compute, i);
	}
	for (size_t first = 0, each = PROMPT; first < TOKENS; first += each, each = 1) {
		size_t n = 0;

		for (size_t i = 0; i < SEQUENCES; i++)
			for (size_t at = first; at < first + each; at++) {
				unsigned p = (unsigned)at;

				rows[n++] = (struct text_row){
					.sequence = &sequences[i],
					.index = at,
					.position = {p, p, p},
					.written = first > 0,
					.adapted = adapt ? adapted[i] : adapted[0],
					.token = (unsigned)(at * 31 + 7) % 290,
					.logits = logits + (i * TOKENS + at) * *vocab};
			}
		compute_forward(m.compute, rows, n);
	}
	model_close(&m);
	return logits;
}

static void check(const struct kind *k)
{
	size_t vocab, n;
	float *cpu = logits_of(k, compute_open_cpu, true, &vocab), *gpu = logits_of(k, COMPUTE_OPEN, true, &vocab),
	      *plain = logits_of(k, COMPUTE_OPEN, false, &vocab);

	n = TOKENS * vocab;
	for (size_t i = 0; i < SEQUENCES; i++) {
		double off = furthest(gpu + i * n, cpu + i * n, n),
		       without = furthest(plain + i * n, cpu + i * n, n);

		if (!(off <= ALIKE))
			fail_msg("%s: sequence %zu: off by %g", k->model, i, off);
		if (i && !(without > 4 * ALIKE))
			fail_msg("%s: sequence %zu: without adapters off by %g alone", k->model, i, without);
	}
	free(cpu);
	free(gpu);
	free(plain);
}

static void test_several(void **state)
{
	(void)state;
	check(&(struct kind){"tests/golden/models/qwen3",
			     false,
			     {"tests/golden/models/qwen3/adapter-all",
			      "tests/golden/models/qwen3/adapter-some"}});
}

static char *put(const char *name, const void *data, size_t size)
{
	char *path = xasprintf("%s/%s", folder, name);
	FILE *f = fopen(path, "wb");

	assert_non_null(f);
	assert_int_equal(fwrite(data, 1, size, f), size);
	assert_int_equal(fclose(f), 0);
	return path;
}

/* One that adapts a stacked gate_up of 2 * wide rows. */
static void put_adapter(size_t hidden, size_t wide)
{
	static const char config[] = "{\"peft_type\": \"LORA\", \"r\": 4, \"lora_alpha\": 40, "
				     "\"target_modules\": [\"gate_up_proj\"], \"layers_to_transform\": [0]}";
	static const char name[] = "base_model.model.model.layers.0.mlp.gate_up_proj.lora_";
	size_t a = 4 * hidden, b = 4 * 2 * wide, length;
	char *header = xasprintf("{\"%sA.weight\": {\"dtype\": \"F32\", \"shape\": [4, %zu], \"data_offsets\": [0, "
				 "%zu]}, \"%sB.weight\": {\"dtype\": \"F32\", \"shape\": [%zu, 4], "
				 "\"data_offsets\": [%zu, %zu]}}",
				 name, hidden, a * 4, name, 2 * wide, a * 4, (a + b) * 4),
	     *all;

	length = strlen(header);
	all = xcalloc(1, 8 + length + (a + b) * 4);
	for (unsigned i = 0; i < 8; i++)
		all[i] = (char)(length >> 8 * i);
	memcpy(all + 8, header, length);
	for (size_t i = 0; i < a + b; i++) {
		float x = sinf((float)(i * i % 1009)) / 2;

		memcpy(all + 8 + length + i * 4, &x, 4);
	}
	free(put("adapter_model.safetensors", all, 8 + length + (a + b) * 4));
	free(put("adapter_config.json", config, strlen(config)));
	free(all);
	free(header);
}

/* Two stacked halves, neither a multiple of what a GPU pads to. */
static void test_stacked_and_padded(void **state)
{
	char text[8192], *at, *path;
	FILE *f = fopen("tests/golden/models/phi3/config.json", "rb");
	size_t n = f ? fread(text, 1, sizeof(text) - 1, f) : 0;

	(void)state;
	assert_true(n > 0 && n < sizeof(text) - 1);
	fclose(f);
	text[n] = 0;
	at = strstr(text, "\"intermediate_size\": 88");
	assert_non_null(at);
	memcpy(at, "\"intermediate_size\": 83", 23);
	path = put("phi3.json", text, n);
	put_adapter(64, 83);
	check(&(struct kind){path, true, {folder, folder}});
	free(path);
}

static int start(void **state)
{
	struct err err;

	(void)state;
	return !mkdtemp(folder) || pool_open(&pool, 2, &err) != RC_OK;
}

static int stop(void **state)
{
	static const char *const files[] = {"phi3.json", "adapter_config.json", "adapter_model.safetensors"};

	(void)state;
	for (size_t i = 0; i < 3; i++) {
		char *path = xasprintf("%s/%s", folder, files[i]);

		unlink(path);
		free(path);
	}
	pool_close(pool);
	return rmdir(folder);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_several),
		cmocka_unit_test(test_stacked_and_padded),
	};

	cmocka_set_message_output(CM_OUTPUT_TAP);
	if (compute_missing()) {
		printf("1..0 # SKIP %s\n", compute_missing());
		return 0;
	}
	return cmocka_run_group_tests(tests, start, stop);
}
