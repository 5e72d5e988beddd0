/* SPDX-License-Identifier: MIT
 *
 * shapes: sizes of known models, to measure with random weights what they will take before anybody has
 * fetched them.
 */
#ifndef MODELS_SHAPES_H
#define MODELS_SHAPES_H

#include "config.h"

#include <stdio.h>

/* RC_FAILED, and the names there are in err, when it is none of them. */
enum rc shape_config(struct model_config *, const char *name, struct err *err);

/* Each on a line of its own, with what it is the shape of. */
void shapes_list(FILE *out);

/* Its config.json, for other programs that are to measure the same; NULL: no such shape. */
const char *shape_json(const char *name);

#endif
