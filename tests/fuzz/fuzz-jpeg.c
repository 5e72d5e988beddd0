/* SPDX-License-Identifier: MIT
 *
 * JPEG files.
 */
#include "fuzz-decoder.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	return fuzz_decoder(&jpeg_decoder, data, size);
}
