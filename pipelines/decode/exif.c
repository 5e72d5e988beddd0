/* SPDX-License-Identifier: MIT
 *
 * exif: orientation and resolution out of an EXIF block, which is a TIFF file in small.
 *
 * Only the first directory is looked at, and of it only values that lie in the entry itself or at
 * an offset inside the block.  Every access goes through get(), which knows the length; whatever is
 * odd is as if it were not there, because a picture is not damaged by a wrong remark about it.
 */
#include "image.h"

#include <string.h>

#define TAG_ORIENTATION 274
#define TAG_XRESOLUTION 282
#define TAG_YRESOLUTION 283
#define TAG_UNIT        296
#define TYPE_SHORT      3
#define TYPE_RATIONAL   5
#define UNIT_CM         3

struct block {
	const uint8_t *data;
	size_t len;
	bool big; /* endian */
};

/* n = 2 or 4 bytes at `at`; 0 outside. */
static uint32_t get(const struct block *b, uint64_t at, unsigned n)
{
	uint32_t v = 0;

	if (at > b->len || b->len - at < n)
		return 0;
	for (unsigned i = 0; i < n; i++)
		v = v << 8 | b->data[at + (b->big ? i : n - 1 - i)];
	return v;
}

static double rational(const struct block *b, uint64_t entry)
{
	uint32_t at = get(b, entry + 8, 4), below;

	if (get(b, entry + 2, 2) != TYPE_RATIONAL || get(b, entry + 4, 4) != 1)
		return 0;
	below = get(b, (uint64_t)at + 4, 4);
	return below ? (double)get(b, at, 4) / below : 0;
}

static uint32_t short_value(const struct block *b, uint64_t entry)
{
	if (get(b, entry + 2, 2) != TYPE_SHORT || get(b, entry + 4, 4) != 1)
		return 0;
	return get(b, entry + 8, 2);
}

void exif_read(const uint8_t *data, size_t len, struct image *im)
{
	struct block b = { data, len, len > 0 && data[0] == 'M' };
	double x = 0, y = 0, unit = 1;
	uint32_t first, n;

	if (len < 8 || (memcmp(data, "II*\0", 4) && memcmp(data, "MM\0*", 4)))
		return;
	first = get(&b, 4, 4);
	n = get(&b, first, 2);
	for (uint32_t i = 0; i < n; i++) {
		uint64_t entry = (uint64_t)first + 2 + 12 * (uint64_t)i;
		uint32_t v = short_value(&b, entry);

		switch (get(&b, entry, 2)) {
		case TAG_ORIENTATION:
			if (v >= 1 && v <= 8)
				im->orientation = v;
			break;
		case TAG_UNIT:
			unit = v == UNIT_CM ? 2.54 : 1;
			break;
		case TAG_XRESOLUTION:
			x = rational(&b, entry);
			break;
		case TAG_YRESOLUTION:
			y = rational(&b, entry);
			break;
		}
	}
	if (!(im->xdpi > 0) && x > 0 && y > 0) {
		im->xdpi = x * unit;
		im->ydpi = y * unit;
	}
}
