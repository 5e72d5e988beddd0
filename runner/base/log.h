/* SPDX-License-Identifier: MIT
 *
 * log: one line an event on standard error.
 *
 *   2026-11-21T20:15:00Z warn decode: page failed document="a b.pdf" page=3 reason=limit:page-cpu
 *
 * With $JOURNAL_STREAM set the time is left to journald and the line starts with <N>, the syslog
 * priority (sd-daemon(3)).  Control characters and bytes that are not UTF-8 are written as \xNN:
 * file names and children's messages are hostile.  Document text is never logged.
 */
#ifndef BASE_LOG_H
#define BASE_LOG_H

enum log_level { LOG_ERROR, LOG_WARN, LOG_INFO, LOG_DEBUG };

/* Name shown before each message; default level is LOG_INFO. */
void log_init(const char *program, enum log_level level);
enum log_level log_level(void);

/* Called before and after each line is written, so that a progress line can step aside. */
void log_around(void (*before)(void), void (*after)(void));

void log_at(enum log_level level, const char *format, ...)
	__attribute__((format(printf, 2, 3)));
#define log_error(...) log_at(LOG_ERROR, __VA_ARGS__)
#define log_warn(...)  log_at(LOG_WARN, __VA_ARGS__)
#define log_info(...)  log_at(LOG_INFO, __VA_ARGS__)
#define log_debug(...) log_at(LOG_DEBUG, __VA_ARGS__)

#endif
