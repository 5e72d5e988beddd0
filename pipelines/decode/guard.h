/* SPDX-License-Identifier: MIT
 *
 * guard: last words. Work on hostile bytes may ask for more memory or processor time than the
 * pipeline gives it, in a library that does not say so or does not ask. Then the process says what
 * was passed and ends.
 */
#ifndef DECODE_GUARD_H
#define DECODE_GUARD_H

#include <stddef.h>

/* Bytes for standard output, ready to be written from a signal handler. */
struct last_words {
	const void *bytes;
	size_t len;
};

/* Once, before the sandbox: processor time is watched from here on. */
void guard_init(void);

/* Until guard_leave(): when malloc() fails, or this process has used cpu_seconds from now (to the
 * second; 0 for no limit), write the words to standard output and exit 0, since all is explained.
 * The words are borrowed. Outside of that a failed malloc() ends the process with 70. */
void guard_enter(struct last_words out_of_memory, struct last_words out_of_time,
		 unsigned cpu_seconds);
void guard_leave(void);

#endif
