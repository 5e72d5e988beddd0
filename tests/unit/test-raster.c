/* SPDX-License-Identifier: MIT */
#include "images.h"

#include "base/name.h"

static void expect(enum rc rc, const struct err *err, const char *reason)
{
	assert_int_equal(rc, RC_FAILED);
	assert_string_equal(err->reason, reason);
}

static void test_page_limits(void **state)
{
	struct limits l = { .page_megapixels = 100, .page_side_pixels = 30000 };
	struct err err = { 0 };

	(void)state;
	assert_int_equal(check_raster_size(10000, 10000, &l, &err), RC_OK);
	assert_int_equal(check_raster_size(30000, 3333, &l, &err), RC_OK);
	expect(check_raster_size(10001, 10000, &l, &err), &err, "limit:page-megapixels");
	expect(check_raster_size(30001, 1, &l, &err), &err, "limit:page-side-pixels");
	expect(check_raster_size(1, 30001, &l, &err), &err, "limit:page-side-pixels");
	expect(check_raster_size(UINT64_MAX, UINT64_MAX, &l, &err), &err, "limit:page-side-pixels");
	expect(check_raster_size(0, 5, &l, &err), &err, "damaged");
	l.page_side_pixels = UINT64_MAX;
	expect(check_raster_size(1ull << 33, 1ull << 33, &l, &err), &err, "limit:page-side-pixels");
	expect(check_raster_size(UINT32_MAX, UINT32_MAX, &l, &err), &err, "limit:page-megapixels");
}

static void test_image_limits(void **state)
{
	struct limits l = { .image_megapixels = 400 };
	struct err err = { 0 };

	(void)state;
	assert_int_equal(check_image_size(20000, 20000, &l, &err), RC_OK);
	expect(check_image_size(20001, 20000, &l, &err), &err, "limit:image-megapixels");
	expect(check_image_size(UINT64_MAX, 2, &l, &err), &err, "limit:image-megapixels");
	expect(check_image_size(5, 0, &l, &err), &err, "damaged");
}

/* What each orientation does to
 *   1 2 3
 *   4 5 6    (EXIF 2.32, TIFF 6.0: where row 0 and column 0 of the stored image belong) */
static void test_orientations(void **state)
{
	static const char *const turned[9] = { NULL, "123456", "321654", "654321", "456123",
					       "142536", "415263", "635241", "362514" };

	(void)state;
	for (unsigned channels = 1; channels <= 3; channels += 2) {
		uint8_t from[18], to[18];
		struct raster src = { 3, 2, channels, from };

		for (unsigned i = 0; i < 6 * channels; i++)
			from[i] = (uint8_t)('1' + i / channels + 16 * (i % channels));
		for (unsigned o = 1; o <= 8; o++) {
			struct raster dst = { o < 5 ? 3 : 2, o < 5 ? 2 : 3, channels, to };

			raster_orient(&src, &dst, o);
			for (unsigned i = 0; i < 6 * channels; i++)
				assert_int_equal(to[i], turned[o][i / channels] + 16 * (i % channels));
		}
	}
}

/* Larger than a block, and back again. */
static void test_orientation_and_back(void **state)
{
	static const unsigned back[9] = { 0, 1, 2, 3, 4, 5, 8, 7, 6 };
	static uint8_t a[71 * 53 * 3], b[71 * 53 * 3], c[71 * 53 * 3];
	struct raster src = { 71, 53, 3, a };

	(void)state;
	for (size_t i = 0; i < sizeof(a); i++)
		a[i] = (uint8_t)(i * 7 + i / 256);
	for (unsigned o = 1; o <= 8; o++) {
		struct raster there = { o < 5 ? 71 : 53, o < 5 ? 53 : 71, 3, b };
		struct raster again = { 71, 53, 3, c };

		raster_orient(&src, &there, o);
		raster_orient(&there, &again, back[o]);
		assert_memory_equal(a, c, sizeof(a));
	}
}

