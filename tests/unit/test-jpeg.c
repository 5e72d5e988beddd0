/* SPDX-License-Identifier: MIT */
#include "images.h"

#include <jpeglib.h>

#define W 75
#define H 50

struct spec {
	J_COLOR_SPACE in, stored;
	bool progressive, arithmetic, no_adobe, subsampled;
	unsigned exif; /* orientation, 0 for no EXIF */
	bool exif_big_endian;
	int unit, xdensity, ydensity;
	unsigned scans; /* 1: a scan a coefficient */
	unsigned restart;
};

static int components(J_COLOR_SPACE space)
{
	return space == JCS_GRAYSCALE ? 1 : space == JCS_CMYK || space == JCS_YCCK ? 4 : 3;
}

/* Smooth, for a lossy coder. */
static int smooth(uint32_t x, uint32_t y, int c)
{
	return c == 0 ? 40 + (int)x * 2 : c == 1 ? 220 - (int)y * 3 : c == 2 ? 128 :
							  30 + (int)(x + y) / 2;
}

static void exif_block(uint8_t *b, unsigned orientation, bool big)
{
	static const uint8_t little[] = "Exif\0\0II*\0\x08\0\0\0\1\0\x12\1\3\0\1\0\0\0\0\0\0\0\0\0\0";
	static const uint8_t large[] = "Exif\0\0MM\0*\0\0\0\x08\0\1\1\x12\0\3\0\0\0\1\0\0\0\0\0\0\0";

	memcpy(b, big ? large : little, 32);
	b[big ? 25 : 24] = (uint8_t)orientation;
}

static struct bytes make_jpeg(struct spec s)
{
	struct jpeg_compress_struct jpeg;
	struct jpeg_error_mgr errors;
	jpeg_scan_info scans[3 * 63 + 1];
	unsigned long len = 0;
	struct bytes out = { 0 };
	int n = components(s.in);
	uint8_t row[W * 4], *rows = row, exif[32];

	jpeg.err = jpeg_std_error(&errors);
	jpeg_create_compress(&jpeg);
	jpeg_mem_dest(&jpeg, &out.data, &len);
	jpeg.image_width = W;
	jpeg.image_height = H;
	jpeg.input_components = n;
	jpeg.in_color_space = s.in;
	jpeg_set_defaults(&jpeg);
	jpeg_set_colorspace(&jpeg, s.stored);
	jpeg_set_quality(&jpeg, 98, TRUE);
	if (!s.subsampled)
		jpeg.comp_info[0].h_samp_factor = jpeg.comp_info[0].v_samp_factor = 1;
	jpeg.restart_interval = s.restart;
	jpeg.arith_code = s.arithmetic;
	if (s.no_adobe)
		jpeg.write_Adobe_marker = FALSE;
	if (s.xdensity) {
		jpeg.density_unit = (UINT8)s.unit;
		jpeg.X_density = (UINT16)s.xdensity;
		jpeg.Y_density = (UINT16)s.ydensity;
	}
	if (s.scans) {
		scans[0] = (jpeg_scan_info){ 3, { 0, 1, 2 }, 0, 0, 0, 0 };
		for (int i = 0; i < 3 * 63; i++)
			scans[i + 1] = (jpeg_scan_info){ 1, { i % 3 }, i / 3 + 1, i / 3 + 1, 0, 0 };
		jpeg.scan_info = scans;
		jpeg.num_scans = 3 * 63 + 1;
	} else if (s.progressive) {
		jpeg_simple_progression(&jpeg);
	}
	jpeg_start_compress(&jpeg, TRUE);
	exif_block(exif, s.exif, s.exif_big_endian);
	if (s.exif)
		jpeg_write_marker(&jpeg, JPEG_APP0 + 1, exif, sizeof(exif));
	for (uint32_t y = 0; y < H; y++) {
		for (uint32_t x = 0; x < W; x++)
			for (int c = 0; c < n; c++)
				row[(int)x * n + c] = (uint8_t)smooth(x, y, c);
		jpeg_write_scanlines(&jpeg, &rows, 1);
	}
	jpeg_finish_compress(&jpeg);
	jpeg_destroy_compress(&jpeg);
	out.len = len;
	return out;
}

static struct decoded decode_spec(struct spec s)
{
	struct bytes file = make_jpeg(s);
	struct decoded d = decode_page(&jpeg_decoder, file, 0);

	free(file.data);
	return d;
}

