/* SPDX-License-Identifier: MIT */
#include "base/trusted.h"

#include <errno.h>
#include <fcntl.h>
#include <stdbool.h>
#include <sys/stat.h>
#include <unistd.h>

/* In a user namespace that maps only its maker, root goes by the number that stands for everybody
 * unmapped: the owner of the root folder tells which. */
static bool is_root(uid_t uid)
{
	struct stat st;

	return uid == 0 || (!stat("/", &st) && uid == st.st_uid);
}

static enum rc check(const char *file, uid_t owner, const struct stat *st, const char *reason,
		     struct err *err)
{
	if (!S_ISREG(st->st_mode))
		return err_set(err, RC_FAILED, reason, "%s: not a regular file", file);
	if (!is_root(st->st_uid) && st->st_uid != geteuid() && st->st_uid != owner)
		return err_set(err, RC_FAILED, reason,
			       "%s: belongs to user %u, but must belong to root or to you%s", file,
			       (unsigned)st->st_uid,
			       owner != geteuid() ? " or to the owner of the spool" : "");
	if (st->st_mode & (S_IWGRP | S_IWOTH))
		return err_set(err, RC_FAILED, reason,
			       "%s: others can write it (mode %03o), use chmod go-w", file,
			       (unsigned)st->st_mode & 0777);
	return RC_OK;
}

enum rc trusted_read(const char *file, uid_t owner, struct buf *text, const char *reason,
		     struct err *err)
{
	int fd = open(file, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);
	char block[4096];
	struct stat st;
	ssize_t n = 0;
	enum rc rc;

	if (fd < 0 && errno == ENOENT)
		return err_errno(err, RC_RETRY, "absent", "%s: cannot be opened", file);
	if (fd < 0 || fstat(fd, &st))
		rc = err_errno(err, errno == EACCES || errno == EPERM ? RC_FAILED : RC_RETRY, reason,
			       "%s: cannot be opened", file);
	else
		rc = check(file, owner, &st, reason, err);
	while (rc == RC_OK && !text->overflow &&
	       ((n = read(fd, block, sizeof(block))) > 0 || (n < 0 && errno == EINTR)))
		buf_add(text, block, n > 0 ? (size_t)n : 0);
	if (rc == RC_OK && n < 0)
		rc = err_errno(err, RC_RETRY, reason, "%s: cannot be read", file);
	if (rc == RC_OK && text->overflow)
		rc = err_set(err, RC_FAILED, reason, "%s: larger than %zu bytes", file, text->max);
	if (fd >= 0)
		close(fd);
	return rc;
}
