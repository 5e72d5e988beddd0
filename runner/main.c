/* SPDX-License-Identifier: MIT
 *
 * cloister: the command line. It finds the command in the table and runs it; see commands.h.
 */
#include "base/log.h"
#include "commands.h"

#include <stdio.h>
#include <stdlib.h>

int main(int argc, char **argv)
{
	const struct command *command;
	struct options options;
	int code;

	log_init("cloister", LOG_WARN);
	code = options_parse(argc, argv, &command, &options);
	if (code < 0) {
		if (options.verbose)
			log_init("cloister", LOG_DEBUG);
		else if (getenv("JOURNAL_STREAM") && !options.quiet)
			log_init("cloister", LOG_INFO);
		code = command->run(&options);
	}
	if (fflush(stdout) || ferror(stdout)) {
		log_error("standard output cannot be written");
		return code == EX_ALL_DONE ? EX_SOME_FAILED : code;
	}
	return code;
}
