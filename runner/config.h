/* SPDX-License-Identifier: MIT
 *
 * config: SPOOL/cloister.yaml, the settings of a spool.  Every key may be left out.  The file must
 * not be writable by others.
 */
#ifndef RUNNER_CONFIG_H
#define RUNNER_CONFIG_H

#include "base/err.h"

#include <stdbool.h>
#include <stdint.h>

struct config {
	char *default_pipeline;       /* tesseract: for files that lie in in/ itself */
	bool require_sandbox;         /* true: refuse to start when a layer is missing */
	bool require_lock;            /* true: no model that is not as its cloister.lock says */
	bool allow_containers;        /* false: pipelines with wrap: podman or docker */
	bool allow_unwrapped;         /* false: pipelines with wrap: none */
	char *scratch;                /* folder for page files; NULL: /dev/shm, else state/tmp */
	uint64_t settle_seconds;      /* 5: size and mtime must stand still this long */
	uint64_t lease_seconds;       /* 60: a worker whose heartbeat stands still so long is dead */
	uint64_t rescan_seconds;      /* 30 */
	uint64_t free_mebibytes;      /* 256: pause below this much room for results */
	uint64_t scratch_mebibytes;   /* 0: half of what is free there; page files at one time */
	uint64_t jobs;                /* 0: as many recognisers as cores */
};

/* Defaults where the file does not exist. RC_FATAL, reason "configuration", "FILE:LINE: ...". */
enum rc config_load(struct config *c, const char *spool_path, struct err *err);
void config_release(struct config *c);

#endif
