/* SPDX-License-Identifier: MIT
 *
 * cloister models: hands over to cloister-models, which has the readers of weights and archives.
 */
#include "commands.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

int cmd_models(const struct options *o)
{
	char **argv = xcalloc((size_t)o->n_args + 16, sizeof(*argv));
	char *program = xasprintf("%s/cloister-models", install_program_dir());
	size_t n = 0;

	argv[n++] = program;
	if (o->json)
		argv[n++] = xstrdup("--json");
	if (o->quiet)
		argv[n++] = xstrdup("--quiet");
	if (o->output)
		argv[n++] = xasprintf("--output=%s", o->output);
	if (o->spool) /* its own pipelines hide the shipped ones */
		argv[n++] = xasprintf("--pipelines=%s/pipelines", o->spool);
	argv[n++] = xasprintf("--pipelines=%s", install_pipeline_dir());
	argv[n++] = xstrdup("--");
	for (int i = 0; i < o->n_args; i++)
		argv[n++] = o->args[i];
	execv(program, argv);
	complain(o, "%s cannot be started: %s", program, strerror(errno));
	return EX_CONFIGURATION;
}
