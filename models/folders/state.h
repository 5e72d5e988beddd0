/* SPDX-License-Identifier: MIT
 *
 * state: what a model's folder is, and what it lacks.
 */
#ifndef MODELS_FOLDERS_STATE_H
#define MODELS_FOLDERS_STATE_H

#include "weights/lock.h"

enum model_readiness {
	MODEL_READY,
	MODEL_UNLOCKED,	   /* all there, no lock */
	MODEL_DIFFERS,	   /* from its lock, in names and sizes; or the lock cannot be read */
	MODEL_UNSUPPORTED, /* all there, but not for this engine */
	MODEL_INCOMPLETE,
	MODEL_REFUSED, /* its weights are pickles */
};

struct model_state {
	char *folder, *name;
	enum model_readiness readiness;
	char *family;	     /* of config.json, shortened, fit to be shown; NULL: not known */
	uint64_t parameters; /* 0: not known */
	struct model_files files;
	struct model_lock lock; /* v is NULL when there is none */
	json_t *problems;	/* why it is not ready: texts, fit to be shown */
	json_t *code;		/* what carries code, texts; never opened */
};

/* Looks at names, sizes and headers; weights are not read. Caller releases. */
void model_state_take(struct model_state *, const char *folder);
void model_state_release(struct model_state *);
const char *model_readiness_name(enum model_readiness);

/* Is there anything of a model in this folder: configuration, weights, parts of them? */
bool model_folder_seems(const char *folder);

#endif
