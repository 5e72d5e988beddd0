/* SPDX-License-Identifier: MIT */
#include "base/hash.h"
#include "base/num.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

void sha256_hex(struct sha256_ctx *ctx, char out[SHA256_HEX_SIZE])
{
	uint8_t digest[SHA256_DIGEST_SIZE];

	sha256_digest(ctx, sizeof(digest), digest);
	for (size_t i = 0; i < sizeof(digest); i++)
		snprintf(out + 2 * i, 3, "%02x", digest[i]);
}

void sha256_hex_of(const void *data, size_t len, char out[SHA256_HEX_SIZE])
{
	struct sha256_ctx ctx;

	sha256_init(&ctx);
	sha256_update(&ctx, len, data);
	sha256_hex(&ctx, out);
}

enum rc sha256_hex_fd(int fd, char out[SHA256_HEX_SIZE], uint64_t *size, struct err *err)
{
	static uint8_t block[1 << 18];
	struct sha256_ctx ctx;
	uint64_t done = 0;

	sha256_init(&ctx);
	for (;;) {
		ssize_t n = pread(fd, block, sizeof(block), (off_t)done);

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return err_errno(err, RC_FAILED, "read-error", "read at byte %llu",
					 (unsigned long long)done);
		if (!n)
			break;
		sha256_update(&ctx, (size_t)n, block);
		done += (uint64_t)n;
	}
	sha256_hex(&ctx, out);
	*size = done;
	return RC_OK;
}

uint64_t hash64(const void *data, size_t len)
{
	struct sha256_ctx ctx;
	uint8_t digest[8];
	uint64_t h = 0;

	sha256_init(&ctx);
	sha256_update(&ctx, len, data);
	sha256_digest(&ctx, sizeof(digest), digest);
	for (size_t i = 0; i < sizeof(digest); i++)
		h = h << 8 | digest[i];
	return h;
}

/* Reflected polynomial 0x82f63b78, a nibble at a time: records are small, a table of 16 will do. */
uint32_t crc32c(uint32_t crc, const void *data, size_t len)
{
	static const uint32_t table[16] = {
		0x00000000, 0x105ec76f, 0x20bd8ede, 0x30e349b1, 0x417b1dbc, 0x5125dad3,
		0x61c69362, 0x7198540d, 0x82f63b78, 0x92a8fc17, 0xa24bb5a6, 0xb21572c9,
		0xc38d26c4, 0xd3d3e1ab, 0xe330a81a, 0xf36e6f75,
	};
	const uint8_t *p = data;

	crc = ~crc;
	while (len--) {
		crc ^= *p++;
		crc = crc >> 4 ^ table[crc & 15];
		crc = crc >> 4 ^ table[crc & 15];
	}
	return ~crc;
}
