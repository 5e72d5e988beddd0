/* SPDX-License-Identifier: MIT
 *
 * commands: the programs behind the command line, one cmd_NAME.c each, and what they share.
 */
#ifndef RUNNER_COMMANDS_H
#define RUNNER_COMMANDS_H

#include "config.h"
#include "options.h"
#include "spool.h"
#include "survey.h"

#include <jansson.h>

/* Each returns the exit code. */
int cmd_run(const struct options *o);
int cmd_submit(const struct options *o);
int cmd_ocr(const struct options *o);
int cmd_status(const struct options *o);
int cmd_ls(const struct options *o);
int cmd_show(const struct options *o);
int cmd_hold(const struct options *o);
int cmd_release(const struct options *o);
int cmd_retry(const struct options *o);
int cmd_verify(const struct options *o);
int cmd_models(const struct options *o);
int cmd_check(const struct options *o);
int check_recogniser(const struct options *o); /* conform.h */
int cmd_help(const struct options *o);
int cmd_completion(const struct options *o);

/* "cloister COMMAND: message" on standard error, control characters escaped; for a person at a
 * terminal, so without the log's time and level. */
void complain(const struct options *o, const char *format, ...)
	__attribute__((format(printf, 2, 3)));

/* The spool of --spool or $CLOISTER_SPOOL, which must exist. 0, or the exit code to end with, said. */
int open_spool(const struct options *o, struct spool *s, struct config *config);

/* Call act for the document that each argument names, if it is in one of `states` (bits 1 << enum
 * document_state); act says itself what went wrong and returns false. Says what is not found, not in
 * such a state ("cannot be VERB"), or named by several. Returns the exit code. */
int for_each_named(const struct options *o, const struct survey *survey, unsigned states,
		   const char *verb, bool (*act)(const struct listed *d, void *arg), void *arg);

/* One line on standard output: obj compact with sorted keys; takes the reference. */
void print_json(json_t *obj);

/* name_escape() as a string that the caller frees. Every name that is shown passes through it. */
char *display(const char *name);
json_t *json_display(const char *name);

#endif
