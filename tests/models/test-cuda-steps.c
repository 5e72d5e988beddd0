/* SPDX-License-Identifier: MIT
 *
 * Steps that are taken from a record: how they are rounded up, that they are recorded once and done many times,
 * and that not a bit differs from steps that are not, whatever the number of rows, penalties, draws and
 * adapters among them.
 */
#include "engine.h"

#include "cuda-gpu.h"
#include "cuda/memory.h"
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
	assert_int_equal(replay_tiles(0, 9), 0);
	assert_int_equal(replay_tiles(1, 9), 1);
	assert_int_equal(replay_tiles(3, 9), 4);
	assert_int_equal(replay_tiles(5, 7), 7);
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
	struct replay_key one = {0, 10, 4, 512, 0}, other = {1, 10, 4, 512, 0}, adapted = {0, 10, 4, 512, 1};
	size_t room = emulated_room;
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
	replay(r, &adapted, nothing, &count);
	assert_int_equal(count.runs, 4);
	replays_forget(r);
	assert_int_equal(emulated_graphs, 0);
	emulated_graphs_max = 0;
	for (unsigned i = 0; i < 5; i++)
		replay(r, &one, nothing, &count);
	assert_int_equal(emulated_graphs, 0);
	assert_int_equal(emulated_replays, 4);
	assert_int_equal(count.runs, 4 + 1 + 2 + 3);
	emulated_graphs_max = SIZE_MAX;
	/* What is left is the kernels'. */
	replays_forget(r);
	emulated_room = emulated_asked + MEMORY_FOR_KERNELS - 1;
	for (unsigned i = 0; i < 3; i++)
		replay(r, &one, nothing, &count);
	assert_int_equal(emulated_graphs, 0);
	replays_forget(r);
	emulated_room++;
	for (unsigned i = 0; i < 3; i++)
		replay(r, &one, nothing, &count);
	assert_int_equal(emulated_graphs, 1);
	emulated_room = room;
	replays_free(r);
	gpu_close(count.gpu);
}

static void add(struct engine *e, unsigned k, const struct adapted *adapted)
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
	if (adapted)
		r.adapted = adapted[k];
	if (engine_add(e, &r, &err) != RC_OK)
		fail_msg("%s", err.text);
}

static void adapt(struct model *m, unsigned count)
{
	struct err err;

	for (unsigned i = 0; i < count; i++)
		if (model_adapt(m,
				i % 2 ? "tests/golden/models/qwen3/adapter-some"
				      : "tests/golden/models/qwen3/adapter-all",
				&err) != RC_OK)
			fail_msg("%s", err.text);
}

/* What runs have their weights in. */
static enum number weights = NUMBER_BF16;

/* Beside so many adapters; adapted: by which the requests go, or NULL. */
static void run(enum compute_keys keys, size_t graphs, unsigned drafts, unsigned adapters,
		const struct adapted *adapted, struct engine_result *results)
{
	struct compute_options options = {.weights = weights,
					  .keys = keys,
					  .sequences = 6,
					  .drafts = drafts,
					  .cache_size = 1 << 20};
	struct engine_options cache = {.sequences = 6, .drafts = drafts};
	struct engine_result one;
	struct engine *engine;
	struct model model;
	struct err err;

	emulated_graphs_max = graphs;
	emulated_replays = emulated_longest = 0;
	if (model_open(&model, "tests/golden/models/qwen3", compute_open_cuda, &options, NULL, &err) != RC_OK)
		fail_msg("%s", err.text);
	adapt(&model, adapters);
	if (engine_open(&engine, &model, &cache, &err) != RC_OK)
		fail_msg("%s", err.text);
	for (unsigned k = 0; k < REQUESTS; k++)
		add(engine, k, adapted);
	while (engine_step(engine))
		while (engine_take(engine, &one))
			results[one.id] = one;
	while (engine_take(engine, &one))
		results[one.id] = one;
	if (graphs) /* 1, 2, 4, 6 rows of either flight, or 8 and 16; and some with 1, 2 or 4 tiles */
		assert_in_range(emulated_graphs, 1, (adapted ? 16 : 8) + (drafts ? 4 : 0));
	assert_true(!drafts == !engine_load(engine).accepted);
	engine_close(engine);
	model_close(&model);
	assert_int_equal(emulated_graphs, 0);
	emulated_graphs_max = SIZE_MAX;
}

static void same_results(const struct engine_result *a, const struct engine_result *b)
{
	for (unsigned k = 0; k < REQUESTS; k++) {
		size_t n = 12 + 11 * k;

		assert_int_equal(a[k].count, n);
		assert_int_equal(b[k].count, n);
		assert_memory_equal(a[k].tokens, b[k].tokens, n * sizeof(unsigned));
		assert_memory_equal(a[k].log_probabilities, b[k].log_probabilities, n * sizeof(float));
	}
}

static void release(struct engine_result *results)
{
	for (unsigned k = 0; k < REQUESTS; k++) {
		free(results[k].tokens);
		free(results[k].log_probabilities);
	}
}

/* Taken from records, and as they are. */
static void run_both(enum compute_keys keys, unsigned adapters, const struct adapted *adapted,
		     struct engine_result *recorded)
{
	struct engine_result as_it_is[REQUESTS] = {0};

