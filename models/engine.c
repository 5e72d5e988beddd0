/* SPDX-License-Identifier: MIT
 *
 * The scheduler. A sequence knows its tokens (prompt, then output) and how many of them have keys
 * and values in its blocks ("computed"); the rest is work. Everything else follows from the two
 * numbers: a sequence that lost its blocks has computed 0 and simply computes again. So does one that
 * becomes longer than the model's first positions (longrope), whose keys all turn by other angles then.
 *
 * Where the device takes a step while the one before is under way (compute->ahead), tokens that are
 * being chosen there ("pending") go into the next one unseen, and count as known. Who turns out to
 * have ended has a row too many under way, whose choice is dropped. Blocks are given back and taken again
 * meanwhile: the device does things in the order in which they were begun.
 *
 * Drafts (draft.h) are further rows behind a sequence's last token, with a draw each. As long as what is chosen
 * is what was guessed, the next draw is one of the sequence's own; from the first that is not, rows are as if they had
 * never been: computed goes back, and their keys are overwritten. To guess, all tokens have to be known: where
 * somebody can, the step under way ends first. That costs the host's share of a step; to let those who
 * guess take part in every other step instead would cost reading the weights twice.
 *
 * Invariant: blocks of a running sequence cover exactly its computed tokens, rounded up.
 */
#include "engine.h"

#include "base/hash.h"
#include "base/num.h"
#include "cache.h"
#include "draft.h"
#include "repetition.h"

#include <stdlib.h>
#include <string.h>

struct sequence {
	struct sequence *next; /* in its queue, oldest first */
	struct queue *queue;
	struct engine_request request;
	unsigned *tokens;	/* prompt and output */
	unsigned *position;	/* of the prompt's tokens, three each */
	unsigned base;		/* position of the first generated token */
	size_t count, computed; /* tokens known, and those with keys and values */
	size_t pending;		/* tokens chosen in steps under way */
	bool fresh;		/* its next draw is the first in its slot */
	struct draft *draft;	/* NULL: nothing is guessed */
	size_t drafted;		/* guesses behind the tokens known, in the step under way */
	size_t planned;		/* tokens that this step computes */
	size_t read;		/* tokens that are read as a prompt is; the others are written one by one */
	bool far;		/* longer than text_config.switch_at */
	size_t published;	/* blocks */
	struct text_sequence blocks;
	struct cache_key *keys; /* of the prompt's full blocks */
	float *log_probabilities;
	struct repetition repetition;
	unsigned period;
	struct engine_result result;
};

struct queue {
	struct sequence *first, **end;
	unsigned count;
};

/* A draw of this step; those of a sequence follow each other. */
struct owner {
	struct sequence *sequence;
	struct draw draw;
};

/* A step under way. */
struct flight {
	struct owner *owners; /* one for each sequence, or the few rows that guesses may make of them */
	size_t count;
};

enum { FLIGHTS = 2 };

struct engine {
	struct model *model;
	struct compute *compute; /* the model's */
	struct engine_options options;
	struct cache *cache;
	struct queue waiting, running, finished;
	struct text_row *rows;
	struct flight flights[FLIGHTS];
	unsigned begun, ended; /* steps; flight i % FLIGHTS is step i's */
	bool *slots;	       /* [sequences]: taken */
	struct engine_load load;
};

static void queue_add(struct queue *q, struct sequence *s)
{
	s->next = NULL;
	s->queue = q;
	*q->end = s;
	q->end = &s->next;
	q->count++;
}

static void queue_add_first(struct queue *q, struct sequence *s)
{
	s->next = q->first;
	s->queue = q;
	if (!q->first)
		q->end = &s->next;
	q->first = s;
	q->count++;
}

static void queue_remove(struct queue *q, struct sequence *s)
{
	struct sequence **link = &q->first;

	while (*link != s)
		link = &(*link)->next;
	*link = s->next;
	if (!*link)
		q->end = link;
	q->count--;
}

static void sequence_free(struct sequence *s)
{
	draft_free(s->draft);
	free(s->tokens);
	free(s->position);
	free(s->blocks.blocks);
	free(s->keys);
	free(s->log_probabilities);
	free(s);
}

static void queue_free(struct queue *q)
{
	for (struct sequence *s = q->first, *next; s; s = next) {
		next = s->next;
		sequence_free(s);
	}
}

