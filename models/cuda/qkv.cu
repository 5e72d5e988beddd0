/* SPDX-License-Identifier: MIT
 *
 * qkv: between the product that makes q, k and v and attention: bias, norm of each head, rotation,
 * and k and v into their page.
 *
 * A block of 4 warps a row, a warp a head at a time. A lane has the pairs i and i + 1 of the lower
 * half of what rotates and the same of the upper (dim 128: 4 numbers a lane), so that rotation needs no
 * other lane; lanes beyond have two pairs of what does not. No shared memory. Moved: the row once in, q once out, k and v once into the cache.
 */
#include "cuda/block.cuh"
#include "cuda/kv.cuh"

enum { QKV_THREADS = 128 };

struct pair_of_pairs {
	float low[2], high[2];
};

/* Where a lane's numbers lie in a head, and what becomes of them. */
struct lane {
	unsigned i, low, high;
	bool works, turns;
};

DEVICE struct lane lane_of(unsigned half, unsigned turning)
{
	unsigned i = threadIdx.x % WARP * 2;
	bool turns = i < turning;

	return {i, turns ? i : i + turning, i + (turns ? turning : half), i < half, turns};
}

DEVICE struct pair_of_pairs load_head(const struct cuda_qkv &a, size_t width, size_t row,
				      size_t column, const struct lane &l)
{
	struct pair_of_pairs x = {{0, 0}, {0, 0}};
	const uint16_t *p = a.qkv + row * width + column;

	if (l.works) {
		uint32_t low = *(const uint32_t *)(p + l.low),
			 high = *(const uint32_t *)(p + l.high);

		x = {{low_of(low), high_of(low)}, {low_of(high), high_of(high)}};
		if (a.bias) {
			low = *(const uint32_t *)(a.bias + column + l.low);
			high = *(const uint32_t *)(a.bias + column + l.high);
			x.low[0] += low_of(low), x.low[1] += high_of(low);
			x.high[0] += low_of(high), x.high[1] += high_of(high);
		}
	}
	return x;
}

DEVICE void norm_head(struct pair_of_pairs &x, const uint16_t *weight, float eps, unsigned half,
		      const struct lane &l)
{
	float squares = warp_sum((x.low[0] * x.low[0] + x.low[1] * x.low[1]) +
				 (x.high[0] * x.high[0] + x.high[1] * x.high[1]));
	float factor = 1.0f / sqrtf(squares / (float)(2 * half) + eps);

	if (l.works) {
		UNROLL
		for (int k = 0; k < 2; k++) {
			x.low[k] = x.low[k] * factor * float_of_bf16(weight[l.low + k]);
			x.high[k] = x.high[k] * factor * float_of_bf16(weight[l.high + k]);
		}
	}
}

DEVICE void rotate(struct pair_of_pairs &x, const float *cosine, const float *sine,
		   const struct lane &l)
{
	if (l.turns) {
		float2 c = *(const float2 *)(cosine + l.i), s = *(const float2 *)(sine + l.i);
		struct pair_of_pairs y = x;

		x.low[0] = y.low[0] * c.x - y.high[0] * s.x;
		x.low[1] = y.low[1] * c.y - y.high[1] * s.y;
		x.high[0] = y.high[0] * c.x + y.low[0] * s.x;
		x.high[1] = y.high[1] * c.y + y.low[1] * s.y;
	}
}

DEVICE void store_head(uint16_t *to, const struct pair_of_pairs &x, const struct lane &l)
{
	if (l.works) {
		*(uint32_t *)(to + l.low) = bf16x2_of(x.low[0], x.low[1]);
		*(uint32_t *)(to + l.high) = bf16x2_of(x.high[0], x.high[1]);
	}
}

