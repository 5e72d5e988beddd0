/* SPDX-License-Identifier: MIT
 *
 * digest: SHA-256 of many large files, by all threads.
 *
 * A file has two: `sha256`, which sha256sum and download pages show, and `pieces`, the SHA-256 of
 * the SHA-256s of its pieces of 16 MiB. The second proves as much, and all threads can work on one
 * file: two of them take about as long for 8 GB as it takes to be read from disk.
 */
#ifndef MODELS_WEIGHTS_DIGEST_H
#define MODELS_WEIGHTS_DIGEST_H

#include "base/err.h"
#include "base/hash.h"
#include "kernels/pool.h"

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

struct digest {
	const char *path; /* beneath the folder; borrowed */
	uint64_t size;	  /* that it is to have */
	char sha256[SHA256_HEX_SIZE], pieces[SHA256_HEX_SIZE];
	int error; /* errno that kept it from being read; ESTALE: it has another size */
};

/* On standard error while it takes long: "what: 42 % of 7.51 GB". what NULL: nothing is shown. */
struct progress {
	const char *what;
	uint64_t total;
	_Atomic uint64_t done;
	atomic_flag drawing; /* by one thread at a time */
	double drawn;	     /* when; 0: not yet */
};

void progress_add(struct progress *, uint64_t bytes);
void progress_end(struct progress *);

enum digest_kind { DIGEST_PIECES, DIGEST_BOTH };
void digest_files(const char *folder, struct digest *v, size_t n, enum digest_kind, struct pool *,
		  const char *what);

/* Why it could not be read: RC_FATAL; RC_OK where it was. */
enum rc digest_check(const struct digest *, struct err *);

/* "7.51 GB", "812 bytes"; 10^9 bytes are a GB. */
struct size_text {
	char s[32];
};
struct size_text size_text(uint64_t bytes);

#endif