static void test_grey(void **state)
{
	uint8_t p[12] = { 0, 0, 0, 255, 255, 255, 7, 7, 7, 100, 100, 100 };
	uint8_t nearly[6] = { 100, 102, 101, 50, 50, 50 };
	struct raster r = { 2, 2, 3, p }, n = { 2, 1, 3, nearly };

	(void)state;
	assert_false(raster_to_grey_if_grey(&n, 0));
	assert_false(raster_to_grey_if_grey(&n, 1));
	assert_int_equal(n.channels, 3);
	assert_true(raster_to_grey_if_grey(&n, 2));
	assert_int_equal(n.channels, 1);
	assert_near(nearly[0], 101, 1);
	assert_true(raster_to_grey_if_grey(&r, 0));
	assert_int_equal(r.channels, 1);
	assert_int_equal(p[0], 0);
	assert_int_equal(p[1], 255);
	assert_int_equal(p[2], 7);
	assert_int_equal(p[3], 100);
	assert_true(raster_to_grey_if_grey(&r, 0));
	for (unsigned v = 0; v < 256; v++) {
		uint8_t one[3] = { (uint8_t)v, (uint8_t)v, (uint8_t)v };
		struct raster s = { 1, 1, 3, one };

		assert_true(raster_to_grey_if_grey(&s, 0));
		assert_int_equal(one[0], v);
	}
}

static void test_over_white(void **state)
{
	const uint8_t rgba[12] = { 10, 20, 30, 0, 10, 20, 30, 255, 0, 100, 200, 128 };
	const uint8_t ga[6] = { 10, 0, 10, 255, 0, 128 };
	uint8_t rgb[9], grey[3];

	(void)state;
	row_over_white_rgba(rgba, rgb, 3);
	assert_memory_equal(rgb, ((uint8_t[]){ 255, 255, 255, 10, 20, 30, 127, 177, 227 }), 9);
	row_over_white_ga(ga, grey, 3);
	assert_memory_equal(grey, ((uint8_t[]){ 255, 10, 127 }), 3);
	for (unsigned v = 0; v < 256; v++)
		for (unsigned a = 0; a < 256; a++) {
			uint8_t in[2] = { (uint8_t)v, (uint8_t)a }, out;

			row_over_white_ga(in, &out, 1);
			assert_int_equal(out, (v * a + 255 * (255 - a) + 127) / 255);
		}
}

static void test_warnings(void **state)
{
	struct page page = { 0 };
	char longer[600];

	(void)state;
	page_warn(&page, "bad byte \xff in %s", "row");
	assert_string_equal(json_string_value(json_array_get(page.warnings, 0)),
			    "bad byte \xef\xbf\xbd in row");
	for (size_t i = 0; i < sizeof(longer) - 2; i += 2)
		memcpy(longer + i, "\xc3\xa4", 2);
	longer[sizeof(longer) - 2] = '\0';
	page_warn(&page, "x%s", longer);
	assert_in_range(json_string_length(json_array_get(page.warnings, 1)), 290, 300);
	page_warn(&page, "%s", "");
	for (int i = 0; i < 50; i++)
		page_warn(&page, "again");
	assert_int_equal(json_array_size(page.warnings), 20);
	page_release(&page);
	assert_null(page.warnings);
}

/* Mean of the source that a result pixel covers, by the definition. */
static double area(const uint8_t *src, uint32_t w, uint32_t h, uint32_t n, uint32_t m, uint32_t x,
		   uint32_t y)
{
	double x0 = (double)x * w / n, x1 = (double)(x + 1) * w / n, sum = 0;
	double y0 = (double)y * h / m, y1 = (double)(y + 1) * h / m;

	for (uint32_t j = 0; j < h; j++)
		for (uint32_t i = 0; i < w; i++) {
			double dx = (x1 < i + 1 ? x1 : i + 1) - (x0 > i ? x0 : i);
			double dy = (y1 < j + 1 ? y1 : j + 1) - (y0 > j ? y0 : j);

			if (dx > 0 && dy > 0)
				sum += dx * dy * src[j * w + i];
		}
	return sum / ((x1 - x0) * (y1 - y0));
}

