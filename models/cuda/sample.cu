/* SPDX-License-Identifier: MIT
 *
 * sample: from logits to the next token, as sampler.c has it.
 *
 * Two kernels. The survey reads the logits once, a block of 256 threads a slice of 8,192 tokens of
 * a row: the largest before and after the penalty, and the sum of exponentials. The choice puts a
 * row's slices together, a block of 256 threads a row; greedy is done there. To draw, it looks at
 * the row again: it counts the candidates (no less than e^-30 of the best) in 256 steps of their
 * distance from the best, takes as many whole steps as hold at most 1,024, sorts those in shared
 * memory (20 KiB) and goes through them one by one in fp64, in the order in which sampler.c does,
 * so that the same tokens' sums have the same bits. Where top-p needs the sum of all candidates and
 * there are more, that sum is taken in another order; where 1,024 do not settle the draw, the host
 * has to. Moved: 4 bytes a token; 12 where it draws.
 *
 * The penalty is for the tokens whose bit is set; logits stay as they are, so that the probability
 * is the model's own.
 */
#include "cuda/ptx.cuh"

enum {
	SAMPLE_THREADS = 256,
	SLICE = 8192,
	EACH = SLICE / SAMPLE_THREADS,
	STEPS = 256,
	CANDIDATES = 1024,
};

#define NEGLIGIBLE 30.0

struct slice {
	double sum;	    /* of exp(logit - largest) */
	uint64_t best, raw; /* keys of the largest, with penalty and without; 0: there is a NaN */
};

struct sample {
	const float *logits;
	size_t stride, limit;
	const struct cuda_sampling *how;
	uint32_t *seen;
	size_t seen_stride;
	uint32_t *chosen;
	struct cuda_choice *choices;
	struct slice *slices; /* [n][parts] */
	unsigned parts;
};

/* Larger logits have larger keys, and of equals the lower token; none is 0. */
DEVICE uint64_t key_of(float logit, uint32_t token)
{
	uint32_t bits = bits_of_float(logit + 0.0f); /* -0 is 0 */

	bits = bits & 0x80000000u ? ~bits : bits | 0x80000000u;
	return (uint64_t)bits << 32 | (uint32_t)~token;
}

DEVICE float logit_of_key(uint64_t key)
{
	uint32_t bits = (uint32_t)(key >> 32);

	return float_of_bits(bits & 0x80000000u ? bits & 0x7fffffffu : ~bits);
}

DEVICE uint32_t token_of_key(uint64_t key)
{
	return ~(uint32_t)key;
}

/* What a row's logits are changed by: those whose bit is set in `seen`; NULL: none. */
struct penalty {
	double by;
	const uint32_t *seen;
};

DEVICE struct penalty penalty_of(const struct sample &s, size_t row)
{
	struct penalty p = {s.how[row].repetition_penalty, NULL};

	if (s.seen && p.by != 1.0)
		p.seen = s.seen + s.how[row].slot * s.seen_stride;
	return p;
}

DEVICE float penalised(const struct penalty &p, uint32_t token, float logit)
{
	if (!p.seen || !(p.seen[token / 32] >> token % 32 & 1))
		return logit;
	return logit < 0 ? (float)(logit * p.by) : (float)(logit / p.by);
}

/* Over the block, in a fixed order; x is SAMPLE_THREADS large and free again after the next sync.
 */
DEVICE uint64_t block_largest(uint64_t mine, uint64_t *x)
{
	x[threadIdx.x] = mine;
	sync_block();
	for (unsigned n = SAMPLE_THREADS / 2; n > 0; n /= 2) {
		if (threadIdx.x < n && x[threadIdx.x + n] > x[threadIdx.x])
			x[threadIdx.x] = x[threadIdx.x + n];
		sync_block();
	}
	return x[0];
}

DEVICE double block_total(double mine, double *x)
{
	x[threadIdx.x] = mine;
	sync_block();
	for (unsigned n = SAMPLE_THREADS / 2; n > 0; n /= 2) {
		if (threadIdx.x < n)
			x[threadIdx.x] += x[threadIdx.x + n];
		sync_block();
	}
	return x[0];
}

