/* SPDX-License-Identifier: MIT
 *
 * adapt: what adapters (LoRA) add to a product: rows of A first (shrink), then of B (expand).
 *
 * Rows that go by the same adapters stand together, up to 16 of them, the rows of an mma: A and B
 * are read once for all of a tile. Nothing waits in the block's memory on its way to an mma: a lane
 * loads 16 bytes, 8 numbers of a row's depth, and a warp 32 of the depth; which of those come
 * together in an mma does not matter, as long as x and the weights are cut alike.
 *
 * Shrink: a block has 16 rows of one A, and its warps share the depth, 32 numbers each in turn;
 * their sums are added in the warps' order, scaled, and rounded to bf16, as the CPU does it.
 * Expand: a warp has 32 columns; each adapter's sum is added in fp32, in their order, and the
 * result rounded to bf16 once.
 *
 * Invariant: a sum's order depends on the depth alone, so a row's result depends on that row and on
 * its adapters, and is the same for tokens of prompts and written ones.
 */
#include "cuda/block.cuh"

enum {
	SHRINK_WARPS = 8,
	SHRINK_THREADS = SHRINK_WARPS * WARP,
	SHRINK_COLUMNS = 16,
	EXPAND_WARPS = 4,
	EXPAND_THREADS = EXPAND_WARPS * WARP,
	EXPAND_GROUPS = 4, /* of 8 columns, a warp */
	EXPAND_COLUMNS = EXPAND_WARPS * EXPAND_GROUPS * 8, /* a block */
	DEPTH = 32,
};

DEVICE uint4 load_part(const uint16_t *from, bool there)
{
	uint4 none;

	none.x = none.y = none.z = none.w = 0;
	return there ? *(const uint4 *)from : none;
}

/* sum [16][8] += x [16][32] w' [8][32]. A lane has 8 of the depth: top of row lane / 4 of x, bottom
 * of the row 8 further, w of row lane / 4 of w. */
DEVICE void multiply_parts(float *sum, const uint4 &top, const uint4 &bottom, const uint4 &w)
{
	uint32_t a[4] = {top.x, bottom.x, top.y, bottom.y}, b[2] = {w.x, w.y};

	mma_bf16(sum, a, b);
	a[0] = top.z, a[1] = bottom.z, a[2] = top.w, a[3] = bottom.w;
	b[0] = w.z, b[1] = w.w;
	mma_bf16(sum, a, b);
}

/* Rows lane / 4 and 8 further of a tile, of a matrix with so many numbers a row. */
template <typename number> struct two_rows {
	number *top, *bottom;
	bool has_top, has_bottom;
};

template <typename number>
DEVICE two_rows<number> two_rows_of(const struct cuda_adapted &tile, number *m, size_t width)
{
	unsigned g = threadIdx.x % WARP / 4;
	bool has_top = g < tile.rows, has_bottom = g + 8 < tile.rows;

	return {m + (has_top ? tile.row[g] : 0) * width, m + (has_bottom ? tile.row[g + 8] : 0) * width,
		has_top, has_bottom};
}

/* --- low = scale * A x --- */

/* Blocks: columns of low (rows of A), tiles, adapters of a row. */
static __global__ void THREADS_OF_BLOCK(SHRINK_THREADS) shrink_kernel(struct cuda_adaptation p)
{
	BLOCK_MEMORY(memory);
	float *part = (float *)memory; /* [warps][16 rows][columns] */
	const struct cuda_adapted &tile = p.tiles[blockIdx.y];
	unsigned lane = threadIdx.x % WARP, warp = threadIdx.x / WARP, g = lane / 4;
	unsigned column = blockIdx.x * SHRINK_COLUMNS;
	float sum[SHRINK_COLUMNS / 8][4] = {{0}};

	if (blockIdx.z >= tile.adapters)
		return;
	const struct cuda_addition &l = tile.adapter[blockIdx.z][p.place];
	unsigned width = l.parts * l.rank;

	if (column >= width)
		return;
	two_rows<const uint16_t> x = two_rows_of(tile, p.x, p.in);

	for (unsigned k = warp * DEPTH + lane % 4 * 8; k / DEPTH * DEPTH < p.in; k += SHRINK_WARPS * DEPTH) {
		uint4 top = load_part(x.top + k, x.has_top && k < p.in),
		      bottom = load_part(x.bottom + k, x.has_bottom && k < p.in);

		UNROLL
		for (unsigned i = 0; i < SHRINK_COLUMNS / 8; i++) {
			unsigned row = column + i * 8 + g;

			multiply_parts(sum[i], top, bottom,
				       load_part(l.a + row * p.in + k, row < width && k < p.in));
		}
	}
	UNROLL
	for (unsigned i = 0; i < SHRINK_COLUMNS / 8 * 4; i++)
		part[(warp * 16 + g + i % 4 / 2 * 8) * SHRINK_COLUMNS + i / 4 * 8 + lane % 4 * 2 + i % 2] =
			sum[i / 4][i % 4];
	sync_block();
	for (unsigned i = threadIdx.x; i < tile.rows * SHRINK_COLUMNS; i += SHRINK_THREADS) {
		unsigned row = i / SHRINK_COLUMNS, at = column + i % SHRINK_COLUMNS;
		float all = 0;

		UNROLL
		for (unsigned w = 0; w < SHRINK_WARPS; w++)
			all += part[w * 16 * SHRINK_COLUMNS + i];
		if (at < width)
			p.low[(tile.row[row] * (size_t)p.most + blockIdx.z) * p.width + at] =
				bf16_of(all * l.scale);
	}
}

