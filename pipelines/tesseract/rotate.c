/* SPDX-License-Identifier: MIT
 *
 * rotate: pages that lie on their side or stand on their head.
 *
 * Reading a page the wrong way up takes up to four times as long as reading it, and looking for the
 * orientation well costs a fifth of a second, while nearly all pages are upright.  So a look at the
 * letters' shapes (look.c) says which way to read first, and that is all for most pages:
 *
 *   reads poorly     a page turned after that look is read as it lies, too; after that, ask
 *                    Tesseract's orientation detection (on its head, where it cannot tell), read
 *                    the page turned; keep the best reading
 *   reads sideways   Tesseract itself reads pages whose text runs downwards, but its layout takes
 *                    them for vertical writing: read it turned, keep that if it is as good
 *
 * A turn is only ever kept because the page reads well or better for it: a wrong guess costs time,
 * never text.  Measured on scans and prints: letters of upright pages are certain to 0.57 and more
 * in the mean, those of pages on their head to 0.47 at most.  A page that was read turned alone has
 * to be better than that by far.
 */
#include "tess.h"

#define POOR	    0.55
#define SURELY	    0.75
#define CLEARLY	    1.1
#define ABOUT_EQUAL 0.9

static bool reads_poorly(const struct reading *r)
{
	return r->certain < POOR * (double)r->letters || !r->letters;
}

static bool reads_surely(const struct reading *r)
{
	return r->certain > SURELY * (double)r->letters;
}

static bool reads_sideways(const struct reading *r)
{
	return r->sideways > r->letters / 2;
}

/* Degrees clockwise by which to turn the page. */
static unsigned detect(TessBaseAPI *osd, const struct picture *page, unsigned dpi)
{
	const char *script = NULL;
	float confidence = 0, script_confidence = 0;
	int degrees = 0, found;

	reader_show(osd, page, dpi);
	found = TessBaseAPIDetectOrientationScript(osd, &degrees, &confidence, &script,
						   &script_confidence);
	TessBaseAPIClear(osd);
	if (!found) /* too few letters */
		return 180;
	return (unsigned)(360 - degrees) % 360;
}

static enum rc read_turned(struct reader *reader, const struct picture *page, unsigned rotation,
			   const struct read_options *options, struct reading *reading,
			   struct err *err)
{
	struct picture turned;
	enum rc rc;

	if (!rotation)
		return reader_recognise(reader, page, 0, options, reading, err);
	rc = image_turn(page, rotation, &turned, err);
	if (rc != RC_OK)
		return rc;
	rc = reader_recognise(reader, &turned, rotation, options, reading, err);
	picture_release(&turned);
	return rc;
}

/* Read the page turned; take that reading if its letters are `factor` times as certain. */
static enum rc try_turn(struct reader *reader, const struct picture *page, unsigned rotation,
			double factor, const struct read_options *options, struct reading *best,
			struct err *err)
{
	struct reading turned, worse;
	enum rc rc = read_turned(reader, page, rotation, options, &turned, err);

	if (rc != RC_OK)
		return rc;
	worse = turned;
	if (turned.certain > factor * best->certain) {
		worse = *best;
		*best = turned;
	}
	reading_release(&worse);
	return RC_OK;
}

enum rc rotate_read(struct reader *reader, const struct picture *page,
		    const struct read_options *options, struct reading *best, struct err *err)
{
	unsigned seen = look_for_turn(page, options->dpi), rotation;
	enum rc rc = read_turned(reader, page, seen, options, best, err);

	if (rc != RC_OK)
		return rc;
	if (seen && !(reads_surely(best) && !reads_sideways(best)))
		rc = try_turn(reader, page, 0, 1 / CLEARLY, options, best, err);
	if (rc == RC_OK && reads_poorly(best)) {
		rotation = detect(reader->osd, page, options->dpi);
		if (rotation && rotation != seen)
			rc = try_turn(reader, page, rotation, CLEARLY, options, best, err);
	}
	if (rc == RC_OK && reads_sideways(best))
		rc = try_turn(reader, page, (best->rotation + 270) % 360, ABOUT_EQUAL, options,
			      best, err);
	if (rc != RC_OK)
		reading_release(best);
	return rc;
}
