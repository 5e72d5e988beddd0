/* SPDX-License-Identifier: MIT
 *
 * The engine on small random models: what a request gives does not depend on what runs beside it,
 * on the room there is for keys and values, or on who began alike.
 */
#include "engine.h"
#include "on-compute.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#ifdef ON_CUDA
#define REQUESTS 6 /* the emulation is slow */
#else
#define REQUESTS 40
#endif

#ifndef ENGINE_MODEL
#define ENGINE_MODEL "qwen3-vl"
#endif

struct fixture {
	struct pool *pool;
	struct model model;
	float *embeddings, *deepstack; /* of a page of 6 x 5 tokens */
	struct features features;      /* the same */
};

static int open_with(void **state, enum number weights, enum compute_keys keys)
{
	struct fixture *f = xcalloc(1, sizeof(*f));
	struct err err;
	size_t n;

	if (pool_open(&f->pool, 0, &err) != RC_OK ||
	    model_open(&f->model, "tests/golden/models/" ENGINE_MODEL, COMPUTE_OPEN,
		       &(struct compute_options){.weights = weights, .keys = keys}, f->pool, &err) != RC_OK) {
		fprintf(stderr, "%s\n", err.text);
		return -1;
	}
	n = 30 * (size_t)f->model.config.text.hidden;
	f->embeddings = xmalloc(n * sizeof(float));
	f->deepstack = xmalloc(n * sizeof(float));
	for (size_t i = 0; i < n; i++) {
		features_write(f->embeddings, i, sinf((float)i));
		features_write(f->deepstack, i, cosf((float)i) / 4);
	}
	f->features = (struct features){f->embeddings, {f->deepstack, f->deepstack}, 0};
	*state = f;
	return 0;
}

static int setup(void **state)
{
	return open_with(state, NUMBER_BF16, COMPUTE_KEYS_AS_WEIGHTS);
}

static int __attribute__((unused)) setup_fp8(void **state)
{
	return open_with(state, compute_lacks_fp8() ? NUMBER_BF16 : NUMBER_E4M3, COMPUTE_KEYS_FP8);
}

static int teardown(void **state)
{
	struct fixture *f = *state;

	model_close(&f->model);
	pool_close(f->pool);
	free(f->embeddings);
	free(f->deepstack);
	free(f);
	return 0;
}

static struct engine *start(struct fixture *f, size_t blocks, unsigned sequences)
{
	struct engine_options options = {.cache_size = blocks * f->model.compute->block_size,
					 .sequences = sequences};
	struct engine *e;
	struct err err;

	if (engine_open(&e, &f->model, &options, &err) != RC_OK)
		fail_msg("%s", err.text);
	return e;
}

/* Request k: some with a page, some that share a beginning, some drawn at random. */
struct request {
	struct engine_request r;
	struct engine_page page;
	unsigned prompt[256];
};

static void describe(const struct fixture *f, struct request *q, unsigned k)
{
	const struct model_config *c = &f->model.config;
	unsigned n = 0, length = 3 + k * 37 % 150;

	*q = (struct request){.r = {.id = k,
				    .most = 5 + k * 13 % 60,
				    .endless = !c->vision.depth,
				    .sampling = {.repetition_penalty = 1, .top_p = 1}}};
	if (k % 3 == 0)
		for (unsigned i = 0; i < 64; i++)
			q->prompt[n++] = i * 7 % 290;
	if (k % 4 == 1 && c->vision.depth) {
		q->page = (struct engine_page){.place = {n + 1, 6, 5}, .features = &f->features};
		q->r.pages = &q->page;
		q->r.page_count = 1;
		q->prompt[n++] = c->vision_start;
		for (unsigned i = 0; i < 30; i++)
			q->prompt[n++] = c->image_token;
		q->prompt[n++] = c->vision_end;
	}
	for (unsigned i = 0; i < length; i++)
		q->prompt[n++] = (k * 31 + i * i) % 290;
	if (k % 5 == 2)
		q->r.sampling = (struct sampling){.temperature = 1.2,
						  .top_k = 40,
						  .top_p = 0.9,
						  .min_p = 0.01,
						  .repetition_penalty = 1.1,
						  .seed = k};
	/* None, one, the other, or both. */
	for (unsigned i = 0; i < f->model.adapter_count; i++)
		if (k % 4 >> i & 1)
			q->r.adapted.number[q->r.adapted.count++] = i;
	q->r.prompt = q->prompt;
	q->r.prompt_count = n;
}

static void run_all(struct engine *e, struct request *requests, const unsigned *order,
		    unsigned count, struct engine_result *results)
{
	struct engine_result one;
	struct err err;

	for (unsigned i = 0; i < count; i++)
		if (engine_add(e, &requests[order[i]].r, &err) != RC_OK)
			fail_msg("%s", err.text);
	do {
		while (engine_take(e, &one))
			results[one.id] = one;
	} while (engine_step(e));
}

