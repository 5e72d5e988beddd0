/* SPDX-License-Identifier: MIT
 *
 * WebP files.
 */
#include "fuzz-decoder.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	return fuzz_decoder(&webp_decoder, data, size);
}
