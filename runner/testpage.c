/* SPDX-License-Identifier: MIT
 *
 * A page of which the text is known (testpage.h): capitals made of straight strokes, as a round pen leaves
 * them.
 */
#include "testpage.h"
#include "base/err.h"
#include "base/num.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#define MARGIN        60
#define LINE_DISTANCE 90
#define UNIT          7   /* pixels; capitals are six units high */
#define PEN           2.6 /* pixels, half the stroke */
#define SPACE         4   /* units */

static const char *const page_lines[] = { TEST_PAGE_LINE_1, TEST_PAGE_LINE_2 };

/* Strokes x0 y0 x1 y1 in units, a digit each. */
static const struct glyph {
	char letter;
	int width;
	const char *strokes;
} glyphs[] = {
	{ 'A', 4, "0620 2046 1434" },	   { 'E', 4, "0006 0040 0333 0646" },
	{ 'H', 4, "0006 4046 0343" },	   { 'I', 0, "0006" },
	{ 'L', 4, "0006 0646" },	   { 'M', 6, "0600 0036 3660 6066" },
	{ 'N', 5, "0600 0056 5650" },	   { 'T', 4, "0040 2026" },
	{ 'V', 4, "0026 2640" },	   { 'W', 6, "0016 1630 3056 5660" },
};

static void draw_stroke(unsigned char *pixels, double x0, double y0, double x1, double y1)
{
	double dx = x1 - x0, dy = y1 - y0, edge = PEN + 1;

	for (int y = (int)(fmin(y0, y1) - edge); y <= (int)(fmax(y0, y1) + edge); y++)
		for (int x = (int)(fmin(x0, x1) - edge); x <= (int)(fmax(x0, x1) + edge); x++) {
			double along = ((x - x0) * dx + (y - y0) * dy) / (dx * dx + dy * dy);
			double t = fmax(0, fmin(1, along));
			double away = hypot(x - x0 - t * dx, y - y0 - t * dy);
			double white = fmax(0, fmin(1, away - PEN + 0.5));
			unsigned char *p = pixels + (size_t)y * TEST_PAGE_WIDTH + x;

			if (white * 255 < *p)
				*p = (unsigned char)(white * 255);
		}
}

static int draw_letter(unsigned char *pixels, char letter, int x, int y)
{
	for (size_t i = 0; i < ARRAY_SIZE(glyphs); i++) {
		if (glyphs[i].letter != letter)
			continue;
		for (const char *s = glyphs[i].strokes; *s; s += 4 + (s[4] == ' '))
			draw_stroke(pixels, x + UNIT * (s[0] - '0'), y + UNIT * (s[1] - '0'),
				    x + UNIT * (s[2] - '0'), y + UNIT * (s[3] - '0'));
		return (glyphs[i].width + 2) * UNIT;
	}
	return SPACE * UNIT;
}

void test_page_draw(struct buf *out)
{
	unsigned char *pixels = xmalloc((size_t)TEST_PAGE_WIDTH * TEST_PAGE_HEIGHT);

	memset(pixels, 255, (size_t)TEST_PAGE_WIDTH * TEST_PAGE_HEIGHT);
	for (size_t i = 0; i < ARRAY_SIZE(page_lines); i++) {
		int x = MARGIN;

		for (const char *c = page_lines[i]; *c; c++)
			x += draw_letter(pixels, *c, x, MARGIN + (int)i * LINE_DISTANCE);
	}
	buf_init(out, 1 << 20);
	buf_addf(out, "P5\n%d %d\n255\n", TEST_PAGE_WIDTH, TEST_PAGE_HEIGHT);
	buf_add(out, pixels, (size_t)TEST_PAGE_WIDTH * TEST_PAGE_HEIGHT);
	free(pixels);
}
