/* SPDX-License-Identifier: MIT
 *
 * The plan of a GPU's memory: its arithmetic, what it refuses and in which words, and that it is what the
 * device then takes, for every family and both kinds of keys and values, and beside adapters.
 */
#include "engine.h"

#include "cuda-gpu.h"
#include "cuda/memory.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#define MIB ((size_t)1 << 20)

static void test_rounds(void **state)
{
	(void)state;
	assert_int_equal(memory_round(0), 512);
	assert_int_equal(memory_round(512), 512);
	assert_int_equal(memory_round(513), 1024);
	assert_int_equal(memory_round(MIB), 2 * MIB);
	assert_int_equal(memory_round(2 * MIB + 1), 4 * MIB);
	assert_true(memory_round(SIZE_MAX) == SIZE_MAX);
}

/* 100 MiB of weights, 10 of a step: with the reserve, 622. */
static struct memory_plan example(void)
{
	struct memory_plan p = {{0}};

	memory_add(&p, MEMORY_WEIGHTS, 50, 2 * MIB);
	memory_add(&p, MEMORY_STEP, 5, 2 * MIB);
	return p;
}

static void test_rest_is_the_cache(void **state)
{
	struct memory_cache cache = {.block = 3 * MIB, .least = 2, .most = 1000};
	struct memory_plan p = example();
	struct err err;
	uint32_t blocks;

	(void)state;
	assert_int_equal(memory_settle(&p, &cache, 700 * MIB, &blocks, &err), RC_OK);
	assert_int_equal(blocks, 26); /* of 78 MiB */
	assert_true(memory_total(&p) + MEMORY_RESERVE <= 700 * MIB);
	cache.most = 7;
	assert_int_equal(memory_settle(&p, &cache, 700 * MIB, &blocks, &err), RC_OK);
	assert_int_equal(blocks, 7);
	assert_int_equal(p.part[MEMORY_CACHE], 22 * MIB);

	/* What is asked for, and not a block more. */
	cache.asked = 31 * MIB;
	assert_int_equal(memory_settle(&p, &cache, 700 * MIB, &blocks, &err), RC_OK);
	assert_int_equal(blocks, 10);
}

static void test_refusal_has_the_numbers(void **state)
{
	struct memory_cache cache = {.block = 2 * MIB, .asked = 100 * MIB};
	struct memory_plan p = example();
	struct err err;
	uint32_t blocks;

	(void)state;
	assert_int_equal(memory_settle(&p, &cache, 722 * MIB, &blocks, &err), RC_OK);
	assert_int_equal(memory_settle(&p, &cache, 722 * MIB - 1, &blocks, &err), RC_FATAL);
	assert_string_equal(err.reason, "memory");
	assert_string_equal(err.text, "it does not fit into the GPU's memory: 722 MiB are needed (weights 100, "
				      "a step 10, cache 100, the driver 512), 721 are free");
	cache = (struct memory_cache){.block = 2 * MIB, .least = 3, .most = 9};
	assert_int_equal(memory_settle(&p, &cache, 628 * MIB, &blocks, &err), RC_OK);
	assert_int_equal(blocks, 3);
	assert_int_equal(memory_settle(&p, &cache, 627 * MIB, &blocks, &err), RC_FATAL);
	cache = (struct memory_cache){.block = 2 * MIB, .asked = 1};
	assert_int_equal(memory_settle(&p, &cache, 700 * MIB, &blocks, &err), RC_FATAL);
	assert_non_null(strstr(err.text, "holds nothing"));
}

static void test_sums_do_not_wrap(void **state)
{
	struct memory_cache cache = {.block = 1, .least = 1, .most = 1};
	struct memory_plan p = example();
	struct err err;
	uint32_t blocks;

	(void)state;
	memory_add(&p, MEMORY_STEP, SIZE_MAX / 2, 3);
	assert_true(memory_total(&p) == SIZE_MAX);
	assert_int_equal(memory_settle(&p, &cache, SIZE_MAX - 1, &blocks, &err), RC_FATAL);
}

