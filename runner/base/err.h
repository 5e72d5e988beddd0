/* SPDX-License-Identifier: MIT
 *
 * err: how library code reports failure.
 *
 * A function that can fail returns enum rc and fills the struct err that its caller owns.  The
 * verdict says what the caller may do next; `reason` is a short stable word for machines
 * ("encrypted", "limit:page-megapixels"), `text` a sentence for people.  main()-level code ends
 * the process with die(); a broken invariant of ours ends it with BUG().  There is no third way.
 */
#ifndef BASE_ERR_H
#define BASE_ERR_H

#include <stdarg.h>
#include <stdbool.h>

enum rc {
	RC_OK = 0,
	RC_RETRY = 1,  /* nothing changed; the same call may succeed later */
	RC_FAILED = 2, /* this document or page failed; go on with the next */
	RC_FATAL = 3,  /* this process cannot go on */
};

#define ERR_REASON_MAX 64
#define ERR_TEXT_MAX   512

struct err {
	char reason[ERR_REASON_MAX]; /* [a-z0-9:-]+ */
	char text[ERR_TEXT_MAX];     /* one line, without a final full stop or newline */
};

/* Exit codes of every program of the family (sysexits.h where it has one). */
enum exit_code {
	EX_ALL_DONE = 0,
	EX_SOME_FAILED = 1,
	EX_USAGE_ERROR = 2,
	EX_BUG = 70,
	EX_WORK_REMAINS = 75,
	EX_CONFIGURATION = 78,
};

/* Fill `err` and return `rc`, so that a failure is one statement: return err_set(err, ...). */
enum rc err_set(struct err *err, enum rc rc, const char *reason, const char *format, ...)
	__attribute__((format(printf, 4, 5)));
enum rc err_vset(struct err *err, enum rc rc, const char *reason, const char *format, va_list ap);

/* As err_set(), with ": strerror(errno)" appended. */
enum rc err_errno(struct err *err, enum rc rc, const char *reason, const char *format, ...)
	__attribute__((format(printf, 4, 5)));

/* Does this error tell of the state of the machine, which may pass, and not of the file? */
bool errno_passes(int error);

/* Log the message and exit with `code`. */
void die(enum exit_code code, const char *format, ...)
	__attribute__((noreturn, format(printf, 2, 3)));

/* Log the place and abort: our fault, never the document's or the environment's. */
void bug(const char *file, int line, const char *format, ...)
	__attribute__((noreturn, format(printf, 3, 4)));
#define BUG(...) bug(__FILE__, __LINE__, __VA_ARGS__)

/* Ends the process: exit 70 and a line. What: "asking for 24 bytes". */
void out_of_memory(const char *what) __attribute__((noreturn));

/* Allocation that ends the process so instead of returning NULL. */
void *xmalloc(unsigned long size);
void *xcalloc(unsigned long count, unsigned long size);
void *xrealloc(void *p, unsigned long size);
char *xstrdup(const char *s);
char *xstrndup(const char *s, unsigned long max);
char *xasprintf(const char *format, ...) __attribute__((format(printf, 1, 2)));

#endif
