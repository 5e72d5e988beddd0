/* SPDX-License-Identifier: MIT
 *
 * Which places can be written: tried by making a nameless file, not read from the table of mounts.
 */
#include "verify.h"
#include "base/buf.h"
#include "base/num.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

/* 0: it can be written; else the errno that says why not. */
static int try_to_write(const char *place)
{
	int fd = open(place, O_TMPFILE | O_WRONLY | O_CLOEXEC, 0600);
	char *folder;
	int error = 0;

	if (fd >= 0) {
		close(fd);
		return 0;
	}
	if (errno != EOPNOTSUPP && errno != EISDIR && errno != EINVAL)
		return errno;
	folder = xasprintf("%s/.cloister-verify-%d", place, (int)getpid());
	if (mkdir(folder, 0700))
		error = errno;
	else
		rmdir(folder);
	free(folder);
	return error;
}

static void list(struct buf *b, const char *place)
{
	buf_addf(b, "%s%s", b->len ? ", " : "", place);
}

void verify_read_only(struct verify *v)
{
	const char *const places[] = {
		"/", "/etc", "/usr", install_program_dir(), install_pipeline_dir(),
		getenv("TESSDATA_PREFIX"),
	};
	struct buf writable;
	size_t mounts = 0, rights = 0;

	buf_init(&writable, 1 << 16);
	for (size_t i = 0; i < ARRAY_SIZE(places); i++) {
		int error;

		if (!places[i] || access(places[i], F_OK))
			continue;
		error = try_to_write(places[i]);
		if (!error)
			list(&writable, places[i]);
		else if (error == EROFS)
			mounts++;
		else
			rights++;
	}
	if (writable.len)
		verify_say(v, false, "read-only", HELD_BY_SURROUNDINGS,
			   "this user can write to %s: start cloister as a user that cannot, or mount it "
			   "read-only", writable.data);
	else
		verify_say(v, true, "read-only", HELD_BY_SURROUNDINGS,
			   "nothing can be written to the system, the programs and their data: %zu places "
			   "tried, %zu mounted read-only, %zu without the right", mounts + rights,
			   mounts, rights);
	buf_release(&writable);
}

void verify_spool(struct verify *v)
{
	struct spool again;
	struct err err;

	/* As a run opens it: folders that are missing are made, and renames are tried. */
	if (spool_open(&again, v->spool->path, true, &err) != RC_OK) {
		verify_say(v, false, "spool", HELD_BY_SURROUNDINGS, "%s", err.text);
		return;
	}
	spool_close(&again);
	verify_say(v, true, "spool", HELD_BY_SURROUNDINGS,
		   "in, out, failed, done and state can be written and lie on one file system");
}