static const char *const models[] = {"qwen2.5-vl", "qwen2.5-vl-old", "qwen3",
				     "qwen3-untied", "qwen3-vl",	"qwen3-vl-untied",
				     "qwen3-moe", "qwen3-vl-moe-awq"};

/* The device's room is what the plan says, to the byte of the cache's last block. */
static void check_model(const char *name, const struct compute_options *options)
{
	char *folder = xasprintf("tests/golden/models/%s", name);
	size_t all = emulated_room, needed;
	struct engine_options cache = {0};
	struct engine *engine;
	struct model model;
	struct err err;

	/* First without a limit: what it takes is what it needs. */
	if (model_open(&model, folder, compute_open_cuda, options, NULL, &err) != RC_OK ||
	    engine_open(&engine, &model, &cache, &err) != RC_OK)
		fail_msg("%s: %s", name, err.text);
	assert_int_equal(engine_load(engine).blocks, model.compute->cache_size / model.compute->block_size);
	needed = emulated_asked + MEMORY_RESERVE;
	engine_close(engine);
	model_close(&model);
	assert_int_equal(emulated_asked, 0);

	/* With exactly that, the same; with a byte less it is refused before anything is taken. */
	emulated_room = needed;
	assert_int_equal(model_open(&model, folder, compute_open_cuda, options, NULL, &err), RC_OK);
	assert_int_equal(engine_open(&engine, &model, &cache, &err), RC_OK);
	assert_int_equal(emulated_room - emulated_asked, MEMORY_RESERVE);
	engine_close(engine);
	model_close(&model);
	emulated_room = needed - 1;
	emulated_peak = 0;
	assert_int_equal(model_open(&model, folder, compute_open_cuda, options, NULL, &err), RC_FATAL);
	assert_string_equal(err.reason, "memory");
	assert_int_equal(emulated_peak, 0);
	emulated_room = all;
	free(folder);
}

/* Some are narrower than fp8 wants it. */
static bool fp8_fits(const char *name)
{
	char *folder = xasprintf("tests/golden/models/%s", name);
	struct model_config config;
	struct err err;

	assert_int_equal(model_config_load(&config, folder, &err), RC_OK);
	free(folder);
	return config.text.hidden % 16 == 0;
}

static void test_plan_is_what_is_taken(void **state)
{
	static const struct compute_options kinds[] = {
		{.weights = NUMBER_BF16, .cache_size = 5 * MIB},
		{.weights = NUMBER_BF16, .cache_size = MIB, .sequences = 3},
		{.weights = NUMBER_BF16, .cache_size = MIB, .sequences = 40, .drafts = 8},
		{.weights = NUMBER_BF16, .cache_size = 2 * MIB, .keys = COMPUTE_KEYS_FP8},
		{.weights = NUMBER_E4M3, .cache_size = 2 * MIB},
	};

	(void)state;
	for (size_t i = 0; i < sizeof(models) / sizeof(*models); i++)
		for (size_t k = 0; k < sizeof(kinds) / sizeof(*kinds); k++)
			if (kinds[k].weights == NUMBER_BF16 || fp8_fits(models[i]))
				check_model(models[i], &kinds[k]);
}

/* MiB of weights, as the refusal says, for Qwen3-0.6B. */
static size_t weights_of(enum number weights)
{
	struct compute_options options = {.weights = weights, .cache_size = MIB};
	size_t all = emulated_room, n = 0;
	struct model m = {0};
	struct err err;

	emulated_room = 1;
	assert_int_equal(model_config_load_file(&m.config, "tests/bench/models/qwen3-0.6b.json", &err), RC_OK);
	assert_int_equal(model_open_config(&m, compute_open_cuda, &options, NULL, &err), RC_FATAL);
	emulated_room = all;
	assert_string_equal(err.reason, "memory");
	assert_int_equal(sscanf(strstr(err.text, "(weights "), "(weights %zu,", &n), 1);
	return n;
}

