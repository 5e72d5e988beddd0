/* SPDX-License-Identifier: MIT */
#include "images.h"

#include <webp/encode.h>

#define W 71
#define H 39

static struct bytes make_webp(bool lossless, bool alpha)
{
	uint8_t pixels[W * H * 4], *to = pixels, *out = NULL;
	struct bytes file;

	for (uint32_t y = 0; y < H; y++)
		for (uint32_t x = 0; x < W; x++) {
			for (unsigned c = 0; c < 3; c++)
				*to++ = lossless ? test_value(x, y, c) :
						   (uint8_t)(20 + c * 50 + x + y);
			if (alpha)
				*to++ = x < W / 2 ? 255 : x < W - 10 ? 100 : 0;
		}
	if (alpha)
		file.len = lossless ? WebPEncodeLosslessRGBA(pixels, W, H, W * 4, &out) :
				      WebPEncodeRGBA(pixels, W, H, W * 4, 95, &out);
	else
		file.len = lossless ? WebPEncodeLosslessRGB(pixels, W, H, W * 3, &out) :
				      WebPEncodeRGB(pixels, W, H, W * 3, 95, &out);
	assert_true(file.len > 0);
	file.data = malloc(file.len);
	memcpy(file.data, out, file.len);
	WebPFree(out);
	return file;
}

static void test_pixels(void **state)
{
	(void)state;
	for (int i = 0; i < 4; i++) {
		bool lossless = i & 1, alpha = i & 2;
		struct bytes file = make_webp(lossless, alpha);
		struct decoded d = decode_page(&webp_decoder, file, 0);

		assert_page(&d, W, H, 3);
		assert_true(d.page.native && d.page.dpi == 0);
		for (uint32_t y = 0; y < H; y++)
			for (uint32_t x = 0; x < W; x++) {
				int a = !alpha || x < W / 2 ? 255 : x < W - 10 ? 100 : 0, v[3];

				for (unsigned c = 0; c < 3; c++) {
					v[c] = lossless ? test_value(x, y, c) : 20 + (int)(c * 50 + x + y);
					v[c] = (v[c] * a + 255 * (255 - a) + 127) / 255;
				}
				assert_rgb(&d, x, y, v[0], v[1], v[2], lossless ? 0 : 12);
			}
		decoded_release(&d);
		free(file.data);
	}
}

static struct bytes with_chunks(struct bytes file, uint8_t flags, const char *tail, size_t len)
{
	struct bytes out = { malloc(file.len + 18 + len), file.len + 18 + len };
	uint8_t vp8x[18] = { 'V', 'P', '8', 'X', 10, 0, 0, 0, flags, 0, 0, 0, W - 1, 0, 0, H - 1 };
	uint32_t riff = (uint32_t)out.len - 8;

	memcpy(out.data, file.data, 12);
	memcpy(out.data + 12, vp8x, 18);
	memcpy(out.data + 30, file.data + 12, file.len - 12);
	memcpy(out.data + 18 + file.len, tail, len);
	for (int i = 0; i < 4; i++)
		out.data[4 + i] = (uint8_t)(riff >> 8 * i);
	free(file.data);
	return out;
}

static void test_exif_orientation(void **state)
{
	static const char exif[] = "EXIF\x1a\0\0\0MM\0*\0\0\0\x08\0\1\1\x12\0\3\0\0\0\1\0\x08\0\0\0\0"
				   "\0\0";
	struct bytes file = with_chunks(make_webp(true, false), 8, exif, 34);
	struct decoded d = decode_page(&webp_decoder, file, 0);

	(void)state;
	assert_page(&d, H, W, 3);
	for (uint32_t y = 0; y < W; y++)
		for (uint32_t x = 0; x < H; x++)
			assert_int_equal(pixel(&d, x, y)[2], test_value(W - 1 - y, x, 2));
	decoded_release(&d);
	free(file.data);
}

static void test_animation(void **state)
{
	struct bytes file = with_chunks(make_webp(true, false), 2, "", 0);
	struct decoded d = decode_page(&webp_decoder, file, 0);

	(void)state;
	assert_reason(&d, "unsupported");
	free(file.data);
}

static void test_limits(void **state)
{
	struct bytes file = make_webp(false, false);
	struct pipeline p = test_pipeline();
	struct decoded d;

	(void)state;
	p.limits.image_megapixels = 0;
	d = decode_with(&webp_decoder, file.data, file.len, 0, &p);
	assert_reason(&d, "limit:image-megapixels");
	/* A key frame's header says 16383 x 16383. */
	memcpy(file.data + 26, "\xff\x3f\xff\x3f", 4);
	d = decode_page(&webp_decoder, file, 0);
	assert_int_equal(d.rc, RC_FAILED);
	decoded_release(&d);
	free(file.data);
}

static void test_truncated_and_mutated(void **state)
{
	(void)state;
	for (int i = 0; i < 4; i++) {
		struct bytes file = make_webp(i & 1, i & 2);

		check_truncated(&webp_decoder, file, 0);
		check_mutated(&webp_decoder, file, 50 + (uint32_t)i, 150);
		free(file.data);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_pixels),
		cmocka_unit_test(test_exif_orientation),
		cmocka_unit_test(test_animation),
		cmocka_unit_test(test_limits),
		cmocka_unit_test(test_truncated_and_mutated),
	};

	cmocka_set_message_output(CM_OUTPUT_TAP);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
