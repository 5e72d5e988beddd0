/* SPDX-License-Identifier: MIT
 *
 * The scheduler beside a device that is under way: steps begin before the choices of the one before are known.
 * The device here is none: its "keys and values" are the tokens themselves, and what it chooses is a hash of all
 * of them, so that a token that is missing, stale or another sequence's shows in the next. It checks what it is
 * told on the way. Stops, loops, nonsense, late choices, sequences that give way or become long, guesses right and
 * wrong, and an engine that is closed under way: the results are those of a loop over one sequence.
 */
#include "engine.h"

#include "base/hash.h"
#include "repetition.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

enum { VOCAB = 97, SWITCH_AT = 150, FAR = 1 << 20, EOS = 13, BLOCKS_MAX = 400, ROWS = 64, SEQUENCES = 9, FEW = 30, LENGTH_MAX = 4096, REQUESTS = 120,
       UNKNOWN = 1 << 30 };

struct pending {
	struct draw *draw[ROWS];
	struct choice choice[ROWS];
	bool late[ROWS];
	uint64_t hash[ROWS]; /* of the tokens that the draw is about */
	bool whole[ROWS];    /* all of them are kept as in a sequence of that length */
	size_t count;
};

struct device {
	struct compute compute;
	uint32_t kept[BLOCKS_MAX][KV_PAGE];
	bool nonsense[BLOCKS_MAX][KV_PAGE]; /* it spoils all that is computed with the block */
	unsigned chosen[SEQUENCES];
	unsigned seen[SEQUENCES][LENGTH_MAX]; /* as a device knows it, draw by draw */
	size_t seen_count[SEQUENCES];
	struct pending steps[8];
	unsigned begun, ended, late, dropped, again, spoilt;
	bool lates;
};

static struct device *device_of(struct compute *c)
{
	return (struct device *)c;
}

static uint64_t hash_tokens(const unsigned *tokens, size_t n)
{
	return hash64(tokens, n * sizeof(*tokens));
}

/* What comes behind these tokens, which have this hash. The first says of what kind the sequence is. */
static struct choice choice_behind(const unsigned *tokens, size_t n, uint64_t hash)
{
	struct choice c = {true, (unsigned)(hash % VOCAB), -(float)(hash >> 40 & 0xffff) / 65536};

	if (tokens[0] == 1) /* goes round in circles */
		c.token = 20 + (unsigned)(n % 5);
	if (tokens[0] == 2 && hash % 11 == 0)
		c = (struct choice){false, 0, 0};
	if (tokens[0] >= 4 && hash % 8) /* goes round in circles, but not always */
		c.token = 20 + (unsigned)(n % 6);
	if (tokens[0] == 5 && hash % 50 == 8)
		c = (struct choice){false, 0, 0};
	if (tokens[0] != 3 && c.token == EOS && hash >> 20 & 1)
		c.token++; /* some are longer */
	return c;
}

static enum rc device_reserve(struct compute *c, uint32_t count, struct err *err)
{
	(void)c, (void)err;
	assert_true(count <= BLOCKS_MAX);
	return RC_OK;
}

static void device_clear(struct compute *c, uint32_t block)
{
	memset(device_of(c)->kept[block], 0xff, sizeof(device_of(c)->kept[block]));
	memset(device_of(c)->nonsense[block], 0, sizeof(device_of(c)->nonsense[block]));
}

/* A draw's slot has to know the tokens so far by itself, but for a fresh one. */
static void check_seen(struct device *d, const struct text_row *row, const unsigned *tokens, size_t n)
{
	unsigned slot = row->sequence->slot;

	if (row->draw->apart) {
		d->seen_count[slot] = LENGTH_MAX;
		return;
	}
	if (row->draw->fresh) {
		assert_int_equal(row->draw->seen_count, n);
		memcpy(d->seen[slot], row->draw->seen, n * sizeof(*tokens));
		d->seen_count[slot] = n;
	}
	assert_int_equal(d->seen_count[slot], n);
	assert_memory_equal(d->seen[slot], tokens, n * sizeof(*tokens));
}

