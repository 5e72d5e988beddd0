/* SPDX-License-Identifier: MIT
 *
 * pdf_jpeg: the JPEG data of a PDF image, through libjpeg-turbo.
 *
 * A colour scan almost always is a JPEG with an ICC profile, and poppler takes every pixel through
 * that profile: 350 ms for a page of A4 at 300 dpi, a quarter of what reading it takes.  A page
 * that is nothing but such an image is therefore decoded here, in 40 ms, without the profile,
 * which no recogniser misses.
 * Invariant: whatever is unusual (another size, another number of components, a single warning)
 * is left to poppler and to the judgement of pdf_trouble.c and pdf_stream.c.
 */
#include "pdf_parts.h"

#include <jpeglib.h>
#include <setjmp.h>

struct jpeg_reader {
	struct jpeg_decompress_struct jpeg;
	struct jpeg_error_mgr errors;
	jmp_buf failed;
	bool warned;
};

static void jpeg_failed(j_common_ptr jpeg)
{
	struct jpeg_reader *r = jpeg->client_data;

	longjmp(r->failed, 1);
}

static void jpeg_message(j_common_ptr jpeg, int level)
{
	struct jpeg_reader *r = jpeg->client_data;

	if (level < 0)
		r->warned = true;
}

static void reader_init(struct jpeg_reader *r)
{
	*r = (struct jpeg_reader){ .warned = false };
	r->jpeg.err = jpeg_std_error(&r->errors);
	r->errors.error_exit = jpeg_failed;
	r->errors.emit_message = jpeg_message;
	r->jpeg.client_data = r;
}

double pdf_jpeg_share(const unsigned char *data, size_t len)
{
	struct jpeg_reader r;
	volatile double share = 0;
	JSAMPROW row;

	reader_init(&r);
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
			if (r.warned && r.jpeg.output_scanline + 2 < r.jpeg.output_height)
				break;
			share = (double)r.jpeg.output_scanline / r.jpeg.output_height;
		}
	}
	jpeg_destroy_decompress(&r.jpeg);
	return share;
}

bool pdf_jpeg_read(const unsigned char *data, size_t len, struct raster *out)
{
	size_t stride = (size_t)out->width * out->channels;
	struct jpeg_reader r;
	volatile bool ok = false;

	reader_init(&r);
	if (setjmp(r.failed) == 0) {
		jpeg_create_decompress(&r.jpeg);
		jpeg_mem_src(&r.jpeg, data, len);
		jpeg_read_header(&r.jpeg, TRUE);
		if (r.jpeg.image_width == out->width && r.jpeg.image_height == out->height &&
		    (unsigned)r.jpeg.num_components == out->channels) {
			r.jpeg.out_color_space = out->channels == 1 ? JCS_GRAYSCALE : JCS_RGB;
			jpeg_start_decompress(&r.jpeg);
			while (r.jpeg.output_scanline < r.jpeg.output_height && !r.warned) {
				JSAMPROW row = out->pixels + r.jpeg.output_scanline * stride;

				jpeg_read_scanlines(&r.jpeg, &row, 1);
			}
			ok = !r.warned;
		}
	}
	jpeg_destroy_decompress(&r.jpeg);
	return ok;
}
