/* SPDX-License-Identifier: MIT
 *
 * adapters: the LoRA adapters beside an engine's model.
 *
 * Pipelines whose recognisers differ in their adapters alone share one engine: it is started with
 * the adapters of all of them, and each request names its own. One that cannot be used (its folder
 * is damaged, not locked, or for another model) is said so in hello, and breaks the pipelines that
 * name it, not those beside them.
 */
#ifndef RUNNER_ADAPTERS_H
#define RUNNER_ADAPTERS_H

#include "base/err.h"
#include "pipeline.h"

#include <jansson.h>
#include <stdbool.h>
#include <stddef.h>

enum { ENGINE_ADAPTERS_MAX = 64 };

struct engine_adapter {
	char *name;		   /* as pipelines and requests call it */
	char sha256[65], lock[65]; /* lock: of the cloister.lock that it keeps to; or "" */
	struct err why;		   /* it cannot be used; reason "": it can */
};

struct adapters {
	struct engine_adapter *v; /* by name */
	size_t n;
};

void adapters_release(struct adapters *);
/* Those of a pipeline, as far as there is room. */
void adapters_add(struct adapters *, const struct pipeline *);
/* Are all of the pipeline's among them? */
bool adapters_cover(const struct adapters *, const struct pipeline *);
/* What hello says of them. False: not of all. */
bool adapters_take_hello(struct adapters *, const json_t *list);
/* One of the pipeline's that cannot be used, or NULL. */
const struct engine_adapter *adapters_bad(const struct adapters *, const struct pipeline *);

/* The pipeline's as [{"name":..,"sha256":..,"lock":..}], in its order; NULL when it has none. New
 * reference. */
json_t *adapters_json(const struct adapters *, const struct pipeline *);

#endif