static void device_draw(struct device *d, const struct text_row *row, struct pending *p)
{
	static unsigned tokens[LENGTH_MAX];
	unsigned slot = row->sequence->slot;
	size_t n = row->index + 1;
	uint32_t *blocks = row->sequence->blocks;
	struct choice c;
	uint64_t hash;

	p->whole[p->count] = true;
	for (size_t i = 0; i < n; i++) {
		tokens[i] = d->kept[blocks[i / KV_PAGE]][i % KV_PAGE];
		p->whole[p->count] &= (tokens[i] >= FAR) == (n > SWITCH_AT);
		tokens[i] %= FAR;
	}
	check_seen(d, row, tokens, n);
	assert_int_equal(row->draw->seen_count, n);
	hash = hash_tokens(tokens, n);
	c = choice_behind(tokens, n, hash);
	p->draw[p->count] = row->draw;
	p->choice[p->count] = c;
	p->hash[p->count] = hash;
	p->late[p->count] = d->lates && hash >> 30 & 1;
	d->nonsense[blocks[row->index / KV_PAGE]][row->index % KV_PAGE] = !c.valid;
	p->count++;
	if (row->draw->apart) {
		d->chosen[slot] = UNKNOWN;
		return;
	}
	d->chosen[slot] = p->late[p->count - 1] ? (c.token + 1) % VOCAB : c.token;
	d->seen[slot][d->seen_count[slot]++] = d->chosen[slot];
}

/* Nothing times nonsense is nonsense. */
static void spoil(struct device *d, const struct text_row *rows, size_t count, struct pending *p)
{
	for (size_t i = 0, k = 0; i < count; i++) {
		const bool *block = d->nonsense[rows[i].sequence->blocks[rows[i].index / KV_PAGE]];

		if (!rows[i].draw)
			continue;
		for (unsigned j = 0; j < KV_PAGE; j++) {
			d->spoilt += block[j] && p->choice[k].valid;
			p->choice[k].valid &= !block[j];
		}
		k++;
	}
}

static void device_begin(struct compute *c, const struct text_row *rows, size_t count)
{
	struct device *d = device_of(c);
	struct pending *p = &d->steps[d->begun++ % 8];
	bool drew[SEQUENCES] = {false};

	assert_true(d->begun - d->ended <= c->ahead + 1);
	assert_in_range(count, 1, ROWS);
	p->count = 0;
	for (size_t i = 0; i < count; i++) {
		const struct text_row *r = &rows[i];
		unsigned slot = r->sequence->slot;

		uint32_t block = r->sequence->blocks[r->index / KV_PAGE];

		assert_true(slot < SEQUENCES && r->index / KV_PAGE < r->sequence->count);
		assert_true(!r->chosen || (r->written && d->chosen[slot] != UNKNOWN));
		d->kept[block][r->index % KV_PAGE] =
			(r->chosen ? d->chosen[slot] : r->token) + (r->far ? FAR : 0);
		d->nonsense[block][r->index % KV_PAGE] = false;
		d->again += r->far && r->index == 0;
		/* Blocks are there for what is computed, and no others. */
		if (i + 1 == count || rows[i + 1].sequence != r->sequence)
			assert_int_equal(r->sequence->count, r->index / KV_PAGE + 1);
		if (!r->draw)
			continue;
		assert_true(r->draw->apart ? r->written && r->draw->how->repetition_penalty == 1 : !drew[slot]);
		drew[slot] = true;
		device_draw(d, r, p);
	}
	spoil(d, rows, count, p);
	assert_true(p->count <= FEW);
}

static void device_end(struct compute *c)
{
	struct device *d = device_of(c);
	struct pending *p = &d->steps[d->ended++ % 8];

	for (size_t i = 0; i < p->count; i++) {
		struct draw *draw = p->draw[i];

		d->dropped += draw->dropped;
		if (draw->dropped)
			continue;
		/* All that was chosen before is known by now. */
		assert_true(hash_tokens(draw->seen, draw->seen_count) == p->hash[i]);
		assert_true(p->whole[i]);
		draw->choice = p->choice[i];
		draw->late = p->late[i];
		d->late += p->late[i];
	}
}

static const struct compute_calls calls = {
	.reserve = device_reserve, .clear = device_clear, .begin = device_begin, .end = device_end};

static struct model model_on(struct device *d, unsigned ahead, bool lates, bool singly)
{
	struct model m = {.compute = &d->compute};

	*d = (struct device){.compute = {.calls = &calls,
					 .name = "none",
					 .rows_max = ROWS,
					 .sequences = SEQUENCES,
					 .rows_few = FEW,
					 .ahead = ahead,
					 .block_size = 1,
					 .singly = singly},
			     .lates = lates};
	m.config.text.vocab = VOCAB;
	m.config.text.max_positions = LENGTH_MAX;
	m.config.text.switch_at = SWITCH_AT;
	m.config.generation.eos[0] = EOS;
	m.config.generation.eos_count = 1;
	return m;
}

struct request {
	unsigned prompt[200];
	struct engine_request r;
};

