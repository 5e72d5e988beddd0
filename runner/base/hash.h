/* SPDX-License-Identifier: MIT
 *
 * hash: SHA-256 (FIPS 180-4, through nettle) for identity, CRC-32C (Castagnoli, RFC 3720
 * appendix B.4) for records that a power cut may have torn.
 */
#ifndef BASE_HASH_H
#define BASE_HASH_H

#include "base/err.h"

#include <nettle/sha2.h>
#include <stddef.h>
#include <stdint.h>

#define SHA256_HEX_SIZE 65

/* Lower-case hex with NUL. */
void sha256_hex(struct sha256_ctx *ctx, char out[SHA256_HEX_SIZE]);
void sha256_hex_of(const void *data, size_t len, char out[SHA256_HEX_SIZE]);
/* Whole file from offset 0; the descriptor's position is left alone. */
enum rc sha256_hex_fd(int fd, char out[SHA256_HEX_SIZE], uint64_t *size, struct err *err);

/* First 64 bits of SHA-256, big-endian. */
uint64_t hash64(const void *data, size_t len);

/* Start with crc 0; may be continued with the value returned. */
uint32_t crc32c(uint32_t crc, const void *data, size_t len);

#endif
