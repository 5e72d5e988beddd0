/* SPDX-License-Identifier: MIT
 *
 * pdf_stream: whether the data of an image is whole.
 *
 * poppler pads an image whose data ends early with white and says nothing, and gives up on a JPEG
 * without a word.  So the stored data is looked at here, cheaply first:
 *   - without a filter, its length is known;
 *   - a JPEG starts with SOI and ends with EOI; one that does not is read with libjpeg, which
 *     tells how many lines there are (a missing EOI alone loses nothing);
 *   - the other filters are run only on request (`thorough`: the image is the page and ends in
 *     white), and the length of what comes out is compared.
 * Damage in the middle of data is reported by the decoders themselves: pdf_trouble.c.
 */
#include "pdf_parts.h"

#include "base/num.h"

#include <jpeglib.h>
#include <setjmp.h>
#include <stdlib.h>
#include <string.h>

#define EOI_WITHIN   1024        /* bytes of the end: producers append padding */
#define THOROUGH_MAX (256 << 20) /* bytes decoded in memory */

struct jpeg_reader {
	struct jpeg_decompress_struct jpeg;
	struct jpeg_error_mgr errors;
	jmp_buf failed;
	bool ended; /* the data ended too early */
};

static void jpeg_failed(j_common_ptr jpeg)
{
	struct jpeg_reader *r = jpeg->client_data;

	longjmp(r->failed, 1);
}

static void jpeg_message(j_common_ptr jpeg, int level)
{
	struct jpeg_reader *r = jpeg->client_data;

	/* The only warnings that matter here come when the data is used up. */
	if (level < 0)
		r->ended = true;
}

/* Share of the lines that are there, 0..1; decodes at an eighth of the size. */
static double jpeg_share(const unsigned char *data, size_t len)
{
	struct jpeg_reader r = { .ended = false };
	volatile double share = 0;
	JSAMPROW row = NULL;
	unsigned long lines = 0;

	r.jpeg.err = jpeg_std_error(&r.errors);
	r.errors.error_exit = jpeg_failed;
	r.errors.emit_message = jpeg_message;
	r.jpeg.client_data = &r;
	if (setjmp(r.failed) == 0) {
		jpeg_create_decompress(&r.jpeg);
		jpeg_mem_src(&r.jpeg, data, len);
		jpeg_read_header(&r.jpeg, TRUE);
		r.jpeg.scale_num = 1;
		r.jpeg.scale_denom = 8;
		jpeg_start_decompress(&r.jpeg);
		row = r.jpeg.mem->alloc_small((j_common_ptr)&r.jpeg, JPOOL_IMAGE,
					      (size_t)r.jpeg.output_width *
						      (size_t)r.jpeg.output_components);
		while (r.jpeg.output_scanline < r.jpeg.output_height) {
			jpeg_read_scanlines(&r.jpeg, &row, 1);
			/* The last rows are decoded when the end is noticed. */
			if (r.ended && r.jpeg.output_scanline + 2 < r.jpeg.output_height)
				break;
			lines = r.jpeg.output_scanline;
			share = (double)lines / r.jpeg.output_height;
		}
	}
	jpeg_destroy_decompress(&r.jpeg);
	return share;
}

static enum rc check_jpeg(const unsigned char *data, size_t len, struct err *err)
{
	const unsigned char *start = memmem(data, len, "\xff\xd8", 2);
	size_t tail = len < EOI_WITHIN ? len : EOI_WITHIN;
	double share;

	if (!start)
		return err_set(err, RC_FAILED, "damaged", "an image is not the JPEG it claims");
	if (start == data && memmem(data + len - tail, tail, "\xff\xd9", 2))
		return RC_OK;
	share = jpeg_share(start, len - (size_t)(start - data));
	if (share >= 1)
		return RC_OK;
	return err_set(err, RC_FAILED, "damaged", "an image ends after %.0f %% of its lines",
		       share * 100);
}

static int get_int(qpdf_data q, qpdf_oh dict, const char *key, int otherwise)
{
	int v;

	return qpdf_oh_get_value_as_int(q, qpdf_oh_get_key(q, dict, key), &v) && v >= 0 ?
		       v :
		       otherwise;
}