static void test_grey(void **state)
{
	(void)state;
	for (int i = 0; i < 4; i++) {
		struct decoded d = decode_spec((struct spec){ .in = JCS_GRAYSCALE,
							      .stored = JCS_GRAYSCALE,
							      .progressive = i & 1,
							      .arithmetic = i & 2 });

		assert_page(&d, W, H, 1);
		for (uint32_t y = 0; y < H; y++)
			for (uint32_t x = 0; x < W; x++)
				assert_near(*pixel(&d, x, y), smooth(x, y, 0), 4);
		assert_null(d.page.warnings);
		decoded_release(&d);
	}
}

static void test_colour(void **state)
{
	(void)state;
	for (int i = 0; i < 8; i++) {
		struct decoded d = decode_spec((struct spec){
			.in = JCS_RGB, .stored = i == 7 ? JCS_RGB : JCS_YCbCr,
			.progressive = i & 1, .subsampled = i != 7 && i & 2, .restart = i == 4,
			.unit = i & 4 ? 2 : 1, .xdensity = i & 4 ? 118 : 300,
			.ydensity = i & 4 ? 118 : 300 });

		assert_page(&d, W, H, 3);
		if (i != 7) /* JFIF, and its density, is for grey and YCbCr */
			assert_near((int)(d.page.dpi + 0.5), 300, 0);
		for (uint32_t y = 0; y < H; y++)
			for (uint32_t x = 0; x < W; x++)
				assert_rgb(&d, x, y, smooth(x, y, 0), smooth(x, y, 1), 128, 8);
		decoded_release(&d);
	}
}

/* With Adobe's marker the stored value is 255 - ink, without it is ink. */
static void test_cmyk(void **state)
{
	(void)state;
	for (int i = 0; i < 3; i++) {
		bool inverted = i < 2;
		struct decoded d = decode_spec((struct spec){ .in = JCS_CMYK,
							      .stored = i ? JCS_CMYK : JCS_YCCK,
							      .no_adobe = !inverted });

		assert_page(&d, W, H, 3);
		for (uint32_t y = 0; y < H; y++)
			for (uint32_t x = 0; x < W; x++) {
				int v[4];

				for (int c = 0; c < 4; c++)
					v[c] = inverted ? smooth(x, y, c) : 255 - smooth(x, y, c);
				assert_rgb(&d, x, y, v[0] * v[3] / 255, v[1] * v[3] / 255,
					   v[2] * v[3] / 255, 6);
			}
		decoded_release(&d);
	}
}

static void test_orientation(void **state)
{
	(void)state;
	for (unsigned o = 1; o <= 8; o++)
		for (int big = 0; big < 2; big++) {
			struct decoded d = decode_spec((struct spec){
				.in = JCS_RGB, .stored = JCS_YCbCr, .exif = o,
				.exif_big_endian = big });
			bool lies = o >= 5;
			/* Where the top left of the stored picture is now. */
			bool right = o == 2 || o == 3 || o == 6 || o == 7;
			bool bottom = o == 3 || o == 4 || o == 7 || o == 8;
			uint32_t w = lies ? H : W, h = lies ? W : H;

			assert_page(&d, w, h, 3);
			assert_rgb(&d, right ? w - 1 : 0, bottom ? h - 1 : 0, smooth(0, 0, 0),
				   smooth(0, 0, 1), 128, 8);
			assert_rgb(&d, right ? 0 : w - 1, bottom ? 0 : h - 1,
				   smooth(W - 1, H - 1, 0), smooth(W - 1, H - 1, 1), 128, 8);
			decoded_release(&d);
		}
}

/* EXIF blocks that lie about where their values are. */
static void test_exif_bounds(void **state)
{
	uint8_t good[32];

	(void)state;
	for (int big = 0; big < 2; big++) {
		exif_block(good, 6, big);
		for (size_t len = 0; len <= 26; len++)
			for (size_t at = 0; at < len; at++)
				for (unsigned v = 0; v < 256; v += 15) {
					uint8_t *copy = malloc(len); /* exact, for the sanitizer */
					struct image im = { .orientation = 1 };

					memcpy(copy, good + 6, len);
					copy[at] = (uint8_t)v;
					exif_read(copy, len, &im);
					assert_in_range(im.orientation, 1, 8);
					free(copy);
				}
	}
}

static void test_exif_resolution(void **state)
{
	static const uint8_t exif[] =
		"MM\0*\0\0\0\x08\0\3\1\x1a\0\5\0\0\0\1\0\0\0\x32\1\x1b\0\5\0\0\0\1\0\0\0\x3a"
		"\1\x28\0\3\0\0\0\1\0\2\0\0\0\0\0\0\0\0\1\x2c\0\0\0\1\0\0\1\x2c\0\0\0\1";
	struct image im = { .orientation = 1 };

	(void)state;
	exif_read(exif, sizeof(exif) - 1, &im);
	assert_near((int)im.xdpi, 300, 0);
	assert_near((int)im.ydpi, 300, 0);
	assert_int_equal(im.orientation, 1);
}

