/* SPDX-License-Identifier: MIT
 *
 * The PDF decoder, on documents written here byte by byte.
 */
#include "base/buf.h"
#include "decode/decode.h"

#include <fcntl.h>
#include <stdio.h>

#include <jpeglib.h>
#include <qpdf/qpdf-c.h>
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include <cmocka.h>

/* An image of 90 x 60 pixels that has no symmetry, on a page of the size it has at 200 dpi. */
#define IMAGE_W 90
#define IMAGE_H 60
#define PAGE_W  "32.4"
#define PAGE_H  "21.6"
#define SCAN    "q " PAGE_W " 0 0 " PAGE_H " 0 0 cm /I Do Q"
#define IMAGE   "/Type/XObject/Subtype/Image/Width 90/Height 60/ColorSpace/DeviceGray" \
		"/BitsPerComponent 8"

static uint8_t image_pixel(unsigned x, unsigned y)
{
	return (uint8_t)(x * 2 + y * 3 + (x == 5) * 60 + (x * y) % 7);
}

/* A PDF being written: objects in order, 1 = catalog, 2 = page tree. */
struct pdf {
	struct buf out;
	size_t offset[32];
	unsigned objects;
};

static void pdf_object(struct pdf *p, const char *format, ...)
{
	va_list ap;

	p->offset[p->objects++] = p->out.len;
	buf_addf(&p->out, "%u 0 obj\n", p->objects);
	va_start(ap, format);
	buf_vaddf(&p->out, format, ap);
	va_end(ap);
	buf_adds(&p->out, "\nendobj\n");
}

static void pdf_begin(struct pdf *p, const char *kids, unsigned count)
{
	memset(p, 0, sizeof(*p));
	buf_init(&p->out, 1 << 22);
	buf_adds(&p->out, "%PDF-1.6\n");
	pdf_object(p, "<</Type/Catalog/Pages 2 0 R>>");
	pdf_object(p, "<</Type/Pages/Count %u/Kids[%s]>>", count, kids);
}

static void pdf_stream(struct pdf *p, const char *dict, const void *data, size_t len)
{
	p->offset[p->objects++] = p->out.len;
	buf_addf(&p->out, "%u 0 obj\n<<%s/Length %zu>>stream\n", p->objects, dict, len);
	buf_add(&p->out, data, len);
	buf_adds(&p->out, "\nendstream\nendobj\n");
}

/* Finish; the document as a descriptor. */
static int pdf_end(struct pdf *p)
{
	size_t start = p->out.len;
	int fd = memfd_create("test.pdf", MFD_CLOEXEC);

	buf_addf(&p->out, "xref\n0 %u\n0000000000 65535 f \n", p->objects + 1);
	for (unsigned i = 0; i < p->objects; i++)
		buf_addf(&p->out, "%010zu 00000 n \n", p->offset[i]);
	buf_addf(&p->out, "trailer<</Size %u/Root 1 0 R>>\nstartxref\n%zu\n%%%%EOF\n",
		 p->objects + 1, start);
	assert_false(p->out.overflow);
	assert_true(fd >= 0);
	assert_int_equal(write(fd, p->out.data, p->out.len), p->out.len);
	buf_release(&p->out);
	return fd;
}

/* One page: its attributes, its content, an image of `rows` rows as object 5, a font as 6. */
static int one_page(const char *attributes, const char *content, unsigned rows)
{
	uint8_t pixels[IMAGE_W * IMAGE_H];
	struct pdf p;

	for (unsigned y = 0; y < IMAGE_H; y++) {
		for (unsigned x = 0; x < IMAGE_W; x++)
			pixels[y * IMAGE_W + x] = image_pixel(x, y);
	}
	pdf_begin(&p, "3 0 R", 1);
	pdf_object(&p, "<</Type/Page/Parent 2 0 R/Contents 4 0 R%s/Resources<<"
		       "/XObject<</I 5 0 R>>/Font<</F 6 0 R>>>>>>", attributes);
	pdf_stream(&p, "", content, strlen(content));
	pdf_stream(&p, IMAGE, pixels, (size_t)IMAGE_W * rows);
	pdf_object(&p, "<</Type/Font/Subtype/Type1/BaseFont/Helvetica"
		       "/Encoding/WinAnsiEncoding>>");
	return pdf_end(&p);
}

static struct pipeline settings(void)
{
	return (struct pipeline){ .dpi = 300,
				  .limits = { .document_pages = 100, .page_megapixels = 20,
					      .page_side_pixels = 10000,
					      .image_megapixels = 100 } };
}

