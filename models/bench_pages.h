/* SPDX-License-Identifier: MIT
 *
 * bench_pages: whole pages through a model, and each part of the work as a share of what the device can do.
 */
#ifndef MODELS_BENCH_PAGES_H
#define MODELS_BENCH_PAGES_H

#include "engine.h"

struct bench_pages {
	const char *shape;	/* what the model is called */
	const char *weights;
	double weight_bytes, head_bytes; /* of a number of the layers, and of the head */
	unsigned pages, batch;	/* in all; side by side */
	unsigned first;		/* number of the first: no two of an engine may be alike */
	unsigned side;		/* pixels */
	unsigned prompt, tokens; /* of text beside the picture; written for each */
	unsigned threads;
	struct compute_peak peak;
};

/* A JSON line on standard output. Ends the process where it cannot be done. */
void bench_pages(const struct bench_pages *, struct model *, struct engine *);

/* Numbers in the matrices that every token goes through, and in the head. */
double bench_parameters(const struct text_config *, double *head);

#endif
