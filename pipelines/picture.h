/* SPDX-License-Identifier: MIT
 *
 * picture: the picture of a page, as recognisers take it from the folder of page files.
 */
#ifndef PIPELINES_PICTURE_H
#define PIPELINES_PICTURE_H

#include "base/err.h"

#include <stdint.h>

/* 8-bit grey or RGB, rows top down without padding. */
struct picture {
	uint32_t width, height, channels;
	uint8_t *pixels; /* owned */
};

/* Open `path`, which must lie beneath the folder `name` open as dirfd: a regular file reached
 * without "..", or symbolic links. Read it whole. Its header must say what the request said. */
enum rc picture_load(struct picture *picture, int dirfd, const char *name, const char *path,
		     uint32_t width, uint32_t height, struct err *err);
/* The same of a file that is open. */
enum rc picture_read(struct picture *picture, int fd, uint32_t width, uint32_t height,
		     struct err *err);
/* Room for the pixels, which are not set. */
enum rc picture_new(struct picture *picture, uint32_t width, uint32_t height, uint32_t channels,
		    struct err *err);
void picture_release(struct picture *picture);

#endif
