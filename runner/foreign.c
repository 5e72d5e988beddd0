/* SPDX-License-Identifier: MIT
 *
 * foreign: how a recogniser is started; one that is not ours behind a sandbox that we make for it.
 */
#include "recogniser.h"
#include "base/num.h"

#include <stdlib.h>
#include <string.h>

enum rc recogniser_start(struct child *child, const struct pool *pool, const char *const *argv,
			 const char *const *env, bool foreign, loop_handler *on_line, loop_handler *on_end, void *arg,
			 struct err *err)
{
	static const char *const readable[] = {"/dev/null",
					       "/dev/zero",
					       "/dev/urandom",
					       "/proc",
					       "/sys/devices/system/cpu",
					       "/etc/alternatives",
					       "/etc/fonts",
					       "/etc/ld.so.cache",
					       "/etc/localtime",
					       "/etc/mime.types",
					       "/etc/passwd",
					       NULL};
	const char *execute[] = {"/usr", "/lib", "/lib64", "/bin", "/sbin", "/opt", NULL, NULL};
	static const char *const writable[] = {"/dev/null", NULL};
	const char *pages[ARRAY_SIZE(readable) + 1];
	struct sandbox_rules rules = {.write_fd = -1};
	struct child_spec spec = {.name = "recogniser",
				  .argv = argv,
				  .env = env,
				  .max_line = 64u << 20,
				  .cwd = pool->scratch->path,
				  .require_sandbox = pool->sandbox == SANDBOX_ON};
	char *program_dir = xstrdup(argv[0]), *slash = strrchr(program_dir, '/');
	enum rc rc;

	if (slash && slash != program_dir)
		*slash = '\0';
	memcpy(pages, readable, sizeof(readable));
	pages[ARRAY_SIZE(readable) - 1] = pool->scratch->path;
	pages[ARRAY_SIZE(readable)] = NULL;
	execute[6] = program_dir;
	rules.read = pages;
	rules.execute = execute;
	rules.write = writable;
	if (foreign && pool->sandbox != SANDBOX_OFF)
		spec.rules = &rules;
	rc = child_start(child, pool->loop, &spec, on_line, on_end, arg, err);
	free(program_dir);
	return rc;
}
