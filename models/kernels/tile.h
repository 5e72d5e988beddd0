/* SPDX-License-Identifier: MIT
 *
 * tile: the tile registers of AMX, in use: 0-3 and 4 have `rows` rows of 64 bytes or, where rows is
 * 16, all; 5-7 have 16.
 *
 * With TILE_EMULATED they are arrays, for tests on CPUs that have none: what the Intel manual says
 * TDPBF16PS does, but for its flushing of denormals.
 *
 * The configuration is written under a barrier: GCC 12 does not see that LDTILECFG reads memory and
 * drops the stores before it.
 */
#ifndef MODELS_KERNELS_TILE_H
#define MODELS_KERNELS_TILE_H

#include <stddef.h>
#include <stdint.h>
#include <string.h>

#ifdef TILE_EMULATED

static __thread struct {
	unsigned rows;
	uint32_t word[16][16];
} tile_file[8];

static inline void tile_configure(unsigned rows)
{
	for (int t = 0; t < 8; t++)
		tile_file[t].rows = t < 5 ? rows : 16;
}

static inline void tile_load_emulated(int t, const void *p, size_t stride)
{
	for (unsigned r = 0; r < tile_file[t].rows; r++)
		memcpy(tile_file[t].word[r], (const char *)p + r * stride, 64);
}

static inline void tile_store_emulated(int t, void *p, size_t stride)
{
	for (unsigned r = 0; r < tile_file[t].rows; r++)
		memcpy((char *)p + r * stride, tile_file[t].word[r], 64);
}

static inline float tile_float(uint32_t bits)
{
	float f;

	memcpy(&f, &bits, 4);
	return f;
}

static inline void tile_dot_emulated(int c, int a, int b)
{
	for (unsigned m = 0; m < tile_file[c].rows; m++) {
		for (int k = 0; k < 16; k++) {
			uint32_t x = tile_file[a].word[m][k];

			for (int n = 0; n < 16; n++) {
				uint32_t w = tile_file[b].word[k][n];
				float sum = tile_float(tile_file[c].word[m][n]);

				sum += tile_float(x << 16) * tile_float(w << 16);
				sum += tile_float(x & 0xffff0000) * tile_float(w & 0xffff0000);
				memcpy(&tile_file[c].word[m][n], &sum, 4);
			}
		}
	}
}

#define tile_zero(t)		 memset(tile_file[t].word, 0, sizeof(tile_file[t].word))
#define tile_load(t, p, stride)	 tile_load_emulated(t, p, stride)
#define tile_store(t, p, stride) tile_store_emulated(t, p, stride)
#define tile_dot(c, a, b)	 tile_dot_emulated(c, a, b)

#else
#include <immintrin.h>

static inline void tile_configure(unsigned rows)
{
	struct {
		uint8_t palette, start_row, reserved[14];
		uint16_t bytes[16];
		uint8_t rows[16];
	} config = {.palette = 1};

	for (int t = 0; t < 8; t++) {
		config.bytes[t] = 64;
		config.rows[t] = t < 5 ? (uint8_t)rows : 16;
	}
	__asm__ volatile("" : : "r"(&config) : "memory");
	_tile_loadconfig(&config);
}

#define tile_zero(t)		 _tile_zero(t)
#define tile_load(t, p, stride)	 _tile_loadd(t, p, stride)
#define tile_store(t, p, stride) _tile_stored(t, p, stride)
#define tile_dot(c, a, b)	 _tile_dpbf16ps(c, a, b)
#endif

#endif
