/* SPDX-License-Identifier: MIT
 *
 * known: what is known of the models that people bring, without having them here.
 */
#ifndef MODELS_FOLDERS_KNOWN_H
#define MODELS_FOLDERS_KNOWN_H

#include <stdbool.h>
#include <stdint.h>

/* A file, or a pattern of files. */
struct known_file {
	const char *path;   /* NULL ends the list */
	const char *size;   /* as the model's page shows it; NULL: not known here */
	const char *wanted; /* what it is for, where it may be left out or is not always there; or
			       NULL */
};

struct known_model {
	const char *name; /* as on the hub; NULL ends the table */
	const char *architecture;
	uint64_t parameters; /* added up from the shapes of the tensors */
	uint64_t weights;    /* bytes */
	const char *weights_how;
	uint64_t token_bytes; /* keys and values of a token, bf16: 2 x layers x kv heads x head size
				 x 2 */
	uint64_t state_bytes; /* of a page besides, whatever its length */
	const char *pipeline; /* a shipped one; or NULL */
	bool copied;	      /* that names another model, and is to be copied for this one */
	const char *licence;  /* what is said of it, to be checked on the page */
	const struct known_file *files;
};

extern const struct known_model known_models[];

/* "org/name", "org--name" or "name", in any case; NULL when there is none. */
const struct known_model *known_model_find(const char *name);

#endif
