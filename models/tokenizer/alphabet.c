/* SPDX-License-Identifier: MIT
 *
 * alphabet: byte-level BPE writes each byte as one printable character: itself where it is one
 * (! to ~, U+00A1 to U+00AC, U+00AE to U+00FF), else the next free one from U+0100 on.
 */
#include "tokenizer/internal.h"
#include "tokenizer/unicode.h"

#include <pthread.h>

#define FIRST_FREE   0x100
#define ALPHABET_END 0x144

static uint16_t character_of[256];
static int16_t byte_of[ALPHABET_END];
static pthread_once_t once = PTHREAD_ONCE_INIT;

static void make(void)
{
	uint16_t next = FIRST_FREE;

	for (int c = 0; c < ALPHABET_END; c++)
		byte_of[c] = -1;
	for (int byte = 0; byte < 256; byte++) {
		bool itself = (byte >= '!' && byte <= '~') || (byte >= 0xa1 && byte != 0xad);

		character_of[byte] = itself ? (uint16_t)byte : next++;
		byte_of[character_of[byte]] = (int16_t)byte;
	}
}

void alphabet_encode(struct buf *out, const char *bytes, size_t len)
{
	pthread_once(&once, make);
	for (size_t i = 0; i < len; i++) {
		uint16_t c = character_of[(unsigned char)bytes[i]];

		if (c >= 0x80)
			buf_addc(out, (char)(0xc0 | c >> 6));
		buf_addc(out, (char)(c < 0x80 ? c : 0x80 | (c & 0x3f)));
	}
}

bool alphabet_decode(struct buf *out, const char *s, size_t len)
{
	size_t before = out->len;

	pthread_once(&once, make);
	for (size_t i = 0; i < len;) {
		uint32_t c;

		i += utf8_get(s + i, &c);
		if (c >= ALPHABET_END || byte_of[c] < 0) {
			out->len = before;
			return false;
		}
		buf_addc(out, (char)byte_of[c]);
	}
	return true;
}