struct opened {
	struct document *doc;
	struct page page;
	struct raster raster;
	struct err err;
	uint32_t pages;
	int fd;
};

static enum rc open_pdf(struct opened *o, int fd, const struct pipeline *p)
{
	memset(o, 0, sizeof(*o));
	o->fd = fd;
	return pdf_decoder.open(&o->doc, fd, p, &o->pages, &o->err);
}

static void forget(struct opened *o)
{
	page_release(&o->page);
	free(o->raster.pixels);
	memset(&o->page, 0, sizeof(o->page));
	memset(&o->raster, 0, sizeof(o->raster));
}

static void close_pdf(struct opened *o)
{
	forget(o);
	pdf_decoder.close(o->doc);
	close(o->fd);
}

static enum rc measure(struct opened *o, uint32_t index)
{
	forget(o);
	return pdf_decoder.measure(o->doc, index, &o->page, &o->err);
}

static enum rc render(struct opened *o, uint32_t index)
{
	size_t size;

	assert_int_equal(measure(o, index), RC_OK);
	size = (size_t)o->page.width * o->page.height * o->page.channels;
	o->raster.channels = o->page.channels;
	o->raster.pixels = xmalloc(size);
	memset(o->raster.pixels, 0x55, size);
	return pdf_decoder.render(o->doc, index, &o->page, &o->raster, &o->err);
}

static void assert_reason(const struct opened *o, enum rc rc, const char *reason)
{
	assert_int_equal(rc, RC_FAILED);
	assert_string_equal(o->err.reason, reason);
}

static void test_scan_is_not_resampled(void **state)
{
	static const char *const turns[] = { "0", "90", "180", "270", "-90" };
	struct pipeline p = settings();

	(void)state;
	for (unsigned t = 0; t < 5; t++) {
		unsigned turn = t % 5 == 4 ? 3 : t;
		char attributes[100];
		struct opened o;

		snprintf(attributes, sizeof(attributes), "/MediaBox[0 0 " PAGE_W " " PAGE_H
			 "]/Rotate %s", turns[t]);
		assert_int_equal(open_pdf(&o, one_page(attributes, SCAN, IMAGE_H), &p), RC_OK);
		assert_int_equal(o.pages, 1);
		assert_int_equal(render(&o, 0), RC_OK);
		assert_true(o.page.native && o.page.has_content);
		assert_true(o.page.dpi > 199.9 && o.page.dpi < 200.1);
		assert_int_equal(o.raster.channels, 1);
		assert_int_equal(o.raster.width, turn % 2 ? IMAGE_H : IMAGE_W);
		assert_int_equal(o.raster.height, turn % 2 ? IMAGE_W : IMAGE_H);
		for (unsigned y = 0; y < o.raster.height; y++) {
			for (unsigned x = 0; x < o.raster.width; x++) {
				unsigned sx = turn == 0 ? x :
					      turn == 1 ? y :
					      turn == 2 ? IMAGE_W - 1 - x :
							  IMAGE_W - 1 - y;
				unsigned sy = turn == 0 ? y :
					      turn == 1 ? IMAGE_H - 1 - x :
					      turn == 2 ? IMAGE_H - 1 - y :
							  x;

				assert_int_equal(o.raster.pixels[y * o.raster.width + x],
						 image_pixel(sx, sy));
			}
		}
		close_pdf(&o);
	}
}

/* Nor is a coarse one, whatever is to read it. */
static void test_coarse_scan_is_not_resampled(void **state)
{
	static const double dpi[] = { 2, 20, 72, 100, 149 };
	struct pipeline p = settings();

	(void)state;
	for (size_t i = 0; i < sizeof(dpi) / sizeof(*dpi); i++) {
		double width = IMAGE_W * 72 / dpi[i], height = IMAGE_H * 72 / dpi[i];
		char attributes[100], content[100];
		struct opened o;

		snprintf(attributes, sizeof(attributes), "/MediaBox[0 0 %.4f %.4f]", width, height);
		snprintf(content, sizeof(content), "q %.4f 0 0 %.4f 0 0 cm /I Do Q", width, height);
		assert_int_equal(open_pdf(&o, one_page(attributes, content, IMAGE_H), &p), RC_OK);
		assert_int_equal(render(&o, 0), RC_OK);
		assert_true(o.page.native);
		assert_true(fabs(o.page.dpi - dpi[i]) < 0.1);
		assert_int_equal(o.raster.width, IMAGE_W);
		assert_int_equal(o.raster.height, IMAGE_H);
		for (unsigned y = 0; y < IMAGE_H; y++) {
			for (unsigned x = 0; x < IMAGE_W; x++)
				assert_int_equal(o.raster.pixels[y * IMAGE_W + x], image_pixel(x, y));
		}
		close_pdf(&o);
	}
}

