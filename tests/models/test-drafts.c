/* SPDX-License-Identifier: MIT
 *
 * Guesses of what comes next, on small random models: whatever is guessed, and beside whom, no token and no
 * log probability is another one than without. Those that come true save steps; those that do not cost none.
 */
#include "draft.h"
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
enum { REQUESTS = 7, ROUNDS = 1, FIRST_WAY = 1, WAYS = 3, LONGEST = 50, TIGHT = 6, ALONE = 6 }; /* the emulation is slow */
#else
enum { REQUESTS = 24, ROUNDS = 2, FIRST_WAY = 0, WAYS = 4, LONGEST = 160, TIGHT = 10, ALONE = 60 };
#endif

/* Blocks: for all, and for the longest alone. */
enum { PAGE = 30, SEQUENCES = 7, WIDE = 100 };

struct fixture {
	struct pool *pool;
	struct model model;
	float *numbers; /* of a page */
	struct features features;
};

static void open_model(struct fixture *f, const char *name, enum compute_keys keys, unsigned sequences)
{
	char *folder = xasprintf("tests/golden/models/%s", name);
	struct compute_options options = {.weights = NUMBER_BF16,
					  .keys = keys,
					  .sequences = sequences,
					  .drafts = ENGINE_DRAFTS_MAX};
	struct err err;
	size_t n;

	if (model_open(&f->model, folder, COMPUTE_OPEN, &options, f->pool, &err) != RC_OK)
		fail_msg("%s: %s", name, err.text);
	n = PAGE * (size_t)f->model.config.text.hidden;
	f->numbers = xmalloc(n * sizeof(float));
	for (size_t i = 0; i < n; i++)
		features_write(f->numbers, i, sinf((float)i));
	f->features = (struct features){f->numbers, {NULL}, 0};
	free(folder);
}

static void close_model(struct fixture *f)
{
	model_close(&f->model);
	free(f->numbers);
}

static int setup(void **state)
{
	struct fixture *f = xcalloc(1, sizeof(*f));
	struct err err;

	*state = f;
	return pool_open(&f->pool, 0, &err) == RC_OK ? 0 : -1;
}

static int teardown(void **state)
{
	struct fixture *f = *state;

	pool_close(f->pool);
	free(f);
	return 0;
}

struct request {
	struct engine_request r;
	struct engine_page page;
	unsigned prompt[600];
};

static unsigned random_below(uint64_t *seed, unsigned n)
{
	*seed = *seed * 6364136223846793005u + 1442695040888963407u;
	return (unsigned)(*seed >> 33) % n;
}

/* Half of them repeat themselves in the prompt; some have pages, draws, penalties, adapters. */
static void describe(const struct fixture *f, struct request *q, uint64_t *seed, unsigned id)
{
	const struct model_config *c = &f->model.config;
	unsigned n = 0, length = 3 + random_below(seed, 100), period = 3 + random_below(seed, 200);

	*q = (struct request){.r = {.id = id,
				    .most = 1 + random_below(seed, LONGEST),
				    .endless = random_below(seed, 2),
				    .sampling = {.repetition_penalty = 1, .top_p = 1, .seed = *seed}}};
	if (c->vision.depth && random_below(seed, 3) == 0) {
		q->page = (struct engine_page){.place = {1, 6, 5}, .features = &f->features};
		q->r.pages = &q->page;
		q->r.page_count = 1;
		q->prompt[n++] = c->vision_start;
		while (n <= PAGE)
			q->prompt[n++] = c->image_token;
		q->prompt[n++] = c->vision_end;
	}
	for (unsigned i = 0; i < length; i++, n++)
		q->prompt[n] = i < period ? random_below(seed, 290) : q->prompt[n - period];
	if (random_below(seed, 2))
		q->r.sampling.temperature = 0.2 + random_below(seed, 100) / 80.0;
	if (random_below(seed, 2))
		q->r.sampling.top_k = 1 + random_below(seed, 4);
	if (random_below(seed, 6) == 0)
		q->r.sampling.repetition_penalty = 1.2;
	for (unsigned i = 0; i < f->model.adapter_count; i++)
		if (random_below(seed, 2))
			q->r.adapted.number[q->r.adapted.count++] = i;
	q->r.prompt = q->prompt;
	q->r.prompt_count = n;
}

/* How the requests run; results [count]. Returns what the engine says in the end. */
struct way {
	size_t blocks;
	unsigned sequences, drafts;
};

static struct engine_load run(struct fixture *f, struct way w, struct request *requests, unsigned count,
			      struct engine_result *results, unsigned *steps)
{
	struct engine_options options = {.cache_size = w.blocks * f->model.compute->block_size,
					 .sequences = w.sequences,
					 .drafts = w.drafts};
	struct engine_result one;
	struct engine_load load;
	struct engine *e;
	bool more = true;
	struct err err;

