/* SPDX-License-Identifier: MIT
 *
 * scale: resample an image by area, a row at a time.
 *
 * Every pixel of the result is the mean of the part of the source that it covers, so nothing is
 * skipped (thin strokes survive) and the mean grey stays.  Positions are exact: both axes are
 * divided on the common grid of source x destination steps.  Weights of one result pixel add up to
 * exactly 2^16, because each is the difference of two roundings of a running sum; white stays 255.
 */
#include "image.h"

#include "base/num.h"

#include <stdlib.h>
#include <string.h>

#define ONE 65536 /* fixed point */

struct scaler {
	uint32_t src_width, src_height, channels;
	struct raster to;  /* pixels borrowed */
	uint32_t *first;   /* [to.width] first source column */
	uint32_t *count;   /* [to.width] how many */
	uint16_t *weights; /* sum of counts, in order; ONE is stored as 0 where count is 1 */
	uint32_t *line;    /* [to.width * channels] the source row, scaled across, 8.8 */
	uint32_t *sum;     /* the same, of the rows that the row in work has had, 8.24 */
	uint64_t y;        /* source rows taken */
	uint64_t out_y;    /* rows done */
};

/* Columns [x * src, (x + 1) * src) of the result in steps where a source column has `dst`. */
static size_t plan_columns(struct scaler *s)
{
	uint64_t src = s->src_width, dst = s->to.width;
	size_t n = 0;

	for (uint64_t x = 0; x < dst; x++) {
		uint64_t begin = x * src, end = begin + src, last = 0;

		s->first[x] = (uint32_t)(begin / dst);
		s->count[x] = (uint32_t)((end + dst - 1) / dst - begin / dst);
		for (uint32_t i = 0; i < s->count[x]; i++) {
			uint64_t edge = min_u64((s->first[x] + i + 1) * dst, end) - begin;
			uint64_t total = edge * ONE / src;

			s->weights[n++] = (uint16_t)(total - last);
			last = total;
		}
	}
	return n;
}

struct scaler *scaler_new(uint32_t width, uint32_t height, uint32_t channels, struct raster *to,
			  struct err *err)
{
	struct scaler *s = xcalloc(1, sizeof(*s));

	s->src_width = width;
	s->src_height = height;
	s->channels = channels;
	s->to = *to;
	s->first = image_alloc(to->width, 1, sizeof(*s->first), err);
	s->count = image_alloc(to->width, 1, sizeof(*s->count), err);
	/* A result column begins inside or at the edge of a source column: two may be shared. */
	s->weights = image_alloc((uint64_t)width + 2 * (uint64_t)to->width, 1,
				 sizeof(*s->weights), err);
	s->line = image_alloc(to->width, channels, sizeof(*s->line), err);
	s->sum = image_alloc(to->width, channels, sizeof(*s->sum), err);
	if (!s->first || !s->count || !s->weights || !s->line || !s->sum) {
		scaler_free(s);
		return NULL;
	}
	memset(s->sum, 0, sizeof(*s->sum) * to->width * channels);
	plan_columns(s);
	return s;
}

static void scale_across(struct scaler *s, const uint8_t *row)
{
	const uint16_t *weight = s->weights;
	uint32_t *to = s->line;

	if (s->src_width == s->to.width) {
		for (size_t i = 0; i < (size_t)s->src_width * s->channels; i++)
			to[i] = (uint32_t)row[i] << 8;
		return;
	}
	for (size_t x = 0; x < s->to.width; x++, weight += s->count[x - 1]) {
		const uint8_t *from = row + (size_t)s->first[x] * s->channels;

		for (size_t c = 0; c < s->channels; c++) {
			uint32_t sum = 128;

			for (size_t i = 0; i < s->count[x]; i++)
				sum += (uint32_t)from[i * s->channels + c] * weight[i];
			*to++ = s->count[x] == 1 ? (uint32_t)from[c] << 8 : sum >> 8;
		}
	}
}

static void finish_row(struct scaler *s)
{
	size_t n = (size_t)s->to.width * s->channels;
	uint8_t *to = s->to.pixels + s->out_y * n;

	for (size_t i = 0; i < n; i++)
		to[i] = (uint8_t)((s->sum[i] + (1u << 23)) >> 24);
	memset(s->sum, 0, n * sizeof(*s->sum));
	s->out_y++;
}

/* Source row y spans [y * dst, (y + 1) * dst), result row o spans [o * src, (o + 1) * src). */
void scaler_row(struct scaler *s, const uint8_t *row)
{
	uint64_t src = s->src_height, dst = s->to.height;
	uint64_t at = s->y * dst, end = at + dst;
	size_t n = (size_t)s->to.width * s->channels;

	scale_across(s, row);
	while (at < end && s->out_y < dst) {
		uint64_t begin = s->out_y * src;
		uint64_t stop = min_u64(end, begin + src);
		uint32_t weight = (uint32_t)((stop - begin) * ONE / src - (at - begin) * ONE / src);

		for (size_t i = 0; i < n; i++)
			s->sum[i] += s->line[i] * weight;
		at = stop;
		if (stop == begin + src)
			finish_row(s);
	}
	s->y++;
}

void scaler_free(struct scaler *s)
{
	if (!s)
		return;
	free(s->first);
	free(s->count);
	free(s->weights);
	free(s->line);
	free(s->sum);
	free(s);
}
