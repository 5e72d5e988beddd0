/* SPDX-License-Identifier: MIT */
#include "images.h"

#include "base/num.h"

static struct decoded decode(const char *text, size_t len, uint32_t index)
{
	return decode_page(&pnm_decoder, (struct bytes){ (uint8_t *)text, len }, index);
}
#define DECODE(text) decode(text, sizeof(text) - 1, 0)

static void assert_pixels(struct decoded d, uint32_t w, uint32_t h, uint32_t channels,
			  const char *pixels)
{
	assert_page(&d, w, h, channels);
	assert_memory_equal(d.raster.pixels, pixels, (size_t)w * h * channels);
	decoded_release(&d);
}

static void test_all_types(void **state)
{
	(void)state;
	assert_pixels(DECODE("P1\n3 2\n1 0 1\n0 1 0\n"), 3, 2, 1, "\0\xff\0\xff\0\xff");
	assert_pixels(DECODE("P1 3 2 101010"), 3, 2, 1, "\0\xff\0\xff\0\xff");
	assert_pixels(DECODE("P2\n2 2 # size\n4\n0 1\n2 4"), 2, 2, 1, "\0\x40\x80\xff");
	assert_pixels(DECODE("P3 1 2 255 1 2 3 #x\n255 0 7"), 1, 2, 3, "\1\2\3\xff\0\7");
	assert_pixels(DECODE("P4\n10 2\n\xaa\x40\x55\x80"), 10, 2, 1,
		      "\0\xff\0\xff\0\xff\0\xff\xff\0"
		      "\xff\0\xff\0\xff\0\xff\0\0\xff");
	assert_pixels(DECODE("P5 2 1 255 \n\x07"), 2, 1, 1, "\n\x07");
	assert_pixels(DECODE("P5#a\n#b\n2 1\n#c\n3\n\1\3"), 2, 1, 1, "\x55\xff");
	assert_pixels(DECODE("P5 2 1 65535\n\xff\xff\x80\0"), 2, 1, 1, "\xff\x80");
	assert_pixels(DECODE("P5 1 1 256\n\1\0"), 1, 1, 1, "\xff");
	assert_pixels(DECODE("P6 1 2 255\nabcABC"), 1, 2, 3, "abcABC");
	assert_pixels(DECODE("P6 1 1 1023\n\3\xff\0\0\1\xff"), 1, 1, 3, "\xff\0\x7f");
	assert_pixels(DECODE("P6 2 1 255\naaabbb"), 2, 1, 1, "ab"); /* all grey */
}

static void test_several_images(void **state)
{
	static const char two[] = "P5 2 1 255\nabP4 8 1\n\xf0\n \nP2 1 1 9 9";

	(void)state;
	assert_pixels(decode(two, sizeof(two) - 1, 0), 2, 1, 1, "ab");
	assert_pixels(decode(two, sizeof(two) - 1, 1), 8, 1, 1, "\0\0\0\0\xff\xff\xff\xff");
	assert_pixels(decode(two, sizeof(two) - 1, 2), 1, 1, 1, "\xff");
}

/* What follows the last image and is none is a page that fails, and the others do not. */
static void test_junk_behind(void **state)
{
	static const char junk[] = "P5 2 1 255\nabP5 2 ...";
	static const char cut[] = "P5 2 1 255\nabP5 2 2 255\nabc";
	struct decoded d = decode(junk, sizeof(junk) - 1, 0);

	(void)state;
	assert_int_equal(d.pages, 2);
	assert_pixels(d, 2, 1, 1, "ab");
	d = decode(junk, sizeof(junk) - 1, 1);
	assert_reason(&d, "damaged");
	assert_pixels(decode(cut, sizeof(cut) - 1, 0), 2, 1, 1, "ab");
	d = decode(cut, sizeof(cut) - 1, 1);
	assert_reason(&d, "damaged");
	d = DECODE("P2 1 1 9 9 8");
	assert_int_equal(d.pages, 1);
	assert_int_equal(json_array_size(d.page.warnings), 1);
	decoded_release(&d);
}

