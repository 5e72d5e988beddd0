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

#include <stdlib.h>
#include <string.h>

#define EOI_WITHIN   1024        /* bytes of the end: producers append padding */
#define THOROUGH_MAX (256 << 20) /* bytes decoded in memory */

static enum rc check_jpeg(const unsigned char *data, size_t len, struct err *err)
{
	const unsigned char *start = memmem(data, len, "\xff\xd8", 2);
	size_t tail = len < EOI_WITHIN ? len : EOI_WITHIN;
	double share;

	if (!start)
		return err_set(err, RC_FAILED, "damaged", "an image is not the JPEG it claims");
	if (start == data && memmem(data + len - tail, tail, "\xff\xd9", 2))
		return RC_OK;
	share = pdf_jpeg_share(start, len - (size_t)(start - data));
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

/* Components a pixel, 0 when it cannot be told. *direct: they are grey or red, green, blue, give or
 * take a calibration that does not matter for reading. */
static unsigned components(qpdf_data q, qpdf_oh space, bool *direct)
{
	static const struct {
		const char *name;
		unsigned n;
		bool direct;
	} spaces[] = {
		{ "/DeviceGray", 1, true },  { "/DeviceRGB", 3, true },	 { "/CalGray", 1, true },
		{ "/CalRGB", 3, true },	     { "/DeviceCMYK", 4, false }, { "/Lab", 3, false },
		{ "/Indexed", 1, false },    { "/Separation", 1, false },
	};
	bool is_array = qpdf_oh_is_array(q, space) && qpdf_oh_get_array_n_items(q, space) > 0;
	qpdf_oh name = is_array ? qpdf_oh_get_array_item(q, space, 0) : space, profile;
	unsigned n;

	*direct = false;
	for (size_t i = 0; i < ARRAY_SIZE(spaces); i++) {
		if (!qpdf_oh_is_name_and_equals(q, name, spaces[i].name))
			continue;
		*direct = spaces[i].direct;
		return spaces[i].n;
	}
	if (!is_array || !qpdf_oh_is_name_and_equals(q, name, "/ICCBased") ||
	    qpdf_oh_get_array_n_items(q, space) < 2)
		return 0;
	profile = qpdf_oh_get_array_item(q, space, 1);
	if (!qpdf_oh_is_stream(q, profile))
		return 0;
	n = (unsigned)get_int(q, qpdf_oh_get_dict(q, profile), "/N", 0);
	*direct = n == 1 || n == 3;
	return n;
}

/* Bytes the decoded image must have, 0 when it cannot be told. */
static size_t expected_bytes(qpdf_data q, qpdf_oh dict, const struct pdf_image *image)
{
	QPDF_BOOL stencil = QPDF_FALSE;
	bool direct;
	unsigned n = components(q, qpdf_oh_get_key(q, dict, "/ColorSpace"), &direct);
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

bool stream_read_jpeg(qpdf_data q, const struct pdf_image *image, struct raster *out)
{
	static const char *const unusual[] = { "/Decode", "/DecodeParms", "/Mask", "/SMask", "/OC",
					       "/SMaskInData", "/ImageMask" };
	qpdf_oh dict = qpdf_oh_get_dict(q, image->object);
	unsigned char *data = NULL;
	bool direct, ok = false;
	unsigned n = components(q, qpdf_oh_get_key(q, dict, "/ColorSpace"), &direct);
	size_t len = 0;

	if (!direct || !is_filter(q, qpdf_oh_get_key(q, dict, "/Filter"), "/DCTDecode", "/DCT"))
		return false;
	for (size_t i = 0; i < ARRAY_SIZE(unusual); i++) {
		if (qpdf_oh_has_key(q, dict, unusual[i]))
			return false;
	}
	out->width = image->width;
	out->height = image->height;
	out->channels = n;
	if (!(qpdf_oh_get_stream_data(q, image->object, qpdf_dl_none, NULL, &data, &len) &
	      QPDF_ERRORS))
		ok = pdf_jpeg_read(data, len, out);
	free(data);
	return ok;
}
