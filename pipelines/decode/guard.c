/* SPDX-License-Identifier: MIT
 *
 * guard: an allocator that does not return NULL, and a clock that cannot be stopped.
 *
 * poppler and cairo swallow a failed allocation and go on with a white page, which would be a lost
 * page reported as done.  So malloc() and its kin are replaced, for every library of the process,
 * by ones that end it.  glib's g_try_malloc() and libarchive, which would take a NULL well, end
 * with it: what they were asked for by a document passes the memory limit all the same.
 *
 * The kernel sends SIGXCPU each second of processor time past the soft RLIMIT_CPU; the handler
 * compares what was used since guard_enter() with the limit.  That needs no system call the
 * sandbox would have to allow.
 *
 * Invariant: last words never stand within another message.  Between guard_enter() and
 * guard_leave() nothing writes to standard output while it allocates, and nothing at all where
 * there is a limit of time.
 */
#include "guard.h"

#include <errno.h>
#include <limits.h>
#include <malloc.h>
#include <signal.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <time.h>
#include <unistd.h>

static struct {
	struct last_words out_of_memory, out_of_time;
	long long cpu_end; /* nanoseconds of this process */
	volatile sig_atomic_t armed;
} guard;

static long long cpu_now(void)
{
	struct timespec t = { 0, 0 };

	clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &t);
	return t.tv_sec * 1000000000ll + t.tv_nsec;
}

/* Only what a signal handler may do. */
static void say(int fd, const void *bytes, size_t len)
{
	const char *p = bytes;

	while (len) {
		ssize_t n = write(fd, p, len);

		if (n < 0 && errno != EINTR)
			return;
		if (n > 0) {
			p += n;
			len -= (size_t)n;
		}
	}
}

static void on_cpu_second(int signal_number)
{
	int saved = errno;

	(void)signal_number;
	if (guard.armed && cpu_now() >= guard.cpu_end) {
		say(STDOUT_FILENO, guard.out_of_time.bytes, guard.out_of_time.len);
		_exit(0);
	}
	errno = saved;
}

void guard_init(void)
{
	struct sigaction action = { .sa_handler = on_cpu_second, .sa_flags = SA_RESTART };
	struct rlimit limit;

	sigaction(SIGXCPU, &action, NULL);
	if (!getrlimit(RLIMIT_CPU, &limit)) {
		limit.rlim_cur = 1;
		setrlimit(RLIMIT_CPU, &limit);
	}
}

void guard_enter(struct last_words out_of_memory, struct last_words out_of_time,
		 unsigned cpu_seconds)
{
	guard.out_of_memory = out_of_memory;
	guard.out_of_time = out_of_time;
	guard.cpu_end = cpu_seconds ? cpu_now() + cpu_seconds * 1000000000ll : LLONG_MAX;
	guard.armed = true;
}

void guard_leave(void)
{
	guard.armed = false;
}

#ifndef __SANITIZE_ADDRESS__ /* it has an allocator of its own */

extern void *__libc_malloc(size_t size);
extern void *__libc_calloc(size_t count, size_t size);
extern void *__libc_realloc(void *p, size_t size);
extern void *__libc_memalign(size_t alignment, size_t size);

static void *checked(void *p)
{
	static const char message[] = "cloister-decode: out of memory\n";

	if (p)
		return p;
	say(STDERR_FILENO, message, sizeof(message) - 1);
	if (!guard.armed)
		_exit(70);
	say(STDOUT_FILENO, guard.out_of_memory.bytes, guard.out_of_memory.len);
	_exit(0);
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