/* --- y += B low --- */

/* Which part a column belongs to, or one that there is not. */
DEVICE unsigned part_of(const struct cuda_addition &l, unsigned column)
{
	unsigned i = 0;

	while (i < l.parts && (column < l.first[i] || column >= l.first[i] + l.out[i]))
		i++;
	return i;
}

/* What one adapter adds to the groups of 8 columns from `column` on; low: its rows. */
DEVICE void add_high(float (*sum)[4], const struct cuda_addition &l, const two_rows<uint16_t> &low,
		     unsigned column)
{
	unsigned lane = threadIdx.x % WARP;

	UNROLL
	for (unsigned i = 0; i < EXPAND_GROUPS; i++, column += 8) {
		unsigned part = part_of(l, column), first = part * l.rank;
		float high[4] = {0};

		if (part == l.parts)
			continue;
		const uint16_t *b = l.b[part] + (column - l.first[part] + lane / 4) * (size_t)l.rank;

		for (unsigned k = lane % 4 * 8; k / DEPTH * DEPTH < l.rank; k += DEPTH)
			multiply_parts(high,
				       load_part(low.top + first + k, low.has_top && k < l.rank),
				       load_part(low.bottom + first + k, low.has_bottom && k < l.rank),
				       load_part(b + k, k < l.rank));
		UNROLL
		for (unsigned j = 0; j < 4; j++)
			sum[i][j] += high[j];
	}
}

/* Blocks: columns, tiles. */
static __global__ void THREADS_OF_BLOCK(EXPAND_THREADS) expand_kernel(struct cuda_adaptation p)
{
	const struct cuda_adapted &tile = p.tiles[blockIdx.y];
	unsigned column = (blockIdx.x * EXPAND_WARPS + threadIdx.x / WARP) * EXPAND_GROUPS * 8;
	two_rows<uint16_t> y = two_rows_of(tile, p.y, p.out);
	unsigned at = column + threadIdx.x % 4 * 2; /* the lane's own two columns of the first group */
	float sum[EXPAND_GROUPS][4];

	UNROLL
	for (unsigned i = 0; i < EXPAND_GROUPS; i++) {
		bool there = column + i * 8 < p.out;
		uint32_t top = 0, bottom = 0;

		if (there && y.has_top)
			top = *(const uint32_t *)(y.top + at + i * 8);
		if (there && y.has_bottom)
			bottom = *(const uint32_t *)(y.bottom + at + i * 8);
		sum[i][0] = low_of(top), sum[i][1] = high_of(top);
		sum[i][2] = low_of(bottom), sum[i][3] = high_of(bottom);
	}
	for (unsigned k = 0; k < tile.adapters; k++)
		add_high(sum, tile.adapter[k][p.place],
			 two_rows_of(tile, p.low + k * p.width, p.most * p.width), column);
	UNROLL
	for (unsigned i = 0; i < EXPAND_GROUPS; i++) {
		bool there = column + i * 8 < p.out;

		if (there && y.has_top)
			*(uint32_t *)(y.top + at + i * 8) = bf16x2_of(sum[i][0], sum[i][1]);
		if (there && y.has_bottom)
			*(uint32_t *)(y.bottom + at + i * 8) = bf16x2_of(sum[i][2], sum[i][3]);
	}
}

int cuda_adapt(cudaStream_t stream, const struct cuda_adaptation *p, size_t count)
{
	size_t memory = SHRINK_WARPS * 16 * SHRINK_COLUMNS * sizeof(float);
	int error;

	if (p->in % 8 || p->out % 8 || p->width % 8 || p->most > CUDA_ADAPTED_MAX)
		return CUDA_INVALID;
	if (!count || !p->width || !p->most)
		return 0;
	error = launch(shrink_kernel, dim3(divide_up(p->width, SHRINK_COLUMNS), (unsigned)count, p->most),
		       SHRINK_THREADS, memory, stream, *p);
	return error ? error
		     : launch(expand_kernel, dim3(divide_up(p->out, EXPAND_COLUMNS), (unsigned)count),
			      EXPAND_THREADS, 0, stream, *p);
}