static void test_crop_box_cuts_a_scan(void **state)
{
	struct pipeline p = settings();
	struct opened o;

	(void)state;
	/* 3.6 points = 10 pixels on each side, and a media box that does not start at 0 */
	assert_int_equal(open_pdf(&o,
				  one_page("/MediaBox[-100 -50 32.4 21.6]"
					   "/CropBox[3.6 3.6 28.8 18]",
					   SCAN, IMAGE_H),
				  &p),
			 RC_OK);
	assert_int_equal(render(&o, 0), RC_OK);
	assert_true(o.page.native);
	assert_int_equal(o.raster.width, IMAGE_W - 20);
	assert_int_equal(o.raster.height, IMAGE_H - 20);
	for (unsigned y = 0; y < o.raster.height; y++) {
		for (unsigned x = 0; x < o.raster.width; x++)
			assert_int_equal(o.raster.pixels[y * o.raster.width + x],
					 image_pixel(x + 10, y + 10));
	}
	close_pdf(&o);
}

static void test_oblong_pixels_become_square(void **state)
{
	struct pipeline p = settings();
	struct opened o;

	(void)state;
	/* twice as high: 200 x 100 dpi */
	assert_int_equal(open_pdf(&o,
				  one_page("/MediaBox[0 0 32.4 43.2]",
					   "q 32.4 0 0 43.2 0 0 cm /I Do Q", IMAGE_H),
				  &p),
			 RC_OK);
	assert_int_equal(render(&o, 0), RC_OK);
	assert_false(o.page.native);
	assert_int_equal(o.raster.width, IMAGE_W);
	assert_int_equal(o.raster.height, 2 * IMAGE_H);
	close_pdf(&o);
}

static void test_other_pages_are_rendered_at_dpi(void **state)
{
	static const struct {
		const char *attributes, *content;
		unsigned width, height;
	} cases[] = {
		/* born digital */
		{ "/MediaBox[0 0 72 144]", "10 10 20 20 re f", 300, 600 },
		/* a frame around an image of 20 dpi */
		{ "/MediaBox[0 0 324 216]", "q 324 0 0 216 0 0 cm /I Do Q 9 9 306 198 re S", 1350,
		  900 },
		/* oblong pixels, 20 x 10 dpi */
		{ "/MediaBox[0 0 324 432]", "q 324 0 0 432 0 0 cm /I Do Q", 1350, 1800 },
		/* two images */
		{ "/MediaBox[0 0 " PAGE_W " " PAGE_H "]", SCAN " q 9 0 0 9 0 0 cm /I Do Q", 135, 90 },
		/* an image that is tilted */
		{ "/MediaBox[0 0 " PAGE_W " " PAGE_H "]", "q 32.4 1 -1 21.6 0 0 cm /I Do Q", 135, 90 },
		/* points of a tenth of an inch */
		{ "/MediaBox[0 0 10 20]/UserUnit 7.2", "1 1 2 2 re f", 300, 600 },
	};
	struct pipeline p = settings();
	struct opened o;

	(void)state;
	for (size_t i = 0; i < sizeof(cases) / sizeof(*cases); i++) {
		int fd = one_page(cases[i].attributes, cases[i].content, IMAGE_H);

		assert_int_equal(open_pdf(&o, fd, &p), RC_OK);
		assert_int_equal(render(&o, 0), RC_OK);
		assert_false(o.page.native);
		assert_true(o.page.has_content);
		assert_true(o.page.dpi == 300);
		assert_int_equal(o.raster.width, cases[i].width);
		assert_int_equal(o.raster.height, cases[i].height);
		close_pdf(&o);
	}
}

