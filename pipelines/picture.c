/* SPDX-License-Identifier: MIT
 *
 * picture: a page file taken into memory.
 *
 * The file was written by the decoder, which may have been taken over by its document: the header
 * must say exactly what the supervisor's request said, and the pixels are copied before anything
 * looks at them, so that nobody can change them under the reader.
 */
#include "picture.h"
#include "base/num.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define HEADER_MAX 64

/* Each part of the path by itself, so that no link can lead elsewhere. */
static int open_beneath(int dirfd, const char *folder, const char *path)
{
	size_t prefix = strlen(folder);
	int fd = -1;

	while (prefix && folder[prefix - 1] == '/')
		prefix--;
	if (*path == '/') {
		if (strncmp(path, folder, prefix) || path[prefix] != '/')
			goto denied;
		path += prefix;
	}
	for (;;) {
		char part[256];
		size_t n;
		int next;
		bool last;

		path += strspn(path, "/");
		n = strcspn(path, "/");
		last = !path[n];
		if (!n || n >= sizeof(part) || (n <= 2 && !strncmp(path, "..", n)))
			goto denied;
		memcpy(part, path, n);
		part[n] = '\0';
		next = openat(fd < 0 ? dirfd : fd, part,
			      O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC |
				      (last ? 0 : O_DIRECTORY));
		if (fd >= 0)
			close(fd);
		fd = next;
		if (last || fd < 0)
			return fd;
		path += n;
	}
denied:
	if (fd >= 0)
		close(fd);
	errno = EACCES;
	return -1;
}

static enum rc read_exactly(int fd, uint8_t *out, size_t len, off_t offset, struct err *err)
{
	for (size_t done = 0; done < len;) {
		ssize_t n = pread(fd, out + done, len - done, offset + (off_t)done);

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return err_errno(err, RC_FAILED, "page-file", "read page");
		if (n == 0)
			return err_set(err, RC_FAILED, "page-file",
				       "page file ends after %zu of %zu bytes of pixels", done,
				       len);
		done += (size_t)n;
	}
	return RC_OK;
}

/* "P5\nW H\n255\n" as the protocol writes it, no comments, no other white space. Returns its
 * length, 0 if it is anything else. */
static size_t parse_header(const char *head, uint32_t width, uint32_t height, uint32_t *channels)
{
	char expected[HEADER_MAX];
	int n = snprintf(expected, sizeof(expected), "P%c\n%u %u\n255\n", head[1], width, height);

	if (head[0] != 'P' || (head[1] != '5' && head[1] != '6') || n <= 0 || n >= HEADER_MAX ||
	    memcmp(head, expected, (size_t)n))
		return 0;
	*channels = head[1] == '5' ? 1 : 3;
	return (size_t)n;
}

enum rc picture_new(struct picture *picture, uint32_t width, uint32_t height, uint32_t channels,
		    struct err *err)
{
	size_t size;

	*picture = (struct picture){.width = width, .height = height, .channels = channels};
	if (!width || !height || !checked_mul(width, height, &size) ||
	    !checked_mul(size, channels, &size) || size > INT32_MAX)
		return err_set(err, RC_FAILED, "page-size",
			       "a page of %u x %u pixels cannot be read", width, height);
	picture->pixels = malloc(size);
	if (!picture->pixels)
		return err_set(err, RC_FAILED, "memory", "no memory for %u x %u pixels", width,
			       height);
	return RC_OK;
}

enum rc picture_read(struct picture *picture, int fd, uint32_t width, uint32_t height,
		     struct err *err)
{
	char head[HEADER_MAX] = {0};
	uint32_t channels = 0;
	struct stat st;
	size_t start;
	enum rc rc;

	*picture = (struct picture){0};
	if (fstat(fd, &st) || !S_ISREG(st.st_mode))
		return err_set(err, RC_FAILED, "page-file", "page is not a regular file");
	if (pread(fd, head, sizeof(head) - 1, 0) < 0)
		return err_errno(err, RC_FAILED, "page-file", "read page");
	start = parse_header(head, width, height, &channels);
	if (!start)
		return err_set(err, RC_FAILED, "page-file",
			       "page file is not a binary PNM of %u x %u pixels", width, height);
	rc = picture_new(picture, width, height, channels, err);
	if (rc == RC_OK)
		rc = read_exactly(fd, picture->pixels, (size_t)width * height * channels,
				  (off_t)start, err);
	if (rc != RC_OK)
		picture_release(picture);
	return rc;
}

enum rc picture_load(struct picture *picture, int dirfd, const char *name, const char *path,
		     uint32_t width, uint32_t height, struct err *err)
{
	int fd = open_beneath(dirfd, name, path);
	enum rc rc;

	*picture = (struct picture){0};
	if (fd < 0)
		return err_errno(err, RC_FAILED, "page-file", "open page %.200s", path);
	rc = picture_read(picture, fd, width, height, err);
	close(fd);
	return rc;
}

void picture_release(struct picture *picture)
{
	free(picture->pixels);
	*picture = (struct picture){0};
}