static void test_too_many_scans(void **state)
{
	struct decoded d = decode_spec((struct spec){ .in = JCS_RGB, .stored = JCS_YCbCr,
						      .scans = 1 });

	(void)state;
	assert_reason(&d, "limit:jpeg-scans");
}

static void test_truncated(void **state)
{
	(void)state;
	for (int i = 0; i < 8; i++) {
		struct bytes file = make_jpeg((struct spec){ .in = JCS_RGB, .stored = JCS_YCbCr,
							     .progressive = i & 1,
							     .arithmetic = i & 2,
							     .restart = i & 4 ? 1 : 0 });

		check_truncated(&jpeg_decoder, file, 0);
		free(file.data);
	}
}

/* The end marker alone is missing: nothing is lost, and it is said. */
static void test_no_end_marker(void **state)
{
	struct bytes file = make_jpeg((struct spec){ .in = JCS_RGB, .stored = JCS_YCbCr });
	struct decoded d;

	(void)state;
	file.len -= 2;
	d = decode_page(&jpeg_decoder, file, 0);
	assert_page(&d, W, H, 3);
	assert_int_equal(json_array_size(d.page.warnings), 1);
	decoded_release(&d);
	free(file.data);
}

/* An end marker in the middle does not make half a picture a whole one. */
static void test_early_end_marker(void **state)
{
	(void)state;
	for (int progressive = 0; progressive < 2; progressive++) {
		struct bytes file = make_jpeg((struct spec){ .in = JCS_GRAYSCALE,
							     .stored = JCS_GRAYSCALE,
							     .progressive = progressive });
		struct decoded d;
		size_t at = file.len / 2;

		while (file.data[at] == 0xff || file.data[at - 1] == 0xff)
			at++;
		memcpy(file.data + at, "\xff\xd9", 2);
		d = decode_page(&jpeg_decoder, (struct bytes){ file.data, at + 2 }, 0);
		assert_reason(&d, "damaged");
		free(file.data);
	}
}

static void test_limits(void **state)
{
	struct bytes file = make_jpeg((struct spec){ .in = JCS_RGB, .stored = JCS_YCbCr });
	uint8_t *sof = memmem(file.data, file.len, "\xff\xc0", 2);
	struct decoded d;

	(void)state;
	memcpy(sof + 5, "\xff\xdc\xff\xdc", 4);
	d = decode_page(&jpeg_decoder, file, 0);
	assert_reason(&d, "limit:image-megapixels");
	memcpy(sof + 5, "\x20\0\x20\0", 4);
	d = decode_page(&jpeg_decoder, file, 0);
	assert_reason(&d, "damaged");
	sof[4] = 12;
	d = decode_page(&jpeg_decoder, file, 0);
	assert_reason(&d, "unsupported");
	free(file.data);
}

static void test_fax_shape(void **state)
{
	struct decoded d = decode_spec((struct spec){ .in = JCS_GRAYSCALE, .stored = JCS_GRAYSCALE,
						      .unit = 1, .xdensity = 200, .ydensity = 100 });

	(void)state;
	assert_page(&d, W, 2 * H, 1);
	assert_true(d.page.dpi == 200);
	assert_false(d.page.native);
	assert_near(*pixel(&d, 30, 50), smooth(30, 25, 0), 4);
	decoded_release(&d);
}

static void test_mutated(void **state)
{
	(void)state;
	for (int i = 0; i < 3; i++) {
		struct bytes file = make_jpeg((struct spec){
			.in = i == 2 ? JCS_CMYK : JCS_RGB, .stored = i == 2 ? JCS_YCCK : JCS_YCbCr,
			.progressive = i == 1, .exif = 6, .subsampled = i < 2 });

		check_mutated(&jpeg_decoder, file, 10 + (uint32_t)i, 250);
		free(file.data);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_grey),
		cmocka_unit_test(test_colour),
		cmocka_unit_test(test_cmyk),
		cmocka_unit_test(test_orientation),
		cmocka_unit_test(test_exif_bounds),
		cmocka_unit_test(test_exif_resolution),
		cmocka_unit_test(test_too_many_scans),
		cmocka_unit_test(test_truncated),
		cmocka_unit_test(test_no_end_marker),
		cmocka_unit_test(test_early_end_marker),
		cmocka_unit_test(test_limits),
		cmocka_unit_test(test_fax_shape),
		cmocka_unit_test(test_mutated),
	};

	cmocka_set_message_output(CM_OUTPUT_TAP);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
