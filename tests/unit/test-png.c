/* SPDX-License-Identifier: MIT */
#include "images.h"

#include <png.h>

#define W 61
#define H 47

struct spec {
	int type, depth, interlace;
	uint32_t width, height;
	uint32_t ppm;      /* pHYs */
	bool trns;         /* value 0 (grey), palette entry 0, or black (RGB) is transparent */
	bool grey_palette;
	unsigned exif;     /* orientation in an eXIf chunk */
};

static void sink(png_structp png, png_bytep data, size_t len)
{
	struct bytes *b = png_get_io_ptr(png);

	b->data = realloc(b->data, b->len + len);
	assert_non_null(b->data);
	memcpy(b->data + b->len, data, len);
	b->len += len;
}

/* Sample value as a share of full scale is that of test_value(); samples of 16 bits repeat it. */
static void fill_row(const struct spec *s, uint32_t y, uint8_t *row, unsigned channels)
{
	unsigned max = s->depth >= 8 ? 255 : (1u << s->depth) - 1;
	size_t n = (size_t)s->width * channels;

	for (size_t i = 0; i < n; i++) {
		unsigned v = test_value((uint32_t)(i / channels), y, (unsigned)(i % channels));

		v = (v * max + 127) / 255;
		if (s->depth == 16)
			row[2 * i] = row[2 * i + 1] = (uint8_t)v;
		else if (s->depth == 8)
			row[i] = (uint8_t)v;
		else
			row[i * s->depth / 8] |= (uint8_t)(v << (8 - s->depth -
								 i * s->depth % 8));
	}
}

static struct bytes make_png(struct spec s)
{
	png_structp png = png_create_write_struct(PNG_LIBPNG_VER_STRING, NULL, NULL, NULL);
	png_infop info = png_create_info_struct(png);
	unsigned channels = s.type == PNG_COLOR_TYPE_RGBA ? 4 : s.type == PNG_COLOR_TYPE_RGB ? 3 :
			    s.type == PNG_COLOR_TYPE_GA ? 2 : 1;
	uint8_t exif[26] = "II*\0\x08\0\0\0\1\0\x12\1\3\0\1\0\0\0";
	png_bytep *rows = calloc(s.height, sizeof(*rows));
	struct bytes out = { 0 };
	png_color palette[256];
	uint8_t alpha = 0;

	png_set_write_fn(png, &out, sink, NULL);
	png_set_IHDR(png, info, s.width, s.height, s.depth, s.type,
		     s.interlace ? PNG_INTERLACE_ADAM7 : PNG_INTERLACE_NONE,
		     PNG_COMPRESSION_TYPE_DEFAULT, PNG_FILTER_TYPE_DEFAULT);
	for (unsigned i = 0; i < 256; i++)
		palette[i] = (png_color){ (png_byte)i, (png_byte)(s.grey_palette ? i : 255 - i),
					  (png_byte)(s.grey_palette ? i : i / 2) };
	if (s.type == PNG_COLOR_TYPE_PALETTE)
		png_set_PLTE(png, info, palette, 1 << s.depth);
	if (s.trns)
		png_set_tRNS(png, info, &alpha, 1, &(png_color_16){ 0 });
	if (s.ppm)
		png_set_pHYs(png, info, s.ppm, s.ppm, PNG_RESOLUTION_METER);
	exif[18] = (uint8_t)s.exif;
	if (s.exif)
		png_set_eXIf_1(png, info, sizeof(exif), exif);
	for (uint32_t y = 0; y < s.height; y++) {
		rows[y] = calloc(s.width, 8);
		fill_row(&s, y, rows[y], channels);
	}
	png_set_rows(png, info, rows);
	png_write_png(png, info, PNG_TRANSFORM_IDENTITY, NULL);
	for (uint32_t y = 0; y < s.height; y++)
		free(rows[y]);
	free(rows);
	png_destroy_write_struct(&png, &info);
	return out;
}

static struct decoded decode_spec(struct spec s)
{
	struct bytes file = make_png(s);
	struct decoded d = decode_page(&png_decoder, file, 0);

	free(file.data);
	return d;
}

static int quantised(uint32_t x, uint32_t y, unsigned c, int depth)
{
	int max = depth >= 8 ? 255 : (1 << depth) - 1;
	int v = (test_value(x, y, c) * max + 127) / 255;

	return (v * 255 + max / 2) / max;
}

static void test_grey(void **state)
{
	(void)state;
	for (int depth = 1; depth <= 16; depth *= 2)
		for (int interlace = 0; interlace < 2; interlace++) {
			struct decoded d = decode_spec((struct spec){
				PNG_COLOR_TYPE_GRAY, depth, interlace, W, H, .ppm = 11811 });

			assert_page(&d, W, H, 1);
			assert_true(d.page.dpi == 300);
			assert_true(d.page.native);
			for (uint32_t y = 0; y < H; y++)
				for (uint32_t x = 0; x < W; x++)
					assert_near(*pixel(&d, x, y), quantised(x, y, 0, depth), 0);
			decoded_release(&d);
		}
}