/* Components a pixel, 0 when it cannot be told. */
static unsigned components(qpdf_data q, qpdf_oh space)
{
	static const struct {
		const char *name;
		unsigned n;
	} spaces[] = {
		{ "/DeviceGray", 1 }, { "/DeviceRGB", 3 }, { "/DeviceCMYK", 4 }, { "/CalGray", 1 },
		{ "/CalRGB", 3 },     { "/Lab", 3 },	   { "/Indexed", 1 },	 { "/Separation", 1 },
	};
	bool is_array = qpdf_oh_is_array(q, space) && qpdf_oh_get_array_n_items(q, space) > 0;
	qpdf_oh name = is_array ? qpdf_oh_get_array_item(q, space, 0) : space;

	for (size_t i = 0; i < ARRAY_SIZE(spaces); i++) {
		if (qpdf_oh_is_name_and_equals(q, name, spaces[i].name))
			return spaces[i].n;
	}
	if (is_array && qpdf_oh_is_name_and_equals(q, name, "/ICCBased") &&
	    qpdf_oh_get_array_n_items(q, space) > 1) {
		qpdf_oh profile = qpdf_oh_get_array_item(q, space, 1);

		if (qpdf_oh_is_stream(q, profile))
			return (unsigned)get_int(q, qpdf_oh_get_dict(q, profile), "/N", 0);
	}
	return 0;
}

/* Bytes the decoded image must have, 0 when it cannot be told. */
static size_t expected_bytes(qpdf_data q, qpdf_oh dict, const struct pdf_image *image)
{
	QPDF_BOOL stencil = QPDF_FALSE;
	unsigned n = components(q, qpdf_oh_get_key(q, dict, "/ColorSpace"));
	unsigned bits = (unsigned)get_int(q, dict, "/BitsPerComponent", 0);
	size_t row, all;

	qpdf_oh_get_value_as_bool(q, qpdf_oh_get_key(q, dict, "/ImageMask"), &stencil);
	if (stencil)
		n = bits = 1;
	if (n > 4 || bits > 16 || !checked_mul(image->width, (size_t)n * bits, &row) ||
	    !checked_mul((row + 7) / 8, image->height, &all))
		return 0;
	return all;
}

static bool is_filter(qpdf_data q, qpdf_oh filter, const char *name, const char *abbreviation)
{
	int n = qpdf_oh_is_array(q, filter) ? qpdf_oh_get_array_n_items(q, filter) : -1;

	if (n == 1)
		filter = qpdf_oh_get_array_item(q, filter, 0);
	return qpdf_oh_is_name_and_equals(q, filter, name) ||
	       qpdf_oh_is_name_and_equals(q, filter, abbreviation);
}

static enum rc check_length(size_t len, size_t expected, struct err *err)
{
	if (len >= expected)
		return RC_OK;
	return err_set(err, RC_FAILED, "damaged", "an image has %zu of its %zu bytes", len,
		       expected);
}

enum rc stream_check(qpdf_data q, const struct pdf_image *image, bool thorough, struct err *err)
{
	qpdf_oh dict = qpdf_oh_get_dict(q, image->object);
	qpdf_oh filter = qpdf_oh_get_key(q, dict, "/Filter");
	size_t expected = expected_bytes(q, dict, image), len = 0;
	bool is_jpeg = is_filter(q, filter, "/DCTDecode", "/DCT");
	bool plain = qpdf_oh_is_null(q, filter);
	unsigned char *data = NULL;
	QPDF_BOOL filtered = QPDF_FALSE;
	enum rc rc = RC_OK;

	if (is_jpeg || plain) {
		if (qpdf_oh_get_stream_data(q, image->object, qpdf_dl_none, NULL, &data, &len) &
		    QPDF_ERRORS)
			rc = err_set(err, RC_FAILED, "damaged", "the data of an image is missing");
		else
			rc = is_jpeg ? check_jpeg(data, len, err) : check_length(len, expected, err);
	} else if (thorough && expected > 0 && expected <= THOROUGH_MAX) {
		if (!(qpdf_oh_get_stream_data(q, image->object, qpdf_dl_specialized, &filtered,
					      &data, &len) &
		      QPDF_ERRORS) &&
		    filtered)
			rc = check_length(len, expected, err);
	}
	free(data);
	return rc;
}
