/* SPDX-License-Identifier: MIT
 *
 * JPEG 2000 files.
 */
#include "fuzz-decoder.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	return fuzz_decoder(&jp2_decoder, data, size);
}
