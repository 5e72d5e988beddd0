/* SPDX-License-Identifier: MIT
 *
 * cloister: the command line. It finds the command in the table and runs it; see commands.h.
 */
#include "base/log.h"
#include "commands.h"

#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>

int main(int argc, char **argv)
{
	const struct command *command;
	struct options options;
	int code;

	log_init("cloister", LOG_INFO);
	json_set_alloc_funcs(xmalloc, free); /* a value that is missing must not go unnoticed */
	code = options_parse(argc, argv, &command, &options);
	if (code < 0) {
		log_init("cloister", options.verbose ? LOG_DEBUG
				     : options.quiet ? LOG_WARN
						     : LOG_INFO);
		code = command->run(&options);
	}
	if (fflush(stdout) || ferror(stdout)) {
		log_error("standard output cannot be written");
		return code == EX_ALL_DONE ? EX_SOME_FAILED : code;
	}
	return code;
}