/* In fp8 the four matrices of its 28 layers take 4, 2, 6 and 3 MiB instead of 8, 4, 12 and 6, of which 3 are two
 * pages of 2; and 48 KiB of scales. The head takes what it took. */
static void test_fp8_is_half(void **state)
{
	size_t less = 28 * (8 + 4 + 12 + 6 - 4 - 2 - 6 - 4) - 28 * 48 / 1024;

	(void)state;
	assert_in_range(weights_of(NUMBER_BF16) - weights_of(NUMBER_E4M3), less - 1, less);
}

/* Without a size the cache takes what is left, and no more than the reserve stays. */
static void test_takes_what_is_left(void **state)
{
	struct compute_options options = {.weights = NUMBER_BF16, .sequences = 255};
	struct engine_options cache = {0};
	size_t all = emulated_room, blocks;
	struct engine *engine;
	struct model model;
	struct err err;

	(void)state;
	emulated_room = 1500 * MIB;
	assert_int_equal(model_open(&model, "tests/golden/models/qwen3-vl", compute_open_cuda, &options, NULL,
				    &err),
			 RC_OK);
	assert_int_equal(engine_open(&engine, &model, &cache, &err), RC_OK);
	blocks = engine_load(engine).blocks;
	assert_in_range(emulated_room - emulated_asked, MEMORY_RESERVE,
			MEMORY_RESERVE + 4 * MIB + model.compute->block_size);
	assert_true(blocks > 0);
	engine_close(engine);

	/* More than there is, is refused there too. */
	cache.cache_size = (blocks + 1) * model.compute->block_size;
	assert_int_equal(engine_open(&engine, &model, &cache, &err), RC_FATAL);
	assert_string_equal(err.reason, "memory");
	model_close(&model);
	emulated_room = all;
}

static enum rc adapt(struct model *m, unsigned i, struct err *err)
{
	return model_adapt(m,
			   i % 2 ? "tests/golden/models/qwen3/adapter-some"
				 : "tests/golden/models/qwen3/adapter-all",
			   err);
}

static void open_qwen3(struct model *m, const struct compute_options *options)
{
	struct err err;

	if (model_open(m, "tests/golden/models/qwen3", compute_open_cuda, options, NULL, &err) != RC_OK)
		fail_msg("%s", err.text);
}

/* Adapters take what they said, to the byte, or one is refused before it takes anything and those before it
 * stay. */
static void test_adapters_are_planned(void **state)
{
	enum { COUNT = 5 };
	struct compute_options options = {.weights = NUMBER_BF16, .sequences = 3, .cache_size = 5 * MIB};
	struct engine_options cache = {0};
	size_t all = emulated_room, needed, before;
	struct engine *engine;
	struct model model;
	struct err err;

	(void)state;
	open_qwen3(&model, &options);
	for (unsigned i = 0; i < COUNT; i++)
		assert_int_equal(adapt(&model, i, &err), RC_OK);
	assert_int_equal(engine_open(&engine, &model, &cache, &err), RC_OK);
	needed = emulated_asked + MEMORY_RESERVE;
	engine_close(engine);
	/* A second engine takes no more. */
	assert_int_equal(engine_open(&engine, &model, &cache, &err), RC_OK);
	assert_int_equal(emulated_asked + MEMORY_RESERVE, needed);
	engine_close(engine);
	model_close(&model);
	assert_int_equal(emulated_asked, 0);

	for (size_t less = 0; less < 2; less++) {
		emulated_room = needed - less;
		open_qwen3(&model, &options);
		for (unsigned i = 0; i + 1 < COUNT; i++)
			assert_int_equal(adapt(&model, i, &err), RC_OK);
		before = emulated_asked;
		assert_int_equal(adapt(&model, COUNT - 1, &err), less ? RC_FATAL : RC_OK);
		if (less) {
			assert_string_equal(err.reason, "memory");
			assert_non_null(strstr(err.text, "MiB are needed (weights 1, "));
			assert_non_null(strstr(err.text, "adapters 2, cache 6, the driver 512), "));
			assert_int_equal(emulated_asked, before);
			assert_int_equal(model.adapter_count, COUNT - 1);
		}
		assert_int_equal(engine_open(&engine, &model, &cache, &err), RC_OK);
		assert_true(less ? emulated_room - emulated_asked > MEMORY_RESERVE
				 : emulated_room - emulated_asked == MEMORY_RESERVE);
		engine_close(engine);
		model_close(&model);
	}
	emulated_room = all;
}

