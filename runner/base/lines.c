/* SPDX-License-Identifier: MIT */
#include "base/lines.h"
#include "base/err.h"

#include <errno.h>
#include <fcntl.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define READ_CHUNK 65536

void lines_init(struct lines *l, int fd, size_t max_line)
{
	*l = (struct lines){ .fd = fd };
	buf_init(&l->in, max_line + READ_CHUNK);
}

void lines_release(struct lines *l)
{
	buf_release(&l->in);
}

static bool take_line(struct lines *l, char **line, size_t *len)
{
	char *newline = memchr(l->in.data + l->scanned, '\n', l->in.len - l->scanned);

	if (!newline) {
		l->scanned = l->in.len;
		return false;
	}
	*newline = '\0';
	*line = l->in.data;
	*len = (size_t)(newline - l->in.data);
	l->handed = *len + 1;
	l->scanned = 0;
	return true;
}

enum lines_status lines_next(struct lines *l, char **line, size_t *len)
{
	char chunk[READ_CHUNK];

	buf_consume(&l->in, l->handed);
	l->handed = 0;
	for (;;) {
		ssize_t n;

		if (l->in.len > l->scanned && take_line(l, line, len))
			return LINES_ONE;
		if (l->eof)
			return LINES_EOF;
		if (l->in.len + sizeof(chunk) > l->in.max) {
			errno = EMSGSIZE;
			return LINES_ERROR;
		}
		n = read(l->fd, chunk, sizeof(chunk));
		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0 && (errno == EAGAIN || errno == EWOULDBLOCK))
			return LINES_AGAIN;
		if (n < 0)
			return LINES_ERROR;
		if (n == 0)
			l->eof = true;
		buf_add(&l->in, chunk, (size_t)n);
	}
}

char *read_whole(int dirfd, const char *name, size_t max, size_t *len)
{
	int fd = openat(dirfd, name, O_RDONLY | O_NOFOLLOW | O_CLOEXEC | O_NONBLOCK);
	char *data = NULL;
	struct stat st;
	ssize_t n = -1;
	size_t size;
	int error;

	*len = 0;
	if (fd < 0 || fstat(fd, &st))
		goto out;
	errno = !S_ISREG(st.st_mode) ? EINVAL : (uintmax_t)st.st_size > max ? EFBIG : 0;
	if (errno)
		goto out;
	size = (size_t)st.st_size;
	data = xmalloc(size + 1);
	do {
		n = read(fd, data + *len, size - *len);
		*len += n > 0 ? (size_t)n : 0;
	} while (n > 0 ? *len < size : n < 0 && errno == EINTR);
	data[*len] = '\0';
out:
	error = errno;
	if (fd >= 0)
		close(fd);
	if (n < 0) {
		free(data);
		data = NULL;
	}
	errno = error;
	return data;
}

int write_full(int fd, const void *data, size_t len)
{
	const char *p = data;

	while (len) {
		ssize_t n = write(fd, p, len);

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return -1;
		p += n;
		len -= (size_t)n;
	}
	return 0;
}
