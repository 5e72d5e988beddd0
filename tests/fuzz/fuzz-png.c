/* SPDX-License-Identifier: MIT
 *
 * PNG files: as they are, and with the checksums of their chunks put right, so that what is behind
 * them is reached too.
 */
#include "fuzz-decoder.h"

#include <zlib.h>

#define SIGNATURE 8

static uint32_t number_at(const uint8_t *at)
{
	return (uint32_t)at[0] << 24 | (uint32_t)at[1] << 16 | (uint32_t)at[2] << 8 | at[3];
}

static void put_right(uint8_t *data, size_t size)
{
	for (size_t at = SIGNATURE, len; size - at >= 12; at += len + 12) {
		uint32_t crc;

		len = number_at(data + at);
		if (len > size - at - 12)
			return;
		crc = (uint32_t)crc32(0, data + at + 4, (uInt)len + 4);
		for (size_t i = 0; i < 4; i++)
			data[at + 8 + len + i] = (uint8_t)(crc >> (24 - 8 * i));
	}
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	uint8_t *copy;

	fuzz_decoder(&png_decoder, data, size);
	if (size <= SIGNATURE)
		return 0;
	copy = xmalloc(size);
	memcpy(copy, data, size);
	put_right(copy, size);
	fuzz_decoder(&png_decoder, copy, size);
	free(copy);
	return 0;
}