	if (engine_open(&e, &f->model, &options, &err) != RC_OK)
		fail_msg("%s", err.text);
	*steps = 0;
	for (unsigned next = 0; more || next < count; *steps += more) {
		/* Some join later. */
		if (next < count && (next < count / 2 || *steps % 7 == 0 || !more) &&
		    engine_add(e, &requests[next++].r, &err) != RC_OK)
			fail_msg("%s", err.text);
		more = engine_step(e);
		while (engine_take(e, &one))
			results[one.id] = one;
	}
	load = engine_load(e);
	assert_int_equal(load.free_blocks, load.blocks);
	engine_close(e);
	return load;
}

static void release(struct engine_result *results, unsigned count)
{
	for (unsigned k = 0; k < count; k++) {
		free(results[k].tokens);
		free(results[k].log_probabilities);
	}
}

static void same(const struct engine_result *a, const struct engine_result *b, unsigned count,
		 const char *what)
{
	for (unsigned k = 0; k < count; k++)
		if (a[k].finish != b[k].finish || a[k].count != b[k].count || !a[k].tokens ||
		    !b[k].tokens || a[k].period != b[k].period ||
		    memcmp(a[k].tokens, b[k].tokens, a[k].count * sizeof(*a->tokens)) != 0 ||
		    memcmp(a[k].log_probabilities, b[k].log_probabilities, a[k].count * sizeof(float)) != 0)
			fail_msg("%s: request %u differs: %d after %zu, not %d after %zu", what, k,
				 b[k].finish, b[k].count, a[k].finish, a[k].count);
}

/* Random requests, without guesses and with them, in room for all and where sequences give way. */
static void check_model(struct fixture *f, const char *name)
{
	static const unsigned drafts[] = {ENGINE_DRAFTS_MAX, 1, 3};
	struct request *requests = xcalloc(REQUESTS, sizeof(*requests));
	struct engine_result plain[REQUESTS], guessed[REQUESTS];
	struct engine_load load, all = {0};
	uint64_t seed = 1;
	unsigned steps;

	for (unsigned round = 0; round < ROUNDS; round++) {
		for (unsigned k = 0; k < REQUESTS; k++)
			describe(f, &requests[k], &seed, k);
		memset(plain, 0, sizeof(plain));
		load = run(f, (struct way){WIDE, SEQUENCES, 0}, requests, REQUESTS, plain, &steps);
		assert_int_equal(load.drafted, 0);
		for (unsigned w = FIRST_WAY; w < WAYS; w++) {
			struct way way = {w & 1 ? TIGHT : WIDE, w & 2 ? 2 : SEQUENCES, drafts[(round + w) % 3]};

			memset(guessed, 0, sizeof(guessed));
			load = run(f, way, requests, REQUESTS, guessed, &steps);
			same(plain, guessed, REQUESTS, name);
			release(guessed, REQUESTS);
			all.drafted += load.drafted;
			all.accepted += load.accepted;
			all.preempted += load.preempted;
		}
		release(plain, REQUESTS);
	}
	print_message("# %s: %llu of %llu guesses came true, %llu sequences gave way\n", name,
		      (unsigned long long)all.accepted, (unsigned long long)all.drafted,
		      (unsigned long long)all.preempted);
	assert_true(all.accepted > 0 && all.accepted < all.drafted);
	assert_true(all.preempted > 0);
	free(requests);
}

static void test_same_bits(void **state)
{
	static const struct {
		const char *name;
		enum compute_keys keys;
	} models[] = {
		{"qwen3", COMPUTE_KEYS_AS_WEIGHTS},
		{"phi3-crossing", COMPUTE_KEYS_AS_WEIGHTS}, /* other angles beyond 80 tokens */
		ONLY_ON_CUDA({"qwen3-untied", COMPUTE_KEYS_FP8})
		ONLY_ON_CPU({"qwen3-untied", COMPUTE_KEYS_AS_WEIGHTS}, {"qwen3-vl", COMPUTE_KEYS_AS_WEIGHTS},
			    {"qwen2.5-vl", COMPUTE_KEYS_AS_WEIGHTS}, {"qwen3-moe", COMPUTE_KEYS_AS_WEIGHTS}, )
	};

	for (size_t i = 0; i < sizeof(models) / sizeof(*models); i++) {
		open_model(*state, models[i].name, models[i].keys, SEQUENCES);
		check_model(*state, models[i].name);
		close_model(*state);
	}
}

static void __attribute__((unused)) test_adapters(void **state)
{
	static const char *const adapters[] = {"tests/golden/models/qwen3-vl/adapter-language",
					       "tests/golden/models/qwen3-vl/adapter-expression"};
	struct fixture *f = *state;
	struct err err;

	open_model(f, "qwen3-vl", COMPUTE_KEYS_AS_WEIGHTS, SEQUENCES);
	for (unsigned i = 0; i < 2; i++)
		if (model_adapt(&f->model, adapters[i], &err) != RC_OK)
			fail_msg("%s", err.text);
	check_model(f, "qwen3-vl with adapters");
	close_model(f);
}

/* A model that goes round in circles, alone: most of its guesses are right. Behind more than 512 keys, where a GPU has
 * scratch for some rows at a time. */
