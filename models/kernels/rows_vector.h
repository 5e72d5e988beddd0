/* SPDX-License-Identifier: MIT
 *
 * rows_vector: rows.h in vectors of LANES. Included once a level, with the name of its table in
 * ROWS.
 *
 * What is left over at the end of a row goes through the same arithmetic as the rest, beside zeros.
 */
#include "kernels/rows.h"
#include "kernels/vector_math.h"

INLINE size_t some(size_t n, size_t i)
{
	return n - i < LANES ? n - i : LANES;
}

INLINE vf load_beside(const float *p, size_t n, float filler)
{
	float part[LANES];

	if (n == LANES)
		return load(p);
	for (size_t i = 0; i < LANES; i++)
		part[i] = i < n ? p[i] : filler;
	return load(part);
}

INLINE vf load_some(const float *p, size_t n)
{
	return load_beside(p, n, 0);
}

/* Two ways, for a copy of a size that is not constant takes longer than the arithmetic. */
INLINE void store_some(float *p, vf v, size_t n)
{
	if (n == LANES) {
		store(p, v);
		return;
	}
	for (size_t i = 0; i < n; i++)
		p[i] = v[i];
}

/* Each lane beside that `distance` (a power of two) away. */
INLINE vf exchange(vf v, int distance)
{
	static const int32_t lanes[16] = {0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15};

	return __builtin_shuffle(v, (vi)load_bits(lanes) ^ distance);
}

INLINE float total(vf v)
{
#pragma GCC unroll 4
	for (int distance = LANES / 2; distance > 0; distance /= 2)
		v += exchange(v, distance);
	return v[0];
}

INLINE float maximum(vf v)
{
#pragma GCC unroll 4
	for (int distance = LANES / 2; distance > 0; distance /= 2)
		v = larger(v, exchange(v, distance));
	return v[0];
}

typedef uint16_t halves __attribute__((vector_size(LANES * 2)));

INLINE halves to_bf16(vf v)
{
	vu bits = (vu)v, rounded = (bits + 0x7fffu + (bits >> 16 & 1u)) >> 16;

	rounded = (vu)choose(v != v, (vf)(bits >> 16 | 0x40u), (vf)rounded);
	return __builtin_convertvector(rounded, halves);
}

static void row_bf16(const float *x, uint16_t *out, size_t n)
{
	for (size_t i = 0; i < n; i += LANES) {
		size_t width = some(n, i);
		halves h = to_bf16(load_some(x + i, width));

		if (width == LANES)
			memcpy(out + i, &h, sizeof(h));
		else
			for (size_t k = 0; k < width; k++)
				out[i + k] = h[k];
	}
}

static void row_finish(const float *sums, const float *scale, const float *bias, float *y, size_t n)
{
	for (size_t i = 0; i < n; i += LANES) {
		size_t width = some(n, i);
		vf s = scale ? load_some(scale + i, width) : splat(1.0f);
		vf b = bias ? load_some(bias + i, width) : splat(0.0f);

		store_some(y + i, load_some(sums + i, width) * s + b, width);
	}
}

static void row_multiply(float *x, float by, size_t n)
{
	for (size_t i = 0; i < n; i += LANES)
		store_some(x + i, load_some(x + i, some(n, i)) * by, some(n, i));
}

INLINE void softmax_row(struct softmax *state, float *s, size_t valid, float scale, uint16_t *bf16)
{
	enum { PARTS = 32 / LANES };
	vf part[PARTS], sum = splat(0.0f), most = splat(state->max);
	float max;

	for (size_t i = valid; i < 32; i++)
		s[i] = -INFINITY;
#pragma GCC unroll 8
	for (int i = 0; i < PARTS; i++) {
		part[i] = load(s + i * LANES) * splat(scale);
		most = larger(part[i], most);
	}
	max = maximum(most);
#pragma GCC unroll 8
	for (int i = 0; i < PARTS; i++) {
		part[i] = vector_exp_below(part[i] - splat(max));
		sum += part[i];
	}
#pragma GCC unroll 8
	for (int i = 0; i < PARTS; i++) {
		halves h = to_bf16(part[i]);

		if (bf16)
			memcpy(bf16 + i * LANES, &h, sizeof(h));
		else
			store(s + i * LANES, part[i]);
	}
	state->correction =
		max == state->max ? 1.0f : vector_exp_below(splat(state->max) - splat(max))[0];
	state->sum = state->sum * state->correction + total(sum);
	state->max = max;
}

static void row_softmax(struct softmax *states, const size_t *keys, size_t before, size_t n,
			float *s, float scale, uint16_t *bf16)
{
	for (size_t i = 0; i < n; i++) {
		size_t valid = keys[i] - before < 32 ? keys[i] - before : 32;

		softmax_row(&states[i], s + i * 32, valid, scale, bf16 ? bf16 + i * 32 : NULL);
	}
}

