/* SPDX-License-Identifier: MIT
 *
 * jpeg: JPEG through libjpeg-turbo.
 *
 * libjpeg paints grey over what it cannot read and calls that a warning.  Here a warning that means
 * lost content ends the page.  A missing end marker alone loses nothing in a sequential file (the
 * Huffman decoder complains when it really lacks bits), but in a file of several scans it may hide
 * that whole scans are missing, and an arithmetic decoder cannot tell, so there it is an error.
 *
 * Scans are counted: a progressive file of a few kilobytes can ask for hours of work.
 */
#include "image.h"

#include <jpeglib.h>

#include <jerror.h>
#include <setjmp.h>
#include <stdlib.h>
#include <string.h>

#define INPUT_BYTES  65536
#define SCANS_MAX    100 /* jpegtran writes 10, optimisers up to 20 or so */
#define EXIF_MARKER  (JPEG_APP0 + 1)
#define EXIF_PREFIX  "Exif\0" /* and one more NUL */
#define EXIF_SKIP    6

struct document {
	struct source source;
	struct limits limits;
	struct image im;
};

struct reading {
	struct jpeg_decompress_struct jpeg;
	struct jpeg_error_mgr errors;
	struct jpeg_source_mgr input;
	struct jpeg_progress_mgr progress;
	jmp_buf on_failure;
	struct source source;
	struct canvas canvas;
	uint8_t *row; /* CMYK */
	struct err *err;
	bool ended;      /* the file ended before the image did */
	bool extraneous; /* bytes between markers that belong to nothing */
	JOCTET bytes[INPUT_BYTES];
};

static void fail(struct reading *r, const char *reason, const char *text)
{
	err_set(r->err, RC_FAILED, reason, "JPEG: %s", text);
	longjmp(r->on_failure, 1);
}

static void on_error(j_common_ptr jpeg)
{
	struct reading *r = jpeg->client_data;
	char text[JMSG_LENGTH_MAX];

	jpeg->err->format_message(jpeg, text);
	switch (jpeg->err->msg_code) {
	case JERR_OUT_OF_MEMORY:
		fail(r, "limit:memory-mebibytes", "no memory for this image");
		break;
	case JERR_BAD_PRECISION:
	case JERR_SOF_UNSUPPORTED:
	case JERR_CONVERSION_NOTIMPL:
		fail(r, "unsupported", text);
		break;
	default:
		fail(r, "damaged", text);
	}
}

static void on_message(j_common_ptr jpeg, int level)
{
	struct reading *r = jpeg->client_data;
	char text[JMSG_LENGTH_MAX];

	if (level >= 0)
		return;
	switch (jpeg->err->msg_code) {
	case JWRN_EXTRANEOUS_DATA:
		r->extraneous = true;
		break;
	case JWRN_JFIF_MAJOR:
	case JWRN_ADOBE_XFORM:
	case JWRN_TOO_MUCH_DATA:
#ifdef JWRN_BOGUS_ICC
	case JWRN_BOGUS_ICC:
#endif
		break;
	default:
		jpeg->err->format_message(jpeg, text);
		fail(r, "damaged", text);
	}
}

static void on_progress(j_common_ptr jpeg)
{
	struct reading *r = jpeg->client_data;

	if (r->jpeg.input_scan_number > SCANS_MAX)
		fail(r, "limit:jpeg-scans", "more than 100 scans");
}

static void input_nothing(j_decompress_ptr jpeg)
{
	(void)jpeg;
}

static boolean input_fill(j_decompress_ptr jpeg)
{
	struct reading *r = jpeg->client_data;
	size_t n = source_read(&r->source, r->bytes, sizeof(r->bytes));

	if (r->source.error)
		fail(r, "unreadable", strerror(r->source.error));
	if (!n) {
		r->ended = true;
		r->bytes[n++] = 0xff;
		r->bytes[n++] = JPEG_EOI;
	}
	r->input.next_input_byte = r->bytes;
	r->input.bytes_in_buffer = n;
	return TRUE;
}

static void input_skip(j_decompress_ptr jpeg, long n)
{
	struct reading *r = jpeg->client_data;

	if (n <= 0)
		return;
	if ((size_t)n <= r->input.bytes_in_buffer) {
		r->input.next_input_byte += n;
		r->input.bytes_in_buffer -= (size_t)n;
		return;
	}
	/* Past the end of the file is found out by the next fill. */
	r->source.at += (size_t)n - r->input.bytes_in_buffer;
	r->input.bytes_in_buffer = 0;
}

static void find_exif(struct reading *r, struct image *im)
{
	for (jpeg_saved_marker_ptr m = r->jpeg.marker_list; m; m = m->next)
		if (m->marker == EXIF_MARKER && m->data_length > EXIF_SKIP &&
		    !memcmp(m->data, EXIF_PREFIX, EXIF_SKIP))
			exif_read(m->data + EXIF_SKIP, m->data_length - EXIF_SKIP, im);
}

/* May jump. */
static void read_header(struct reading *r, struct image *im)
{
	struct jpeg_decompress_struct *jpeg = &r->jpeg;

	jpeg_create_decompress(jpeg);
	jpeg->src = &r->input;
	jpeg->progress = &r->progress;
	jpeg_save_markers(jpeg, EXIF_MARKER, 0xffff);
	jpeg_read_header(jpeg, TRUE);
	*im = (struct image){ .width = jpeg->image_width, .height = jpeg->image_height,
			      .channels = jpeg->num_components == 1 ? 1 : 3, .orientation = 1 };
	if (jpeg->saw_JFIF_marker && jpeg->density_unit) {
		double inch = jpeg->density_unit == 2 ? 2.54 : 1;

		im->xdpi = jpeg->X_density * inch;
		im->ydpi = jpeg->Y_density * inch;
	}
	find_exif(r, im);
	if (jpeg->num_components != 1 && jpeg->num_components != 3 && jpeg->num_components != 4)
		fail(r, "unsupported", "neither grey, colour nor CMYK");
}