/* They take it from a cache that has what is left. */
static void test_adapters_take_from_the_cache(void **state)
{
	struct compute_options options = {.weights = NUMBER_BF16, .sequences = 255};
	struct engine_options cache = {0};
	size_t all = emulated_room, before, weights;
	struct engine *engine;
	struct model model;
	struct err err;

	(void)state;
	emulated_room = 1500 * MIB;
	open_qwen3(&model, &options);
	before = model.compute->cache_size;
	weights = emulated_asked;
	for (unsigned i = 0; i < ADAPTERS_MAX; i++)
		assert_int_equal(adapt(&model, i, &err), RC_OK);
	weights = emulated_asked - weights;
	assert_true(weights > 2 * MIB);
	assert_in_range(before - model.compute->cache_size, weights, weights + 4 * MIB);
	assert_int_equal(engine_open(&engine, &model, &cache, &err), RC_OK);
	assert_in_range(emulated_room - emulated_asked, MEMORY_RESERVE,
			MEMORY_RESERVE + 4 * MIB + model.compute->block_size);
	engine_close(engine);
	model_close(&model);
	emulated_room = all;
}

/* What kernels would refuse in the middle of a page. */
static void test_shapes_that_are_refused(void **state)
{
	static const struct model_config fits = {
		.text = {.hidden = 2048, .heads = 16, .kv_heads = 2, .head_dim = 128},
		.vision = {.depth = 32, .hidden = 1280, .heads = 16, .merge = 2}};
	const struct compute_options options = {.weights = NUMBER_BF16},
				     plain = {.weights = NUMBER_BF16, .plain = true},
				     many = {.weights = NUMBER_BF16, .sequences = 257};
	struct model_config wrong[7];
	struct err err;

	(void)state;
	for (size_t i = 0; i < sizeof(wrong) / sizeof(*wrong); i++)
		wrong[i] = fits;
	wrong[0].text.hidden = 2052;
	wrong[1].text.hidden = 8200;
	wrong[2].text.head_dim = 136;
	wrong[3].text.heads = 129 * 2;
	wrong[4].vision.heads = 8;
	wrong[5].vision.hidden = 8200;
	wrong[5].vision.heads = 205;
	wrong[6].vision.hidden = 2064;
	wrong[6].vision.heads = 43;
	wrong[6].vision.deepstacks = 3;
	assert_int_equal(compute_open_cuda(NULL, &fits, NULL, &options, NULL, &err), RC_OK);
	for (size_t i = 0; i < sizeof(wrong) / sizeof(*wrong); i++) {
		assert_int_equal(compute_open_cuda(NULL, &wrong[i], NULL, &options, NULL, &err), RC_FATAL);
		assert_string_equal(err.reason, "model-config");
	}
	assert_int_equal(compute_open_cuda(NULL, &wrong[4], NULL, &plain, NULL, &err), RC_OK);
	assert_int_equal(compute_open_cuda(NULL, &fits, NULL, &many, NULL, &err), RC_FATAL);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_rounds),
		cmocka_unit_test(test_rest_is_the_cache),
		cmocka_unit_test(test_refusal_has_the_numbers),
		cmocka_unit_test(test_sums_do_not_wrap),
		cmocka_unit_test(test_plan_is_what_is_taken),
		cmocka_unit_test(test_fp8_is_half),
		cmocka_unit_test(test_takes_what_is_left),
		cmocka_unit_test(test_adapters_are_planned),
		cmocka_unit_test(test_adapters_take_from_the_cache),
		cmocka_unit_test(test_shapes_that_are_refused),
	};

	cmocka_set_message_output(CM_OUTPUT_TAP);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
