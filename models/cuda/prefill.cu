/* SPDX-License-Identifier: MIT
 *
 * prefill: causal attention over pages, for rows of prompts. See flash.cuh.
 *
 * A tile is a run of one sequence's rows and one key/value head; its query vectors are the run's,
 * all query heads that share the keys (a row's beside each other): 128. Blocks begin with the last
 * tiles, which within a sequence have the most keys.
 *
 * e4m3: the bytes and scales are copied as they lie, then spread into bf16, multiplied by their
 * scales, once for the whole block: 36 KiB of stages and 34 KiB of bf16 at dim 128.
 */
#include "cuda/flash.cuh"
#include "cuda/kv.cuh"

struct prefill {
	struct cuda_kv kv;
	struct cuda_attention a;
	const struct cuda_tile *tiles;
};

template <int DIM, cuda_kv_number number> struct prefill_layout {
	static constexpr int packed_stage = 2 * FLASH_KEYS * (DIM + 2); /* e4m3: numbers, scales */
	static constexpr int memory = number == CUDA_KV_BF16
					      ? 2 * flash_layout<DIM>::stage
					      : 2 * packed_stage + flash_layout<DIM>::stage;
};

template <int DIM, cuda_kv_number number> struct prefill_source {
	struct prefill p;
	const struct cuda_row *rows; /* the tile's */
	unsigned first, count, head, group;
};

#define PREFILL_SOURCE template <int DIM, cuda_kv_number number> DEVICE
#define SOURCE	       const struct prefill_source<DIM, number> &s

PREFILL_SOURCE unsigned source_keys(SOURCE)
{
	return s.rows[s.count - 1].index + 1;
}

PREFILL_SOURCE unsigned source_unmasked(SOURCE)
{
	return s.rows[0].index + 1;
}

PREFILL_SOURCE unsigned source_limit(SOURCE, unsigned m)
{
	return m < s.count * s.group ? s.rows[m / s.group].index + 1 : source_keys(s);
}

PREFILL_SOURCE unsigned source_dim(SOURCE)
{
	return s.p.kv.dim;
}

/* Where q and the result of query vector m lie. */
PREFILL_SOURCE size_t source_at(SOURCE, unsigned m)
{
	return ((size_t)(s.first + m / s.group) * s.p.a.q_heads + s.head * s.group + m % s.group) *
	       s.p.kv.dim;
}

PREFILL_SOURCE const uint16_t *source_q(SOURCE, unsigned m)
{
	return m < s.count * s.group ? s.p.a.q + source_at(s, m) : NULL;
}

PREFILL_SOURCE uint16_t *source_out(SOURCE, unsigned m)
{
	return m < s.count * s.group ? s.p.a.out + source_at(s, m) : NULL;
}

/* A page's keys and values, from the k-th key of the stage on. */
PREFILL_SOURCE void copy_page(SOURCE, unsigned char *memory, const unsigned char *from, unsigned k,
			      unsigned valid, unsigned threads)
{
	constexpr unsigned bytes = number == CUDA_KV_BF16 ? 2 : 1, pieces = DIM * bytes / 16;
	constexpr unsigned row = number == CUDA_KV_BF16 ? flash_layout<DIM>::row : DIM;
	unsigned size = s.p.kv.dim * bytes;
	size_t values = kv_half(s.p.kv.dim, number);

	for (unsigned i = threadIdx.x; i < CUDA_KV_PAGE * pieces; i += threads) {
		unsigned slot = i / pieces, at = i % pieces * 16;
		bool there = slot < valid && at < size;
		const unsigned char *piece = there ? from + slot * size + at : from;

		copy_async(memory + (k + slot) * row + at, piece, there);
		copy_async(memory + (FLASH_KEYS + k + slot) * row + at,
			   piece + (there ? values : 0), there);
	}
	/* Scales: of K and of V, 4 pieces a page each. */
	if (number == CUDA_KV_E4M3 && threadIdx.x < 8) {
		unsigned v = threadIdx.x / 4, at = threadIdx.x % 4 * 16;

		copy_async(memory + 2 * FLASH_KEYS * DIM + (v * FLASH_KEYS + k) * 2 + at,
			   from + 2 * values + v * CUDA_KV_PAGE * 2 + at, valid > 0);
	}
}

