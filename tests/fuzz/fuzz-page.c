/* SPDX-License-Identifier: MIT
 *
 * Page files, as cloister-tesseract takes them in: the header says exactly what was asked for, and
 * the pixels are those of the file.
 */
#include "fuzz.h"

#include "tess.h"

#define WIDTH  16
#define HEIGHT 12

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	int folder = fuzz_folder();
	struct picture image, turned;
	struct err err;
	enum rc rc;

	fuzz_write(folder, "0.pnm", data, size);
	rc = picture_load(&image, folder, fuzz_path, "0.pnm", WIDTH, HEIGHT, &err);
	if (rc) {
		check_err(rc, &err);
		CHECK(!image.pixels);
		return 0;
	}
	CHECK(image.width == WIDTH && image.height == HEIGHT);
	CHECK(image.channels == 1 || image.channels == 3);
	CHECK(!memcmp(image.pixels, data + 13, WIDTH * HEIGHT * image.channels));
	CHECK(image_turn(&image, 90, &turned, &err) == RC_OK);
	CHECK(turned.width == HEIGHT && turned.height == WIDTH);
	picture_release(&turned);
	picture_release(&image);
	return 0;
}