static void test_colour_survives(void **state)
{
	struct pipeline p = settings();
	struct opened o;

	(void)state;
	assert_int_equal(open_pdf(&o, one_page("/MediaBox[0 0 72 72]", "1 0.2 0 rg 0 0 72 72 re f",
					       IMAGE_H), &p),
			 RC_OK);
	assert_int_equal(render(&o, 0), RC_OK);
	assert_int_equal(o.raster.channels, 3);
	assert_int_equal(o.raster.pixels[0], 255);
	assert_int_equal(o.raster.pixels[1], 51);
	assert_int_equal(o.raster.pixels[2], 0);
	assert_int_equal(o.raster.pixels[300 * 300 * 3 - 3], 255);
	close_pdf(&o);
}

static void test_stamp_on_a_scan_shows(void **state)
{
	struct pipeline p = settings();
	struct opened o;

	(void)state;
	assert_int_equal(open_pdf(&o, one_page("/MediaBox[0 0 " PAGE_W " " PAGE_H "]",
					       SCAN " 1 0 0 rg 0 0 3.6 3.6 re f", IMAGE_H), &p),
			 RC_OK);
	assert_int_equal(render(&o, 0), RC_OK);
	assert_true(o.page.native);
	assert_int_equal(o.raster.channels, 3);
	assert_int_equal(o.raster.pixels[((IMAGE_H - 1) * IMAGE_W) * 3], 255);
	assert_int_equal(o.raster.pixels[((IMAGE_H - 1) * IMAGE_W) * 3 + 1], 0);
	assert_int_equal(o.raster.pixels[0], image_pixel(0, 0));
	close_pdf(&o);
}

static void test_dpi_is_lowered(void **state)
{
	struct pipeline p = settings();
	struct opened o;

	(void)state;
	p.limits.page_megapixels = 1;
	assert_int_equal(open_pdf(&o, one_page("/MediaBox[0 0 720 720]", "9 9 9 9 re f", IMAGE_H),
				  &p),
			 RC_OK);
	assert_int_equal(render(&o, 0), RC_OK);
	assert_int_equal(o.raster.width, 1000);
	assert_int_equal(o.raster.height, 1000);
	assert_true(o.page.dpi > 99.9 && o.page.dpi < 100.1);
	close_pdf(&o);
	assert_int_equal(open_pdf(&o, one_page("/MediaBox[0 0 2000000 2000000]", "9 9 9 9 re f",
					       IMAGE_H), &p),
			 RC_OK);
	/* Under 10 dpi there is nothing to read. */
	assert_reason(&o, measure(&o, 0), "limit:page-side-pixels");
	close_pdf(&o);
}

static void test_huge_image_is_refused(void **state)
{
	static const char huge[] = "/Type/XObject/Subtype/Image/Width 60000/Height 60000"
				   "/ColorSpace/DeviceGray/BitsPerComponent 8";
	static const char *const forms[] = { "/I Do", "q 1 0 0 1 0 0 cm /X Do Q",
					     "BI /W 60000 /H 60000 /BPC 1 /CS /G ID x EI " };
	struct pipeline p = settings();

	(void)state;
	for (int i = 0; i < 3; i++) {
		struct opened o;
		struct pdf f;

		pdf_begin(&f, "3 0 R", 1);
		pdf_object(&f, "<</Type/Page/Parent 2 0 R/MediaBox[0 0 72 72]/Contents 4 0 R"
			       "/Resources<</XObject<</I 5 0 R/X 6 0 R>>>>>>");
		pdf_stream(&f, "", forms[i], strlen(forms[i]));
		pdf_stream(&f, huge, "x", 1);
		pdf_stream(&f, "/Type/XObject/Subtype/Form/BBox[0 0 9 9]"
			       "/Resources<</XObject<</I 5 0 R>>>>", "/I Do", 5);
		assert_int_equal(open_pdf(&o, pdf_end(&f), &p), RC_OK);
		assert_reason(&o, measure(&o, 0), "limit:image-megapixels");
		close_pdf(&o);
	}
}

/* 12 levels of forms that draw the next one ten times. */
static void test_endless_forms_are_looked_at_once(void **state)
{
	static const char ten[] = "/N Do /N Do /N Do /N Do /N Do /N Do /N Do /N Do /N Do /N Do";
	struct pipeline p = settings();
	struct opened o;
	struct pdf f;

	(void)state;
	pdf_begin(&f, "3 0 R", 1);
	pdf_object(&f, "<</Type/Page/Parent 2 0 R/MediaBox[0 0 72 72]/Contents 4 0 R"
		       "/Resources<</XObject<</N 5 0 R>>>>>>");
	pdf_stream(&f, "", ten, strlen(ten));
	for (int i = 0; i < 20; i++) {
		char dict[200];

		snprintf(dict, sizeof(dict), "/Type/XObject/Subtype/Form/BBox[0 0 9 9]"
			 "/Resources<</XObject<</N %d 0 R>>>>", 6 + i % 19);
		pdf_stream(&f, dict, ten, strlen(ten));
	}
	assert_int_equal(open_pdf(&o, pdf_end(&f), &p), RC_OK);
	assert_int_equal(measure(&o, 0), RC_OK);
	assert_true(o.page.has_content);
	assert_false(o.page.native);
	close_pdf(&o);
}

