/* SPDX-License-Identifier: MIT
 *
 * segments: attention of the vision towers, every token of a segment to all of it. See flash.cuh.
 *
 * A tile is a run of tokens of one segment and one head: 128, or 64 where segments are windows.
 * Heads of 72 are computed as 80. Blocks of one head follow each other, so that its keys and values
 * (5 MB of 16,000 tokens) stay in the L2 cache while its tiles read them.
 */
#include "cuda/flash.cuh"

struct segments {
	const uint16_t *qkv;
	uint16_t *out;
	unsigned heads, dim;
	float scale;
	const struct cuda_tile *tiles;
};

template <int DIM> struct segment_source {
	unsigned dim, rows, keys;
	size_t stride, width;	 /* numbers a token of qkv, and of the result */
	const uint16_t *key, *q; /* the segment's first, the tile's first */
	uint16_t *out;
};

#define SEGMENT_SOURCE template <int DIM> DEVICE
#define SOURCE	       const struct segment_source<DIM> &s

SEGMENT_SOURCE unsigned source_keys(SOURCE)
{
	return s.keys;
}

SEGMENT_SOURCE unsigned source_unmasked(SOURCE)
{
	return s.keys;
}

SEGMENT_SOURCE unsigned source_limit(SOURCE, unsigned)
{
	return s.keys;
}

SEGMENT_SOURCE unsigned source_dim(SOURCE)
{
	return s.dim;
}

SEGMENT_SOURCE const uint16_t *source_q(SOURCE, unsigned m)
{
	return m < s.rows ? s.q + m * s.stride : NULL;
}

SEGMENT_SOURCE uint16_t *source_out(SOURCE, unsigned m)
{
	return m < s.rows ? s.out + m * s.width : NULL;
}

SEGMENT_SOURCE void source_copy(SOURCE, unsigned char *memory, unsigned first, unsigned stage,
				unsigned threads)
{
	constexpr unsigned pieces = DIM / 8, row = flash_layout<DIM>::row;

	memory += stage * flash_layout<DIM>::stage;
	for (unsigned i = threadIdx.x; i < FLASH_KEYS * pieces; i += threads) {
		unsigned k = i / pieces, at = i % pieces * 8;
		bool there = first + k < s.keys && at < s.dim;
		const uint16_t *piece = there ? s.key + (first + k) * s.stride + at : s.key;

		copy_async(memory + k * row + at * 2, piece, there);
		copy_async(memory + (FLASH_KEYS + k) * row + at * 2, piece + (there ? s.width : 0),
			   there);
	}
}

SEGMENT_SOURCE const unsigned char *source_arrived(SOURCE, unsigned char *memory, unsigned,
						   unsigned stage, unsigned)
{
	(void)s;
	return memory + stage * flash_layout<DIM>::stage;
}

#undef SOURCE
#undef SEGMENT_SOURCE

/* Blocks: tiles, heads. */
template <int DIM, int WARPS, int MT>
static __global__ void THREADS_OF_BLOCK(WARPS *WARP) segments_kernel(struct segments s)
{
	BLOCK_MEMORY(memory);
	struct cuda_tile tile = s.tiles[blockIdx.x];
	size_t width = (size_t)s.heads * s.dim, stride = 3 * width,
	       column = (size_t)blockIdx.y * s.dim;
	struct segment_source<DIM> source = {
		s.dim, tile.count, tile.end - tile.start, stride, width,
			s.qkv + tile.start *stride + width + column,
			s.qkv + tile.first *stride + column, s.out + tile.first *width + column,
	};

	flash<DIM, WARPS, MT>(source, memory, s.scale);
}

size_t cuda_segment_tiles(const uint32_t *segments, size_t count, unsigned tile_rows,
			  struct cuda_tile *tiles)
{
	size_t n = 0;

	for (size_t i = 0; i < count; i++) {
		uint32_t start = segments[i], end = segments[i + 1];

		for (uint32_t first = start; first < end; first += tile_rows)
			tiles[n++] = {first, min(tile_rows, end - first), start, end};
	}
	return n;
}

template <int DIM, int WARPS, int MT>
static int segments_launch(cudaStream_t stream, const struct segments &s, size_t count)
{
	return launch(segments_kernel<DIM, WARPS, MT>, dim3(count, s.heads), WARPS * WARP,
		      2 * flash_layout<DIM>::stage, stream, s);
}

int cuda_attention_segments(cudaStream_t stream, const uint16_t *qkv, uint16_t *out, unsigned heads,
			    unsigned dim, float scale, const struct cuda_tile *tiles, size_t count,
			    unsigned tile_rows)
{
	struct segments s = {qkv, out, heads, dim, scale, tiles};
	bool full = tile_rows == CUDA_SEGMENT_TILE;

	if (dim % 8 || dim == 0 || dim > CUDA_DIM_MAX || heads == 0 ||
	    (!full && tile_rows != CUDA_SEGMENT_TILE_SHORT))
		return CUDA_INVALID;
	if (count == 0)
		return 0;
	if (dim <= 64)
		return full ? segments_launch<64, 4, 2>(stream, s, count)
			    : segments_launch<64, 4, 1>(stream, s, count);
	if (dim <= 80)
		return full ? segments_launch<80, 4, 2>(stream, s, count)
			    : segments_launch<80, 4, 1>(stream, s, count);
	return full ? segments_launch<128, 8, 1>(stream, s, count)
		    : segments_launch<128, 4, 1>(stream, s, count);
}
