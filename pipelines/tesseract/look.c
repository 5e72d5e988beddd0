/* SPDX-License-Identifier: MIT
 *
 * look: which way up a page seems to lie, in a few milliseconds.
 *
 * In Latin script more strokes rise above a line than hang below it.  leptonica counts both on a
 * coarse copy, as the page lies and on its side; the count that differs most tells the way up.  A
 * page with few letters, or of another script, leaves the counts even: then there is no guess.
 * Capitals can mislead it, so it is never more than a hint.
 *
 * Measured: dense text of 8 to 20 points differs by 12 to 57 standard deviations, tables of figures
 * by 15, but then they have nothing to count in the other direction.  The copy takes single pixels,
 * which serves as well as means of many.
 */
#include "tess.h"
#include "base/num.h"

#include <leptonica/allheaders.h>
#include <math.h>

#define COARSE_DPI     150
#define DPI_CREDIBLE   70   /* pictures that claim less do not know */
#define PAGE_INCHES    11.7 /* the long side of most pages, where the resolution is not known */
#define SIDE_MAX       2500 /* of the copy: a poster takes no longer than a page */
#define HISTOGRAM_STEP 4
#define CERTAIN	       12 /* difference of the counts, in standard deviations */
#define TIMES	       2  /* as clear as the other direction */

static PIX *coarse_copy(const struct picture *page, unsigned dpi)
{
	uint32_t side = page->width > page->height ? page->width : page->height;
	double inch = dpi >= DPI_CREDIBLE ? dpi : side / PAGE_INCHES;
	uint32_t step = (uint32_t)fmax(floor(inch / COARSE_DPI + 0.5), 1);
	size_t stride = (size_t)page->width * page->channels, green = page->channels / 2;
	PIX *copy;

	if (side / step > SIDE_MAX)
		step = side / SIDE_MAX + 1;
	if (page->width < step || page->height < step)
		return NULL;
	copy = pixCreateNoInit((l_int32)(page->width / step), (l_int32)(page->height / step), 8);
	if (!copy)
		return NULL;
	for (uint32_t y = 0; y < page->height / step; y++) {
		l_uint32 *row = pixGetData(copy) + (size_t)y * (size_t)pixGetWpl(copy);
		const uint8_t *from = page->pixels + stride * y * step + green;

		for (uint32_t x = 0; x < page->width / step; x++, from += step * page->channels)
			SET_DATA_BYTE(row, x, *from);
	}
	return copy;
}

/* Black where the letters are, one bit a pixel. */
static PIX *letters_of(PIX *grey)
{
	NUMA *histogram = pixGetGrayHistogram(grey, HISTOGRAM_STEP);
	PIX *letters = NULL;
	l_int32 threshold, black = 0;

	if (histogram &&
	    !numaSplitDistribution(histogram, 0.1f, &threshold, NULL, NULL, NULL, NULL, NULL))
		letters = pixThresholdToBinary(grey, threshold + 1);
	if (letters && !pixCountPixels(letters, &black, NULL) &&
	    black > pixGetWidth(letters) * pixGetHeight(letters) / 2)
		pixInvert(letters, letters);
	numaDestroy(&histogram);
	return letters;
}

unsigned look_for_turn(const struct picture *page, unsigned dpi)
{
	PIX *grey = coarse_copy(page, dpi);
	PIX *letters = grey ? letters_of(grey) : NULL;
	l_int32 orientation = L_TEXT_ORIENT_UNKNOWN;
	l_float32 up = 0, left = 0;

	if (letters)
		pixOrientDetect(letters, &up, NULL, 0, 0);
	if (letters && up && up < CERTAIN) { /* upright pages are done with */
		pixOrientDetect(letters, NULL, &left, 0, 0);
		makeOrientDecision(up, left, CERTAIN, TIMES, &orientation, 0);
	}
	pixDestroy(&letters);
	pixDestroy(&grey);
	return orientation == L_TEXT_ORIENT_LEFT  ? 90 :
	       orientation == L_TEXT_ORIENT_DOWN  ? 180 :
	       orientation == L_TEXT_ORIENT_RIGHT ? 270 :
						    0;
}