static void test_broken_image_fails_its_page_only(void **state)
{
	struct pipeline p = settings();
	struct opened o;
	struct pdf f;
	uint8_t pixels[IMAGE_W * IMAGE_H] = { 0 };

	(void)state;
	pdf_begin(&f, "3 0 R 4 0 R 5 0 R", 3);
	for (int i = 0; i < 3; i++)
		pdf_object(&f, "<</Type/Page/Parent 2 0 R/MediaBox[0 0 " PAGE_W " " PAGE_H "]"
			       "/Contents 6 0 R/Resources<</XObject<</I %d 0 R>>>>>>", 7 + i);
	pdf_stream(&f, "", SCAN, strlen(SCAN));
	pdf_stream(&f, IMAGE, pixels, sizeof(pixels) / 2);           /* data ends early */
	pdf_stream(&f, IMAGE "/Filter/FlateDecode", "not zlib", 8); /* data is no data */
	pdf_stream(&f, IMAGE, pixels, sizeof(pixels));
	assert_int_equal(open_pdf(&o, pdf_end(&f), &p), RC_OK);
	assert_int_equal(o.pages, 3);
	assert_reason(&o, render(&o, 0), "damaged");
	assert_reason(&o, render(&o, 1), "damaged");
	assert_true(json_array_size(o.page.warnings) > 0);
	assert_int_equal(render(&o, 2), RC_OK);
	assert_null(o.page.warnings);
	close_pdf(&o);
}

#define JPEG_IMAGE "/Type/XObject/Subtype/Image/Width 90/Height 60/BitsPerComponent 8" \
		   "/Filter/DCTDecode/ColorSpace"

/* The image as JPEG of 1 or 3 components. Caller frees. */
static unsigned char *jpeg_bytes(int components, unsigned long *len)
{
	struct jpeg_compress_struct jpeg;
	struct jpeg_error_mgr errors;
	unsigned char *bytes = NULL, line[IMAGE_W * 3];
	JSAMPROW row = line;

	jpeg.err = jpeg_std_error(&errors);
	jpeg_create_compress(&jpeg);
	jpeg_mem_dest(&jpeg, &bytes, len);
	jpeg.image_width = IMAGE_W;
	jpeg.image_height = IMAGE_H;
	jpeg.input_components = components;
	jpeg.in_color_space = components == 1 ? JCS_GRAYSCALE : JCS_RGB;
	jpeg_set_defaults(&jpeg);
	jpeg_start_compress(&jpeg, TRUE);
	for (unsigned y = 0; y < IMAGE_H; y++) {
		for (unsigned i = 0; i < IMAGE_W * (unsigned)components; i++)
			line[i] = image_pixel(i / (unsigned)components, y);
		if (components == 3)
			memset(line + 30, 255, 30); /* not grey: 255 0 0, 255 0 0 ... */
		for (unsigned x = 10; components == 3 && x < 20; x++)
			line[3 * x + 1] = line[3 * x + 2] = 0;
		jpeg_write_scanlines(&jpeg, &row, 1);
	}
	jpeg_finish_compress(&jpeg);
	jpeg_destroy_compress(&jpeg);
	return bytes;
}

static int jpeg_page(const char *attributes, const char *content, int components, size_t cut)
{
	const char *dict = components == 1 ? JPEG_IMAGE "/DeviceGray" : JPEG_IMAGE "/DeviceRGB";
	unsigned long len = 0;
	unsigned char *bytes = jpeg_bytes(components, &len);
	struct pdf f;

	pdf_begin(&f, "3 0 R", 1);
	pdf_object(&f, "<</Type/Page/Parent 2 0 R/Contents 4 0 R%s/Resources<<"
		       "/XObject<</I 5 0 R>>>>>>", attributes);
	pdf_stream(&f, "", content, strlen(content));
	pdf_stream(&f, dict, bytes, len - cut);
	free(bytes);
	return pdf_end(&f);
}