static void test_colour_and_alpha(void **state)
{
	static const int types[] = { PNG_COLOR_TYPE_RGB, PNG_COLOR_TYPE_RGBA, PNG_COLOR_TYPE_GA };

	(void)state;
	for (unsigned i = 0; i < 12; i++) {
		int type = types[i % 3];
		struct decoded d = decode_spec((struct spec){
			type, i / 6 ? 16 : 8, i / 3 % 2, .width = W, .height = H });
		unsigned channels = type == PNG_COLOR_TYPE_GA ? 1 : 3;

		assert_page(&d, W, H, channels);
		assert_true(d.page.dpi == 0);
		for (uint32_t y = 0; y < H; y++)
			for (uint32_t x = 0; x < W; x++)
				for (unsigned c = 0; c < channels; c++) {
					int a = type & PNG_COLOR_MASK_ALPHA ?
						test_value(x, y, channels) : 255;
					int v = (test_value(x, y, c) * a + 255 * (255 - a) + 127) / 255;

					assert_near(pixel(&d, x, y)[c], v, 1);
				}
		decoded_release(&d);
	}
}

static void test_palette(void **state)
{
	(void)state;
	for (int depth = 1; depth <= 8; depth *= 2)
		for (int grey = 0; grey < 2; grey++) {
			struct decoded d = decode_spec((struct spec){
				PNG_COLOR_TYPE_PALETTE, depth, depth == 4, W, H,
				.grey_palette = grey, .trns = depth == 8 });

			assert_page(&d, W, H, grey ? 1 : 3);
			for (uint32_t y = 0; y < H; y++)
				for (uint32_t x = 0; x < W; x++) {
					int i = (test_value(x, y, 0) * ((1 << depth) - 1) + 127) / 255;

					if (grey)
						assert_int_equal(*pixel(&d, x, y), i);
					else
						assert_rgb(&d, x, y, i, 255 - i, i / 2, 0);
				}
			decoded_release(&d);
		}
}

static void test_transparent_colour(void **state)
{
	struct decoded d = decode_spec((struct spec){ PNG_COLOR_TYPE_GRAY, 1, 0, W, H,
						      .trns = true });

	(void)state;
	assert_page(&d, W, H, 1);
	for (uint32_t y = 0; y < H; y++)
		for (uint32_t x = 0; x < W; x++)
			assert_int_equal(*pixel(&d, x, y), 255);
	decoded_release(&d);
}

static void test_exif_orientation(void **state)
{
	struct decoded d = decode_spec((struct spec){ PNG_COLOR_TYPE_RGB, 8, 1, W, H, .exif = 6 });

	(void)state;
	assert_page(&d, H, W, 3);
	for (uint32_t y = 0; y < W; y++)
		for (uint32_t x = 0; x < H; x++)
			assert_int_equal(pixel(&d, x, y)[1], test_value(y, H - 1 - x, 1));
	decoded_release(&d);
}

static void test_truncated(void **state)
{
	(void)state;
	for (int interlace = 0; interlace < 2; interlace++) {
		struct bytes file = make_png((struct spec){
			PNG_COLOR_TYPE_RGB, 8, interlace, .width = W, .height = H });

		check_truncated(&png_decoder, file, 0);
		free(file.data);
	}
}

/* A wrong bit anywhere behind the signature is found by a CRC. */
static void test_any_flipped_bit(void **state)
{
	struct bytes file = make_png((struct spec){ PNG_COLOR_TYPE_GRAY, 8, 0, W, H, .ppm = 11811 });

	(void)state;
	for (size_t i = 0; i < file.len; i += 3) {
		struct decoded d;

		file.data[i] ^= 0x10;
		d = decode_page(&png_decoder, file, 0);
		assert_reason(&d, "damaged");
		file.data[i] ^= 0x10;
	}
	free(file.data);
}

/* CRC-32 of ISO 3309, as in the PNG specification. */
static uint32_t crc32_of(const uint8_t *p, size_t len)
{
	uint32_t crc = 0xffffffff;

	for (size_t i = 0; i < 8 * len; i++) {
		crc ^= i % 8 ? 0 : p[i / 8];
		crc = crc >> 1 ^ (crc & 1 ? 0xedb88320 : 0);
	}
	return ~crc;
}

static void put_chunk(struct bytes *b, const char *type, const void *data, size_t len)
{
	uint32_t crc;
	uint8_t *to;

	b->data = realloc(b->data, b->len + len + 12);
	assert_non_null(b->data);
	to = b->data + b->len;
	for (int i = 0; i < 4; i++)
		to[i] = (uint8_t)(len >> (24 - 8 * i));
	memcpy(to + 4, type, 4);
	if (len)
		memcpy(to + 8, data, len);
	crc = crc32_of(to + 4, len + 4);
	for (int i = 0; i < 4; i++)
		to[8 + len + i] = (uint8_t)(crc >> (24 - 8 * i));
	b->len += len + 12;
}

