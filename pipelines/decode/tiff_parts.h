/* SPDX-License-Identifier: MIT
 *
 * tiff_parts: what the three files of the TIFF decoder say to each other.
 */
#ifndef DECODE_TIFF_PARTS_H
#define DECODE_TIFF_PARTS_H

#include "image.h"

#include <tiffio.h>

/* tiff_chain.c: where the directories of the pages begin. */
struct tiff_chain {
	uint64_t *offsets; /* [n] 0: the chain breaks here */
	uint32_t n;
};
enum rc tiff_chain_read(struct tiff_chain *chain, struct source *source, uint64_t max_pages,
			struct err *err);
void tiff_chain_release(struct tiff_chain *chain);

enum tiff_alpha { ALPHA_NONE, ALPHA_ASSOCIATED, ALPHA_UNASSOCIATED };

/* How the samples of a page lie in the file. */
struct tiff_layout {
	uint32_t width, height;
	uint16_t bits, samples, photometric, compression;
	bool planar, tiled;
	bool exotic;               /* left to libtiff's RGBA interface */
	uint16_t colours;          /* samples that are not extra: 1, 3 or 4 */
	enum tiff_alpha alpha;     /* of sample number `colours` */
	uint8_t palette[256][3];   /* PHOTOMETRIC_PALETTE */
	bool palette_grey;
};

/* tiff_pixels.c: draw the current directory; RC_FAILED without err where libtiff has told why. */
enum rc tiff_draw(TIFF *tiff, const struct tiff_layout *l, const struct limits *limits,
		  struct canvas *canvas, struct err *err);

#endif
