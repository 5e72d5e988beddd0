/* SPDX-License-Identifier: MIT
 *
 * Steps that are taken from a record: how they are rounded up, that they are recorded once and done many times,
 * and that not a bit differs from steps that are not, whatever the number of rows, penalties and draws among
 * them.
 */
#include "engine.h"

#include "cuda-gpu.h"
#include "cuda/replay.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

enum { REQUESTS = 5 };

static void test_rounds_up(void **state)
{
	static const size_t rows[][2] = {{1, 1}, {2, 2}, {3, 4}, {5, 8}, {8, 8}, {9, 16}, {17, 32}, {33, 48},
					 {241, 256}},
			    keys[][2] = {{1, 512}, {512, 512}, {513, 1024}, {3000, 4096}};

	(void)state;
	for (size_t i = 0; i < sizeof(rows) / sizeof(*rows); i++)
		assert_int_equal(replay_rows(rows[i][0], 256), rows[i][1]);
	for (size_t i = 0; i < sizeof(keys) / sizeof(*keys); i++)
		assert_int_equal(replay_keys(keys[i][0], 1 << 20), keys[i][1]);
	assert_int_equal(replay_rows(9, 11), 11);
	assert_int_equal(replay_keys(3000, 3333), 3333);
}

struct count {
	struct gpu *gpu;
	unsigned runs;
};

static void nothing(void *arg)
{
	((struct count *)arg)->runs++;
}

/* As it is, recorded, then from the record; where there is no room for one, as it is. */
static void test_recorded_once(void **state)
{
	struct replay_key one = {0, 10, 4, 512}, other = {1, 10, 4, 512};
	struct count count = {0};
	struct replays *r;
	struct err err;

	(void)state;
	assert_int_equal(gpu_open(&count.gpu, &err), RC_OK);
	r = replays_new(count.gpu);
	emulated_replays = 0;
	for (unsigned i = 0; i < 5; i++)
		replay(r, &one, nothing, &count);
	assert_int_equal(count.runs, 2);
	assert_int_equal(emulated_replays, 4);
	assert_int_equal(emulated_graphs, 1);
	replay(r, &other, nothing, &count);
	assert_int_equal(count.runs, 3);
	replays_forget(r);
	assert_int_equal(emulated_graphs, 0);
	emulated_graphs_max = 0;
	for (unsigned i = 0; i < 5; i++)
		replay(r, &one, nothing, &count);
	assert_int_equal(emulated_graphs, 0);
	assert_int_equal(emulated_replays, 4);
	assert_int_equal(count.runs, 3 + 1 + 2 + 3);
	emulated_graphs_max = SIZE_MAX;
	replays_free(r);
	gpu_close(count.gpu);
}

static void add(struct engine *e, unsigned k)
{
	struct engine_request r = {.id = k, .prompt_count = 5 + 9 * k, .most = 12 + 11 * k, .endless = true};
	unsigned prompt[64];
	struct err err;

	for (unsigned i = 0; i < r.prompt_count; i++)
		prompt[i] = (k * 31 + i * i) % 290;
	r.prompt = prompt;
	r.sampling = (struct sampling){.repetition_penalty = k % 2 ? 1.3 : 1, .top_p = 1, .seed = k};
	if (k % 3 == 2)
		r.sampling.temperature = 0.9;
	if (engine_add(e, &r, &err) != RC_OK)
		fail_msg("%s", err.text);
}

static void run(enum compute_keys keys, size_t graphs, struct engine_result *results)
{
	struct compute_options options = {
		.weights = NUMBER_BF16, .keys = keys, .sequences = 6, .cache_size = 1 << 20};
	struct engine_options cache = {.sequences = 6};
	struct engine_result one;
	struct engine *engine;
	struct model model;
	struct err err;

	emulated_graphs_max = graphs;
	emulated_replays = emulated_longest = 0;
	if (model_open(&model, "tests/golden/models/qwen3", compute_open_cuda, &options, NULL, &err) != RC_OK ||
	    engine_open(&engine, &model, &cache, &err) != RC_OK)
		fail_msg("%s", err.text);
	for (unsigned k = 0; k < REQUESTS; k++)
		add(engine, k);
	while (engine_step(engine))
		while (engine_take(engine, &one))
			results[one.id] = one;
	while (engine_take(engine, &one))
		results[one.id] = one;
	if (graphs)
		assert_in_range(emulated_graphs, 1, 8); /* 1, 2, 4, 6 rows of either flight */
	engine_close(engine);
	model_close(&model);
	assert_int_equal(emulated_graphs, 0);
	emulated_graphs_max = SIZE_MAX;
}

