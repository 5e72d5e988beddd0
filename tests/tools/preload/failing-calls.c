/* SPDX-License-Identifier: MIT
 *
 * failing-calls: a preloaded library in which the Kth call of a kind fails, or every one from the
 * Kth on; or reads and writes do less than was asked.  It reaches where strace does not: into
 * sandboxed programs, which a call that was swapped for an invalid one would kill, into malloc(3), and
 * half done calls that are half done in truth.
 *
 *   CLOISTER_TEST_FAULT="write 28 3"      the third write fails with error 28
 *   CLOISTER_TEST_FAULT="malloc 12 3+"    the third and all later allocations fail
 *   CLOISTER_TEST_FAULT="read 0 5"        error 0: the fifth read is a short one
 *   CLOISTER_TEST_FAULT_COUNTS=FILE       calls by kind, shared by all processes that have this file
 *
 * Calls that libc makes of its own accord, behind stdio or readdir, are not seen.
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <execinfo.h>
#include <fcntl.h>
#include <signal.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

enum call { READ, WRITE, PREAD, OPENAT, OPEN, CLOSE, FSTAT, FSYNC, LSEEK, MMAP, MALLOC, CALLS };
static const char *const names[CALLS] = { "read",  "write", "pread", "openat", "open",  "close",
					  "fstat", "fsync", "lseek", "mmap",   "malloc" };

static unsigned long own_counts[CALLS], *counts = own_counts;
static int failing = -1, error;
static unsigned long when;
static bool from_then_on, ready;

/* A crash that depends on how threads and processes met is not seen twice: it says where it was. */
static void say_where(int signal)
{
	void *frames[32];

	backtrace_symbols_fd(frames, backtrace(frames, 32), 2);
	raise(signal);
}

static void __attribute__((constructor)) set_up(void)
{
	const char *fault = getenv("CLOISTER_TEST_FAULT"), *file = getenv("CLOISTER_TEST_FAULT_COUNTS");
	int fd = file ? open(file, O_RDWR | O_CLOEXEC) : -1;
	char name[16] = "", plus = 0;

	if (fd >= 0) {
		void *shared = mmap(NULL, sizeof(own_counts), PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);

		if (shared != MAP_FAILED)
			counts = shared;
		close(fd);
	}
	if (fault && sscanf(fault, "%15s %d %lu%c", name, &error, &when, &plus) >= 3)
		for (int i = 0; i < CALLS; i++)
			if (!strcmp(names[i], name))
				failing = i;
	from_then_on = plus == '+';
	if (failing == MALLOC) {
		const struct sigaction once = { .sa_handler = say_where, .sa_flags = SA_RESETHAND };
		void *frame;

		backtrace(&frame, 1); /* it loads a library, and must not when it is needed */
		sigaction(SIGSEGV, &once, NULL);
		sigaction(SIGABRT, &once, NULL);
	}
	ready = true;
}

/* Is this the call that fails? */
static bool strikes(enum call call)
{
	unsigned long n;

	if (!ready)
		return false;
	n = __atomic_add_fetch(&counts[call], 1, __ATOMIC_RELAXED);
	return (int)call == failing && (from_then_on ? n >= when : n == when);
}

static bool fails(enum call call)
{
	if (!strikes(call))
		return false;
	errno = error;
	return error != 0;
}

#define NEXT(name) ((__typeof__(&name))dlsym(RTLD_NEXT, #name))

/* A call that moves `count` bytes: fails, does one byte, or all. */
#define MOVES(call, name, before, after)                                                           \
	ssize_t name before                                                                        \
	{                                                                                          \
		static __typeof__(&name) next;                                                     \
                                                                                                   \
		if (!next)                                                                         \
			next = NEXT(name);                                                         \
		if (strikes(call)) {                                                               \
			errno = error;                                                             \
			if (error)                                                                 \
				return -1;                                                         \
			count = count ? 1 : 0;                                                     \
		}                                                                                  \
		return next after;                                                                 \
	}