static const struct {
	const char *text, *reason;
} bad[] = {
	{ "P5", "damaged" },
	{ "P5 1", "damaged" },
	{ "P5 1 1 255", "damaged" },
	{ "P5 1 1 255\n", "damaged" },
	{ "P5 0 1 255\na", "damaged" },
	{ "P5 1 0 255\na", "damaged" },
	{ "P5 1 1 0\na", "damaged" },
	{ "P5 1 1 65536\nab", "damaged" },
	{ "P5 1 1 100000000\nab", "damaged" },
	{ "P5 -1 1 255\nab", "damaged" },
	{ "P5 1 1 9\na", "damaged" },	    /* 97 is more than 9 */
	{ "P2 1 1 9 10", "damaged" },
	{ "P2 2 1 9 1", "damaged" },
	{ "P2 2 1 9 1 x", "damaged" },
	{ "P1 2 1 0 2", "damaged" },
	{ "P1 3 1 0 1", "damaged" },
	{ "P5 99999 99999 255\na", "limit:image-megapixels" },
	{ "P6 2147483647 2147483647 65535\na", "limit:image-megapixels" },
	{ "P6 9999999999 1 255\na", "damaged" },
	{ "P6 99999999999999999999 1 255\na", "damaged" },
	{ "P4 20000 20000\na", "damaged" },
	{ "P1 20000 20000 1", "damaged" },
};

static void test_bad_files(void **state)
{
	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(bad); i++) {
		struct decoded d = decode(bad[i].text, strlen(bad[i].text), 0);

		if (d.rc != RC_FAILED || strcmp(d.err.reason, bad[i].reason))
			fail_msg("%s: %d %s %s", bad[i].text, d.rc, d.err.reason, d.err.text);
		decoded_release(&d);
	}
}

static void test_too_many_images(void **state)
{
	char file[101 * 13 + 1] = "";
	struct decoded d;

	(void)state;
	for (size_t i = 0; i < 101; i++)
		memcpy(file + 13 * i, "P5 1  1 255\na", 13);
	d = decode(file, 100 * 13, 99);
	assert_int_equal(d.pages, 100);
	assert_pixels(d, 1, 1, 1, "a");
	d = decode(file, 101 * 13, 0);
	assert_reason(&d, "limit:document-pages");
}

static struct bytes make_ppm(char type)
{
	struct bytes b = { malloc(80000), 0 };
	bool plain = type <= '3';

	b.len = (size_t)snprintf((char *)b.data, 80, "P%c\n# test\n60 40\n%s", type,
				type == '4' || type == '1' ? "" : "255\n");
	for (uint32_t y = 0; y < 40; y++)
		for (uint32_t x = 0; x < (type == '4' ? 8 : 60); x++)
			for (unsigned c = 0; c < (type == '3' || type == '6' ? 3 : 1); c++) {
				unsigned v = test_value(x, y, c);

				if (plain)
					b.len += (size_t)snprintf((char *)b.data + b.len, 8, "%u\n",
								 type == '1' ? v % 2 : v);
				else
					b.data[b.len++] = (uint8_t)v;
			}
	return b;
}

static void test_truncated_and_mutated(void **state)
{
	(void)state;
	for (char type = '1'; type <= '6'; type++) {
		struct bytes file = make_ppm(type);

		/* The last digits of a plain file may go, where the number stays legal. */
		if (type > '3')
			check_truncated(&pnm_decoder, file, 0);
		check_mutated(&pnm_decoder, file, 100 + (uint32_t)type, 100);
		free(file.data);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_all_types),
		cmocka_unit_test(test_several_images),
		cmocka_unit_test(test_junk_behind),
		cmocka_unit_test(test_bad_files),
		cmocka_unit_test(test_too_many_images),
		cmocka_unit_test(test_truncated_and_mutated),
	};

	cmocka_set_message_output(CM_OUTPUT_TAP);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
