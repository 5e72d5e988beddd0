/* SPDX-License-Identifier: MIT
 *
 * reader: one Tesseract engine, page after page.
 *
 * Models are loaded once, before the sandbox is entered.  After each page the engine forgets all
 * it learned from it, so that a page reads the same whatever was read before.
 *
 * Tesseract takes lines of text for much larger than those of a coarse scan are, and reads these
 * badly: such a page is read off an enlarged copy.
 */
#include "tess.h"
#include "base/num.h"

#include <leptonica/allheaders.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define SIDE_MAX	32767 /* Tesseract keeps coordinates in 16 bits */
#define DPI_CREDIBLE	70    /* Tesseract takes no less, nor more than 2400, for the truth */
#define DPI_MAX		2400
#define DPI_COARSE	150 /* a page of less is read enlarged to */
#define DPI_GOOD	300
#define ENLARGED_PIXELS 12e6 /* photos that claim 72 dpi are not coarse: they stay as they are */

static TessBaseAPI *engine_new(const char *folder, const char *languages, TessOcrEngineMode mode,
			       struct err *err)
{
	TessBaseAPI *api = TessBaseAPICreate();

	TessBaseAPISetVariable(api, "debug_file", "/dev/null");
	if (TessBaseAPIInit2(api, folder, languages, mode)) {
		TessBaseAPIDelete(api);
		err_set(err, RC_FATAL, "tessdata", "Tesseract cannot load \"%s\" from %s",
			languages, folder);
		return NULL;
	}
	return api;
}

/* Hash what the engine did load: a language may bring others with it. */
static enum rc hash_loaded(struct reader *r, const char *folder, struct err *err)
{
	char **loaded = TessBaseAPIGetLoadedLanguagesAsVector(r->api);
	const char *names[64];
	size_t n = 0;
	enum rc rc;

	while (loaded[n] && n < ARRAY_SIZE(names) - 1) {
		names[n] = loaded[n];
		n++;
	}
	if (r->osd)
		names[n++] = "osd";
	rc = tessdata_hash(folder, names, n, r->hash, err);
	TessDeleteTextArray(loaded);
	return rc;
}

/* Tesseract opens the file for its messages when it has the first one, which in the sandbox would
 * be too late: a resolution that nobody believes is worth a message. */
static enum rc warm_up(TessBaseAPI *api, struct err *err)
{
	uint8_t white[64 * 64];

	memset(white, 255, sizeof(white));
	TessBaseAPISetImage(api, white, 64, 64, 1, 64);
	TessBaseAPISetSourceResolution(api, 1);
	if (TessBaseAPIRecognize(api, NULL))
		return err_set(err, RC_FATAL, "recogniser", "Tesseract cannot read an empty page");
	TessBaseAPIClear(api);
	return RC_OK;
}

enum rc reader_open(struct reader *r, const char *folder, const char *languages, struct err *err)
{
	bool has_osd = tessdata_has(folder, "osd");
	enum rc rc;

	*r = (struct reader){ 0 };
	setMsgSeverity(L_SEVERITY_NONE);
	rc = tessdata_check(folder, languages, err);
	if (rc != RC_OK)
		return rc;
	r->api = engine_new(folder, languages, OEM_LSTM_ONLY, err);
	if (r->api && has_osd)
		r->osd = engine_new(folder, "osd", OEM_TESSERACT_ONLY, err);
	if (!r->api || (has_osd && !r->osd))
		rc = RC_FATAL;
	if (rc == RC_OK)
		rc = hash_loaded(r, folder, err);
	if (rc == RC_OK)
		rc = warm_up(r->api, err);
	if (rc != RC_OK)
		reader_close(r);
	return rc;
}

void reader_close(struct reader *r)
{
	if (r->api)
		TessBaseAPIDelete(r->api);
	if (r->osd)
		TessBaseAPIDelete(r->osd);
	*r = (struct reader){ 0 };
}

void reader_show(TessBaseAPI *api, const struct picture *image, unsigned dpi)
{
	TessBaseAPISetImage(api, image->pixels, (int)image->width, (int)image->height,
			    (int)image->channels, (int)(image->width * image->channels));
	if (dpi >= DPI_CREDIBLE && dpi <= DPI_MAX)
		TessBaseAPISetSourceResolution(api, (int)dpi);
}

enum rc reader_recognise(struct reader *r, const struct picture *image, unsigned rotation,
			 const struct read_options *options, struct reading *reading,
			 struct err *err)
{
	bool upended = rotation == 90 || rotation == 270;
	int failed;

	TessBaseAPISetPageSegMode(r->api, (TessPageSegMode)options->page_segmentation);
	reader_show(r->api, image, options->dpi);
	failed = TessBaseAPIRecognize(r->api, NULL);
	if (!failed)
		reading_take(reading, r->api, rotation, upended ? image->height : image->width,
			     upended ? image->width : image->height);
	TessBaseAPIClear(r->api);
	TessBaseAPIClearAdaptiveClassifier(r->api);
	if (failed)
		return err_set(err, RC_FAILED, "recogniser", "Tesseract could not read the page");
	if (reading->text.overflow) {
		reading_release(reading);
		return err_set(err, RC_FAILED, "recogniser", "the page has too much text");
	}
	return RC_OK;
}

/* By how much to enlarge a page before it is read; 1 for most. */
static double enlargement(const struct picture *page, unsigned dpi)
{
	double factor = dpi && dpi < DPI_COARSE ? (double)DPI_GOOD / dpi : 1;
	double width = page->width * factor, height = page->height * factor;

	if (width * height > ENLARGED_PIXELS || width > SIDE_MAX || height > SIDE_MAX)
		return 1;
	return factor;
}

static enum rc read_either(struct reader *r, const struct picture *page,
			   const struct read_options *options, struct reading *reading,
			   struct err *err)
{
	if (options->rotate && r->osd)
		return rotate_read(r, page, options, reading, err);
	return reader_recognise(r, page, 0, options, reading, err);
}

enum rc reader_read(struct reader *r, const struct picture *page, const struct read_options *options,
		    struct reading *reading, struct err *err)
{
	double factor = enlargement(page, options->dpi);
	struct read_options for_large = *options;
	struct picture large;
	enum rc rc;

	if (page->width > SIDE_MAX || page->height > SIDE_MAX)
		return err_set(err, RC_FAILED, "page-size",
			       "Tesseract reads no page with a side above %d pixels", SIDE_MAX);
	if (factor <= 1)
		return read_either(r, page, options, reading, err);
	rc = image_enlarge(page, factor, &large, err);
	if (rc != RC_OK)
		return rc;
	for_large.dpi = DPI_GOOD;
	rc = read_either(r, &large, &for_large, reading, err);
	picture_release(&large);
	if (rc == RC_OK)
		reading_shrink(reading, page->width, page->height);
	return rc;
}