PREFILL_SOURCE void source_copy(SOURCE, unsigned char *memory, unsigned key, unsigned stage,
				unsigned threads)
{
	const uint32_t *table = s.p.a.tables + s.rows->table + key / CUDA_KV_PAGE;
	unsigned last = source_keys(s);

	memory += stage * (number == CUDA_KV_BF16 ? flash_layout<DIM>::stage
						  : prefill_layout<DIM, number>::packed_stage);
	for (unsigned page = 0; page < FLASH_KEYS / CUDA_KV_PAGE; page++, key += CUDA_KV_PAGE) {
		unsigned valid = key < last ? last - key : 0;

		copy_page(s, memory, kv_head(s.p.kv, valid ? table[page] : 0, s.head),
			  page * CUDA_KV_PAGE, valid, threads);
	}
}

/* Bytes [128][DIM] and scales [128] to bf16 [128][row]; what is not there to zeros. */
template <int DIM>
DEVICE void spread(unsigned char *to, const unsigned char *from, unsigned valid, unsigned threads)
{
	const uint16_t *scales = (const uint16_t *)(from + 2 * FLASH_KEYS * DIM);

	for (unsigned i = threadIdx.x; i < 2 * FLASH_KEYS * DIM / 4; i += threads) {
		unsigned row = i / (DIM / 4), at = i % (DIM / 4) * 4;
		uint32_t word = *(const uint32_t *)(from + row * DIM + at);
		uint32_t low = bf16x2_of_e4m3(pick_bytes(word, 0, 0x1100));
		uint32_t high = bf16x2_of_e4m3(pick_bytes(word, 0, 0x3322));
		float by = row % FLASH_KEYS < valid ? float_of_bf16(scales[row]) : 0;
		uint2 both;

		both.x = bf16x2_of(low_of(low) * by, high_of(low) * by);
		both.y = bf16x2_of(low_of(high) * by, high_of(high) * by);
		*(uint2 *)(to + row * flash_layout<DIM>::row + at * 2) = both;
	}
	sync_block();
}

PREFILL_SOURCE const unsigned char *source_arrived(SOURCE, unsigned char *memory, unsigned key,
						   unsigned stage, unsigned threads)
{
	constexpr int packed = prefill_layout<DIM, number>::packed_stage;

	if (number == CUDA_KV_BF16)
		return memory + stage * flash_layout<DIM>::stage;
	spread<DIM>(memory + 2 * packed, memory + stage * packed, source_keys(s) - key, threads);
	return memory + 2 * packed;
}

#undef SOURCE
#undef PREFILL_SOURCE

/* Blocks: tiles, key/value heads. */
template <int DIM, int WARPS, int MT, cuda_kv_number number>
static __global__ void THREADS_OF_BLOCK(WARPS *WARP) prefill_kernel(struct prefill p)
{
	BLOCK_MEMORY(memory);
	struct cuda_tile tile = p.tiles[gridDim.x - 1 - blockIdx.x];
	struct prefill_source<DIM, number> source = {
		p, p.a.rows + tile.first, tile.first, tile.count, blockIdx.y,
			p.a.q_heads / p.kv.heads
	};

	flash<DIM, WARPS, MT>(source, memory, p.a.scale);
}

size_t cuda_prefill_tiles(const struct cuda_row *rows, size_t n, unsigned group,
			  struct cuda_tile *tiles)
{
	size_t count = 0, most = group && group < CUDA_PREFILL_ROWS ? CUDA_PREFILL_ROWS / group : 1;

	for (size_t r = 0; r < n; r++) {
		if (r == 0 || tiles[count - 1].count == most ||
		    rows[r].table != rows[r - 1].table || rows[r].index < rows[r - 1].index)
			tiles[count++] = {(uint32_t)r, 0, 0, 0};
		tiles[count - 1].count++;
	}
	return count;
}

int cuda_attention_prefill(cudaStream_t stream, const struct cuda_kv *kv,
			   const struct cuda_attention *a, const struct cuda_tile *tiles,
			   size_t count)
{
	struct prefill p = {*kv, *a, tiles};
	dim3 blocks(count, kv->heads);

	if (!kv_valid(kv) || a->q_heads == 0 || a->q_heads % kv->heads ||
	    a->q_heads / kv->heads > CUDA_PREFILL_ROWS)
		return CUDA_INVALID;
	if (count == 0)
		return 0;
#define PREFILL(dim, warps, mt, number)                                                            \
	launch(prefill_kernel<dim, warps, mt, number>, blocks, (warps)*WARP,                       \
	       prefill_layout<dim, number>::memory, stream, p)
	if (kv->dim <= 64)
		return kv->number == CUDA_KV_BF16 ? PREFILL(64, 4, 2, CUDA_KV_BF16)
						  : PREFILL(64, 4, 2, CUDA_KV_E4M3);
	return kv->number == CUDA_KV_BF16 ? PREFILL(128, 8, 1, CUDA_KV_BF16)
					  : PREFILL(128, 8, 1, CUDA_KV_E4M3);
#undef PREFILL
}
