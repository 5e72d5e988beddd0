/* SPDX-License-Identifier: MIT
 *
 * Portable bitmaps, our own reader.
 */
#include "fuzz-decoder.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	return fuzz_decoder(&pnm_decoder, data, size);
}