enum rc engine_open(struct engine **out, struct model *model, const struct engine_options *options,
		    struct err *err)
{
	struct compute *compute = model->compute;
	size_t size = options->cache_size ? options->cache_size : compute->cache_size;
	uint32_t blocks = (uint32_t)min_u64(size / compute->block_size, CACHE_NONE - 1);
	size_t vocab = model->config.text.vocab;
	struct engine *e;

	*out = NULL;
	if (!blocks)
		return err_set(err, RC_FATAL, "memory", "a cache of %zu bytes, of which a block alone takes %zu", size,
			       compute->block_size);
	if (compute->calls->reserve(compute, blocks, err) != RC_OK)
		return RC_FATAL;
	e = xcalloc(1, sizeof(*e));
	e->model = model;
	e->compute = compute;
	e->options = *options;
	e->options.sequences =
		(unsigned)min_u64(max_u64(options->sequences, 1), compute->sequences);
	if (!options->vocab || options->vocab > vocab)
		e->options.vocab = (unsigned)vocab;
	e->options.drafts = (unsigned)min_u64(options->drafts, ENGINE_DRAFTS_MAX);
	e->cache = cache_new(blocks);
	e->waiting.end = &e->waiting.first;
	e->running.end = &e->running.first;
	e->finished.end = &e->finished.first;
	e->rows = xcalloc(compute->rows_max, sizeof(*e->rows));
	for (unsigned i = 0; i < FLIGHTS; i++)
		e->flights[i].owners = xcalloc(max_u64(e->options.sequences, compute->rows_few),
					       sizeof(struct owner));
	e->slots = xcalloc(e->options.sequences, sizeof(*e->slots));
	*out = e;
	return RC_OK;
}

void engine_close(struct engine *e)
{
	if (!e)
		return;
	for (; e->ended != e->begun; e->ended++)
		e->compute->calls->end(e->compute);
	queue_free(&e->waiting);
	queue_free(&e->running);
	for (struct sequence *s = e->finished.first; s; s = s->next) {
		free(s->result.tokens);
		free(s->result.log_probabilities);
	}
	queue_free(&e->finished);
	cache_free(e->cache);
	free(e->rows);
	for (unsigned i = 0; i < FLIGHTS; i++)
		free(e->flights[i].owners);
	free(e->slots);
	free(e);
}

/* The page that token i of the prompt belongs to, and *at, its place among the page's tokens. */
static const struct engine_page *page_of(const struct engine_request *r, size_t i, size_t *at)
{
	for (size_t k = 0; k < r->page_count; k++) {
		const struct model_page *p = &r->pages[k].place;

		*at = i - p->first;
		if (i >= p->first && *at < (size_t)p->rows * p->columns)
			return &r->pages[k];
	}
	return NULL;
}

static void hash_beginning(struct sha256_ctx *hash, const struct sequence *s)
{
	const struct adapted *adapted = &s->request.adapted;

	sha256_update(hash, 1, (const uint8_t[]){s->far});
	sha256_update(hash, adapted->count * sizeof(*adapted->number),
		      (const uint8_t *)adapted->number);
	sha256_update(hash, sizeof(adapted->count), (const uint8_t *)&adapted->count);
}

/* Each full block's key: the key before it, and its tokens, or what lies on the page there. The first tells of
 * all else that keys and values depend on. */
static void make_keys(struct sequence *s)
{
	size_t blocks = s->request.prompt_count / KV_PAGE;

	free(s->keys);
	s->keys = xcalloc(blocks + 1, sizeof(*s->keys));
	for (size_t b = 0; b < blocks; b++) {
		struct sha256_ctx hash;

		sha256_init(&hash);
		if (b)
			sha256_update(&hash, sizeof(s->keys[b - 1].digest), s->keys[b - 1].digest);
		else
			hash_beginning(&hash, s);
		for (size_t i = b * KV_PAGE; i < (b + 1) * KV_PAGE; i++) {
			size_t at;
			const struct engine_page *page = page_of(&s->request, i, &at);
			uint64_t what[2] = {page != NULL, page ? at : s->tokens[i]};

			sha256_update(&hash, sizeof(what), (const uint8_t *)what);
			sha256_update(&hash, 3 * sizeof(unsigned),
				      (const uint8_t *)(s->position + 3 * i));
			if (page)
				sha256_update(&hash, sizeof(page->digest), page->digest);
		}
		sha256_digest(&hash, sizeof(s->keys[b].digest), s->keys[b].digest);
	}
}

