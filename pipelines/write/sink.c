/* SPDX-License-Identifier: MIT
 *
 * sink: one output file, written through a buffer and synced when it is closed.
 *
 * Formats write without looking; the first failure is kept and everything after it dropped, so that
 * a full disk is reported once, with the error that came first.
 */
#include "write.h"
#include "durable.h"
#include "base/lines.h"

#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <string.h>
#include <unistd.h>

#define FLUSH_AT (1u << 16)
#define PIECE_MAX (1u << 20) /* of one sink_addf() */

enum rc sink_open(struct sink *sink, int dirfd, const char *name, struct err *err)
{
	*sink = (struct sink){ .name = name };
	sink->fd = openat(dirfd, name, O_WRONLY | O_CREAT | O_TRUNC | O_NOFOLLOW | O_CLOEXEC, 0644);
	if (sink->fd < 0)
		return err_errno(err, RC_RETRY, "write-error", "create %s", name);
	buf_init(&sink->out, FLUSH_AT + PIECE_MAX);
	return RC_OK;
}

static void put(struct sink *sink, const char *data, size_t len)
{
	if (!sink->failure && write_full(sink->fd, data, len))
		sink->failure = errno;
}

void sink_flush(struct sink *sink)
{
	put(sink, sink->out.data, sink->out.len);
	buf_clear(&sink->out);
}

void sink_add(struct sink *sink, const char *data, size_t len)
{
	if (len >= FLUSH_AT) {
		sink_flush(sink);
		put(sink, data, len);
		return;
	}
	buf_add(&sink->out, data, len);
	if (sink->out.len >= FLUSH_AT)
		sink_flush(sink);
}

void sink_adds(struct sink *sink, const char *s)
{
	sink_add(sink, s, strlen(s));
}

void sink_addf(struct sink *sink, const char *format, ...)
{
	va_list ap;

	va_start(ap, format);
	buf_vaddf(&sink->out, format, ap);
	va_end(ap);
	if (sink->out.overflow)
		BUG("%s: a piece of more than %u bytes", sink->name, PIECE_MAX);
	if (sink->out.len >= FLUSH_AT)
		sink_flush(sink);
}

enum rc sink_close(struct sink *sink, struct err *err)
{
	sink_flush(sink);
	if (!sink->failure)
		durable_sync(sink->fd, sink->name);
	if (close(sink->fd) && !sink->failure)
		sink->failure = errno;
	sink->fd = -1;
	buf_release(&sink->out);
	errno = sink->failure;
	if (sink->failure)
		return err_errno(err, RC_RETRY, "write-error", "write %s", sink->name);
	return RC_OK;
}

void sink_drop(struct sink *sink)
{
	if (sink->fd >= 0)
		close(sink->fd);
	sink->fd = -1;
	buf_release(&sink->out);
}
