/* SPDX-License-Identifier: MIT */
#include "base/err.h"
#include "base/num.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* What other programs and libraries say becomes one line too. */
enum rc err_vset(struct err *err, enum rc rc, const char *reason, const char *format, va_list ap)
{
	snprintf(err->reason, sizeof(err->reason), "%s", reason);
	vsnprintf(err->text, sizeof(err->text), format, ap);
	for (char *c = err->text; *c; c++)
		if ((unsigned char)*c < 0x20 || *c == 0x7f)
			*c = ' ';
	return rc;
}

enum rc err_set(struct err *err, enum rc rc, const char *reason, const char *format, ...)
{
	va_list ap;

	va_start(ap, format);
	err_vset(err, rc, reason, format, ap);
	va_end(ap);
	return rc;
}

enum rc err_errno(struct err *err, enum rc rc, const char *reason, const char *format, ...)
{
	int saved = errno;
	size_t len;
	va_list ap;

	va_start(ap, format);
	err_vset(err, rc, reason, format, ap);
	va_end(ap);
	len = strlen(err->text);
	snprintf(err->text + len, sizeof(err->text) - len, ": %s", strerror(saved));
	errno = saved;
	return rc;
}

bool errno_passes(int error)
{
	static const int passing[] = { EMFILE, ENFILE, ENOMEM, EINTR, EAGAIN, ENOSPC, EDQUOT, ESTALE };

	for (size_t i = 0; i < ARRAY_SIZE(passing); i++)
		if (error == passing[i])
			return true;
	return false;
}

/* die() would ask for memory to say so. */
void out_of_memory(const char *what)
{
	static const char begin[] = "error cloister: out of memory ";

	(void)!write(STDERR_FILENO, begin, sizeof(begin) - 1);
	(void)!write(STDERR_FILENO, what, strlen(what));
	(void)!write(STDERR_FILENO, "\n", 1);
	_exit(EX_BUG);
}

static void *checked(void *p, unsigned long size)
{
	char what[48];

	if (p || !size)
		return p;
	snprintf(what, sizeof(what), "asking for %lu bytes", size);
	out_of_memory(what);
}

void *xmalloc(unsigned long size)
{
	return checked(malloc(size), size);
}

void *xcalloc(unsigned long count, unsigned long size)
{
	return checked(calloc(count, size), count * size);
}

void *xrealloc(void *p, unsigned long size)
{
	return checked(realloc(p, size), size);
}

char *xstrdup(const char *s)
{
	return checked(strdup(s), strlen(s) + 1);
}

char *xstrndup(const char *s, unsigned long max)
{
	return checked(strndup(s, max), strnlen(s, max) + 1);
}

char *xasprintf(const char *format, ...)
{
	char *s = NULL;
	va_list ap;

	va_start(ap, format);
	if (vasprintf(&s, format, ap) < 0)
		checked(NULL, 1);
	va_end(ap);
	return s;
}

bool parse_u64(const char *text, uint64_t max, uint64_t *out)
{
	uint64_t value = 0;

	if (!*text)
		return false;
	for (; *text; text++) {
		if (*text < '0' || *text > '9' || __builtin_mul_overflow(value, 10, &value) ||
		    __builtin_add_overflow(value, (uint64_t)(*text - '0'), &value))
			return false;
	}
	if (value > max)
		return false;
	*out = value;
	return true;
}