static bool is_far(const struct engine *e, const struct sequence *s)
{
	unsigned switch_at = e->model->config.text.switch_at;

	return switch_at && s->count > switch_at;
}

enum rc engine_add(struct engine *e, const struct engine_request *r, struct err *err)
{
	size_t total = r->prompt_count + r->most, blocks = total / KV_PAGE + 1;
	struct model_page *places;
	struct sequence *s;

	if (!r->prompt_count || !r->most)
		return err_set(err, RC_FAILED, "prompt-empty",
			       "a request without a prompt, or for no tokens");
	if (r->adapted.count > ADAPTED_MAX)
		BUG("%u adapters", r->adapted.count);
	for (unsigned i = 0; i < r->adapted.count; i++)
		if (r->adapted.number[i] >= e->model->adapter_count)
			BUG("adapter %u of %zu", r->adapted.number[i], e->model->adapter_count);
	if (total > e->model->config.text.max_positions)
		return err_set(err, RC_FAILED, "limit:context",
			       "%zu tokens to read and %zu to write are more than the model's %u",
			       r->prompt_count, r->most, e->model->config.text.max_positions);
	if (blocks > cache_blocks(e->cache))
		return err_set(err, RC_FAILED, "limit:cache",
			       "%zu tokens do not fit into the cache of %zu", total,
			       cache_blocks(e->cache) * KV_PAGE);
	s = xcalloc(1, sizeof(*s));
	s->request = *r;
	s->request.prompt = NULL; /* ours is in tokens */
	s->tokens = xmalloc(total * sizeof(*s->tokens));
	memcpy(s->tokens, r->prompt, r->prompt_count * sizeof(*s->tokens));
	s->count = s->read = r->prompt_count;
	s->far = is_far(e, s);
	s->position = xmalloc(3 * r->prompt_count * sizeof(*s->position));
	s->log_probabilities = xmalloc(r->most * sizeof(*s->log_probabilities));
	/* What a penalty is for depends on the guesses before, and a device keeps no more than one such set a slot. */
	if (e->options.drafts && r->sampling.repetition_penalty == 1)
		s->draft = draft_new(s->tokens, s->count, total);
	s->blocks.blocks = xcalloc(blocks, sizeof(uint32_t));
	places = xcalloc(r->page_count + 1, sizeof(*places));
	for (size_t k = 0; k < r->page_count; k++)
		places[k] = r->pages[k].place;
	s->base = model_positions(r->prompt_count, places, r->page_count, s->position);
	free(places);
	make_keys(s);
	queue_add(&e->waiting, s);
	return RC_OK;
}

/* Tokens that it has, or will have had chosen before the next step. */
static size_t known(const struct sequence *s)
{
	return s->count + s->pending;
}

/* Who waits has no slot: its number is of no account. */
static void take_slot(struct engine *e, struct sequence *s)
{
	unsigned i = 0;

	while (e->slots[i])
		i++;
	e->slots[i] = true;
	s->blocks.slot = i;
	s->fresh = true;
}

static void give_back(struct engine *e, struct sequence *s)
{
	for (size_t b = 0; b < s->blocks.count; b++)
		cache_release(e->cache, s->blocks.blocks[b]);
	s->blocks.count = s->computed = s->published = 0;
}

/* Blocks that another sequence has computed for the same beginning. One token is left to compute:
 * its logits are what generation starts from. */
static void share_prefix(struct engine *e, struct sequence *s)
{
	size_t most = (s->request.prompt_count - 1) / KV_PAGE;

	while (s->blocks.count < most) {
		uint32_t block = cache_find(e->cache, &s->keys[s->blocks.count]);

		if (block == CACHE_NONE)
			break;
		s->blocks.blocks[s->blocks.count++] = block;
	}
	s->computed = s->blocks.count * KV_PAGE;
	s->published = s->blocks.count;
	e->load.shared_tokens += s->computed;
}

/* Start waiting sequences while their prompts find room. The first always may: it has the cache
 * alone if need be. */
