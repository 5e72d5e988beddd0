/* SPDX-License-Identifier: MIT
 *
 * copy: FICLONE shares the blocks; copy_file_range(2) lets the kernel or a server copy; read and
 * write always work. Each is tried in turn, as long as nothing has been copied.
 */
#include "copy.h"
#include "base/lines.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/fs.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <unistd.h>

enum rc copy_stream(int from, int to, struct err *err)
{
	static char block[1 << 17];

	for (;;) {
		ssize_t n = read(from, block, sizeof(block));

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return err_errno(err, RC_FAILED, "read-error", "read");
		if (!n)
			return RC_OK;
		if (write_full(to, block, (size_t)n))
			return err_errno(err, RC_FAILED, "write-error", "write");
	}
}

enum rc copy_data(int from, int to, struct err *err)
{
	ssize_t n;

	if (!ioctl(to, FICLONE, from))
		return RC_OK;
	do
		n = copy_file_range(from, NULL, to, NULL, 1 << 30, 0);
	while (n > 0 || (n < 0 && errno == EINTR));
	/* What is left, or all of it where the call is not to be had (or tells less than there is, as
	 * it does in /proc): both positions have moved along. */
	return copy_stream(from, to, err);
}

int copy_open(int dirfd, const char *path, bool follow, struct err *err)
{
	int flags = O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY | (follow ? 0 : O_NOFOLLOW);
	int fd = openat(dirfd, path, flags);
	struct stat st;

	if (fd < 0) {
		if (errno == ELOOP && !follow)
			err_set(err, RC_FAILED, "not-a-file", "is a symbolic link");
		else
			err_errno(err, RC_FAILED, "unreadable", "cannot be opened");
		return -1;
	}
	if (fstat(fd, &st) || !S_ISREG(st.st_mode)) {
		err_set(err, RC_FAILED, "not-a-file", "is not a regular file");
		close(fd);
		return -1;
	}
	return fd;
}