/* Blocks: slices, rows. */
static __global__ void THREADS_OF_BLOCK(SAMPLE_THREADS) survey_kernel(struct sample s)
{
	__shared__ uint64_t keys[2][SAMPLE_THREADS];
	__shared__ double sums[SAMPLE_THREADS];
	__shared__ unsigned nans;
	size_t row = blockIdx.y, first = (size_t)blockIdx.x * SLICE + threadIdx.x;
	const float *logits = s.logits + row * s.stride;
	uint64_t best = 0, raw = 0;
	struct penalty penalty = penalty_of(s, row);
	float logit[EACH], largest, sum = 0;
	struct slice result;

	if (threadIdx.x == 0)
		nans = 0;
	sync_block();
	UNROLL
	for (int i = 0; i < EACH; i++) {
		size_t token = first + (size_t)i * SAMPLE_THREADS;

		logit[i] = token < s.limit ? logits[token] : -INFINITY;
	}
	UNROLL
	for (int i = 0; i < EACH; i++) {
		uint32_t token = (uint32_t)(first + (size_t)i * SAMPLE_THREADS);
		uint64_t key;

		if (token >= s.limit)
			continue;
		if (isnan(logit[i]))
			nans = 1; /* whoever writes it, it is 1 */
		key = key_of(logit[i], token);
		raw = key > raw ? key : raw;
		key = key_of(penalised(penalty, token, logit[i]), token);
		best = key > best ? key : best;
	}
	result.best = block_largest(best, keys[0]);
	result.raw = block_largest(raw, keys[1]);
	largest = logit_of_key(result.raw);
	if (!(fabsf(largest) < INFINITY))
		largest = 0;
	UNROLL
	for (int i = 0; i < EACH; i++)
		sum += expf(logit[i] - largest);
	result.sum = block_total((double)sum, sums);
	if (nans)
		result.best = result.raw = 0;
	if (threadIdx.x == 0)
		s.slices[row * s.parts + blockIdx.x] = result;
}

/* What a block has in common while it draws. */
struct drawing {
	uint64_t keys[CANDIDATES];
	double weights[CANDIDATES];
	double sums[SAMPLE_THREADS];
	unsigned counts[STEPS];
	unsigned taken, all, last; /* candidates in keys, in all, the last step that is taken */
};

/* Which step a candidate is in; STEPS: it is none. */
DEVICE unsigned step_of(float logit, float best, double temperature)
{
	double step;

	if (!(logit >= best - product(NEGLIGIBLE, temperature)))
		return STEPS;
	step = ((double)best - logit) * (STEPS / (NEGLIGIBLE * temperature));
	return step < STEPS - 1 ? (unsigned)step : STEPS - 1;
}

/* The candidates of the first steps into d->keys, and how many there are. */
DEVICE void gather(const struct sample &s, size_t row, float best, struct drawing *d)
{
	struct penalty penalty = penalty_of(s, row);
	double temperature = s.how[row].temperature;
	const float *logits = s.logits + row * s.stride;

	for (unsigned i = threadIdx.x; i < STEPS; i += SAMPLE_THREADS)
		d->counts[i] = 0;
	sync_block();
	for (uint32_t t = threadIdx.x; t < s.limit; t += SAMPLE_THREADS) {
		unsigned step = step_of(penalised(penalty, t, logits[t]), best, temperature);

		if (step < STEPS)
			add_atomic(&d->counts[step], 1);
	}
	sync_block();
	if (threadIdx.x == 0) {
		d->all = d->last = d->taken = 0;
		for (unsigned i = 0; i < STEPS; i++) {
			d->all += d->counts[i];
			if (d->all <= CANDIDATES)
				d->last = i + 1;
		}
	}
	sync_block();
	for (unsigned i = threadIdx.x; i < CANDIDATES; i += SAMPLE_THREADS)
		d->keys[i] = 0;
	sync_block();
	for (uint32_t t = threadIdx.x; t < s.limit; t += SAMPLE_THREADS) {
		float logit = penalised(penalty, t, logits[t]);

		if (step_of(logit, best, temperature) < d->last)
			d->keys[add_atomic(&d->taken, 1)] = key_of(logit, t);
	}
	sync_block();
}

/* Bitonic, the largest first. */
DEVICE void sort(uint64_t *keys)
{
	for (unsigned size = 2; size <= CANDIDATES; size *= 2) {
		for (unsigned distance = size / 2; distance > 0; distance /= 2) {
			for (unsigned i = threadIdx.x; i < CANDIDATES; i += SAMPLE_THREADS) {
				unsigned j = i ^ distance;

				if (j > i && (keys[i] < keys[j]) == !(i & size)) {
					uint64_t x = keys[i];

					keys[i] = keys[j];
					keys[j] = x;
				}
			}
			sync_block();
		}
	}
}

/* Uniform in [0, 1): splitmix64 of seed and step, as sampler.c has it. */
DEVICE double uniform(uint64_t seed, uint64_t step)
{
	uint64_t z = seed + (step + 1) * 0x9e3779b97f4a7c15u;

	z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
	z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
	z ^= z >> 31;
	return (double)(z >> 11) * 0x1p-53;
}

/* Of n candidates, sorted, of which d->taken are there; total: of the weights of all n. False:
 * those that are there do not settle it. */
