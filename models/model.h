/* SPDX-License-Identifier: MIT
 *
 * model: a model folder, opened: configuration, and the device that computes it.
 */
#ifndef MODELS_MODEL_H
#define MODELS_MODEL_H

#include "compute.h"
#include "kernels/pool.h"

struct model {
	struct model_config config;
	struct weights *weights; /* stays mapped: embeddings are read from it */
	struct compute *compute;
	size_t adapter_count; /* that the device has beside it */
};

/* Every tensor of the folder is used and every one needed is there, or RC_FATAL names it. */
enum rc model_open(struct model *, const char *folder, compute_opener *, const struct compute_options *,
		   struct pool *, struct err *);
/* The configuration that is in m->config already, with random weights: for measuring. */
enum rc model_open_config(struct model *m, compute_opener *, const struct compute_options *, struct pool *,
			  struct err *);
void model_close(struct model *);

/* One more adapter beside the model, with the next number. RC_FATAL names file and field. */
enum rc model_adapt(struct model *, const char *folder, struct err *);

/* A page in a prompt: where its tokens begin, and how many rows and columns of them there are. */
struct model_page {
	size_t first;
	unsigned rows, columns;
};

/*
 * Positions of n prompt tokens on the time, row and column axes, position[3 * i + axis]. Text
 * counts up on all three; a page's tokens share one time and have their row and column; what
 * follows goes on behind the longer side. Returns the position of the first generated token (on all
 * axes).
 */
unsigned model_positions(size_t n, const struct model_page *pages, size_t count,
			 unsigned *position);

#endif