static void row_rms_norm(const float *x, const float *weight, float eps, float *y, size_t n)
{
	vf sums[4] = {{0}};
	float factor;

	for (size_t i = 0; i < n; i += LANES) {
		vf v = load_some(x + i, some(n, i));

		sums[i / LANES % 4] += v * v;
	}
	factor = 1.0f / sqrtf(total((sums[0] + sums[1]) + (sums[2] + sums[3])) / (float)n + eps);
	for (size_t i = 0; i < n; i += LANES) {
		size_t width = some(n, i);

		store_some(y + i, load_some(x + i, width) * factor * load_some(weight + i, width),
			   width);
	}
}

static void row_layer_norm(const float *x, const float *weight, const float *bias, float eps,
			   float *y, size_t n)
{
	vf sum = {0}, squares = {0};
	float mean, factor;

	for (size_t i = 0; i < n; i += LANES)
		sum += load_some(x + i, some(n, i));
	mean = total(sum) / (float)n;
	for (size_t i = 0; i < n; i += LANES) {
		vf v = load_beside(x + i, some(n, i), mean) - mean;

		squares += v * v;
	}
	factor = 1.0f / sqrtf(total(squares) / (float)n + eps);
	for (size_t i = 0; i < n; i += LANES) {
		size_t width = some(n, i);
		vf v = (load_some(x + i, width) - mean) * factor;

		store_some(y + i, v * load_some(weight + i, width) + load_some(bias + i, width),
			   width);
	}
}

static void row_silu_gate(const float *gate, const float *up, float *y, size_t n)
{
	for (size_t i = 0; i < n; i += LANES) {
		size_t width = some(n, i);
		vf g = load_some(gate + i, width);

		store_some(y + i, g / (splat(1.0f) + vector_exp(-g)) * load_some(up + i, width),
			   width);
	}
}

static void row_gelu_erf(float *x, size_t n)
{
	for (size_t i = 0; i < n; i += LANES) {
		size_t width = some(n, i);
		vf v = load_some(x + i, width);

		store_some(x + i, v * 0.5f * (vector_erf(v * 0.70710678118654752f) + 1.0f), width);
	}
}

/* 0.5 (1 + tanh u) = 1 / (1 + exp(-2 u)) */
static void row_gelu_tanh(float *x, size_t n)
{
	for (size_t i = 0; i < n; i += LANES) {
		size_t width = some(n, i);
		vf v = load_some(x + i, width);
		vf u = (v + v * v * v * 0.044715f) * 0.79788456080286536f;

		store_some(x + i, v / (splat(1.0f) + vector_exp(u * -2.0f)), width);
	}
}

static void row_add(float *y, const float *x, size_t n)
{
	for (size_t i = 0; i < n; i += LANES)
		store_some(y + i, load_some(y + i, some(n, i)) + load_some(x + i, some(n, i)),
			   some(n, i));
}

static void row_rotate(float *x, const float *cosine, const float *sine, size_t half)
{
	for (size_t i = 0; i < half; i += LANES) {
		size_t width = some(half, i);
		vf a = load_some(x + i, width), b = load_some(x + half + i, width);
		vf c = load_some(cosine + i, width), s = load_some(sine + i, width);

		store_some(x + i, a * c - b * s, width);
		store_some(x + half + i, b * c + a * s, width);
	}
}

/* Four at once: as fast as memory can be read (bench.c counts on that). */
static float row_largest(const float *x, size_t n)
{
	vf most[4];
	vi nan[4] = {{0}};
	size_t i = 0;

	for (int k = 0; k < 4; k++)
		most[k] = splat(-INFINITY);
	for (; i + 4 * LANES <= n; i += 4 * LANES) {
#pragma GCC unroll 4
		for (int k = 0; k < 4; k++) {
			vf v = load(x + i + k * LANES);

			most[k] = larger(v, most[k]);
			nan[k] |= v != v;
		}
	}
	for (; i < n; i += LANES) {
		vf v = load_beside(x + i, some(n, i), x[i]);

		most[0] = larger(v, most[0]);
		nan[0] |= v != v;
	}
	nan[0] |= nan[1] | nan[2] | nan[3];
	for (int lane = 0; lane < LANES; lane++) {
		if (nan[0][lane])
			return NAN;
	}
	return maximum(larger(larger(most[0], most[1]), larger(most[2], most[3])));
}

static double row_sum_exp(const float *x, float minus, size_t n)
{
	enum { RUN = 64 };
	double sum = 0;

	for (size_t i = 0; i < n; i += RUN) {
		size_t last = n - i < RUN ? n : i + RUN;
		vf run = {0};

		for (size_t j = i; j < last; j += LANES)
			run += vector_exp(load_beside(x + j, some(last, j), -INFINITY) -
					  splat(minus));
		sum += total(run);
	}
	return sum;
}

const struct rows ROWS = {
	.bf16 = row_bf16,
	.finish = row_finish,
	.multiply = row_multiply,
	.softmax = row_softmax,
	.rms_norm = row_rms_norm,
	.layer_norm = row_layer_norm,
	.silu_gate = row_silu_gate,
	.gelu_erf = row_gelu_erf,
	.gelu_tanh = row_gelu_tanh,
	.add = row_add,
	.rotate = row_rotate,
	.largest = row_largest,
	.sum_exp = row_sum_exp,
};