static void admit(struct engine *e)
{
	while (e->waiting.first && e->running.count < e->options.sequences) {
		struct sequence *s = e->waiting.first;

		if (s->pending)
			return;
		share_prefix(e, s);
		if (e->running.count && cache_free_blocks(e->cache) < s->count / KV_PAGE + 1 -
									      s->blocks.count +
									      e->running.count) {
			e->load.shared_tokens -= s->computed;
			give_back(e, s);
			return;
		}
		queue_remove(&e->waiting, s);
		queue_add(&e->running, s);
		take_slot(e, s);
	}
}

/* Blocks for `tokens` tokens; false when the sequence itself had to give way to older ones. */
static bool reserve(struct engine *e, struct sequence *s, size_t tokens)
{
	while (s->blocks.count * KV_PAGE < tokens) {
		uint32_t block = cache_take(e->cache);
		struct sequence *last = s;

		if (block != CACHE_NONE) {
			e->compute->calls->clear(e->compute, block);
			s->blocks.blocks[s->blocks.count++] = block;
			continue;
		}
		while (last->next)
			last = last->next;
		give_back(e, last);
		e->slots[last->blocks.slot] = false;
		queue_remove(&e->running, last);
		queue_add_first(&e->waiting, last);
		e->load.preempted++;
		if (last == s)
			return false;
	}
	return true;
}

/* Tokens that may be computed together now; none when the last that it may write is being chosen. */
static size_t due(const struct engine *e, const struct sequence *s)
{
	size_t all = known(s);

	if (s->pending && all == s->request.prompt_count + s->request.most)
		return 0;
	if (!e->compute->singly || all == s->computed)
		return all - s->computed;
	return s->computed < s->read ? s->read - s->computed : 1;
}

/* How many tokens may be guessed behind the last: the draw behind them all has to be the sequence's own, by the
 * same angles; and nobody gives way to a guess. */
static size_t guesses_of(const struct engine *e, const struct sequence *s)
{
	unsigned switch_at = e->model->config.text.switch_at;
	size_t most = s->request.prompt_count + s->request.most - 1 - s->count;

	if (!s->draft || s->pending || s->planned != 1 || s->computed + 1 != s->count || s->computed < s->read)
		return 0;
	if (switch_at && !s->far)
		most = min_u64(most, switch_at - s->count);
	if (cache_free_blocks(e->cache) <= e->running.count)
		most = min_u64(most, s->blocks.count * KV_PAGE - s->count);
	return min_u64(most, e->options.drafts);
}

/* Rows that guesses may have: as many as cost little beside those of the sequences. */
static size_t room_for_guesses(const struct engine *e)
{
	unsigned few = e->compute->rows_few, running = e->running.count;

	return few > running ? few - running : 0;
}

static void guess(struct engine *e, size_t rows)
{
	size_t left = min_u64(rows, room_for_guesses(e));

	for (struct sequence *s = e->running.first; s; s = s->next) {
		size_t most = min_u64(guesses_of(e, s), left);

		if (!most)
			continue;
		s->drafted = draft_guess(s->draft, s->tokens, s->count, most);
		s->planned += s->drafted;
		left -= s->drafted;
		e->load.drafted += s->drafted;
		reserve(e, s, s->computed + s->planned);
	}
}

/*
 * How many tokens of each sequence this step computes, and blocks for them: one for all that
 * generate, then prompts, oldest first, as far as there are rows.
 */
static void plan(struct engine *e)
{
	size_t left = e->compute->rows_max;

	for (struct sequence *s = e->running.first; s; s = s->next) {
		s->planned = due(e, s) == 1;
		left -= s->planned;
	}
	for (struct sequence *s = e->running.first; s; s = s->next) {
		if (!s->planned) {
			s->planned = min_u64(due(e, s), left);
			left -= s->planned;
		}
		if (!reserve(e, s, s->computed + s->planned))
			break; /* it was the last */
	}
	guess(e, left);
}

static void fill_row(struct sequence *s, struct text_row *row, size_t i)
{
	const struct engine_page *page;
	size_t at, n = s->request.prompt_count;

	*row = (struct text_row){.sequence = &s->blocks,
				 .index = i,
				 .written = i >= s->read,
				 .adapted = s->request.adapted,
				 .far = s->far};
	row->chosen = i >= s->count + s->drafted;
	if (!row->chosen)
		row->token = s->tokens[i];
	if (i >= n) {
		for (unsigned axis = 0; axis < 3; axis++)
			row->position[axis] = s->base + (unsigned)(i - n);
		return;
	}
	memcpy(row->position, s->position + 3 * i, sizeof(row->position));
	page = page_of(&s->request, i, &at);
	if (!page)
		return;
	row->page = page->features;
	row->place = at;
}