/* A page that is nothing but a JPEG is read without poppler; a clip makes poppler draw the same.
 * Every way to turn and mirror it must give the same pixels. */
static void test_jpeg_page_is_as_poppler_draws_it(void **state)
{
	static const struct {
		const char *box, *place;
	} ways[] = {
		{ "32.4 21.6", "32.4 0 0 21.6 0 0" },    { "32.4 21.6", "-32.4 0 0 21.6 32.4 0" },
		{ "32.4 21.6", "32.4 0 0 -21.6 0 21.6" }, { "32.4 21.6", "-32.4 0 0 -21.6 32.4 21.6" },
		{ "21.6 32.4", "0 32.4 21.6 0 0 0" },    { "21.6 32.4", "0 32.4 -21.6 0 21.6 0" },
		{ "21.6 32.4", "0 -32.4 21.6 0 0 32.4" }, { "21.6 32.4", "0 -32.4 -21.6 0 21.6 32.4" },
	};
	struct pipeline p = settings();

	(void)state;
	for (unsigned i = 0; i < 32 * 2; i++) {
		int components = i % 2 ? 3 : 1;
		char attributes[100], direct[100], drawn[150];
		struct opened a, b;

		snprintf(attributes, sizeof(attributes), "/MediaBox[0 0 %s]/Rotate %u",
			 ways[i / 2 % 8].box, i / 16 * 90);
		snprintf(direct, sizeof(direct), "q %s cm /I Do Q", ways[i / 2 % 8].place);
		snprintf(drawn, sizeof(drawn), "0 0 99 99 re W n q %s cm /I Do Q",
			 ways[i / 2 % 8].place);
		assert_int_equal(open_pdf(&a, jpeg_page(attributes, direct, components, 0), &p), 0);
		assert_int_equal(open_pdf(&b, jpeg_page(attributes, drawn, components, 0), &p), 0);
		assert_int_equal(render(&a, 0), RC_OK);
		assert_int_equal(render(&b, 0), RC_OK);
		assert_true(a.page.native && b.page.native);
		assert_int_equal(a.raster.channels, components);
		assert_int_equal(b.raster.channels, components);
		assert_int_equal(a.raster.width, b.raster.width);
		assert_int_equal(a.raster.height, b.raster.height);
		assert_memory_equal(a.raster.pixels, b.raster.pixels,
				    (size_t)IMAGE_W * IMAGE_H * (size_t)components);
		close_pdf(&a);
		close_pdf(&b);
	}
}

static void test_jpeg_that_ends_early(void **state)
{
	struct pipeline p = settings();
	struct opened o;

	(void)state;
	/* without its end marker it is whole */
	assert_int_equal(open_pdf(&o, jpeg_page("/MediaBox[0 0 32.4 21.6]", SCAN, 1, 2), &p), RC_OK);
	assert_int_equal(render(&o, 0), RC_OK);
	close_pdf(&o);
	assert_int_equal(open_pdf(&o, jpeg_page("/MediaBox[0 0 32.4 21.6]", SCAN, 1, 1000), &p),
			 RC_OK);
	assert_reason(&o, render(&o, 0), "damaged");
	close_pdf(&o);
}

static void test_unknown_object_is_a_warning(void **state)
{
	struct pipeline p = settings();
	struct opened o;

	(void)state;
	assert_int_equal(open_pdf(&o, one_page("/MediaBox[0 0 72 72]", "/Nope Do 1 1 9 9 re f",
					       IMAGE_H), &p),
			 RC_OK);
	assert_int_equal(render(&o, 0), RC_OK);
	assert_int_equal(json_array_size(o.page.warnings), 1);
	close_pdf(&o);
}

static void test_blank_page_has_no_content(void **state)
{
	struct pipeline p = settings();
	struct opened o;

	(void)state;
	assert_int_equal(open_pdf(&o, one_page("/MediaBox[0 0 72 72]", "q Q", IMAGE_H), &p), RC_OK);
	assert_int_equal(render(&o, 0), RC_OK);
	assert_false(o.page.has_content);
	assert_int_equal(o.raster.channels, 1);
	assert_int_equal(o.raster.pixels[300 * 300 - 1], 255);
	close_pdf(&o);
}