static struct reading *reading_new(const struct document *d, struct err *err)
{
	struct reading *r = xcalloc(1, sizeof(*r));

	r->source = (struct source){ .fd = d->source.fd, .size = d->source.size };
	r->err = err;
	r->jpeg.err = jpeg_std_error(&r->errors);
	r->jpeg.client_data = r;
	r->errors.error_exit = on_error;
	r->errors.emit_message = on_message;
	r->progress.progress_monitor = on_progress;
	r->input.init_source = input_nothing;
	r->input.fill_input_buffer = input_fill;
	r->input.skip_input_data = input_skip;
	r->input.resync_to_restart = jpeg_resync_to_restart;
	r->input.term_source = input_nothing;
	return r;
}

static void reading_free(struct reading *r)
{
	jpeg_destroy_decompress(&r->jpeg);
	canvas_release(&r->canvas);
	free(r->row);
	free(r);
}

static enum rc jpeg_open(struct document **doc, int fd, const struct pipeline *p, uint32_t *pages,
			 struct err *err)
{
	struct document *d = xcalloc(1, sizeof(*d));
	enum rc rc = source_init(&d->source, fd, err);
	struct reading *r;

	d->limits = p->limits;
	if (!rc) {
		r = reading_new(d, err);
		if (setjmp(r->on_failure))
			rc = RC_FAILED;
		else
			read_header(r, &d->im);
		reading_free(r);
	}
	if (rc) {
		free(d);
		return rc;
	}
	*doc = d;
	*pages = 1;
	return RC_OK;
}

static enum rc jpeg_measure(struct document *d, uint32_t index, struct page *page,
			    struct err *err)
{
	(void)index;
	return image_measure(&d->im, &d->limits, page, err);
}

/* A file whose scans never brought the base of a component is no picture, whatever its end says. */
static bool complete(const struct jpeg_decompress_struct *jpeg)
{
	if (!jpeg->coef_bits)
		return true; /* not progressive */
	for (int i = 0; i < jpeg->num_components; i++)
		if (jpeg->coef_bits[i][0] != 0)
			return false;
	return true;
}

static void read_rows(struct reading *r)
{
	struct jpeg_decompress_struct *jpeg = &r->jpeg;
	/* Adobe's programs store CMYK inverted, and say who they are. */
	uint8_t invert = jpeg->saw_Adobe_marker ? 0xff : 0;

	for (uint32_t y = 0; y < r->canvas.im.height; y++) {
		uint8_t *to = r->row ? r->row : canvas_row(&r->canvas);

		jpeg_read_scanlines(jpeg, &to, 1);
		if (r->row) {
			for (size_t i = 0; invert && i < 4 * (size_t)r->canvas.im.width; i++)
				r->row[i] ^= invert;
			row_cmyk_to_rgb(r->row, canvas_row(&r->canvas), r->canvas.im.width);
		}
		canvas_commit(&r->canvas);
	}
}

/* May jump. */
static enum rc read_image(struct reading *r, struct document *d, struct page *page,
			  struct raster *raster)
{
	struct jpeg_decompress_struct *jpeg = &r->jpeg;
	bool scans;
	struct image im;
	enum rc rc;

	read_header(r, &im);
	if (!image_same(&im, &d->im))
		return err_set(r->err, RC_FAILED, "damaged", "the file changed while it was read");
	rc = canvas_init(&r->canvas, &d->im, &d->limits, raster, r->err);
	if (rc)
		return rc;
	jpeg->out_color_space = jpeg->num_components == 1 ? JCS_GRAYSCALE :
				jpeg->num_components == 3 ? JCS_RGB : JCS_CMYK;
	if (jpeg->num_components == 4 && !(r->row = image_alloc(im.width, 4, 1, r->err)))
		return RC_FAILED;
	scans = jpeg_has_multiple_scans(jpeg);
	jpeg_start_decompress(jpeg);
	if (!complete(jpeg))
		return err_set(r->err, RC_FAILED, "damaged", "JPEG: the file lacks scans");
	read_rows(r);
	jpeg_finish_decompress(jpeg);
	if (r->ended && (scans || jpeg->arith_code))
		return err_set(r->err, RC_FAILED, "damaged", "JPEG: the file ends too early");
	if (r->ended)
		page_warn(page, "JPEG: no end marker");
	if (r->extraneous)
		page_warn(page, "JPEG: bytes that belong to nothing");
	canvas_finish(&r->canvas, page);
	return RC_OK;
}

static enum rc jpeg_render(struct document *d, uint32_t index, struct page *page,
			   struct raster *raster, struct err *err)
{
	struct reading *r = reading_new(d, err);
	volatile enum rc rc = RC_FAILED;

	(void)index;
	if (!setjmp(r->on_failure))
		rc = read_image(r, d, page, raster);
	reading_free(r);
	return rc;
}

static void jpeg_close(struct document *d)
{
	free(d);
}

const struct decoder jpeg_decoder = { "jpeg", jpeg_open, jpeg_measure, jpeg_render, jpeg_close };
