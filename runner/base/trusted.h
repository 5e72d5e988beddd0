/* SPDX-License-Identifier: MIT
 *
 * trusted: reading settings that decide what runs here.  Such a file must belong to root, to the
 * caller or to one more user, and nobody else may be able to write it.
 */
#ifndef BASE_TRUSTED_H
#define BASE_TRUSTED_H

#include "base/buf.h"
#include "base/err.h"

#include <sys/types.h>

/* Append the whole file to text, up to its maximum. RC_RETRY with the reason "absent" when
 * there is no such file, with `reason` when it cannot be read now; RC_FAILED when it is not to be
 * trusted. `owner` = geteuid() for none more. */
enum rc trusted_read(const char *file, uid_t owner, struct buf *text, const char *reason,
		     struct err *err);

#endif
