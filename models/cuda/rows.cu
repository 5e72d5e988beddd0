/* SPDX-License-Identifier: MIT
 *
 * rows: embeddings, norms and activations: what lies between the products, a row or 8 numbers at a
 * time. All are bound by memory: 16 bytes a thread, whole lines a warp.
 *
 * Norms: a block of 256 threads a row; the row stays in the block's memory (4 bytes a number, 32
 * KiB at most) between the sums and the result. Moved, a number: 4 + 4 (x) + 2 (delta) + 2 (y)
 * bytes; the weights come out of the cache.
 *
 * Activations: a thread 8 numbers; 4 bytes a number, SwiGLU 6 a result.
 */
#include "cuda/block.cuh"

enum { NORM_THREADS = 256 };

struct embed {
	const struct cuda_row *rows;
	const uint16_t *table, *vision;
	const uint32_t *chosen;
	float *x;
	size_t hidden;
};

static __global__ void embed_kernel(struct embed e)
{
	const struct cuda_row *row = &e.rows[blockIdx.x];
	const uint16_t *from;

	if (row->embedding != CUDA_NONE) {
		from = e.vision + row->embedding * e.hidden;
	} else {
		uint32_t token = row->token;

		if (token & CUDA_CHOSEN)
			token = e.chosen[token & ~CUDA_CHOSEN];
		from = e.table + token * e.hidden;
	}
	for (size_t i = threadIdx.x * 8; i < e.hidden; i += blockDim.x * 8)
		store_f32(e.x + blockIdx.x * e.hidden + i, load_bf16(from + i));
}

int cuda_embed(cudaStream_t stream, const struct cuda_row *rows, size_t n, size_t hidden,
	       const uint16_t *table, const uint16_t *vision, const uint32_t *chosen, float *x)
{
	struct embed e = {rows, table, vision, chosen, x, hidden};

	if (hidden % 8)
		return CUDA_INVALID;
	return n ? launch(embed_kernel, n, 128, 0, stream, e) : 0;
}

struct norm {
	const float *x;
	float *kept; /* x + delta + deepstack, or NULL */
	const uint16_t *delta, *deepstack;
	const struct cuda_row *rows;
	const uint32_t *pick;
	const uint16_t *weight, *bias; /* bias: of a LayerNorm */
	float eps;
	uint16_t *y;
	size_t width;
};

/* Returns the thread's share of the sum of the row, or of its squares. */
DEVICE float norm_add(const struct norm &n, size_t row, float *whole, bool squares)
{
	uint32_t embedding = n.deepstack ? n.rows[row].embedding : CUDA_NONE;
	float sum = 0;

	for (size_t i = threadIdx.x * 8; i < n.width; i += blockDim.x * 8) {
		struct eight e = load_f32(n.x + row * n.width + i);

		if (n.delta)
			add_eight(e, load_bf16(n.delta + row * n.width + i));
		if (embedding != CUDA_NONE)
			add_eight(e, load_bf16(n.deepstack + embedding * n.width + i));
		if (n.kept && (n.delta || embedding != CUDA_NONE))
			store_f32(n.kept + row * n.width + i, e);
		store_f32(whole + i, e);
		UNROLL
		for (int k = 0; k < 8; k++)
			sum += squares ? e.v[k] * e.v[k] : e.v[k];
	}
	return sum;
}

/* y = (x - mean) * factor * weight + bias */
DEVICE void norm_write(const struct norm &n, const float *whole, float mean, float factor)
{
	for (size_t i = threadIdx.x * 8; i < n.width; i += blockDim.x * 8) {
		struct eight e = load_f32(whole + i), weight = load_bf16(n.weight + i);

		UNROLL
		for (int k = 0; k < 8; k++)
			e.v[k] = (e.v[k] - mean) * factor * weight.v[k];
		if (n.bias)
			add_eight(e, load_bf16(n.bias + i));
		store_bf16(n.y + blockIdx.x * n.width + i, e);
	}
}

static __global__ void THREADS_OF_BLOCK(NORM_THREADS) rms_norm_kernel(struct norm n)
{
	BLOCK_MEMORY(memory);
	float *whole = (float *)memory, *part = whole + n.width;
	size_t row = n.pick ? n.pick[blockIdx.x] : blockIdx.x;
	float squares = norm_add(n, row, whole, true);

	if (!n.y)
		return;
	squares = block_sum(squares, part);
	norm_write(n, whole, 0, 1.0f / sqrtf(squares / (float)n.width + n.eps));
}

static __global__ void THREADS_OF_BLOCK(NORM_THREADS) layer_norm_kernel(struct norm n)
{
	BLOCK_MEMORY(memory);
	float *whole = (float *)memory, *part = whole + n.width;
	float mean = block_sum(norm_add(n, blockIdx.x, whole, false), part) / (float)n.width;
	float squares = 0;

	for (size_t i = threadIdx.x * 8; i < n.width; i += blockDim.x * 8) {
		struct eight e = load_f32(whole + i);

		UNROLL
		for (int k = 0; k < 8; k++)
			squares += (e.v[k] - mean) * (e.v[k] - mean);
	}
	squares = block_sum(squares, part + NORM_THREADS / WARP);
	norm_write(n, whole, mean, 1.0f / sqrtf(squares / (float)n.width + n.eps));
}