static void test_scaler(void **state)
{
	static const uint32_t sizes[][4] = { { 40, 30, 20, 15 }, { 41, 31, 17, 29 },
					     { 20, 10, 20, 21 }, { 7, 5, 23, 11 },
					     { 50, 40, 1, 1 },   { 1, 1, 9, 9 },
					     { 33, 9, 33, 4 },   { 64, 64, 63, 63 } };

	(void)state;
	for (size_t k = 0; k < sizeof(sizes) / sizeof(*sizes); k++) {
		uint32_t w = sizes[k][0], h = sizes[k][1], n = sizes[k][2], m = sizes[k][3];
		uint8_t src[64 * 64], dst[64 * 64];
		struct raster to = { n, m, 1, dst };
		struct err err;
		struct scaler *s = scaler_new(w, h, 1, &to, &err);

		memset(dst, 0, sizeof(dst));
		for (uint32_t i = 0; i < w * h; i++)
			src[i] = (uint8_t)(i * 167 + i / 3);
		for (uint32_t y = 0; y < h; y++)
			scaler_row(s, src + y * w);
		scaler_free(s);
		for (uint32_t y = 0; y < m; y++)
			for (uint32_t x = 0; x < n; x++)
				assert_near(dst[y * n + x],
					    (int)(area(src, w, h, n, m, x, y) + 0.5), 1);
	}
}

/* White stays white and black black at every size. */
static void test_scaler_keeps_paper(void **state)
{
	uint8_t row[300], out[600 * 50];

	(void)state;
	for (unsigned value = 0; value < 256; value += 255) {
		memset(row, (int)value, sizeof(row));
		for (uint32_t n = 1; n <= 200; n += 13) {
			struct raster to = { n, 50, 3, out };
			struct err err;
			struct scaler *s = scaler_new(100, 70, 3, &to, &err);

			for (int y = 0; y < 70; y++)
				scaler_row(s, row);
			scaler_free(s);
			for (size_t i = 0; i < (size_t)n * 50 * 3; i++)
				assert_int_equal(out[i], value);
		}
	}
}

static struct page measured(const struct image *im, const struct limits *l)
{
	struct page page = { 0 };
	struct err err;

	assert_int_equal(image_measure(im, l, &page, &err), RC_OK);
	return page;
}

static void test_plan(void **state)
{
	const struct limits l = { .page_megapixels = 100, .page_side_pixels = 30000,
				  .image_megapixels = 400 };
	struct image im = { .width = 1728, .height = 1100, .channels = 1, .xdpi = 204, .ydpi = 98 };
	struct page page = measured(&im, &l);

	(void)state;
	assert_int_equal(page.width, 1728);
	assert_int_equal(page.height, 2290);
	assert_near((int)page.dpi, 204, 0);
	assert_false(page.native);

	im = (struct image){ .width = 1728, .height = 1100, .xdpi = 204, .ydpi = 201 };
	page = measured(&im, &l);
	assert_int_equal(page.height, 1100);
	assert_true(page.native);

	im = (struct image){ .width = 20000, .height = 20000, .xdpi = 600, .ydpi = 600 };
	page = measured(&im, &l);
	assert_int_equal(page.width, 10000);
	assert_int_equal(page.height, 10000);
	assert_true(page.dpi == 300);
	assert_false(page.native);

	im = (struct image){ .width = 60000, .height = 100, .orientation = 6 };
	page = measured(&im, &l);
	assert_int_equal(page.width, 50);
	assert_int_equal(page.height, 30000);
	assert_true(page.dpi == 0);

	im = (struct image){ .width = 10, .height = 10, .xdpi = 11811 * 0.0254,
			     .ydpi = 11811 * 0.0254 };
	page = measured(&im, &l);
	assert_true(page.dpi == 300);
	im.xdpi = im.ydpi = 29;
	assert_true(measured(&im, &l).dpi == 0);
	im.xdpi = im.ydpi = 5000;
	assert_true(measured(&im, &l).dpi == 0);
	im.xdpi = 1 / 0.0;
	assert_true(measured(&im, &l).dpi == 0);

	im.xdpi = 40;
	im.ydpi = 4000;
	page = measured(&im, &l);
	assert_true(page.dpi == 0 && page.native && page.warnings);
	page_release(&page);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_page_limits),
		cmocka_unit_test(test_image_limits),
		cmocka_unit_test(test_orientations),
		cmocka_unit_test(test_orientation_and_back),
		cmocka_unit_test(test_grey),
		cmocka_unit_test(test_over_white),
		cmocka_unit_test(test_warnings),
		cmocka_unit_test(test_scaler),
		cmocka_unit_test(test_scaler_keeps_paper),
		cmocka_unit_test(test_plan),
	};

	cmocka_set_message_output(CM_OUTPUT_TAP);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
