/* SPDX-License-Identifier: MIT
 *
 * oom: an allocator that does not return NULL.
 *
 * poppler and cairo swallow a failed allocation and go on with a white page, which would be a lost
 * page reported as done.  So malloc() and its kin are replaced, for every library of the process,
 * by ones that say so and end it: exit code 70, which the supervisor takes for the memory limit.
 * glib's g_try_malloc() and libarchive, which would take a NULL well, end with it: what a document
 * made them ask for passes the limit all the same.
 */
#include "oom.h"

#include <errno.h>
#include <malloc.h>
#include <stdlib.h>
#include <unistd.h>

static struct {
	const char *bytes;
	size_t len;
} words;

void oom_last_words(const void *bytes, size_t len)
{
	words.bytes = bytes;
	words.len = len;
}

#ifndef __SANITIZE_ADDRESS__ /* it has an allocator of its own */

extern void *__libc_malloc(size_t size);
extern void *__libc_calloc(size_t count, size_t size);
extern void *__libc_realloc(void *p, size_t size);
extern void *__libc_memalign(size_t alignment, size_t size);

/* write_full() without a reason: there is nobody left to tell. */
static void say(int fd, const char *bytes, size_t len)
{
	while (len) {
		ssize_t n = write(fd, bytes, len);

		if (n < 0 && errno != EINTR)
			return;
		if (n > 0) {
			bytes += n;
			len -= (size_t)n;
		}
	}
}

static void *checked(void *p)
{
	static const char message[] = "cloister-decode: out of memory\n";

	if (p)
		return p;
	say(STDERR_FILENO, message, sizeof(message) - 1);
	say(STDOUT_FILENO, words.bytes, words.len);
	_exit(words.bytes ? 0 : 70);
}

void *malloc(size_t size)
{
	return checked(__libc_malloc(size));
}

void *calloc(size_t count, size_t size)
{
	return checked(__libc_calloc(count, size));
}

void *realloc(void *p, size_t size)
{
	void *q = __libc_realloc(p, size);

	return size ? checked(q) : q; /* realloc(p, 0) frees and returns NULL */
}

void *memalign(size_t alignment, size_t size)
{
	return checked(__libc_memalign(alignment, size));
}

void *aligned_alloc(size_t alignment, size_t size)
{
	return checked(__libc_memalign(alignment, size));
}

int posix_memalign(void **p, size_t alignment, size_t size)
{
	if (alignment < sizeof(void *) || alignment & (alignment - 1))
		return EINVAL;
	*p = checked(__libc_memalign(alignment, size));
	return 0;
}

#endif