	run(keys, 0, 0, adapters, adapted, as_it_is);
	assert_int_equal(emulated_replays, 0);
	run(keys, SIZE_MAX, 0, adapters, adapted, recorded);
	assert_true(emulated_replays > 30);
	assert_true(emulated_longest > 20);
	same_results(as_it_is, recorded);
	release(as_it_is);
}

/* With guesses, too. */
static void run_guessing(enum compute_keys keys, unsigned adapters, const struct adapted *adapted,
			 const struct engine_result *want)
{
	struct engine_result guessed[REQUESTS] = {0};

	run(keys, SIZE_MAX, 3, adapters, adapted, guessed);
	assert_true(emulated_replays > 15);
	same_results(want, guessed);
	release(guessed);
}

static void test_same_bits(void **state)
{
	static const enum number numbers[] = {NUMBER_BF16, NUMBER_BF16, NUMBER_E4M3};
	static const enum compute_keys keys[] = {COMPUTE_KEYS_AS_WEIGHTS, COMPUTE_KEYS_FP8,
						 COMPUTE_KEYS_AS_WEIGHTS};

	(void)state;
	for (size_t i = 0; i < 3; i++) {
		struct engine_result results[REQUESTS] = {0};

		weights = numbers[i];
		run_both(keys[i], 0, NULL, results);
		run_guessing(keys[i], 0, NULL, results);
		weights = NUMBER_BF16;
		release(results);
	}
}

/* Rows with adapters and without in one step; the longest request goes on when no adapted row is left. */
static void test_adapters(void **state)
{
	static const struct adapted adapted[REQUESTS] = {
		{0, {0}}, {1, {0}}, {2, {1, 0}}, {1, {1}}, {0, {0}}};
	struct engine_result among[REQUESTS] = {0}, without[REQUESTS] = {0}, beside[REQUESTS] = {0};
	size_t longest, replays;

	(void)state;
	run_both(COMPUTE_KEYS_AS_WEIGHTS, 2, adapted, among);
	longest = emulated_longest;
	run_guessing(COMPUTE_KEYS_AS_WEIGHTS, 2, adapted, among);
	/* Who goes by none is what he is where there are none, ... */
	run(COMPUTE_KEYS_AS_WEIGHTS, SIZE_MAX, 0, 0, NULL, without);
	for (unsigned k = 0; k < REQUESTS; k++)
		assert_int_equal(memcmp(without[k].log_probabilities, among[k].log_probabilities,
					without[k].count * sizeof(float)) == 0,
				 adapted[k].count == 0);
	assert_true(emulated_longest < longest);
	longest = emulated_longest;
	replays = emulated_replays;
	/* ... and so is a step of such rows: adapters that are there are nothing to it. */
	run(COMPUTE_KEYS_AS_WEIGHTS, SIZE_MAX, 0, 2, NULL, beside);
	same_results(without, beside);
	assert_int_equal(emulated_longest, longest);
	assert_int_equal(emulated_replays, replays);
	release(among);
	release(without);
	release(beside);
}

/* All there may be, of two kinds in turn: which of a kind it is does not matter. */
static void test_most_adapters(void **state)
{
	static const struct adapted high[REQUESTS] = {
		{4, {63, 0, 61, 2}}, {1, {63}}, {4, {30, 31, 62, 1}}, {0, {0}}, {2, {63, 62}}},
				    low[REQUESTS] = {
		{4, {1, 0, 3, 2}}, {1, {1}}, {4, {0, 1, 2, 3}}, {0, {0}}, {2, {1, 0}}};
	struct engine_result many[REQUESTS] = {0}, few[REQUESTS] = {0};
	struct compute_options options = {.weights = NUMBER_BF16, .sequences = 6, .cache_size = 1 << 20};
	struct model model;
	struct err err;

	(void)state;
	run(COMPUTE_KEYS_AS_WEIGHTS, SIZE_MAX, 0, ADAPTERS_MAX, high, many);
	run(COMPUTE_KEYS_AS_WEIGHTS, SIZE_MAX, 0, 4, low, few);
	same_results(many, few);
	release(many);
	release(few);
	assert_int_equal(
		model_open(&model, "tests/golden/models/qwen3", compute_open_cuda, &options, NULL, &err), RC_OK);
	adapt(&model, ADAPTERS_MAX);
	assert_int_equal(model_adapt(&model, "tests/golden/models/qwen3/adapter-all", &err), RC_FATAL);
	assert_string_equal(err.reason, "adapter");
	model_close(&model);
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
		add(engine, k, NULL);
	for (unsigned k = 0; k < PAGES; k++) {
		struct compute *c = model.compute;

		patches = patches_of(&model.config.vision, k, &rows, &columns);
		packed = c->calls->pack(c, patches, rows, columns);
		assert_int_equal(c->calls->look(c, &(struct view){packed, rows, columns, &features[k]}, 1, &err), 1);
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
	assert_int_equal(model.compute->calls->look(model.compute, &(struct view){packed, rows, columns, &dropped},
						    1, &err),
			 1);
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
		cmocka_unit_test(test_adapters),
		cmocka_unit_test(test_most_adapters),
	};

	cmocka_set_message_output(CM_OUTPUT_TAP);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
