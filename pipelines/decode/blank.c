/* SPDX-License-Identifier: MIT
 *
 * blank: how much of a page is inked, to tell a blank page from one with only a page number.
 *
 * The page is cut into cells of about 1.3 mm (1/220 of the longer side, so the measure does not
 * depend on resolution).  A cell is inked when a twelfth of its pixels are clearly darker than the
 * paper in some channel; the paper is the most frequent level of each channel, which follows
 * tinted paper.  On dark paper ink is what is clearly lighter.  Ink is the share of inked cells
 * that
 *   - have an inked neighbour: specks of dust and salt noise have not, the strokes of the
 *     smallest print have;
 *   - are not part of a solid dark strip along the edge, as a scanner's lid leaves it.
 * A wrong "blank" loses a page, a wrong "inked" only costs time: in doubt a cell counts.
 *
 * The pass over the pixels is one comparison and one addition a byte in blocks of constant size,
 * which compilers turn into vector instructions at -O2.
 */
#include "decode.h"

#include <stdlib.h>
#include <string.h>

#define CELLS_LONG  220 /* along the longer side */
#define CELL_MIN    4   /* pixels */
#define CELL_MAX    255 /* what a byte counts */
#define INKED       12  /* 1/12 of the pixels */
#define SOLID       4   /* 3/4 of the pixels */
#define EDGE        20  /* strips lie in the outer 1/20 */
#define DARK_PAPER  110
#define BLOCK       64

enum cell { CLEAN, INKED_CELL, SOLID_CELL, STRIP };

struct grid {
	uint32_t columns, rows;
	uint8_t *cell; /* enum cell, rows * columns */
};

/* Level the most pixels of the channel have, give or take 2; from a sparse sample. */
static unsigned paper_level(const struct raster *r, unsigned channel)
{
	uint32_t histogram[256] = { 0 }, best = 0;
	uint32_t step_x = r->width / 400 + 1, step_y = r->height / 400 + 1;
	unsigned level = 255;

	for (uint32_t y = step_y / 2; y < r->height; y += step_y) {
		const uint8_t *row = r->pixels + (size_t)y * r->width * r->channels;

		for (uint32_t x = step_x / 2; x < r->width; x += step_x)
			histogram[row[(size_t)x * r->channels + channel]]++;
	}
	for (unsigned i = 0; i < 256; i++) {
		uint32_t sum = 0;

		for (unsigned j = i < 2 ? 0 : i - 2; j <= i + 2 && j < 256; j++)
			sum += histogram[j];
		if (sum >= best) {
			best = sum;
			level = i;
		}
	}
	return level;
}

/* counts[i] += row[i] is ink; flip is 0xff on dark paper. */
static void count_row(const uint8_t *restrict row, const uint8_t *restrict threshold,
		      uint8_t *restrict counts, size_t len, uint8_t flip)
{
	size_t i = 0;

	for (; i + BLOCK <= len; i += BLOCK) {
		for (int j = 0; j < BLOCK; j++)
			counts[i + j] += (uint8_t)(row[i + j] ^ flip) < threshold[i + j];
	}
	for (; i < len; i++)
		counts[i] += (uint8_t)(row[i] ^ flip) < threshold[i];
}

/* Cells of one row of the grid, from the counts of its pixel columns. */
static void grade_row(const struct grid *g, uint32_t row, const uint8_t *counts, uint32_t size,
		      unsigned channels)
{
	uint8_t *cell = g->cell + (size_t)row * g->columns;

	for (uint32_t c = 0; c < g->columns; c++) {
		uint32_t sum = 0;

		for (uint32_t x = 0; x < size; x++, counts += channels) {
			unsigned most = counts[0];

			for (unsigned k = 1; k < channels; k++)
				most = counts[k] > most ? counts[k] : most;
			sum += most;
		}
		if (sum * SOLID >= size * size * (SOLID - 1))
			cell[c] = SOLID_CELL;
		else
			cell[c] = sum * INKED >= size * size ? INKED_CELL : CLEAN;
	}
}