/* What comes behind the first `count` tokens. */
static struct draw *add_draw(struct engine *e, struct flight *f, struct sequence *s, size_t count)
{
	struct owner *o = &f->owners[f->count++];

	o->sequence = s;
	o->draw = (struct draw){.how = &s->request.sampling,
				.seen = s->tokens,
				.seen_count = count,
				.fresh = s->fresh,
				.apart = s->drafted > 0,
				.step = count - s->request.prompt_count,
				.limit = e->options.vocab};
	s->fresh = o->draw.apart;
	return &o->draw;
}

/* The rows of the step. A sequence whose last token is among them gets its next one, and one behind each guess. */
static size_t collect(struct engine *e, struct flight *f)
{
	size_t n = 0;

	f->count = 0;
	for (struct sequence *s = e->running.first; s; s = s->next) {
		for (size_t k = 1; k <= s->planned; k++, n++) {
			fill_row(s, &e->rows[n], s->computed + k - 1);
			if (s->computed + k >= known(s))
				e->rows[n].draw = add_draw(e, f, s, s->computed + k);
		}
	}
	return n;
}

/* What is under way for it is for nobody. */
static void drop_pending(struct engine *e, struct sequence *s)
{
	for (unsigned step = e->ended; step != e->begun; step++) {
		struct flight *f = &e->flights[step % FLIGHTS];

		for (size_t i = 0; i < f->count; i++)
			if (f->owners[i].sequence == s)
				f->owners[i].draw.dropped = true;
	}
	s->pending = 0;
}

static void finish(struct engine *e, struct sequence *s, enum engine_finish why)
{
	size_t n = s->request.prompt_count, made = s->count - n;

	s->result = (struct engine_result){
		.id = s->request.id,
		.finish = why,
		.tokens = xmalloc((made + 1) * sizeof(unsigned)),
		.log_probabilities = s->log_probabilities,
		.count = made,
		.period = s->period,
	};
	memcpy(s->result.tokens, s->tokens + n, made * sizeof(unsigned));
	s->log_probabilities = NULL;
	drop_pending(e, s);
	give_back(e, s);
	if (s->queue == &e->running)
		e->slots[s->blocks.slot] = false;
	queue_remove(s->queue, s);
	queue_add(&e->finished, s);
}

static bool ends(const struct engine *e, unsigned token)
{
	const struct generation_config *g = &e->model->config.generation;

	for (unsigned i = 0; i < g->eos_count; i++)
		if (g->eos[i] == token)
			return true;
	return false;
}

/* What there is, is read again with the other angles, as a prompt of that length would have been. */
static void go_far(struct engine *e, struct sequence *s)
{
	drop_pending(e, s);
	give_back(e, s);
	s->fresh = true;
	s->far = true;
	s->read = s->count;
	make_keys(s);
}

/* Put the token that was chosen behind the sequence, and see whether that ends it. False: it does, or what was
 * computed of it is void. */
static bool accept(struct engine *e, struct sequence *s, const struct choice *c)
{
	size_t made = s->count - s->request.prompt_count;

	if (!c->valid) {
		finish(e, s, ENGINE_NAN);
		return false;
	}
	if (!s->request.endless && ends(e, c->token)) {
		finish(e, s, ENGINE_STOP);
		return false;
	}
	s->tokens[s->count++] = c->token;
	s->log_probabilities[made++] = c->log_probability;
	e->load.generated_tokens++;
	if (s->draft)
		draft_add(s->draft, s->tokens, s->count);
	if (!s->request.endless &&
	    repetition_add(&s->repetition, s->tokens + s->request.prompt_count, made, &s->period))
		finish(e, s, ENGINE_REPETITION);
	else if (made == s->request.most)
		finish(e, s, ENGINE_LENGTH);
	else if (is_far(e, s) && !s->far)
		go_far(e, s);
	else
		return true;
	return false;
}

/* Full blocks of the prompt that are computed now can be had by others. */
static void publish(struct engine *e, struct sequence *s)
{
	size_t full = min_u64(s->computed, s->request.prompt_count) / KV_PAGE;

	for (; s->published < full; s->published++)
		cache_publish(e->cache, s->blocks.blocks[s->published], &s->keys[s->published]);
}

