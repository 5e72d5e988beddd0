/* SPDX-License-Identifier: MIT
 *
 * options: the command line, described once.
 *
 * One table of commands, each with its table of options, makes the parser, `--help`, the man page
 * and the shell's completion, so that the four cannot disagree.
 */
#ifndef RUNNER_OPTIONS_H
#define RUNNER_OPTIONS_H

#include "base/buf.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* What the options of every command are read into. Strings are borrowed from argv. */
struct options {
	const char *command;
	const char *spool; /* --spool, else $CLOISTER_SPOOL, else NULL */
	const char *pipeline;
	const char *output;
	const char *languages;
	const char *state;
	const char *until; /* HH:MM, checked */
	const char *probe;
	uint64_t jobs;     /* 0: not given */
	uint64_t seconds;  /* likewise */
	uint64_t priority;
	bool priority_given;
	bool once, all, recursive, man, recogniser;
	bool json, verbose, quiet, help, version;
	char **args; /* what is not an option, NULL-terminated */
	int n_args;
};

/* How an option's value is checked, and completed by the shell. */
enum option_type {
	OPTION_FLAG,
	OPTION_TEXT,
	OPTION_NUMBER, /* min .. max */
	OPTION_TIME,   /* HH:MM */
	OPTION_CHOICE, /* one of `choices` */
	OPTION_FOLDER,
	OPTION_FILE,
};

struct option_spec {
	const char *name; /* NULL ends a table */
	char letter;      /* 0: none */
	enum option_type type;
	const char *value; /* what it is called in help; NULL for a flag */
	const char *help;  /* phrases without a final full stop */
	size_t offset;     /* of a const char *, uint64_t or bool in struct options */
	size_t given;      /* offset of a bool that is set along with it; 0: none */
	uint64_t min, max;
	const char *choices; /* separated by spaces */
	bool hidden;
	bool last; /* a flag: all that follows is no option of ours */
};

enum args_complete { ARGS_NONE, ARGS_FILES, ARGS_FOLDER, ARGS_COMMANDS, ARGS_SHELLS, ARGS_MODELS };

struct command {
	const char *name; /* NULL ends the table */
	const char *args; /* "FILE..." */
	const char *summary;
	const char *text; /* paragraphs for help and man page, separated by an empty line */
	int min_args, max_args; /* max -1: any number */
	enum args_complete complete;
	const struct option_spec *options; /* its own; the common ones come on top */
	bool no_spool, no_json;            /* which of the common ones it does not take */
	int (*run)(const struct options *options);
};

extern const struct command commands[];

const struct command *command_find(const char *name);
/* The command that was probably meant, or NULL. */
const char *command_suggest(const char *name);

/* Read argv[1] (the command) and what follows. Returns -1 to go on, else the exit code: after
 * --help, --version (printed on standard output) and usage errors (said on standard error). */
int options_parse(int argc, char **argv, const struct command **command, struct options *options);

/* What the table says, for people and programs. command NULL: the overview. */
void options_help(struct buf *out, const struct command *command);
void options_man(struct buf *out);
void options_bash(struct buf *out);

#endif
