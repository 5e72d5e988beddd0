/* SPDX-License-Identifier: MIT */
#include "modelfolder.h"
#include "base/err.h"
#include "base/lines.h"
#include "base/num.h"

#include <fcntl.h>
#include <glob.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

bool model_folder_exists(const char *folder)
{
	static const char *const files[] = { "config.json", "adapter_config.json" };
	bool is = false;

	for (size_t i = 0; i < ARRAY_SIZE(files); i++) {
		char *file = xasprintf("%s/%s", folder, files[i]);

		is |= !access(file, R_OK);
		free(file);
	}
	return is;
}

/* The revision that a cache's refs/main names. */
static bool is_main(const char *snapshot)
{
	const char *revision = strrchr(snapshot, '/') + 1;
	char *ref = xasprintf("%s/../../refs/main", snapshot);
	size_t len = 0;
	char *text = read_whole(AT_FDCWD, ref, 4096, &len);
	bool is = text && len >= strlen(revision) && !strncmp(text, revision, strlen(revision));

	free(text);
	free(ref);
	return is;
}

char *model_folder(const char *name)
{
	static const char *const layouts[] = { "%s/%s", "%s/%s/snapshots/*", "%s/models--%s/snapshots/*",
					       "%s/hub/models--%s/snapshots/*" };
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
			for (size_t k = 0; k < matches.gl_pathc; k++) {
				const char *folder = matches.gl_pathv[k];

				if (!model_folder_exists(folder) || (found && !is_main(folder)))
					continue;
				free(found);
				found = xstrdup(folder);
			}
			globfree(&matches);
		}
		free(pattern);
	}
	free(flat);
	return found ? found : xasprintf("%s/%s", root, name);
}
