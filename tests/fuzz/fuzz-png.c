/* SPDX-License-Identifier: MIT
 *
 * PNG files.
 */
#include "fuzz-decoder.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	return fuzz_decoder(&png_decoder, data, size);
}
