/* SPDX-License-Identifier: MIT
 *
 * First bytes: every file is of some kind, or is refused with words for people.
 */
#include "fuzz.h"

#include "decode.h"
#include "decode/image.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct image im = { .orientation = 1 };
	int fd = fuzz_file(data, size);
	struct err err = { "", "" };
	enum document_kind kind = sniff(fd, &err);

	CHECK((unsigned)kind < KIND_COUNT && document_kind_name(kind));
	if (kind == KIND_UNKNOWN) {
		check_err(RC_FAILED, &err);
		CHECK(!strcmp(err.reason, size ? "unknown-type" : "empty"));
	}
	exif_read(data, size, &im);
	CHECK(im.orientation >= 1 && im.orientation <= 8 && im.xdpi >= 0 && im.ydpi >= 0);
	close(fd);
	return 0;
}
