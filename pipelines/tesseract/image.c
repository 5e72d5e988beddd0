/* SPDX-License-Identifier: MIT
 *
 * image: a page file taken into memory.
 *
 * The file was written by the decoder, which may have been taken over by its document: the header
 * must say exactly what the supervisor's request said, and the pixels are copied before anything
 * looks at them, so that nobody can change them under the reader.
 */
#include "tess.h"
#include "base/num.h"

#include <errno.h>
#include <fcntl.h>
#include <leptonica/allheaders.h>
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
				       "page file ends after %zu of %zu bytes of pixels", done, len);
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

static enum rc image_new(struct image *image, uint32_t width, uint32_t height, uint32_t channels,
			 struct err *err)
{
	size_t size;

	*image = (struct image){ .width = width, .height = height, .channels = channels };
	if (!width || !height || !checked_mul(width, height, &size) ||
	    !checked_mul(size, channels, &size) || size > INT32_MAX)
		return err_set(err, RC_FAILED, "page-size", "a page of %u x %u pixels cannot be read",
			       width, height);
	image->pixels = malloc(size);
	if (!image->pixels)
		return err_set(err, RC_FAILED, "memory", "no memory for %u x %u pixels", width,
			       height);
	return RC_OK;
}

enum rc image_load(struct image *image, int dirfd, const char *name, const char *path,
		   uint32_t width, uint32_t height, struct err *err)
{
	char head[HEADER_MAX] = { 0 };
	uint32_t channels = 0;
	struct stat st;
	size_t start;
	enum rc rc;
	int fd = open_beneath(dirfd, name, path);

	*image = (struct image){ 0 };
	if (fd < 0)
		return err_errno(err, RC_FAILED, "page-file", "open page %.200s", path);
	if (fstat(fd, &st) || !S_ISREG(st.st_mode)) {
		rc = err_set(err, RC_FAILED, "page-file", "page is not a regular file");
		goto out;
	}
	if (pread(fd, head, sizeof(head) - 1, 0) < 0) {
		rc = err_errno(err, RC_FAILED, "page-file", "read page");
		goto out;
	}
	start = parse_header(head, width, height, &channels);
	if (!start) {
		rc = err_set(err, RC_FAILED, "page-file",
			     "page file is not a binary PNM of %u x %u pixels", width, height);
		goto out;
	}
	rc = image_new(image, width, height, channels, err);
	if (rc == RC_OK)
		rc = read_exactly(fd, image->pixels, (size_t)width * height * channels,
				  (off_t)start, err);
	if (rc != RC_OK)
		image_release(image);
out:
	close(fd);
	return rc;
}

/* Step through `from` in the order in which the pixels of `to` come. */
enum rc image_turn(const struct image *from, unsigned degrees, struct image *to, struct err *err)
{
	ptrdiff_t c = from->channels, row = c * from->width;
	ptrdiff_t last = row * from->height - c; /* the last pixel */
	ptrdiff_t start = 0, along = c, down = row;
	bool upended = degrees == 90 || degrees == 270;
	uint8_t *out;

	if (degrees == 90) { /* the left column, read upwards, becomes the first row */
		start = row * (from->height - 1);
		along = -row;
		down = c;
	} else if (degrees == 180) {
		start = last;
		along = -c;
		down = -row;
	} else if (degrees == 270) {
		start = row - c;
		along = row;
		down = -c;
	}
	if (image_new(to, upended ? from->height : from->width,
		      upended ? from->width : from->height, from->channels, err) != RC_OK)
		return RC_FAILED;
	out = to->pixels;
	for (uint32_t y = 0; y < to->height; y++) {
		ptrdiff_t at = start + down * y;

		for (uint32_t x = 0; x < to->width; x++, at += along)
			for (ptrdiff_t k = 0; k < c; k++)
				*out++ = from->pixels[at + k];
	}
	return RC_OK;
}

static PIX *grey_pix(const struct image *image)
{
	PIX *pix = pixCreateNoInit((l_int32)image->width, (l_int32)image->height, 8);
	const uint8_t *p = image->pixels;

	for (uint32_t y = 0; pix && y < image->height; y++) {
		l_uint32 *row = pixGetData(pix) + (size_t)y * (size_t)pixGetWpl(pix);

		for (uint32_t x = 0; x < image->width; x++, p += image->channels)
			SET_DATA_BYTE(row, x,
				      image->channels == 1 ? p[0] :
							     (3 * p[0] + 5 * p[1] + 2 * p[2]) / 10);
	}
	return pix;
}

enum rc image_enlarge(const struct image *from, double factor, struct image *to, struct err *err)
{
	PIX *grey = grey_pix(from);
	PIX *large = grey ? pixScaleGrayLI(grey, (l_float32)factor, (l_float32)factor) : NULL;
	uint8_t *out;
	enum rc rc;

	pixDestroy(&grey);
	if (!large)
		return err_set(err, RC_FAILED, "memory", "no memory to enlarge %u x %u pixels",
			       from->width, from->height);
	rc = image_new(to, (uint32_t)pixGetWidth(large), (uint32_t)pixGetHeight(large), 1, err);
	out = to->pixels;
	for (uint32_t y = 0; rc == RC_OK && y < to->height; y++) {
		l_uint32 *row = pixGetData(large) + (size_t)y * (size_t)pixGetWpl(large);

		for (uint32_t x = 0; x < to->width; x++)
			*out++ = GET_DATA_BYTE(row, x);
	}
	pixDestroy(&large);
	return rc;
}

void image_release(struct image *image)
{
	free(image->pixels);
	*image = (struct image){ 0 };
}
