/* SPDX-License-Identifier: MIT
 *
 * tess: the parts of cloister-tesseract.
 *
 * main.c speaks the airlock protocol, tessdata.c finds and hashes the traineddata files, image.c
 * turns and enlarges a page, reader.c reads it through libtesseract's C interface, look.c and rotate.c
 * find out which way up it is, reading.c turns what was read into a result.
 */
#ifndef TESSERACT_TESS_H
#define TESSERACT_TESS_H

#include "picture.h"
#include "base/buf.h"
#include "base/err.h"
#include "base/hash.h"

#include <jansson.h>
#include <stdbool.h>
#include <stdint.h>
#include <tesseract/capi.h>

/* tessdata.c: where the traineddata files lie: $TESSDATA_PREFIX or the folders that distributions
 * use. NULL and err when there is none. Static memory. */
const char *tessdata_folder(struct err *err);
/* Check "deu+eng": each language's file is there. RC_FATAL names the file that is not, and the
 * languages that are. */
enum rc tessdata_check(const char *folder, const char *languages, struct err *err);
bool tessdata_has(const char *folder, const char *language);
/* SHA-256 of the files of these languages, one after the other. */
enum rc tessdata_hash(const char *folder, const char *const *languages, size_t n,
		      char hex[SHA256_HEX_SIZE], struct err *err);

/* image.c: a copy turned clockwise by 90, 180 or 270 degrees. */
enum rc image_turn(const struct picture *from, unsigned degrees, struct picture *to, struct err *err);
/* A grey copy, larger by `factor`, interpolated linearly. */
enum rc image_enlarge(const struct picture *from, double factor, struct picture *to, struct err *err);

/* reading.c: what was read off one image, boxes already in the coordinates of the page as it lay
 * before it was turned. */
struct reading {
	unsigned rotation; /* the image was turned clockwise by this before it was read */
	uint32_t width, height; /* of the page before that */
	json_t *lines;
	struct buf text;
	unsigned words;
	size_t letters, sideways; /* sideways: letters of words that run up or down */
	double confidence, worst; /* mean and lowest of the words, 0..1 */
	double certain;		  /* letters, each counted by its word's confidence */
};
/* Take everything out of the engine after a page was recognised. */
void reading_take(struct reading *reading, TessBaseAPI *api, unsigned rotation, uint32_t width,
		  uint32_t height);
/* Boxes on an enlarged copy become those on the page that it was made of. */
void reading_shrink(struct reading *reading, uint32_t width, uint32_t height);
/* The result object but for "id" and "ms". New reference; the reading keeps its own. */
json_t *reading_result(const struct reading *reading);
void reading_release(struct reading *reading);
/* Turn a box of the turned page back; width and height are those of the page before. */
void box_unturn(int box[4], unsigned rotation, uint32_t width, uint32_t height);

/* reader.c: one engine, many pages; what it says of a page does not depend on the pages before. */
struct reader {
	TessBaseAPI *api;
	TessBaseAPI *osd; /* NULL without osd.traineddata: rotation is not looked for */
	char hash[SHA256_HEX_SIZE];
};
struct read_options {
	unsigned page_segmentation;
	unsigned dpi; /* 0: not known */
	bool rotate;
};
enum rc reader_open(struct reader *reader, const char *folder, const char *languages,
		    struct err *err);
void reader_close(struct reader *reader);
/* Read a page. On RC_OK the caller releases the reading. */
enum rc reader_read(struct reader *reader, const struct picture *page,
		    const struct read_options *options, struct reading *reading, struct err *err);
/* Recognise an image, a page that was turned by `rotation`, as it is. */
enum rc reader_recognise(struct reader *reader, const struct picture *image, unsigned rotation,
			 const struct read_options *options, struct reading *reading,
			 struct err *err);
/* Give an image to an engine. */
void reader_show(TessBaseAPI *api, const struct picture *image, unsigned dpi);

/* look.c: by how much the page seems to need turning clockwise, judged by the shapes of its letters;
 * 0 also if they do not tell. A hint, never more. */
unsigned look_for_turn(const struct picture *page, unsigned dpi);

/* rotate.c: read a page whichever way up it lies. The reader must have its osd. */
enum rc rotate_read(struct reader *reader, const struct picture *page,
		    const struct read_options *options, struct reading *best, struct err *err);

#endif