/* The largest becomes 448; a scale that is not a number tells of a number that is none. */
DEVICE void store_head_e4m3(uint8_t *to, uint16_t *scale, const struct pair_of_pairs &x,
			    const struct lane &l)
{
	float most = fmaxf(fmaxf(fabsf(x.low[0]), fabsf(x.low[1])),
			   fmaxf(fabsf(x.high[0]), fabsf(x.high[1])));
	bool finite = fabsf(x.low[0]) < INFINITY && fabsf(x.low[1]) < INFINITY &&
		      fabsf(x.high[0]) < INFINITY && fabsf(x.high[1]) < INFINITY;
	uint16_t rounded = bf16_of(warp_max(most) / E4M3_MOST);
	float by = float_of_bf16(rounded);

	if (any_lane(!finite))
		rounded = 0x7fff;
	if (by == 0.0f)
		by = 1.0f;
	if (l.works) {
		*(uint16_t *)(to + l.low) = (uint16_t)e4m3x2_of(x.low[0] / by, x.low[1] / by);
		*(uint16_t *)(to + l.high) = (uint16_t)e4m3x2_of(x.high[0] / by, x.high[1] / by);
	}
	if (l.i == 0)
		*scale = rounded;
}

static __global__ void THREADS_OF_BLOCK(QKV_THREADS)
	qkv_kernel(struct cuda_kv kv, const struct cuda_row *rows, const uint32_t *tables,
		   struct cuda_qkv a)
{
	size_t row = blockIdx.x, keys = kv_half(kv.dim, kv.number);
	unsigned warp = threadIdx.x / WARP, half = kv.dim / 2, turning = a.rotary / 2,
		 heads = a.q_heads + 2 * kv.heads, slot = rows[row].index % CUDA_KV_PAGE;
	struct lane l = lane_of(half, turning);
	uint32_t page = tables[rows[row].table + rows[row].index / CUDA_KV_PAGE];
	size_t at = (size_t)slot * kv.dim * kv_number_size(kv.number);

	for (unsigned h = warp; h < heads; h += QKV_THREADS / WARP) {
		struct pair_of_pairs x =
			load_head(a, (size_t)heads * kv.dim, row, (size_t)h * kv.dim, l);
		bool value = h >= a.q_heads + kv.heads;
		unsigned char *head;

		if (!value) {
			if (a.q_norm)
				norm_head(x, h < a.q_heads ? a.q_norm : a.k_norm, a.eps, half, l);
			rotate(x, a.cosine + row * turning, a.sine + row * turning, l);
		}
		if (h < a.q_heads) {
			store_head(a.q + (row * a.q_heads + h) * kv.dim, x, l);
			continue;
		}
		head = kv_head(kv, page, (h - a.q_heads) % kv.heads);
		if (kv.number == CUDA_KV_BF16)
			store_head((uint16_t *)(head + value * keys + at), x, l);
		else
			store_head_e4m3(head + value * keys + at,
					(uint16_t *)(head + 2 * keys) + value * CUDA_KV_PAGE + slot,
					x, l);
	}
}

size_t cuda_kv_page_size(unsigned heads, unsigned dim, enum cuda_kv_number number)
{
	return heads * kv_head_size(dim, number);
}

int cuda_qkv_store(cudaStream_t stream, const struct cuda_kv *kv, const struct cuda_row *rows,
		   const uint32_t *tables, size_t n, const struct cuda_qkv *a)
{
	if (!kv_valid(kv) || a->q_heads % kv->heads || !a->q_norm != !a->k_norm ||
	    a->rotary % 4 || a->rotary == 0 || a->rotary > kv->dim)
		return CUDA_INVALID;
	return n ? launch(qkv_kernel, n, QKV_THREADS, 0, stream, *kv, rows, tables, *a) : 0;
}

/* A thread an angle; 8 bytes each. */
static __global__ void text_angles_kernel(const struct cuda_row *rows, size_t n,
					  const float *inverse, const uint8_t *axis, unsigned half,
					  float scale, float *cosine, float *sine)
{
	size_t i = blockIdx.x * (size_t)blockDim.x + threadIdx.x;

	if (i < n * half) {
		const struct cuda_row *row = &rows[i / half];
		float angle = (float)row->position[axis[i % half]] *
			      inverse[(row->far ? half : 0) + i % half];

		cosine[i] = cosf(angle) * scale;
		sine[i] = sinf(angle) * scale;
	}
}

int cuda_text_angles(cudaStream_t stream, const struct cuda_row *rows, size_t n,
		     const float *inverse, const uint8_t *axis, unsigned half, float scale,
		     float *cosine, float *sine)
{
	return n ? launch(text_angles_kernel, divide_up(n * half, 256), 256, 0, stream, rows, n,
			  inverse, axis, half, scale, cosine, sine)
		 : 0;
}
