/* SPDX-License-Identifier: MIT
 *
 * vision: what is particular to the towers beside attention: patches with their positions, angles,
 * rotation. A thread 8 numbers, bound by memory; no shared memory.
 *
 * Positions: the four corners of a patch's cell come from a table of a few megabytes that stays in
 * the L2 cache; 2 + 4 bytes a number move beside it. Rotation: 2 + 2 bytes a number of q and k (and
 * v where there is a bias).
 */
#include "cuda/block.cuh"

struct patches {
	const uint16_t *embed, *bias, *positions;
	unsigned side;
	const struct cuda_patch *patches;
	float *x;
	size_t n, width;
};

/* Where patch i of n lies on a grid of `side`: two neighbours and the weight of the second. */
DEVICE void stretch(unsigned i, unsigned n, unsigned side, unsigned &low, unsigned &high,
		    float &weight)
{
	float at = n > 1 ? (float)i * (float)(side - 1) / (float)(n - 1) : 0;

	low = (unsigned)at;
	high = low + 1 < side ? low + 1 : side - 1;
	weight = at - (float)low;
}

static __global__ void patches_kernel(struct patches p)
{
	size_t i = (blockIdx.x * (size_t)blockDim.x + threadIdx.x) * 8, column = i % p.width;
	struct eight e;

	if (i >= p.n * p.width)
		return;
	e = load_bf16(p.embed + i);
	if (p.bias)
		add_eight(e, load_bf16(p.bias + column));
	if (p.positions) {
		struct cuda_patch patch = p.patches[i / p.width];
		unsigned top, bottom, left, right;
		float down, across;
		struct eight a, b, c, d;

		stretch(patch.row, patch.rows, p.side, top, bottom, down);
		stretch(patch.column, patch.columns, p.side, left, right, across);
		a = load_bf16(p.positions + ((size_t)top * p.side + left) * p.width + column);
		b = load_bf16(p.positions + ((size_t)top * p.side + right) * p.width + column);
		c = load_bf16(p.positions + ((size_t)bottom * p.side + left) * p.width + column);
		d = load_bf16(p.positions + ((size_t)bottom * p.side + right) * p.width + column);
		UNROLL
		for (int k = 0; k < 8; k++)
			e.v[k] += a.v[k] * ((1 - down) * (1 - across)) +
				  b.v[k] * ((1 - down) * across) + c.v[k] * (down * (1 - across)) +
				  d.v[k] * (down * across);
	}
	store_f32(p.x + i, e);
}

int cuda_patches(cudaStream_t stream, const uint16_t *embed, const uint16_t *bias,
		 const uint16_t *positions, unsigned side, const struct cuda_patch *patches,
		 float *x, size_t n, size_t width)
{
	struct patches p = {embed, bias, positions, side, patches, x, n, width};

	if (width % 8 || (positions && side == 0))
		return CUDA_INVALID;
	return n ? launch(patches_kernel, divide_up(n * width, 256 * 8), 256, 0, stream, p) : 0;
}

static __global__ void vision_angles_kernel(const struct cuda_patch *patches, size_t n,
					    const float *inverse, unsigned quarter, float *cosine,
					    float *sine)
{
	size_t i = blockIdx.x * (size_t)blockDim.x + threadIdx.x;

	if (i < n * 2 * quarter) {
		struct cuda_patch p = patches[i / (2 * quarter)];
		unsigned k = (unsigned)(i % (2 * quarter));
		float angle = (float)(k < quarter ? p.row : p.column) * inverse[k % quarter];

		cosine[i] = cosf(angle);
		sine[i] = sinf(angle);
	}
}

int cuda_vision_angles(cudaStream_t stream, const struct cuda_patch *patches, size_t n,
		       const float *inverse, unsigned quarter, float *cosine, float *sine)
{
	return n ? launch(vision_angles_kernel, divide_up(n * 2 * quarter, 256), 256, 0, stream,
			  patches, n, inverse, quarter, cosine, sine)
		 : 0;
}

struct turn {
	uint16_t *qkv;
	const uint16_t *bias;
	const float *cosine, *sine;
	size_t n;
	unsigned heads, dim;
};

/*
 * A thread 4 numbers of the lower half of a head and the 4 that go with them (dim is a multiple of
 * 8). Heads of v have a bias alone.
 */
static __global__ void vision_rotate_kernel(struct turn t)
{
	unsigned half = t.dim / 2, a_head = half / 4, heads = (t.bias ? 3 : 2) * t.heads;
	size_t i = blockIdx.x * (size_t)blockDim.x + threadIdx.x;
	size_t row = i / ((size_t)heads * a_head), rest = i % ((size_t)heads * a_head);
	unsigned head = (unsigned)(rest / a_head), at = (unsigned)(rest % a_head) * 4;
	uint16_t *p;
	float low[4], high[4];

	if (row >= t.n)
		return;
	p = t.qkv + row * 3 * t.heads * t.dim + (size_t)head * t.dim + at;
	UNROLL
	for (int k = 0; k < 2; k++) {
		uint32_t x = ((const uint32_t *)p)[k], y = ((const uint32_t *)(p + half))[k];

		low[2 * k] = low_of(x), low[2 * k + 1] = high_of(x);
		high[2 * k] = low_of(y), high[2 * k + 1] = high_of(y);
	}
	UNROLL
	for (int k = 0; k < 4; k++) {
		float x = low[k], y = high[k];

		if (t.bias) {
			x += float_of_bf16(t.bias[(size_t)head * t.dim + at + k]);
			y += float_of_bf16(t.bias[(size_t)head * t.dim + at + half + k]);
		}
		if (head < 2 * t.heads) {
			float c = t.cosine[row * half + at + k], s = t.sine[row * half + at + k];
			float turned = x * c - y * s;

			y = y * c + x * s;
			x = turned;
		}
		low[k] = x;
		high[k] = y;
	}
	UNROLL
	for (int k = 0; k < 2; k++) {
		((uint32_t *)p)[k] = bf16x2_of(low[2 * k], low[2 * k + 1]);
		((uint32_t *)(p + half))[k] = bf16x2_of(high[2 * k], high[2 * k + 1]);
	}
}

int cuda_vision_rotate(cudaStream_t stream, uint16_t *qkv, const uint16_t *bias,
		       const float *cosine, const float *sine, size_t n, unsigned heads,
		       unsigned dim)
{
	struct turn t = {qkv, bias, cosine, sine, n, heads, dim};

	if (dim % 8 || dim == 0 || heads == 0)
		return CUDA_INVALID;
	return n ? launch(vision_rotate_kernel,
			  divide_up(n * (bias ? 3 : 2) * heads * (dim / 8), 256), 256, 0, stream, t)
		 : 0;
}