static bool begin_step(struct engine *e)
{
	struct flight *f = &e->flights[e->begun % FLIGHTS];
	size_t n;

	admit(e);
	plan(e);
	n = collect(e, f);
	if (!n)
		return false;
	e->compute->calls->begin(e->compute, e->rows, n);
	e->begun++;
	for (struct sequence *s = e->running.first; s; s = s->next) {
		if (s->computed < s->request.prompt_count)
			e->load.prompt_tokens += s->planned;
		s->computed += s->planned;
		publish(e, s);
	}
	for (size_t i = 0; i < f->count; i++)
		if (!i || f->owners[i].sequence != f->owners[i - 1].sequence)
			f->owners[i].sequence->pending++;
	return true;
}

/* A token that the device learns of only now: where a step has taken another in its place, that row is
 * computed once more. */
static void take_back(struct engine *e, struct sequence *s)
{
	if (s->pending && s->queue == &e->running)
		s->computed--;
	s->fresh = true;
	drop_pending(e, s);
}

/* Numbers that are none, of a guess, may be beside a sequence's own keys in a block, where a device may multiply
 * them by nothing. So all of it is computed again, one by one. */
static bool nonsense(struct engine *e, const struct owner *o, size_t draws)
{
	struct sequence *s = o->sequence;

	for (size_t i = 0; i < draws; i++) {
		if (o[i].draw.choice.valid)
			continue;
		give_back(e, s);
		draft_free(s->draft);
		s->draft = NULL;
		return true;
	}
	return false;
}

/* Blocks that guesses alone were in are free again. */
static void cut_back(struct engine *e, struct sequence *s, size_t computed)
{
	s->computed = computed;
	while (s->blocks.count && (s->blocks.count - 1) * KV_PAGE >= computed)
		cache_release(e->cache, s->blocks.blocks[--s->blocks.count]);
}

/* What was chosen behind the last token and, as long as they come true, behind the guesses. */
static void accept_run(struct engine *e, const struct owner *o, size_t draws)
{
	struct sequence *s = o->sequence;
	bool goes_on, right;

	s->drafted = 0;
	if (nonsense(e, o, draws))
		return;
	do {
		right = --draws && s->tokens[s->count] == o->draw.choice.token;
		e->load.accepted += right;
		goes_on = accept(e, s, &o++->draw.choice);
	} while (goes_on && right);
	if (goes_on)
		cut_back(e, s, s->count - 1);
}

static void end_step(struct engine *e)
{
	struct flight *f = &e->flights[e->ended % FLIGHTS];

	e->compute->calls->end(e->compute);
	e->ended++;
	for (size_t i = 0, draws; i < f->count; i += draws) {
		struct owner *o = &f->owners[i];

		for (draws = 1; i + draws < f->count && o[draws].sequence == o->sequence;)
			draws++;
		if (o->draw.dropped)
			continue;
		o->sequence->pending--;
		if (o->draw.apart) {
			accept_run(e, o, draws);
			continue;
		}
		if (o->draw.late)
			take_back(e, o->sequence);
		accept(e, o->sequence, &o->draw.choice);
	}
}

/* Is there somebody whose tokens have to be known before the next step is planned? */
static bool waits(const struct engine *e)
{
	for (const struct sequence *s = e->running.first; s; s = s->next)
		if (s->drafted || (s->draft && draft_ready(s->draft) && room_for_guesses(e)))
			return true;
	return false;
}

bool engine_step(struct engine *e)
{
	bool more, done = false;

	for (; e->begun != e->ended && waits(e); done = true)
		end_step(e);
	more = begin_step(e);
	if (e->begun == e->ended)
		return done;
	if (!more || e->begun - e->ended > e->compute->ahead)
		end_step(e);
	return true;
}

bool engine_take(struct engine *e, struct engine_result *out)
{
	struct sequence *s = e->finished.first;

	if (!s)
		return false;
	queue_remove(&e->finished, s);
	*out = s->result;
	sequence_free(s);
	return true;
}

struct engine_load engine_load(const struct engine *e)
{
	struct engine_load load = e->load;

	load.waiting = e->waiting.count;
	load.running = e->running.count;
	load.blocks = cache_blocks(e->cache);
	load.free_blocks = cache_free_blocks(e->cache);
	return load;
}