static void test_documents_that_do_not_open(void **state)
{
	struct pipeline p = settings();
	struct opened o;
	struct pdf f;
	int fd = memfd_create("junk", MFD_CLOEXEC);

	(void)state;
	assert_int_equal(write(fd, "%PDF-1.4\njunk", 13), 13);
	assert_reason(&o, open_pdf(&o, fd, &p), "damaged");
	close_pdf(&o);

	pdf_begin(&f, "", 0);
	assert_reason(&o, open_pdf(&o, pdf_end(&f), &p), "no-pages");
	close_pdf(&o);

	pdf_begin(&f, "2 0 R", 1); /* the page tree holds itself */
	fd = pdf_end(&f);
	if (open_pdf(&o, fd, &p) == RC_OK)
		assert_reason(&o, measure(&o, 0), "damaged");
	else
		assert_true(!strcmp(o.err.reason, "no-pages") || !strcmp(o.err.reason, "damaged"));
	close_pdf(&o);

	p.limits.document_pages = 0;
	assert_reason(&o, open_pdf(&o, one_page("/MediaBox[0 0 9 9]", "", 1), &p),
		      "limit:document-pages");
	close_pdf(&o);
}

/* The document again, locked with a password, by qpdf. */
static int locked(int fd, const char *password)
{
	off_t size = lseek(fd, 0, SEEK_END);
	void *bytes = mmap(NULL, (size_t)size, PROT_READ, MAP_SHARED, fd, 0);
	qpdf_data q = qpdf_init();
	int out = memfd_create("locked.pdf", MFD_CLOEXEC);

	qpdf_set_suppress_warnings(q, QPDF_TRUE);
	assert_int_equal(qpdf_read_memory(q, "test", bytes, (size_t)size, NULL), QPDF_SUCCESS);
	assert_int_equal(qpdf_init_write_memory(q), QPDF_SUCCESS);
	qpdf_set_r6_encryption_parameters2(q, password, "owner", 1, 1, 1, 1, 1, 1, qpdf_r3p_full, 1);
	assert_int_equal(qpdf_write(q), QPDF_SUCCESS);
	assert_int_equal(write(out, qpdf_get_buffer(q), qpdf_get_buffer_length(q)),
			 qpdf_get_buffer_length(q));
	qpdf_cleanup(&q);
	munmap(bytes, (size_t)size);
	close(fd);
	return out;
}

static void test_passwords(void **state)
{
	char wrong[] = "wrong", right[] = "right";
	char *passwords[] = { wrong, right };
	struct pipeline p = settings();
	struct opened o;
	int fd = locked(one_page("/MediaBox[0 0 " PAGE_W " " PAGE_H "]", SCAN, IMAGE_H), right);

	(void)state;
	assert_reason(&o, open_pdf(&o, fd, &p), "encrypted");
	p.passwords = passwords;
	p.n_passwords = 1;
	assert_reason(&o, open_pdf(&o, fd, &p), "encrypted");
	p.n_passwords = 2;
	assert_int_equal(open_pdf(&o, fd, &p), RC_OK);
	assert_int_equal(render(&o, 0), RC_OK);
	assert_true(o.page.native); /* qpdf opened it as well */
	close_pdf(&o);

	p.n_passwords = 0;
	fd = locked(one_page("/MediaBox[0 0 " PAGE_W " " PAGE_H "]", SCAN, IMAGE_H), "");
	assert_int_equal(open_pdf(&o, fd, &p), RC_OK);
	close_pdf(&o);
}

#define SENTENCE "The quick brown fox jumps over the lazy dog and runs away from the house"

static const char *decision(const struct opened *o)
{
	return json_string_value(json_object_get(o->page.evidence, "decision"));
}

static void test_text_layer_is_taken(void **state)
{
	struct pipeline p = settings();
	struct opened o;
	json_t *line, *word, *box;

	(void)state;
	p.text_layer = TEXT_LAYER_PREFER;
	assert_int_equal(open_pdf(&o, one_page("/MediaBox[0 0 612 792]",
					       "BT /F 12 Tf 72 720 Td (" SENTENCE ") Tj "
					       "0 -20 Td (" SENTENCE ") Tj ET", IMAGE_H), &p),
			 RC_OK);
	assert_int_equal(measure(&o, 0), RC_OK);
	assert_string_equal(decision(&o), "taken");
	assert_non_null(o.page.result);
	assert_int_equal(o.page.width, 2550);
	assert_non_null(strstr(json_string_value(json_object_get(o.page.result, "text")), SENTENCE));
	assert_int_equal(json_array_size(json_object_get(o.page.result, "lines")), 2);
	line = json_array_get(json_object_get(o.page.result, "lines"), 0);
	assert_int_equal(json_array_size(json_object_get(line, "words")), 15);
	word = json_array_get(json_object_get(line, "words"), 1);
	assert_string_equal(json_string_value(json_object_get(word, "text")), "quick");
	box = json_object_get(word, "box");
	/* "The " is 24.0 points wide in Helvetica 12: (72 + 24.0) * 300 / 72 = 400 */
	assert_in_range(json_integer_value(json_array_get(box, 0)), 396, 404);
	assert_in_range(json_integer_value(json_array_get(box, 1)), 240, 270);
	assert_in_range(json_integer_value(json_array_get(box, 3)), 300, 320);
	close_pdf(&o);
}

