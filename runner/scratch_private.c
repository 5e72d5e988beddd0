/* SPDX-License-Identifier: MIT
 *
 * Folders for the temporary files of programs that are not ours (scratch.h): made, measured, removed.
 */
#include "durable.h"
#include "scratch.h"

#include <dirent.h>
#include <fcntl.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define PRIVATE_FILES_MAX 100000
#define PRIVATE_DEPTH_MAX 32

char *scratch_add_private(struct scratch *s, struct err *err)
{
	char *path = xasprintf("%s/private-%u", s->top, s->next_private++);

	if (!mkdir(path, 0700))
		return path;
	err_errno(err, RC_RETRY, "system", "make %s", path);
	free(path);
	return NULL;
}

void scratch_drop_private(struct scratch *s, char *path)
{
	if (path)
		durable_remove_tree(s->top_fd, strrchr(path, '/') + 1);
	free(path);
}

/* Whoever fills it may change it meanwhile: the next look sees that. Takes the descriptor. */
static bool add_bytes(int fd, unsigned depth, unsigned *files, uint64_t *bytes)
{
	DIR *dir = fd < 0 ? NULL : fdopendir(fd);
	bool all = true;

	for (struct dirent *e; all && dir && (e = readdir(dir));) {
		struct stat st;

		if (!strcmp(e->d_name, ".") || !strcmp(e->d_name, ".."))
			continue;
		all = ++*files <= PRIVATE_FILES_MAX && depth <= PRIVATE_DEPTH_MAX;
		if (!all || fstatat(dirfd(dir), e->d_name, &st, AT_SYMLINK_NOFOLLOW))
			continue;
		*bytes += (uint64_t)st.st_blocks * 512;
		if (S_ISDIR(st.st_mode))
			all = add_bytes(openat(dirfd(dir), e->d_name, O_RDONLY | O_DIRECTORY |
					       O_NOFOLLOW | O_CLOEXEC), depth + 1, files, bytes);
	}
	if (dir)
		closedir(dir);
	else if (fd >= 0)
		close(fd);
	return all;
}

uint64_t scratch_private_bytes(const struct scratch *s, const char *path)
{
	unsigned files = 0;
	uint64_t bytes = 0;
	int fd = openat(s->top_fd, strrchr(path, '/') + 1, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);

	return add_bytes(fd, 0, &files, &bytes) ? bytes : UINT64_MAX;
}