MOVES(READ, read, (int fd, void *data, size_t count), (fd, data, count))
MOVES(WRITE, write, (int fd, const void *data, size_t count), (fd, data, count))
MOVES(PREAD, pread, (int fd, void *data, size_t count, off_t at), (fd, data, count, at))
MOVES(PREAD, pread64, (int fd, void *data, size_t count, off64_t at), (fd, data, count, at))

#define CALL(call, type, failure, name, before, after)                                             \
	type name before                                                                           \
	{                                                                                          \
		static __typeof__(&name) next;                                                     \
                                                                                                   \
		if (!next)                                                                         \
			next = NEXT(name);                                                         \
		return fails(call) ? failure : next after;                                         \
	}

CALL(FSTAT, int, -1, fstat, (int fd, struct stat *st), (fd, st))
CALL(FSTAT, int, -1, fstat64, (int fd, struct stat64 *st), (fd, st))
CALL(FSYNC, int, -1, fsync, (int fd), (fd))
CALL(LSEEK, off_t, -1, lseek, (int fd, off_t at, int whence), (fd, at, whence))
CALL(LSEEK, off64_t, -1, lseek64, (int fd, off64_t at, int whence), (fd, at, whence))
CALL(MMAP, void *, MAP_FAILED, mmap,
     (void *at, size_t n, int protection, int flags, int fd, off_t from),
     (at, n, protection, flags, fd, from))
CALL(MMAP, void *, MAP_FAILED, mmap64,
     (void *at, size_t n, int protection, int flags, int fd, off64_t from),
     (at, n, protection, flags, fd, from))

/* A close that fails has closed. */
int close(int fd)
{
	bool failed = fails(CLOSE);
	int saved = errno, rc = NEXT(close)(fd);

	if (!failed)
		return rc;
	errno = saved;
	return -1;
}

#define OPENS(call, name, before, after)                                                           \
	int name before                                                                            \
	{                                                                                          \
		mode_t mode = 0;                                                                   \
		va_list ap;                                                                        \
                                                                                                   \
		va_start(ap, flags);                                                               \
		if (flags & (O_CREAT | __O_TMPFILE))                                               \
			mode = va_arg(ap, mode_t);                                                 \
		va_end(ap);                                                                        \
		return fails(call) ? -1 : NEXT(name) after;                                        \
	}

OPENS(OPEN, open, (const char *path, int flags, ...), (path, flags, mode))
OPENS(OPEN, open64, (const char *path, int flags, ...), (path, flags, mode))
OPENS(OPENAT, openat, (int dirfd, const char *path, int flags, ...), (dirfd, path, flags, mode))
OPENS(OPENAT, openat64, (int dirfd, const char *path, int flags, ...), (dirfd, path, flags, mode))

/* dlsym(3) allocates: malloc's own names are taken. */
extern void *__libc_malloc(size_t size);
extern void *__libc_calloc(size_t count, size_t size);
extern void *__libc_realloc(void *p, size_t size);

/* libseccomp 2.5.4 frees twice, or goes on for ever, when it gets no memory: at a start, when there is
 * nothing to lose. Its allocations do not count. */
static bool is_counted(const void *caller)
{
	Dl_info about;

	return !dladdr(caller, &about) || !about.dli_fname || !strstr(about.dli_fname, "libseccomp");
}

#define MALLOC_FAILS() (is_counted(__builtin_return_address(0)) && fails(MALLOC))

void *malloc(size_t size)
{
	return MALLOC_FAILS() ? NULL : __libc_malloc(size);
}

void *calloc(size_t count, size_t size)
{
	return MALLOC_FAILS() ? NULL : __libc_calloc(count, size);
}

void *realloc(void *p, size_t size)
{
	return MALLOC_FAILS() ? NULL : __libc_realloc(p, size);
}
