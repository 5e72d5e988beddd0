/* SPDX-License-Identifier: MIT */
#include "modelfolder.h"
#include "base/err.h"
#include "base/num.h"

#include <glob.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

bool model_folder_exists(const char *folder)
{
	char *file = xasprintf("%s/config.json", folder);
	bool is = !access(file, R_OK);

	free(file);
	return is;
}

char *model_folder(const char *name)
{
	static const char *const layouts[] = { "%s/%s", "%s/%s/snapshots/*", "%s/models--%s/snapshots/*" };
	const char *root = getenv("CLOISTER_MODELS");
	char *flat, *slash, *found = NULL;

	if (name[0] == '/')
		return xstrdup(name);
	if (!root || !*root)
		root = "/models";
	flat = xstrdup(name);
	if ((slash = strchr(flat, '/'))) {
		char *joined = xasprintf("%.*s--%s", (int)(slash - flat), flat, slash + 1);

		free(flat);
		flat = joined;
	}
	for (size_t i = 0; i < 2 * ARRAY_SIZE(layouts) && !found; i++) {
		char *pattern = xasprintf(layouts[i / 2], root, i % 2 ? flat : name);
		glob_t matches;

		if (!glob(pattern, 0, NULL, &matches)) {
			for (size_t k = 0; k < matches.gl_pathc && !found; k++)
				if (model_folder_exists(matches.gl_pathv[k]))
					found = xstrdup(matches.gl_pathv[k]);
			globfree(&matches);
		}
		free(pattern);
	}
	free(flat);
	return found ? found : xasprintf("%s/%s", root, name);
}
