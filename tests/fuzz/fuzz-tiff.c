/* SPDX-License-Identifier: MIT
 *
 * TIFF files.
 */
#include "fuzz-decoder.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	return fuzz_decoder(&tiff_decoder, data, size);
}