static void describe(struct request *q, unsigned k)
{
	static const struct sampling greedy = {.repetition_penalty = 1, .top_p = 1};

	q->r = (struct engine_request){.id = k,
				       .prompt = q->prompt,
				       .prompt_count = 1 + k * 53 % 150,
				       .most = 1 + k * 29 % 190,
				       .sampling = greedy};
	if (k % 4 == 1)
		q->r.most = 700;
	if (k % 7 == 3)
		q->r.sampling.repetition_penalty = 1.5; /* the device's choices do not depend on it */
	q->prompt[0] = k % 6;
	for (unsigned i = 1; i < q->r.prompt_count; i++)
		q->prompt[i] = i < 70 && k % 3 == 0 ? i % VOCAB : (k * 7 + i * i) % VOCAB;
}

/* The same without an engine. */
static struct engine_result expected(const struct request *q)
{
	struct engine_result r = {.id = q->r.id, .finish = ENGINE_LENGTH};
	struct repetition loops = {0};
	unsigned *tokens = xcalloc(q->r.prompt_count + q->r.most + 1, sizeof(*tokens));
	size_t n = q->r.prompt_count;

	memcpy(tokens, q->prompt, n * sizeof(*tokens));
	r.tokens = xcalloc(q->r.most + 1, sizeof(*r.tokens));
	r.log_probabilities = xcalloc(q->r.most + 1, sizeof(*r.log_probabilities));
	while (r.count < q->r.most) {
		struct choice c = choice_behind(tokens, n, hash_tokens(tokens, n));

		if (!c.valid || c.token == EOS) {
			r.finish = c.valid ? ENGINE_STOP : ENGINE_NAN;
			break;
		}
		tokens[n++] = r.tokens[r.count] = c.token;
		r.log_probabilities[r.count++] = c.log_probability;
		if (repetition_add(&loops, r.tokens, r.count, &r.period)) {
			r.finish = ENGINE_REPETITION;
			break;
		}
	}
	free(tokens);
	return r;
}

static void release(struct engine_result *r)
{
	free(r->tokens);
	free(r->log_probabilities);
}

static void take(struct engine *e, const struct request *requests, bool *there, unsigned *finishes)
{
	struct engine_result got, want;

	while (engine_take(e, &got)) {
		want = expected(&requests[got.id]);
		assert_false(there[got.id]);
		there[got.id] = true;
		finishes[got.finish]++;
		if (got.finish != want.finish || got.count != want.count ||
		    memcmp(got.tokens, want.tokens, got.count * sizeof(unsigned)) != 0 ||
		    memcmp(got.log_probabilities, want.log_probabilities, got.count * sizeof(float)) != 0)
			fail_msg("request %llu ends otherwise: %d after %zu tokens, not %d after %zu",
				 (unsigned long long)got.id, got.finish, got.count, want.finish, want.count);
		assert_true(got.finish != ENGINE_REPETITION || got.period == want.period);
		release(&got);
		release(&want);
	}
}

struct way {
	unsigned ahead;
	bool lates;
	unsigned blocks, sequences, drafts;
	bool together; /* written tokens may come several a step */
};

/* Returns how many steps it took. */
static unsigned run_as(struct way w)
{
	struct engine_options options = {
		.cache_size = w.blocks, .sequences = w.sequences, .drafts = w.drafts};
	struct request *requests = xcalloc(REQUESTS, sizeof(*requests));
	struct device *d = xcalloc(1, sizeof(*d));
	struct model model = model_on(d, w.ahead, w.lates, !w.together);
	bool there[REQUESTS] = {false};
	unsigned finishes[4] = {0}, steps;
	struct engine_load load;
	struct engine *e;
	struct err err;

	assert_int_equal(engine_open(&e, &model, &options, &err), RC_OK);
	for (unsigned k = 0; k < REQUESTS; k++) {
		describe(&requests[k], k);
		assert_int_equal(engine_add(e, &requests[k].r, &err), RC_OK);
		if (k % 3 == 0)
			engine_step(e);
		take(e, requests, there, finishes);
	}
	while (engine_step(e))
		take(e, requests, there, finishes);
	assert_false(engine_take(e, &(struct engine_result){0}));
	for (unsigned k = 0; k < REQUESTS; k++)
		assert_true(there[k]);
	for (unsigned i = 0; i < 4; i++)
		assert_true(finishes[i] > 0);
	load = engine_load(e);
	assert_int_equal(load.free_blocks, load.blocks);
	assert_true((w.blocks < 100) == (load.preempted > 0));
	assert_true((w.ahead > 0) == (d->dropped > 0));
	assert_true(w.lates == (d->late > 0));
	assert_true(d->again > 5);
	assert_true((w.drafts > 0) == (load.accepted > 1000));
	assert_true((w.drafts > 0) == (load.drafted > load.accepted + 100));
	assert_true(w.ahead || (w.drafts > 0) == (d->spoilt > 0));
	assert_int_equal(d->begun, d->ended);
	steps = d->begun;
	engine_close(e);
	free(d);
	free(requests);
	return steps;
}