static void fill_grid(const struct raster *r, struct grid *g, uint32_t size)
{
	size_t len = (size_t)r->width * r->channels;
	uint8_t *threshold = xmalloc(len), *counts = xmalloc(len);
	unsigned level[3], sum = 0;
	uint8_t flip;

	for (unsigned k = 0; k < r->channels; k++)
		sum += level[k] = paper_level(r, k);
	flip = sum < DARK_PAPER * r->channels ? 0xff : 0;
	for (unsigned k = 0; k < r->channels; k++) {
		unsigned paper = flip ? 255 - level[k] : level[k];
		unsigned contrast = 20 + paper / 12;

		for (size_t i = k; i < len; i += r->channels)
			threshold[i] = (uint8_t)(paper > contrast ? paper - contrast : 0);
	}
	for (uint32_t row = 0; row < g->rows; row++) {
		memset(counts, 0, len);
		for (uint32_t y = row * size; y < (row + 1) * size; y++)
			count_row(r->pixels + y * len, threshold, counts, len, flip);
		grade_row(g, row, counts, size, r->channels);
	}
	free(threshold);
	free(counts);
}

/* Sweep strips inwards from one cell at the edge, along `step`, for at most `depth` cells. */
static void sweep(uint8_t *cell, ptrdiff_t step, uint32_t depth)
{
	for (uint32_t i = 0; i < depth && *cell >= SOLID_CELL; i++, cell += step) {
		*cell = STRIP;
		cell[step] = cell[step] == INKED_CELL ? STRIP : cell[step]; /* its rim */
	}
}

static void drop_strips(struct grid *g)
{
	uint32_t deep_x = g->columns / EDGE, deep_y = g->rows / EDGE;
	ptrdiff_t line = g->columns;

	for (uint32_t y = 0; y < g->rows; y++) {
		sweep(g->cell + (size_t)y * g->columns, 1, deep_x);
		sweep(g->cell + (size_t)y * g->columns + g->columns - 1, -1, deep_x);
	}
	for (uint32_t x = 0; x < g->columns; x++) {
		sweep(g->cell + x, line, deep_y);
		sweep(g->cell + (size_t)(g->rows - 1) * g->columns + x, -line, deep_y);
	}
}

static bool is_ink(const struct grid *g, uint32_t x, uint32_t y)
{
	uint8_t c = g->cell[(size_t)y * g->columns + x];

	return c == INKED_CELL || c == SOLID_CELL;
}

static bool has_neighbour(const struct grid *g, uint32_t x, uint32_t y)
{
	for (uint32_t j = y ? y - 1 : 0; j <= y + 1 && j < g->rows; j++) {
		for (uint32_t i = x ? x - 1 : 0; i <= x + 1 && i < g->columns; i++) {
			if ((i != x || j != y) && is_ink(g, i, j))
				return true;
		}
	}
	return false;
}

double raster_ink(const struct raster *r)
{
	uint32_t side = r->width > r->height ? r->width : r->height;
	uint32_t size = side / CELLS_LONG;
	struct grid g;
	uint64_t inked = 0, cells;

	if (size < CELL_MIN)
		size = CELL_MIN;
	if (size > CELL_MAX)
		size = CELL_MAX;
	g.columns = r->width / size;
	g.rows = r->height / size;
	cells = (uint64_t)g.columns * g.rows;
	if (cells == 0)
		return 1; /* too small to judge */
	g.cell = xmalloc(cells);
	fill_grid(r, &g, size);
	drop_strips(&g);
	for (uint32_t y = 0; y < g.rows; y++) {
		for (uint32_t x = 0; x < g.columns; x++)
			inked += is_ink(&g, x, y) && has_neighbour(&g, x, y);
	}
	free(g.cell);
	return (double)inked / (double)cells;
}