static void test_text_layer_is_refused(void **state)
{
	static const struct {
		const char *content, *decision;
	} cases[] = {
		{ "BT /F 9 Tf 9 9 Td (Page 17) Tj ET", "no-text" },
		{ "BT 3 Tr /F 9 Tf 9 700 Td (" SENTENCE ") Tj ET", "hidden-text" },
		{ "BT /F 9 Tf 9 700 Td (" SENTENCE ") Tj ET q 612 0 0 792 0 0 cm /I Do Q",
		  "hidden-text" },
		{ "q 612 0 0 792 0 0 cm /I Do Q BT /F 9 Tf 9 700 Td (" SENTENCE ") Tj ET", "images" },
		/* shifted by one letter, as fonts with wrong tables give it */
		{ "BT /F 6 Tf 9 700 Td (Uif rvjdl cspxo gpy kvnqt pwfs uif mbaz eph boe svot bxbz "
		  "gspn uif ipvtf. Uif rvjdl cspxo gpy kvnqt pwfs uif mbaz eph boe svot bxbz) Tj ET",
		  "implausible" },
	};
	struct pipeline p = settings();

	(void)state;
	p.text_layer = TEXT_LAYER_PREFER;
	for (size_t i = 0; i < sizeof(cases) / sizeof(*cases); i++) {
		struct opened o;
		int fd = one_page("/MediaBox[0 0 612 792]", cases[i].content, IMAGE_H);

		assert_int_equal(open_pdf(&o, fd, &p), RC_OK);
		assert_int_equal(measure(&o, 0), RC_OK);
		assert_string_equal(decision(&o), cases[i].decision);
		assert_null(o.page.result);
		close_pdf(&o);
	}
}

static void test_text_layer_is_ignored(void **state)
{
	struct pipeline p = settings();
	struct opened o;

	(void)state;
	assert_int_equal(open_pdf(&o, one_page("/MediaBox[0 0 612 792]",
					       "BT /F 9 Tf 9 700 Td (" SENTENCE ") Tj ET", IMAGE_H),
				  &p),
			 RC_OK);
	assert_int_equal(measure(&o, 0), RC_OK);
	assert_null(o.page.evidence);
	assert_null(o.page.result);
	assert_true(o.page.has_content);
	close_pdf(&o);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_scan_is_not_resampled),
		cmocka_unit_test(test_crop_box_cuts_a_scan),
		cmocka_unit_test(test_oblong_pixels_become_square),
		cmocka_unit_test(test_coarse_scan_is_not_resampled),
		cmocka_unit_test(test_other_pages_are_rendered_at_dpi),
		cmocka_unit_test(test_colour_survives),
		cmocka_unit_test(test_stamp_on_a_scan_shows),
		cmocka_unit_test(test_dpi_is_lowered),
		cmocka_unit_test(test_huge_image_is_refused),
		cmocka_unit_test(test_endless_forms_are_looked_at_once),
		cmocka_unit_test(test_broken_image_fails_its_page_only),
		cmocka_unit_test(test_jpeg_page_is_as_poppler_draws_it),
		cmocka_unit_test(test_jpeg_that_ends_early),
		cmocka_unit_test(test_unknown_object_is_a_warning),
		cmocka_unit_test(test_blank_page_has_no_content),
		cmocka_unit_test(test_documents_that_do_not_open),
		cmocka_unit_test(test_passwords),
		cmocka_unit_test(test_text_layer_is_taken),
		cmocka_unit_test(test_text_layer_is_refused),
		cmocka_unit_test(test_text_layer_is_ignored),
	};

	cmocka_set_message_output(CM_OUTPUT_TAP);
	pdf_warm_up();
	return cmocka_run_group_tests(tests, NULL, NULL);
}
