/* SPDX-License-Identifier: MIT
 *
 * lines: bounded lines over a pipe, for both sides of the airlock protocol.
 */
#ifndef BASE_LINES_H
#define BASE_LINES_H

#include "base/buf.h"

#include <stdbool.h>
#include <stddef.h>
#include <sys/types.h>

struct lines {
	int fd; /* borrowed */
	struct buf in;
	size_t scanned; /* no newline before this offset */
	size_t handed;  /* bytes of the line handed out last, dropped at the next call */
	bool eof;
};

enum lines_status {
	LINES_ONE,   /* *line is a NUL-terminated line without its newline, valid until next call */
	LINES_AGAIN, /* no whole line yet (non-blocking descriptor) */
	LINES_EOF,   /* end of file; an unfinished last line is dropped */
	LINES_ERROR, /* read error, errno is set; or a line over the maximum, errno = EMSGSIZE */
};

void lines_init(struct lines *l, int fd, size_t max_line);
void lines_release(struct lines *l);

/* Next line. On a blocking descriptor it waits for one. */
enum lines_status lines_next(struct lines *l, char **line, size_t *len);

/* All of a file beneath dirfd, with a NUL behind it; the caller frees. NULL and errno when it cannot be
 * read: EFBIG when it has more than max bytes, EINVAL when it is no regular file. */
char *read_whole(int dirfd, const char *name, size_t max, size_t *len);

/* Write all of data; 0, or -1 with errno. Blocking descriptors only. */
int write_full(int fd, const void *data, size_t len);

#endif
