/* SPDX-License-Identifier: MIT
 *
 * ocr: what the two halves of `cloister ocr` share.
 */
#ifndef RUNNER_OCR_H
#define RUNNER_OCR_H

#include "commands.h"

struct ocr {
	const struct options *o;
	char *path;       /* of the temporary spool */
	int root;         /* the same, open */
	int output;       /* DIR of -o, or -1 */
	char *pipeline;
	unsigned printed; /* results */
	bool no_output;   /* standard output takes no more */
	bool some_failed;
};

/* The name a document of the command line gets in the spool: its own, where the spool takes it. */
const char *ocr_name(const char *file);

/* Take the results out of the spool: print them or move them to DIR, and say what failed. */
void ocr_take_out(struct ocr *ocr);

#endif
