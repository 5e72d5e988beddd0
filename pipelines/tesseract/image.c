/* SPDX-License-Identifier: MIT
 *
 * image: a page turned or enlarged.
 */
#include "tess.h"

#include <leptonica/allheaders.h>

/* Step through `from` in the order in which the pixels of `to` come. */
enum rc image_turn(const struct picture *from, unsigned degrees, struct picture *to, struct err *err)
{
	ptrdiff_t c = from->channels, row = c * from->width;
	ptrdiff_t last = row * from->height - c; /* the last pixel */
	ptrdiff_t start = 0, along = c, down = row;
	bool upended = degrees == 90 || degrees == 270;
	uint8_t *out;

	if (degrees == 90) { /* the left column, read upwards, becomes the first row */
		start = row * (from->height - 1);
		along = -row;
		down = c;
	} else if (degrees == 180) {
		start = last;
		along = -c;
		down = -row;
	} else if (degrees == 270) {
		start = row - c;
		along = row;
		down = -c;
	}
	if (picture_new(to, upended ? from->height : from->width,
		      upended ? from->width : from->height, from->channels, err) != RC_OK)
		return RC_FAILED;
	out = to->pixels;
	for (uint32_t y = 0; y < to->height; y++) {
		ptrdiff_t at = start + down * y;

		for (uint32_t x = 0; x < to->width; x++, at += along)
			for (ptrdiff_t k = 0; k < c; k++)
				*out++ = from->pixels[at + k];
	}
	return RC_OK;
}

static PIX *grey_pix(const struct picture *image)
{
	PIX *pix = pixCreateNoInit((l_int32)image->width, (l_int32)image->height, 8);
	const uint8_t *p = image->pixels;

	for (uint32_t y = 0; pix && y < image->height; y++) {
		l_uint32 *row = pixGetData(pix) + (size_t)y * (size_t)pixGetWpl(pix);

		for (uint32_t x = 0; x < image->width; x++, p += image->channels)
			SET_DATA_BYTE(row, x,
				      image->channels == 1 ? p[0] :
							     (3 * p[0] + 5 * p[1] + 2 * p[2]) / 10);
	}
	return pix;
}

enum rc image_enlarge(const struct picture *from, double factor, struct picture *to, struct err *err)
{
	PIX *grey = grey_pix(from);
	PIX *large = grey ? pixScaleGrayLI(grey, (l_float32)factor, (l_float32)factor) : NULL;
	uint8_t *out;
	enum rc rc;

	pixDestroy(&grey);
	if (!large)
		return err_set(err, RC_FAILED, "memory", "no memory to enlarge %u x %u pixels",
			       from->width, from->height);
	rc = picture_new(to, (uint32_t)pixGetWidth(large), (uint32_t)pixGetHeight(large), 1, err);
	out = to->pixels;
	for (uint32_t y = 0; rc == RC_OK && y < to->height; y++) {
		l_uint32 *row = pixGetData(large) + (size_t)y * (size_t)pixGetWpl(large);

		for (uint32_t x = 0; x < to->width; x++)
			*out++ = GET_DATA_BYTE(row, x);
	}
	pixDestroy(&large);
	return rc;
}