static void same_result(const struct engine_result *a, const struct engine_result *b, unsigned k,
			const char *when)
{
	if (a->finish != b->finish || a->count != b->count || !b->tokens ||
	    memcmp(a->tokens, b->tokens, a->count * sizeof(*a->tokens)) != 0 ||
	    memcmp(a->log_probabilities, b->log_probabilities, a->count * sizeof(float)) != 0)
		fail_msg("request %u differs %s", k, when);
}

static void release(struct engine_result *r)
{
	free(r->tokens);
	free(r->log_probabilities);
}

/* In all ways from `way` on. */
static void check_invariant(struct fixture *f, unsigned way)
{
	static const struct {
		const char *when;
		size_t blocks;
		unsigned sequences;
		bool backwards;
	} ways[] = {
		{"with all others beside it", 1000, 64, false},
		{"in another order", 1000, 64, true},
		{"with few beside it", 1000, 3, false},
		{"when the cache is small and sequences give way", 14, 64, false},
	};
	struct request *requests = xcalloc(REQUESTS, sizeof(*requests));
	struct engine_result alone[REQUESTS] = {0}, together[REQUESTS];
	unsigned order[REQUESTS];

	for (unsigned k = 0; k < REQUESTS; k++) {
		struct engine *e = start(f, 1000, 1);

		describe(f, &requests[k], k);
		run_all(e, requests, &k, 1, alone);
		assert_true(alone[k].count > 0);
		engine_close(e);
	}
	for (unsigned w = way; w < sizeof(ways) / sizeof(*ways); w++) {
		struct engine *e = start(f, ways[w].blocks, ways[w].sequences);
		struct engine_load load;

		memset(together, 0, sizeof(together));
		for (unsigned i = 0; i < REQUESTS; i++)
			order[i] = ways[w].backwards ? REQUESTS - 1 - i : i;
		run_all(e, requests, order, REQUESTS, together);
		for (unsigned k = 0; k < REQUESTS; k++) {
			same_result(&alone[k], &together[k], k, ways[w].when);
			release(&together[k]);
		}
		load = engine_load(e);
		assert_int_equal(load.free_blocks, load.blocks);
		assert_true((ways[w].blocks < 100) == (load.preempted > 0));
		/* Of six, the two that begin alike are not of one kind where lengths matter. */
		if (ways[w].sequences < REQUESTS && (REQUESTS > 6 || !f->model.config.text.switch_at))
			assert_true(load.shared_tokens > 0);
		engine_close(e);
	}
	for (unsigned k = 0; k < REQUESTS; k++)
		release(&alone[k]);
	free(requests);
}

static void test_batch_invariant(void **state)
{
	check_invariant(*state, 0);
}

/* Sequences that turn by other angles once they are longer than 80 tokens: some begin so, some come to it. */
static void test_switch(void **state)
{
	struct fixture f = {.pool = ((struct fixture *)*state)->pool};
	struct err err;

	if (model_open(&f.model, "tests/golden/models/phi3-crossing", COMPUTE_OPEN,
		       &(struct compute_options){.weights = NUMBER_BF16}, f.pool, &err) != RC_OK)
		fail_msg("%s", err.text);
	check_invariant(&f, REQUESTS > 6 ? 0 : 3);
	model_close(&f.model);
}

/* Requests of different adapters ride in one batch; what one has left in the cache is not another's. */
static void __attribute__((unused)) check_adapters(void **state, enum compute_keys keys, unsigned way)
{
	static const char *const adapters[] = {"tests/golden/models/qwen3-vl/adapter-language",
					       "tests/golden/models/qwen3-vl/adapter-expression"};
	struct fixture *shared = *state, f = *shared;
	struct engine_result got[4] = {0};
	const unsigned order[] = {0, 1, 2, 3};
	struct request q[4];
	struct engine *e;
	struct err err;

	if (model_open(&f.model, "tests/golden/models/qwen3-vl", COMPUTE_OPEN,
		       &(struct compute_options){.weights = NUMBER_BF16, .keys = keys}, f.pool, &err) != RC_OK)
		fail_msg("%s", err.text);
	for (unsigned i = 0; i < 2; i++)
		if (model_adapt(&f.model, adapters[i], &err) != RC_OK)
			fail_msg("%s", err.text);
	check_invariant(&f, way);
	e = start(&f, 100, 4);
	for (unsigned k = 0; k < 4; k++) {
		describe(&f, &q[k], 0);
		q[k].r.id = k;
		for (unsigned i = 0; i < 2; i++)
			if (k >> i & 1)
				q[k].r.adapted.number[q[k].r.adapted.count++] = i;
	}
	run_all(e, q, order, 4, got);
	for (unsigned k = 1; k < 4; k++)
		for (unsigned j = 0; j < k; j++)
			assert_memory_not_equal(got[k].log_probabilities, got[j].log_probabilities,
						sizeof(float));
	assert_int_equal(engine_load(e).shared_tokens, 0);
	for (unsigned k = 0; k < 4; k++)
		release(&got[k]);
	engine_close(e);
	model_close(&f.model);
}