static int norm_launch(cudaStream_t stream, const struct norm &norm, size_t n)
{
	size_t memory = (norm.width + 2 * NORM_THREADS / WARP) * sizeof(float);

	if (norm.width % 8 || norm.width == 0 || norm.width > CUDA_WIDTH_MAX ||
	    (norm.deepstack && !norm.rows))
		return CUDA_INVALID;
	if (n == 0)
		return 0;
	return launch(norm.bias ? layer_norm_kernel : rms_norm_kernel, n, NORM_THREADS, memory,
		      stream, norm);
}

int cuda_add_rms_norm(cudaStream_t stream, float *x, const uint16_t *delta,
		      const uint16_t *deepstack, const struct cuda_row *rows,
		      const uint16_t *weight, float eps, uint16_t *y, size_t n, size_t width)
{
	return norm_launch(stream,
			   {x, x, delta, deepstack, rows, NULL, weight, NULL, eps, y, width}, n);
}

int cuda_pick_rms_norm(cudaStream_t stream, const float *x, const uint16_t *delta,
		       const uint16_t *deepstack, const struct cuda_row *rows, const uint32_t *pick,
		       const uint16_t *weight, float eps, uint16_t *y, size_t n, size_t width)
{
	if (!pick || !y)
		return CUDA_INVALID;
	return norm_launch(stream,
			   {x, NULL, delta, deepstack, rows, pick, weight, NULL, eps, y, width}, n);
}

int cuda_add_layer_norm(cudaStream_t stream, float *x, const uint16_t *delta,
			const uint16_t *weight, const uint16_t *bias, float eps, uint16_t *y,
			size_t n, size_t width)
{
	if (!bias || !y)
		return CUDA_INVALID;
	return norm_launch(stream, {x, x, delta, NULL, NULL, NULL, weight, bias, eps, y, width}, n);
}

/* --- Activations --- */

DEVICE float silu(float x)
{
	return x / (1.0f + expf(-x));
}

DEVICE float gelu_erf(float x)
{
	return x * 0.5f * (erff(x * 0.70710678118654752f) + 1.0f);
}

/* 0.5 (1 + tanh u) = 1 / (1 + exp(-2 u)) */
DEVICE float gelu_tanh(float x)
{
	float u = (x + x * x * x * 0.044715f) * 0.79788456080286536f;

	return x / (1.0f + expf(u * -2.0f));
}

DEVICE struct eight load_biased(const uint16_t *x, const uint16_t *bias)
{
	struct eight e = load_bf16(x);

	if (bias)
		add_eight(e, load_bf16(bias));
	return e;
}

static __global__ void silu_gate_kernel(const uint16_t *gate_up, const uint16_t *bias, uint16_t *y,
					size_t n, size_t width)
{
	size_t i = (blockIdx.x * (size_t)blockDim.x + threadIdx.x) * 8, row = i / width,
	       column = i % width;
	struct eight gate, up;

	if (i >= n * width)
		return;
	gate = load_biased(gate_up + row * 2 * width + column, bias ? bias + column : NULL);
	up = load_biased(gate_up + (row * 2 + 1) * width + column,
			 bias ? bias + width + column : NULL);
	UNROLL
	for (int k = 0; k < 8; k++)
		gate.v[k] = silu(gate.v[k]) * up.v[k];
	store_bf16(y + i, gate);
}

int cuda_silu_gate(cudaStream_t stream, const uint16_t *gate_up, const uint16_t *bias, uint16_t *y,
		   size_t n, size_t width)
{
	if (width % 8)
		return CUDA_INVALID;
	return n ? launch(silu_gate_kernel, divide_up(n * width, 256 * 8), 256, 0, stream, gate_up,
			  bias, y, n, width)
		 : 0;
}

enum activation { NOTHING, GELU_TANH, GELU_ERF };

template <activation which>
static __global__ void activate_kernel(uint16_t *y, const uint16_t *bias, size_t n, size_t width)
{
	size_t i = (blockIdx.x * (size_t)blockDim.x + threadIdx.x) * 8;
	struct eight e;

	if (i >= n * width)
		return;
	e = load_biased(y + i, bias ? bias + i % width : NULL);
	UNROLL
	for (int k = 0; k < 8; k++) {
		if (which == GELU_TANH)
			e.v[k] = gelu_tanh(e.v[k]);
		else if (which == GELU_ERF)
			e.v[k] = gelu_erf(e.v[k]);
	}
	store_bf16(y + i, e);
}

template <activation which>
static int activate(cudaStream_t stream, uint16_t *y, const uint16_t *bias, size_t n, size_t width)
{
	if (width % 8)
		return CUDA_INVALID;
	return n ? launch(activate_kernel<which>, divide_up(n * width, 256 * 8), 256, 0, stream, y,
			  bias, n, width)
		 : 0;
}

int cuda_gelu_tanh(cudaStream_t stream, uint16_t *y, const uint16_t *bias, size_t n, size_t width)
{
	return activate<GELU_TANH>(stream, y, bias, n, width);
}

int cuda_gelu_erf(cudaStream_t stream, uint16_t *y, const uint16_t *bias, size_t n, size_t width)
{
	return activate<GELU_ERF>(stream, y, bias, n, width);
}

int cuda_bias(cudaStream_t stream, uint16_t *y, const uint16_t *bias, size_t n, size_t width)
{
	return activate<NOTHING>(stream, y, bias, n, width);
}
