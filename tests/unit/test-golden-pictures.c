/* SPDX-License-Identifier: MIT
 *
 * Pictures as a model's own utilities would load them with Pillow (tests/golden/make-images.py):
 * upright by EXIF, on white where they are transparent, grey and palettes as RGB.
 */
#include "images.h"

#include "base/num.h"

#include <dirent.h>

struct loaded {
	char *data;
	size_t len;
};

static struct loaded load(const char *path)
{
	struct loaded l = { xmalloc(1 << 16), 0 };
	FILE *f = fopen(path, "re");

	if (!f)
		fail_msg("%s cannot be opened", path);
	l.len = fread(l.data, 1, 1 << 16, f);
	fclose(f);
	return l;
}

static void compare(const char *name, const struct decoded *d, const struct loaded *want,
		    int tolerance)
{
	unsigned width, height, channels = d->raster.channels;
	int head = 0;

	if (d->rc)
		fail_msg("%s: %s", name, d->err.text);
	if (sscanf(want->data, "P6 %u %u 255%n", &width, &height, &head) != 2)
		fail_msg("%s: what should come out cannot be read", name);
	head++;
	assert_int_equal(want->len, (size_t)head + (size_t)width * height * 3);
	if (d->raster.width != width || d->raster.height != height)
		fail_msg("%s: %u x %u pixels, not %u x %u", name, d->raster.width,
			 d->raster.height, width, height);
	for (size_t i = 0; i < (size_t)width * height * 3; i++) {
		int is = d->raster.pixels[channels == 1 ? i / 3 : i];
		int should_be = (unsigned char)want->data[(size_t)head + i];

		if (abs(is - should_be) > tolerance)
			fail_msg("%s: pixel %zu, %zu is %d, not %d", name, i / 3 % width,
				 i / 3 / width, is, should_be);
	}
}

static void test_as_pillow(void **state)
{
	const char *given = getenv("CLOISTER_GOLDEN_IMAGES");
	char *folder = xasprintf("%s/pictures", given ? given : "tests/golden/images");
	DIR *dir = opendir(folder);
	unsigned count = 0;

	(void)state;
	assert_non_null(dir);
	for (struct dirent *e; (e = readdir(dir));) {
		const char *dot = strrchr(e->d_name, '.');
		bool jpeg = !strcmp(dot, ".jpg");
		char *picture = xasprintf("%s/%s", folder, e->d_name);
		char *ppm = xasprintf("%s/%.*s.ppm", folder, (int)(dot - e->d_name), e->d_name);

		if (jpeg || !strcmp(dot, ".png")) {
			struct loaded file = load(picture), want = load(ppm);
			struct decoded d = decode_page(jpeg ? &jpeg_decoder : &png_decoder,
						       (struct bytes){ (uint8_t *)file.data, file.len },
						       0);

			/* Blending rounds, and two libraries may take a JPEG's last bit two ways. */
			compare(e->d_name, &d, &want, jpeg ? 2 : strstr(e->d_name, "alpha") ? 1 : 0);
			decoded_release(&d);
			free(file.data);
			free(want.data);
			count++;
		}
		free(picture);
		free(ppm);
	}
	closedir(dir);
	free(folder);
	print_message("# figure: pictures as Pillow loads them: %u\n", count);
	assert_true(count >= 10);
}

int main(void)
{
	const struct CMUnitTest tests[] = { cmocka_unit_test(test_as_pillow) };

	cmocka_set_message_output(CM_OUTPUT_TAP);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