static void run(unsigned ahead, bool lates, unsigned blocks, unsigned sequences)
{
	run_as((struct way){ahead, lates, blocks, sequences, 0, false});
}

static void test_one_by_one(void **state)
{
	(void)state;
	run(0, false, 400, SEQUENCES);
	run(0, true, 400, SEQUENCES);
}

static void test_ahead(void **state)
{
	(void)state;
	run(1, false, 400, SEQUENCES);
	run(1, false, 400, 1);
}

static void test_ahead_giving_way(void **state)
{
	(void)state;
	run(0, false, 34, SEQUENCES);
	run(1, false, 34, SEQUENCES);
	run(1, false, 28, SEQUENCES);
}

static void test_late_choices(void **state)
{
	(void)state;
	run(1, true, 400, SEQUENCES);
	run(1, true, 34, SEQUENCES);
}

static void test_guesses(void **state)
{
	(void)state;
	for (unsigned drafts = 1; drafts <= ENGINE_DRAFTS_MAX; drafts++) {
		run_as((struct way){0, false, 400, SEQUENCES, drafts, true});
		run_as((struct way){0, drafts % 2, 30 + drafts, SEQUENCES, drafts, drafts & 2});
		run_as((struct way){1, drafts % 2, 400, SEQUENCES, drafts, false});
		run_as((struct way){1, drafts & 2, 28 + drafts, SEQUENCES, drafts, false});
		run_as((struct way){1, false, 400, 1, drafts, false});
	}
}

/* Two that end with their last blocks full: what is guessed behind would have a block of the other's. */
static void test_guesses_give_way(void **state)
{
	struct engine_options options = {.cache_size = 10, .sequences = 2, .drafts = ENGINE_DRAFTS_MAX};
	struct device *d = xcalloc(1, sizeof(*d));
	struct model model = model_on(d, 0, false, true);
	struct request q = {.r = {.prompt = q.prompt,
				  .prompt_count = 26,
				  .most = 150,
				  .sampling = {.repetition_penalty = 1, .top_p = 1}}};
	struct engine_result got;
	struct engine *e;
	struct err err;

	(void)state;
	q.prompt[0] = 1;
	assert_int_equal(engine_open(&e, &model, &options, &err), RC_OK);
	for (unsigned k = 0; k < 2; k++)
		assert_int_equal(engine_add(e, &q.r, &err), RC_OK);
	while (engine_step(e))
		;
	for (unsigned k = 0; k < 2; k++) {
		assert_true(engine_take(e, &got));
		assert_int_equal(got.finish, ENGINE_REPETITION);
		assert_int_equal(26 + got.count, 5 * KV_PAGE - 1);
		release(&got);
	}
	assert_true(engine_load(e).accepted > 100);
	assert_int_equal(engine_load(e).preempted, 0);
	engine_close(e);
	free(d);
}

/* Whatever is under way then. */
static void test_closed_under_way(void **state)
{
	struct engine_options options = {
		.cache_size = 60, .sequences = SEQUENCES, .drafts = ENGINE_DRAFTS_MAX};
	struct device *d = xcalloc(1, sizeof(*d));
	struct request *requests = xcalloc(12, sizeof(*requests));

	(void)state;
	for (unsigned steps = 0; steps < 80; steps++) {
		struct model model = model_on(d, 1, steps % 2, true);
		struct engine *e;
		struct err err;

		assert_int_equal(engine_open(&e, &model, &options, &err), RC_OK);
		for (unsigned k = 0; k < 12; k++) {
			describe(&requests[k], k);
			assert_int_equal(engine_add(e, &requests[k].r, &err), RC_OK);
		}
		for (unsigned i = 0; i < steps; i++)
			engine_step(e);
		engine_close(e);
		assert_int_equal(d->begun, d->ended);
	}
	free(requests);
	free(d);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_one_by_one),	 cmocka_unit_test(test_ahead),
		cmocka_unit_test(test_ahead_giving_way), cmocka_unit_test(test_late_choices),
		cmocka_unit_test(test_guesses),		 cmocka_unit_test(test_guesses_give_way),
		cmocka_unit_test(test_closed_under_way),
	};

	cmocka_set_message_output(CM_OUTPUT_TAP);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
