/* SPDX-License-Identifier: MIT
 *
 * PDF files: our look at them, qpdf's repair, poppler's pages.
 */
#include "fuzz-decoder.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static bool warm;

	if (!warm)
		pdf_warm_up();
	warm = true;
	return fuzz_decoder(&pdf_decoder, data, size);
}
