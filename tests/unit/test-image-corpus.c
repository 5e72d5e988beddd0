/* SPDX-License-Identifier: MIT
 *
 * Pictures that nobody here made, where they are at hand: one picture as colour, palette, with
 * alpha, grey, JPEG and CMYK must give nearly the same page.
 */
#include "images.h"

#include "base/num.h"

#include <fcntl.h>
#include <sys/stat.h>

#define CORPUS "../shared/corpus/"

static const struct decoder *decoder_of(enum document_kind kind)
{
	switch (kind) {
	case KIND_PNG:
		return &png_decoder;
	case KIND_JPEG:
		return &jpeg_decoder;
	case KIND_TIFF:
		return &tiff_decoder;
	default:
		return NULL;
	}
}

static struct bytes load(const char *name)
{
	char path[256];
	struct bytes b = { 0 };
	struct stat st;
	int fd;

	snprintf(path, sizeof(path), CORPUS "%s", name);
	fd = open(path, O_RDONLY | O_CLOEXEC);
	assert_true(fd >= 0);
	assert_int_equal(fstat(fd, &st), 0);
	b.len = (size_t)st.st_size;
	b.data = malloc(b.len);
	assert_int_equal(read(fd, b.data, b.len), (ssize_t)b.len);
	close(fd);
	return b;
}

static struct decoded decode(const char *name)
{
	struct bytes file = load(name);
	int fd = file_of(file.data, file.len);
	struct err err = { 0 };
	const struct decoder *decoder = decoder_of(sniff(fd, &err));
	struct decoded d;

	assert_non_null(decoder);
	d = decode_page(decoder, file, 0);
	if (d.rc)
		fail_msg("%s: %s: %s", name, d.err.reason, d.err.text);
	close(fd);
	free(file.data);
	return d;
}

static int luma(const struct decoded *d, size_t i)
{
	const uint8_t *p = d->raster.pixels + i * d->raster.channels;

	return d->raster.channels == 1 ? p[0] : (77 * p[0] + 150 * p[1] + 29 * p[2]) >> 8;
}

static double difference(const struct decoded *a, const struct decoded *b)
{
	size_t n = (size_t)a->raster.width * a->raster.height;
	double sum = 0;

	assert_int_equal(a->raster.width, b->raster.width);
	assert_int_equal(a->raster.height, b->raster.height);
	for (size_t i = 0; i < n; i++)
		sum += abs(luma(a, i) - luma(b, i));
	return sum / (double)n;
}

static void test_same_picture(void **state)
{
	static const struct {
		const char *name;
		unsigned channels;
		double tolerance; /* mean difference in luma */
	} same[] = {
		{ "ocrmypdf/baiona_gray.png", 1, 4 },
		{ "ocrmypdf/baiona_colormapped.png", 3, 12 },
		{ "ocrmypdf/baiona_alpha.png", 3, 4 },
		{ "ocrmypdf/baiona_color.jpg", 3, 4 },
		{ "ocrmypdf/baiona_cmyk.jpg", 3, 30 },
	};
	struct decoded first;

	(void)state;
	first = decode("ocrmypdf/baiona.png");
	for (size_t i = 0; i < ARRAY_SIZE(same); i++) {
		struct decoded d = decode(same[i].name);
		double is = difference(&first, &d);

		assert_int_equal(d.raster.channels, same[i].channels);
		if (is > same[i].tolerance)
			fail_msg("%s differs by %.1f", same[i].name, is);
		decoded_release(&d);
	}
	decoded_release(&first);
}

static void test_same_tiff(void **state)
{
	static const char *const names[] = { "smile-lzw.tiff", "smile-deflate.tiff", "smile.tiff",
					     "smile-pack-bits.tiff", "smile.png" };
	struct decoded first;

	(void)state;
	first = decode("sample-files/007-imagemagick-images/smile.tiff");
	for (size_t i = 0; i < ARRAY_SIZE(names); i++) {
		char name[100];
		struct decoded d;

		snprintf(name, sizeof(name), "sample-files/007-imagemagick-images/%s", names[i]);
		d = decode(name);
		assert_true(difference(&first, &d) < 0.01);
		decoded_release(&d);
	}
	decoded_release(&first);
}

int main(void)
{
	if (access(CORPUS, F_OK)) {
		printf("1..0 # SKIP no corpus here\n");
		return 0;
	}
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_same_picture),
		cmocka_unit_test(test_same_tiff),
	};

	cmocka_set_message_output(CM_OUTPUT_TAP);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
