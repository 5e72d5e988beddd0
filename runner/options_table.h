/* SPDX-License-Identifier: MIT
 *
 * What options.c and options_text.c share: walking the table.
 */
#ifndef RUNNER_OPTIONS_TABLE_H
#define RUNNER_OPTIONS_TABLE_H

#include "options.h"

enum common_option {
	COMMON_SPOOL,
	COMMON_JSON,
	COMMON_VERBOSE,
	COMMON_QUIET,
	COMMON_HELP,
	COMMON_VERSION,
	COMMON_OPTIONS,
};

/* Every command takes these, but --spool and --json where the table says no. */
extern const struct option_spec common_options[COMMON_OPTIONS + 1];

/* The options a command takes, its own and then the common ones: the one after `last` (NULL: the
 * first), or NULL. command NULL: those that may stand without a command. */
const struct option_spec *option_next(const struct command *command,
				      const struct option_spec *last);

#endif