DEVICE bool settle(const struct cuda_sampling &how, const struct drawing *d, unsigned n,
		   double total, uint32_t *token)
{
	unsigned kept = 0, i = 0;
	double sum = 0, at;

	for (; kept < n && (kept == 0 || sum < how.top_p * total); kept++) {
		if (kept == d->taken)
			return false;
		if (kept && d->weights[kept] < how.min_p)
			break;
		sum += d->weights[kept];
	}
	at = product(uniform(how.seed, how.step), sum);
	for (; i + 1 < kept; i++) {
		at -= d->weights[i];
		if (at < 0)
			break;
	}
	*token = token_of_key(d->keys[i]);
	return true;
}

/* By the whole block; the first thread's answer counts. */
DEVICE bool draw(const struct sample &s, size_t row, float best, struct drawing *d, uint32_t *token)
{
	struct cuda_sampling how = s.how[row];
	struct penalty penalty = penalty_of(s, row);
	const float *logits = s.logits + row * s.stride;
	unsigned n, k = how.top_k;
	double total = 0;

	gather(s, row, best, d);
	sort(d->keys);
	for (unsigned i = threadIdx.x; i < d->taken; i += SAMPLE_THREADS)
		d->weights[i] = exp((double)(logit_of_key(d->keys[i]) - best) / how.temperature);
	/* Those that are equal to the k-th stay: they are in its step. */
	n = d->all;
	if (k > 0 && k < n && k <= d->taken) {
		while (k < d->taken && d->keys[k] >> 32 == d->keys[how.top_k - 1] >> 32)
			k++;
		n = k;
	} else if (k > 0 && k < n) {
		return false;
	}
	if (n > d->taken) {
		for (uint32_t t = threadIdx.x; t < s.limit; t += SAMPLE_THREADS) {
			float logit = penalised(penalty, t, logits[t]);

			if (step_of(logit, best, how.temperature) < STEPS)
				total += exp((double)(logit - best) / how.temperature);
		}
		total = block_total(total, d->sums);
	}
	sync_block();
	if (threadIdx.x != 0)
		return true;
	for (unsigned i = 0; n <= d->taken && i < n; i++)
		total += d->weights[i];
	return settle(how, d, n, total, token);
}

/* Blocks: rows. */
static __global__ void THREADS_OF_BLOCK(SAMPLE_THREADS) choose_kernel(struct sample s)
{
	BLOCK_MEMORY(memory);
	size_t row = blockIdx.x;
	const struct slice *slices = s.slices + row * s.parts;
	struct cuda_choice choice = {0, 0, CUDA_CHOICE_VALID, 0};
	uint64_t best = 0, raw = 0;
	double sum = 0;
	bool nan = false;
	float largest;

	for (unsigned i = 0; i < s.parts; i++) {
		nan = nan || slices[i].raw == 0;
		best = slices[i].best > best ? slices[i].best : best;
		raw = slices[i].raw > raw ? slices[i].raw : raw;
	}
	largest = logit_of_key(raw);
	if (nan || !(fabsf(largest) < INFINITY)) {
		choice.status = CUDA_CHOICE_NAN;
	} else {
		choice.token = token_of_key(best);
		if (s.how[row].temperature > 0 &&
		    !draw(s, row, logit_of_key(best), (struct drawing *)memory, &choice.token))
			choice.status = CUDA_CHOICE_HOST;
	}
	if (threadIdx.x != 0)
		return;
	if (choice.status == CUDA_CHOICE_VALID) {
		for (unsigned i = 0; i < s.parts; i++) {
			float most = logit_of_key(slices[i].raw);

			if (most > -INFINITY)
				sum += slices[i].sum * exp((double)most - largest);
		}
		choice.log_probability =
			(float)(s.logits[row * s.stride + choice.token] - (largest + log(sum)));
		if (s.seen)
			s.seen[s.how[row].slot * s.seen_stride + choice.token / 32] |=
				1u << choice.token % 32;
	}
	if (s.chosen)
		s.chosen[s.how[row].slot] = choice.token;
	s.choices[row] = choice;
}

static unsigned sample_parts(size_t limit)
{
	return divide_up(limit, SLICE);
}

size_t cuda_choose_scratch(size_t n, size_t limit)
{
	return n * sample_parts(limit) * sizeof(struct slice);
}

int cuda_choose(cudaStream_t stream, const float *logits, size_t stride, size_t limit,
		const struct cuda_sampling *how, size_t n, uint32_t *seen, size_t seen_stride,
		uint32_t *chosen, struct cuda_choice *choices, void *scratch)
{
	struct sample s = {logits,
			   stride,
			   limit,
			   how,
			   seen,
			   seen_stride,
			   chosen,
			   choices,
			   (struct slice *)scratch,
			   sample_parts(limit)};
	int error;

	if (n == 0)
		return 0;
	if (limit == 0 || limit > stride || limit > UINT32_MAX / 2 || n > 65535)
		return CUDA_INVALID;
	error = launch(survey_kernel, dim3(s.parts, n), SAMPLE_THREADS, 0, stream, s);
	if (error)
		return error;
	return launch(choose_kernel, n, SAMPLE_THREADS, sizeof(struct drawing), stream, s);
}
