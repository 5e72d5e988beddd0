/* SPDX-License-Identifier: MIT
 *
 * folders: cloister-models, the program behind `cloister models`: what becomes of a model's folder
 * between its download and a run.
 *
 * Weights and archives are somebody else's data. Whatever reads them does so behind a sandbox that
 * can write nothing (list, lock, verify, diff) or to one new folder alone (unpack); what is to be
 * written, a lock or a folder's final name, the process outside writes.
 */
#ifndef MODELS_FOLDERS_FOLDERS_H
#define MODELS_FOLDERS_FOLDERS_H

#include "base/err.h"
#include "sandbox.h"

#include <jansson.h>
#include <stdbool.h>
#include <stddef.h>

struct folders_options {
	const char *action;
	bool json, quiet;
	const char *output;	  /* pack: a file; unpack: a folder; or NULL */
	const char *pipelines[4]; /* folders of pipeline files, NULL-terminated */
	char **args;		  /* NULL-terminated */
	int n_args;
};

/* Each returns the exit code. */
int folders_plan(const struct folders_options *);
int folders_list(const struct folders_options *);
int folders_lock(const struct folders_options *);
int folders_verify(const struct folders_options *);
int folders_diff(const struct folders_options *);
int folders_pack(const struct folders_options *);
int folders_unpack(const struct folders_options *);

/* "cloister models ACTION: message" on standard error, control characters escaped. */
void folders_say(const struct folders_options *, const char *format, ...)
	__attribute__((format(printf, 2, 3)));

/* Text that may hold anything, fit for a line; the caller frees it. */
char *folders_display(const char *text);
void folders_print_json(json_t *); /* a line; takes the reference */

/*
 * The folder of a model that a person names: a folder, a Hugging Face cache of one revision, or a
 * name beneath $CLOISTER_MODELS as in a pipeline. NULL and *err when it is none. The caller frees
 * it.
 */
char *folders_find(const char *name, struct err *err);

/* A path that ends with the name of what it leads to. The caller frees it. */
char *folders_path(const char *path);

/* $CLOISTER_MODELS, or /models. */
const char *folders_root(void);

/*
 * Run act in a process of its own, locked as `kind` with what `folder` (and the blobs beside a
 * snapshot) allows, and take its exit code. What it writes to `out` comes back in *text, at most 32
 * MiB, unless text is NULL; the caller frees it. write_fd: for SANDBOX_WRITE, else -1.
 */
int folders_confined(const struct folders_options *, enum sandbox_kind kind, const char *folder,
		     int write_fd, int (*act)(const struct folders_options *, void *arg, int out),
		     void *arg, char **text, size_t *len);

#endif
