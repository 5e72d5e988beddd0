/* SPDX-License-Identifier: MIT
 *
 * fuzz-decoder: a document through a decoder as cloister-decode uses it, each page twice.  What it
 * lets through keeps the limits, fills its raster and no more, and is the same both times.
 */
#ifndef TESTS_FUZZ_DECODER_H
#define TESTS_FUZZ_DECODER_H

#include "fuzz.h"

#include "airlock.h"
#include "decode.h"

#define FUZZ_PAGES 3

struct fuzz_page {
	enum rc rc;
	struct page page;
	struct raster raster;
};

static inline struct fuzz_page fuzz_read_page(const struct decoder *decoder, struct document *doc,
					      uint32_t index, const struct limits *limits,
					      uint8_t fill)
{
	struct fuzz_page p = { 0 };
	struct err err;
	size_t size;

	p.rc = decoder->measure(doc, index, &p.page, &err);
	if (p.rc == RC_OK && !p.page.result) {
		CHECK(p.page.width && p.page.width <= limits->page_side_pixels);
		CHECK(p.page.height && p.page.height <= limits->page_side_pixels);
		CHECK(p.page.channels == 1 || p.page.channels == 3);
		size = (size_t)p.page.width * p.page.height * p.page.channels;
		CHECK(size <= limits->page_megapixels * 3000000);
		p.raster = (struct raster){ p.page.width, p.page.height, p.page.channels,
					    xmalloc(size) };
		memset(p.raster.pixels, fill, size);
		p.rc = decoder->render(doc, index, &p.page, &p.raster, &err);
		CHECK(p.rc || p.raster.channels == 1 || p.raster.channels == p.page.channels);
	}
	if (p.rc)
		check_err(p.rc, &err);
	check_strings(p.page.warnings);
	return p;
}

static inline void fuzz_check_page(const struct decoder *decoder, struct document *doc,
				   uint32_t index, const struct limits *limits)
{
	struct fuzz_page a = fuzz_read_page(decoder, doc, index, limits, 0x00);
	struct fuzz_page b = fuzz_read_page(decoder, doc, index, limits, 0xa5);
	struct err err;

	CHECK(a.rc == b.rc);
	if (a.rc == RC_OK && a.page.result) {
		json_t *clean = airlock_result(a.page.result, a.page.width, a.page.height, &err);

		CHECK(clean && json_equal(a.page.result, b.page.result));
		json_decref(clean);
	} else if (a.rc == RC_OK) {
		CHECK(a.raster.width == b.raster.width && a.raster.height == b.raster.height);
		CHECK(a.raster.channels == b.raster.channels);
		CHECK(!memcmp(a.raster.pixels, b.raster.pixels,
			      (size_t)a.raster.width * a.raster.height * a.raster.channels));
		CHECK(raster_ink(&a.raster) >= 0 && raster_ink(&a.raster) <= 1);
	}
	free(a.raster.pixels);
	free(b.raster.pixels);
	page_release(&a.page);
	page_release(&b.page);
}

static inline int fuzz_decoder(const struct decoder *decoder, const uint8_t *data, size_t size)
{
	struct document *doc = NULL;
	struct pipeline p;
	uint32_t pages = 0;
	struct err err;
	enum rc rc;
	int fd = fuzz_file(data, size);

	pipeline_defaults(&p, "fuzz");
	p.dpi = 72;
	p.limits.image_megapixels = p.limits.page_megapixels = 1;
	p.limits.page_side_pixels = 2000;
	p.limits.document_pages = 100;
	rc = decoder->open(&doc, fd, &p, &pages, &err);
	if (rc) {
		check_err(rc, &err);
	} else {
		for (uint32_t i = 0; i < pages && i < FUZZ_PAGES; i++)
			fuzz_check_page(decoder, doc, i, &p.limits);
		decoder->close(doc);
	}
	pipeline_release(&p);
	close(fd);
	return 0;
}

#endif