static void __attribute__((unused)) test_adapters(void **state)
{
	check_adapters(state, COMPUTE_KEYS_AS_WEIGHTS, REQUESTS > 6 ? 0 : 2);
}

static void __attribute__((unused)) test_adapters_fp8(void **state)
{
	check_adapters(state, COMPUTE_KEYS_FP8, 3);
}

static void __attribute__((unused)) test_ends(void **state)
{
	struct fixture *f = *state;
	struct engine_result got[1] = {0}, more[1] = {0};
	struct generation_config *g = &f->model.config.generation;
	struct engine *e = start(f, 100, 4);
	struct request q;
	unsigned zero = 0;

	/* The length limit, and the limit as a failure of its own. */
	describe(f, &q, 0);
	q.r.most = 9;
	run_all(e, &q, &zero, 1, got);
	assert_int_equal(got[0].finish, ENGINE_LENGTH);
	assert_int_equal(got[0].count, 9);
	for (size_t i = 0; i < 9; i++)
		assert_true(got[0].log_probabilities[i] <= 0);

	/* Any token of the end list ends it, and is not part of the text. */
	g->eos[g->eos_count++] = got[0].tokens[4];
	run_all(e, &q, &zero, 1, more);
	assert_int_equal(more[0].finish, ENGINE_STOP);
	assert_true(more[0].count <= 4);
	assert_memory_equal(more[0].tokens, got[0].tokens, more[0].count * sizeof(unsigned));
	g->eos_count--;
	release(&got[0]);
	release(&more[0]);
	engine_close(e);
}

/* Greedy, a random model soon goes round in circles. */
static void __attribute__((unused)) test_repetition(void **state)
{
	struct engine *e = start(*state, 400, 4);
	struct engine_result got[1] = {0};
	struct request q;
	unsigned zero = 0;

	describe(*state, &q, 0);
	q.r.most = 3000;
	run_all(e, &q, &zero, 1, got);
	assert_int_equal(got[0].finish, ENGINE_REPETITION);
	assert_in_range(got[0].period, 1, 256);
	for (size_t i = 0; i < 128; i++)
		assert_int_equal(got[0].tokens[got[0].count - 1 - i],
				 got[0].tokens[got[0].count - 1 - i - got[0].period]);
	release(&got[0]);
	engine_close(e);
}

static void test_nan(void **state)
{
	struct fixture *f = *state;
	struct engine_result got[REQUESTS] = {0};
	struct engine *e = start(f, 400, 4);
	struct request q[2];
	unsigned order[] = {0, 1};

	describe(f, &q[0], 1);
	describe(f, &q[1], 2);
	q[0].r.id = 0;
	q[1].r.id = 1;
	features_write(f->embeddings, 7, NAN);
	run_all(e, q, order, 2, got);
	features_write(f->embeddings, 7, sinf(7));
	assert_int_equal(got[0].finish, ENGINE_NAN);
	assert_int_not_equal(got[1].finish, ENGINE_NAN);
	release(&got[0]);
	release(&got[1]);
	engine_close(e);
}

static void test_refused(void **state)
{
	struct engine *e = start(*state, 4, 4);
	struct request q;
	struct err err;

	describe(*state, &q, 0);
	q.r.most = 1000;
	assert_int_equal(engine_add(e, &q.r, &err), RC_FAILED);
	assert_string_equal(err.reason, "limit:cache");
	q.r.most = 1u << 20;
	assert_int_equal(engine_add(e, &q.r, &err), RC_FAILED);
	assert_string_equal(err.reason, "limit:context");
	q.r.prompt_count = 0;
	assert_int_equal(engine_add(e, &q.r, &err), RC_FAILED);
	assert_false(engine_step(e));
	engine_close(e);
}

/* What the device gives at best can be asked for, and leaves nothing behind. */
static void test_measure(void **state)
{
	struct fixture *f = *state;
	struct compute *c = f->model.compute;
	struct compute_peak peak = {0};
	struct err err;

	assert_int_equal(c->calls->measure(c, 60, 1 << 20, &peak, &err), RC_OK);
	assert_true(peak.copied > 0 && peak.copied < 1e15);
	assert_true(peak.flop > 0 && peak.flop < 1e18);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_batch_invariant),
		cmocka_unit_test(test_switch),
		cmocka_unit_test(test_nan),
		cmocka_unit_test(test_refused),
		cmocka_unit_test(test_measure),
		ONLY_ON_CUDA(cmocka_unit_test_setup_teardown(test_batch_invariant, setup_fp8, teardown))
#ifndef ENGINE_SOBER
		cmocka_unit_test(test_adapters),
		ONLY_ON_CUDA(cmocka_unit_test(test_adapters_fp8))
		ONLY_ON_CPU(cmocka_unit_test(test_ends), cmocka_unit_test(test_repetition))
#endif
	};

	cmocka_set_message_output(CM_OUTPUT_TAP);
	if (compute_missing()) {
		printf("1..0 # SKIP %s\n", compute_missing());
		return 0;
	}
	return cmocka_run_group_tests(tests, setup, teardown);
}
