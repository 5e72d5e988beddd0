/* SPDX-License-Identifier: MIT
 *
 * replay: a harness without a fuzzer: each file named, and each file in a folder named, once.
 */
#include "fuzz.h"

#include <dirent.h>
#include <sys/stat.h>

static void replay_file(const char *path)
{
	FILE *f = fopen(path, "re");
	uint8_t *data;
	struct stat st;

	if (!f || fstat(fileno(f), &st))
		die(EX_USAGE_ERROR, "%s cannot be read", path);
	data = xmalloc((size_t)st.st_size); /* exactly, so that a sanitizer sees its end */
	if (fread(data, 1, (size_t)st.st_size, f) != (size_t)st.st_size)
		die(EX_USAGE_ERROR, "%s cannot be read", path);
	fclose(f);
	fprintf(stderr, "%s\n", path);
	LLVMFuzzerTestOneInput(data, (size_t)st.st_size);
	free(data);
}

static void replay(const char *path)
{
	DIR *dir = opendir(path);

	if (!dir) {
		replay_file(path);
		return;
	}
	for (struct dirent *e; (e = readdir(dir));) {
		char *inside = xasprintf("%s/%s", path, e->d_name);

		if (e->d_name[0] != '.')
			replay_file(inside);
		free(inside);
	}
	closedir(dir);
}

int main(int argc, char **argv)
{
	for (int i = 1; i < argc; i++)
		replay(argv[i]);
	return EX_ALL_DONE;
}