static void test_same_bits(void **state)
{
	static const enum compute_keys keys[] = {COMPUTE_KEYS_AS_WEIGHTS, COMPUTE_KEYS_FP8};

	(void)state;
	for (size_t i = 0; i < 2; i++) {
		struct engine_result as_it_is[REQUESTS] = {0}, recorded[REQUESTS] = {0};

		run(keys[i], 0, as_it_is);
		assert_int_equal(emulated_replays, 0);
		run(keys[i], SIZE_MAX, recorded);
		assert_true(emulated_replays > 30);
		assert_true(emulated_longest > 20);
		for (unsigned k = 0; k < REQUESTS; k++) {
			size_t n = as_it_is[k].count;

			assert_int_equal(n, 12 + 11 * k);
			assert_int_equal(recorded[k].count, n);
			assert_memory_equal(as_it_is[k].tokens, recorded[k].tokens, n * sizeof(unsigned));
			assert_memory_equal(as_it_is[k].log_probabilities, recorded[k].log_probabilities,
					    n * sizeof(float));
			free(as_it_is[k].tokens);
			free(as_it_is[k].log_probabilities);
			free(recorded[k].tokens);
			free(recorded[k].log_probabilities);
		}
	}
}

/* Patches of page k: another size each time. */
static float *patches_of(const struct vision_config *v, unsigned k, unsigned *rows, unsigned *columns)
{
	size_t n;
	float *patches;

	*rows = v->merge * (2 + k % 3);
	*columns = v->merge * (3 + k % 2);
	n = (size_t)*rows * *columns * 3 * v->temporal * v->patch * v->patch;
	patches = xmalloc(n * sizeof(*patches));
	for (size_t i = 0; i < n; i++)
		patches[i] = (float)((i * 2654435761u + k * 977) % 512) / 256 - 1;
	return patches;
}

static void check_page(const struct model *m, unsigned k, const struct features *got)
{
	const struct vision_config *v = &m->config.vision;
	struct compute *c = m->compute;
	unsigned rows, columns;
	float *patches = patches_of(v, k, &rows, &columns);
	size_t size = (size_t)rows * columns / v->merge / v->merge * v->out * sizeof(uint16_t);
	struct features want;
	struct err err;

	assert_int_equal(c->calls->see(c, patches, rows, columns, &want, &err), RC_OK);
	assert_int_equal(got->ticket, 0);
	assert_memory_equal(got->embeddings, want.embeddings, size);
	for (unsigned d = 0; d < v->deepstacks; d++)
		assert_memory_equal(got->deepstack[d], want.deepstack[d], size);
	c->calls->forget(c, &want);
	free(patches);
}

/* Pages under way while steps are, more than there is room for, some asked for late, one never. */
static void test_pages_beside_steps(void **state)
{
	enum { PAGES = 5 };
	struct compute_options options = {.weights = NUMBER_BF16, .sequences = 6, .cache_size = 1 << 20};
	struct engine_options cache = {.sequences = 6};
	struct features features[PAGES] = {0}, dropped;
	struct engine *engine;
	struct model model;
	struct err err;
	unsigned polls = 0, rows, columns;
	float *patches;
	void *packed;

	if (model_open(&model, *state, compute_open_cuda, &options, NULL, &err) != RC_OK ||
	    engine_open(&engine, &model, &cache, &err) != RC_OK)
		fail_msg("%s", err.text);
	for (unsigned k = 0; k < 3; k++)
		add(engine, k);
	for (unsigned k = 0; k < PAGES; k++) {
		struct compute *c = model.compute;

		patches = patches_of(&model.config.vision, k, &rows, &columns);
		packed = c->calls->pack(c, patches, rows, columns);
		assert_int_equal(c->calls->look(c, packed, rows, columns, &features[k], &err), RC_OK);
		memset(packed, 0xff, 64); /* they may be gone */
		free(packed);
		engine_step(engine);
	}
	while (!model.compute->calls->seen(model.compute, &features[PAGES - 1], false)) {
		polls++;
		engine_step(engine);
	}
	assert_true(polls > 0);
	for (unsigned k = 0; k < PAGES; k++) {
		check_page(&model, k, &features[k]);
		model.compute->calls->forget(model.compute, &features[k]);
	}
	patches = patches_of(&model.config.vision, 1, &rows, &columns);
	packed = model.compute->calls->pack(model.compute, patches, rows, columns);
	assert_int_equal(model.compute->calls->look(model.compute, packed, rows, columns, &dropped, &err),
			 RC_OK);
	assert_true(dropped.ticket > 0);
	model.compute->calls->forget(model.compute, &dropped);
	free(packed);
	engine_close(engine);
	model_close(&model);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_prestate(test_pages_beside_steps, (char *)"tests/golden/models/qwen2.5-vl"),
		cmocka_unit_test_prestate(test_pages_beside_steps, (char *)"tests/golden/models/qwen3-vl"),
		cmocka_unit_test(test_rounds_up),
		cmocka_unit_test(test_recorded_once),
		cmocka_unit_test(test_same_bits),
	};

	cmocka_set_message_output(CM_OUTPUT_TAP);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
