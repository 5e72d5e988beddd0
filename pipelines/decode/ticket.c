/* SPDX-License-Identifier: MIT
 *
 * ticket: the mode that reads a document's ticket.
 *
 * A ticket comes with the document, from whoever dropped it: YAML of unknown origin is parsed in
 * here, behind the same locks as a PDF.  One line goes out, and the supervisor checks it again.
 */
#include "airlock.h"
#include "base/buf.h"
#include "base/log.h"
#include "decode.h"

#include <errno.h>
#include <unistd.h>

#define TICKET_BYTES_MAX 65536

static enum rc read_ticket(struct buf *text, struct err *err)
{
	char block[4096];
	ssize_t n;

	do {
		n = read(DECODE_DOCUMENT_FD, block, sizeof(block));
		if (n > 0)
			buf_add(text, block, (size_t)n);
	} while ((n > 0 && !text->overflow) || (n < 0 && errno == EINTR));
	if (n < 0)
		return err_errno(err, RC_FAILED, "ticket", "cannot be read");
	if (text->overflow)
		return err_set(err, RC_FAILED, "ticket", "larger than %d bytes", TICKET_BYTES_MAX);
	return RC_OK;
}

int ticket_main(const char *name)
{
	struct buf text;
	struct err err;
	json_t *ticket = NULL;
	json_t *answer;
	int failed;

	buf_init(&text, TICKET_BYTES_MAX);
	if (read_ticket(&text, &err) ||
	    ticket_parse(name, text.data ? text.data : "", text.len, &ticket, &err))
		answer = airlock_error(&err);
	else
		answer = json_pack("{s:o}", "ticket", ticket);
	failed = airlock_write(STDOUT_FILENO, answer);
	json_decref(answer);
	buf_release(&text);
	return failed ? EX_WORK_REMAINS : EX_ALL_DONE;
}
