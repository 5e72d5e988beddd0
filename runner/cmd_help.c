/* SPDX-License-Identifier: MIT
 *
 * cloister help, cloister completion: what the table of commands says of itself.
 */
#include "commands.h"

#include <stdio.h>
#include <string.h>

#define TEXT_MAX (1 << 20)

static int print(void (*text)(struct buf *out))
{
	struct buf out;

	buf_init(&out, TEXT_MAX);
	text(&out);
	if (out.overflow)
		BUG("help is longer than %d bytes", TEXT_MAX);
	fwrite(out.data, 1, out.len, stdout);
	buf_release(&out);
	return EX_ALL_DONE;
}

int cmd_help(const struct options *o)
{
	const struct command *command = NULL;
	const char *meant;
	struct buf out;

	if (o->man)
		return print(options_man);
	if (o->n_args && !(command = command_find(o->args[0]))) {
		meant = command_suggest(o->args[0]);
		complain(o, "unknown command %s%s%s%s", o->args[0], meant ? "; did you mean " : "",
			 meant ? meant : "", meant ? "?" : "");
		return EX_USAGE_ERROR;
	}
	buf_init(&out, TEXT_MAX);
	options_help(&out, command);
	fwrite(out.data, 1, out.len, stdout);
	buf_release(&out);
	return EX_ALL_DONE;
}

int cmd_completion(const struct options *o)
{
	if (strcmp(o->args[0], "bash")) {
		complain(o, "%s: there is completion for bash only", o->args[0]);
		return EX_USAGE_ERROR;
	}
	return print(options_bash);
}