/* A file with right CRCs whose header and pixels are as a forger wants them. */
static struct bytes forge(uint32_t width, uint32_t height, const void *idat, size_t len)
{
	uint8_t ihdr[13] = { (uint8_t)(width >> 24),  (uint8_t)(width >> 16), (uint8_t)(width >> 8),
			     (uint8_t)width,	      (uint8_t)(height >> 24),
			     (uint8_t)(height >> 16), (uint8_t)(height >> 8), (uint8_t)height, 8, 0 };
	struct bytes b = { malloc(8), 8 };

	memcpy(b.data, "\x89PNG\r\n\x1a\n", 8);
	put_chunk(&b, "IHDR", ihdr, sizeof(ihdr));
	put_chunk(&b, "IDAT", idat, len);
	put_chunk(&b, "IEND", NULL, 0);
	return b;
}

static void test_limits(void **state)
{
	static const struct {
		uint32_t w, h;
		const char *reason;
	} liars[] = { { 60000, 60000, "limit:image-megapixels" },
		      { 0x7fffffff, 0x7fffffff, "limit:image-megapixels" },
		      { 2000000, 1000, "limit:image-megapixels" },
		      { 15000, 15000, "damaged" } };

	(void)state;
	for (size_t i = 0; i < 4; i++) {
		struct bytes file = forge(liars[i].w, liars[i].h, "x\x9c\3\0\0\0\0\1", 8);
		struct decoded d = decode_page(&png_decoder, file, 0);

		assert_reason(&d, liars[i].reason);
		free(file.data);
	}
}

static void test_wrong_pixel_checksum(void **state)
{
	/* zlib: header, one stored block of 4 rows of a filter byte and 4 pixels, Adler-32 */
	uint8_t idat[] = { 0x78, 1, 1, 20, 0, 0xeb, 0xff, 0, 1, 2, 3, 4, 0, 1, 2, 3, 4,
			   0, 1, 2, 3, 4, 0, 1, 2, 3, 4, 0, 0, 0, 0 };
	uint32_t a = 1, b = 0;
	struct bytes file;
	struct decoded d;

	(void)state;
	for (int i = 7; i < 27; i++) {
		a += idat[i];
		b += a;
	}
	for (int i = 0; i < 4; i++)
		idat[27 + i] = (uint8_t)((b << 16 | a) >> (24 - 8 * i));
	file = forge(4, 4, idat, sizeof(idat));
	d = decode_page(&png_decoder, file, 0);
	assert_page(&d, 4, 4, 1);
	assert_int_equal(*pixel(&d, 2, 3), 3);
	decoded_release(&d);
	free(file.data);
	idat[30] ^= 1;
	file = forge(4, 4, idat, sizeof(idat));
	d = decode_page(&png_decoder, file, 0);
	assert_reason(&d, "damaged");
	free(file.data);
}

/* Over the page's limit: smaller, and its dpi too. */
static void test_made_to_fit(void **state)
{
	struct bytes file = make_png((struct spec){ PNG_COLOR_TYPE_GRAY, 8, 0, 2000, 1000,
						    .ppm = 11811 });
	struct pipeline p = test_pipeline();
	struct decoded d;

	(void)state;
	p.limits.page_side_pixels = 1000;
	d = decode_with(&png_decoder, file.data, file.len, 0, &p);
	assert_page(&d, 1000, 500, 1);
	assert_true(d.page.dpi == 150);
	assert_false(d.page.native);
	for (uint32_t y = 0; y < 500; y += 7)
		for (uint32_t x = 0; x < 1000; x += 3) {
			int sum = test_value(2 * x, 2 * y, 0) + test_value(2 * x + 1, 2 * y, 0) +
				  test_value(2 * x, 2 * y + 1, 0) +
				  test_value(2 * x + 1, 2 * y + 1, 0);

			assert_near(*pixel(&d, x, y), (sum + 2) / 4, 1);
		}
	decoded_release(&d);
	free(file.data);
}

static void test_mutated(void **state)
{
	struct bytes a = make_png((struct spec){ PNG_COLOR_TYPE_RGBA, 8, 1, W, H, .exif = 3 });
	struct bytes b = make_png((struct spec){ PNG_COLOR_TYPE_PALETTE, 4, 0, W, H, .trns = true });

	(void)state;
	check_mutated(&png_decoder, a, 1, 300);
	check_mutated(&png_decoder, b, 2, 300);
	free(a.data);
	free(b.data);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_grey),
		cmocka_unit_test(test_colour_and_alpha),
		cmocka_unit_test(test_palette),
		cmocka_unit_test(test_transparent_colour),
		cmocka_unit_test(test_exif_orientation),
		cmocka_unit_test(test_truncated),
		cmocka_unit_test(test_any_flipped_bit),
		cmocka_unit_test(test_limits),
		cmocka_unit_test(test_wrong_pixel_checksum),
		cmocka_unit_test(test_made_to_fit),
		cmocka_unit_test(test_mutated),
	};

	cmocka_set_message_output(CM_OUTPUT_TAP);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