static void test_fewer_steps(void **state)
{
	struct fixture *f = *state;
	struct engine_result plain = {0}, guessed = {0};
	struct request q = {.r = {.most = 3 * LONGEST,
				  .endless = true,
				  .prompt = q.prompt,
				  .prompt_count = 550,
				  .sampling = {.repetition_penalty = 1, .top_p = 1}}};
	struct engine_load load;
	unsigned steps, fewer;

	for (unsigned i = 0; i < 550; i++)
		q.prompt[i] = i * i % 290;
	open_model(f, "qwen3", COMPUTE_KEYS_AS_WEIGHTS, 1);
	run(f, (struct way){WIDE, 1, 0}, &q, 1, &plain, &steps);
	load = run(f, (struct way){WIDE, 1, ENGINE_DRAFTS_MAX}, &q, 1, &guessed, &fewer);
	same(&plain, &guessed, 1, "qwen3 alone");
	assert_int_equal(plain.count, 3 * LONGEST);
	assert_true(fewer * 2 < steps);
	assert_true(load.accepted * 2 > plain.count);
	release(&plain, 1);
	release(&guessed, 1);
	close_model(f);
}

/* Each that comes true saves a step, and no other costs one. */
static void test_wrong_guesses(void **state)
{
	struct fixture *f = *state;
	struct request q;
	uint64_t seed = 7, wrong = 0, right = 0;

	open_model(f, "qwen3", COMPUTE_KEYS_AS_WEIGHTS, 1);
	for (unsigned k = 0; k < ALONE; k++) {
		struct engine_result plain = {0}, guessed = {0};
		struct engine_load load;
		unsigned steps, fewer;

		describe(f, &q, &seed, 0);
		q.r.most = LONGEST;
		q.r.endless = true;
		q.r.sampling.temperature = k % 3 ? 1.5 : 0;
		q.r.sampling.top_k = 2;
		run(f, (struct way){WIDE, 1, 0}, &q, 1, &plain, &steps);
		load = run(f, (struct way){WIDE, 1, 1 + k % ENGINE_DRAFTS_MAX}, &q, 1, &guessed, &fewer);
		same(&plain, &guessed, 1, "qwen3 alone");
		assert_true(f->model.compute->ahead || fewer == steps - load.accepted);
		wrong += load.drafted - load.accepted;
		right += load.accepted;
		release(&plain, 1);
		release(&guessed, 1);
	}
	print_message("# alone: %llu of %llu\n", (unsigned long long)right, (unsigned long long)(wrong + right));
	assert_true(wrong > ALONE && right > ALONE);
	close_model(f);
}

/* What followed the last tokens before, as far as it can be trusted. */
static void __attribute__((unused)) test_guess(void **state)
{
	enum { LENGTH = 200 };
	unsigned tokens[LENGTH + 8] = {0};
	struct draft *d;
	size_t n = 0;

	(void)state;
	for (; n < 10; n++)
		tokens[n] = (unsigned)n;
	tokens[n++] = 3;
	tokens[n++] = 4;
	d = draft_new(tokens, n, LENGTH);
	assert_false(draft_ready(d)); /* 5 came behind 3 4, but was never tried */
	assert_int_equal(draft_guess(d, tokens, n, 8), 0);
	for (unsigned right = 1; right <= 3; right++) {
		tokens[n++] = 4 + right;
		draft_add(d, tokens, n);
		assert_true(draft_ready(d));
		assert_int_equal(draft_guess(d, tokens, n, 8), right);
		for (unsigned i = 0; i < right && 5 + right + i < 10; i++)
			assert_int_equal(tokens[n + i], 5 + right + i);
		assert_int_equal(draft_guess(d, tokens, n, 1), 1);
	}
	tokens[n++] = 100; /* 8 was the guess */
	draft_add(d, tokens, n);
	assert_false(draft_ready(d));
	tokens[n++] = 3;
	tokens[n++] = 4;
	draft_add(d, tokens, n - 1);
	draft_add(d, tokens, n);
	assert_int_equal(draft_guess(d, tokens, n, 8), 1); /* half of 3 */
	assert_int_equal(tokens[n], 5);
	draft_free(d);

	/* A loop is guessed further than it has been written. */
	for (n = 0; n < 20; n++)
		tokens[n] = (unsigned)(n % 2);
	d = draft_new(tokens, 4, LENGTH);
	for (size_t i = 5; i <= n; i++)
		draft_add(d, tokens, i);
	assert_int_equal(draft_guess(d, tokens, n, 8), 8);
	for (size_t i = n; i < n + 8; i++)
		assert_int_equal(tokens[i], i % 2);
	draft_free(d);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_same_bits),
		cmocka_unit_test(test_fewer_steps),
		cmocka_unit_test(test_wrong_guesses),
		ONLY_ON_CPU(cmocka_unit_test(test_guess), cmocka_unit_test(test_adapters))
	};

	cmocka_set_message_output(CM_OUTPUT_TAP);
	if (compute_missing()) {
		printf("1..0 # SKIP %s\n", compute_missing());
		return 0;
	}
	return cmocka_run_group_tests(tests, setup, teardown);
}
