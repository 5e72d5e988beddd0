/* SPDX-License-Identifier: MIT */
#include "base/log.h"
#include "base/buf.h"
#include "base/err.h"
#include "base/name.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#define LINE_MAX_BYTES 8192

static struct {
	const char *program;
	enum log_level level;
	void (*before)(void), (*after)(void);
} state = { .program = "cloister", .level = LOG_INFO };

void log_init(const char *program, enum log_level level)
{
	state.program = program;
	state.level = level;
}

enum log_level log_level(void)
{
	return state.level;
}

void log_around(void (*before)(void), void (*after)(void))
{
	state.before = before;
	state.after = after;
}

static void write_line(enum log_level level, const char *message)
{
	static const char *const names[] = { "error", "warn", "info", "debug" };
	static const int syslog_priority[] = { 3, 4, 6, 7 };
	struct buf line;

	buf_init(&line, LINE_MAX_BYTES);
	if (getenv("JOURNAL_STREAM")) {
		buf_addf(&line, "<%d>", syslog_priority[level]);
	} else {
		char stamp[32];
		time_t now = time(NULL);
		struct tm tm;

		gmtime_r(&now, &tm);
		strftime(stamp, sizeof(stamp), "%Y-%m-%dT%H:%M:%SZ", &tm);
		buf_addf(&line, "%s ", stamp);
	}
	buf_addf(&line, "%s %s: ", names[level], state.program);
	name_escape(&line, message, strlen(message));
	line.max++;
	buf_addc(&line, '\n');
	if (state.before)
		state.before();
	for (size_t done = 0; done < line.len;) {
		ssize_t n = write(STDERR_FILENO, line.data + done, line.len - done);

		if (n < 0 && errno != EINTR)
			break; /* there is nowhere left to say so */
		if (n > 0)
			done += (size_t)n;
	}
	if (state.after)
		state.after();
	buf_release(&line);
}

static void vlog(enum log_level level, const char *format, va_list ap)
{
	struct buf message;

	if (level > state.level)
		return;
	buf_init(&message, LINE_MAX_BYTES / 4);
	buf_vaddf(&message, format, ap);
	write_line(level, message.overflow ? "(message too long)" : message.data);
	buf_release(&message);
}

void log_at(enum log_level level, const char *format, ...)
{
	va_list ap;
	int saved = errno;

	va_start(ap, format);
	vlog(level, format, ap);
	va_end(ap);
	errno = saved;
}

void die(enum exit_code code, const char *format, ...)
{
	va_list ap;

	va_start(ap, format);
	vlog(LOG_ERROR, format, ap);
	va_end(ap);
	exit(code);
}

void bug(const char *file, int line, const char *format, ...)
{
	va_list ap;

	log_error("bug at %s:%d, please report it", file, line);
	va_start(ap, format);
	vlog(LOG_ERROR, format, ap);
	va_end(ap);
	abort();
}
