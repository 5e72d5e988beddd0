/* SPDX-License-Identifier: MIT
 *
 * run: what the parts of the supervisor share.  One of it exists, for the life of `cloister run`.
 */
#ifndef RUNNER_RUN_H
#define RUNNER_RUN_H

#include "config.h"
#include "index.h"
#include "intake.h"
#include "lease.h"
#include "loop.h"
#include "notify.h"
#include "pipeline.h"
#include "queue.h"
#include "readers.h"
#include "scratch.h"
#include "spool.h"
#include "status.h"
#include "supervisor.h"

struct document;

struct run {
	struct spool *spool;
	const struct config *config;
	const struct run_options *options;
	unsigned jobs;
	const char *sandbox_flag; /* --sandbox=on|try|off for our own programs */
	struct loop loop;
	struct lease lease;
	struct scratch scratch;
	struct launcher launcher;
	struct pool pool;
	struct index index;
	struct queue queue;
	struct intake intake;
	struct status status;
	struct notify notify;
	struct run_counts counts;
	struct document *documents; /* being worked on */
	struct path_set parked; /* documents that are left for another run, by their paths */
	bool gatekeeper;  /* this worker admits documents; one a spool does */
	bool tokens_known; /* the last look at them, and at what was dropped, saw all */
	bool draining;    /* no new pages, no new documents */
	bool stop;        /* now */
	bool disk_full;   /* pause until there is room */
	unsigned strays;  /* tokens of ours that could not be moved on, and that no document holds */
	int signal;       /* that asked for it, or 0 */
	int gate_fd;
	double next_scan, next_reap, next_deferred, next_disk_look, last_activity;
	double last_scan, next_rescan;
	struct cached_pipeline *pipelines;
	size_t n_pipelines;
};

/* Effective settings for a document: the pipeline by name, with the ticket applied. Fails with
 * "unknown-pipeline", "pipeline" or "ticket". Caller releases. */
enum rc run_pipeline(struct run *run, const char *name, const json_t *ticket, struct pipeline *p,
		     struct err *err);

void run_release_pipelines(struct run *run);
/* Every pipeline, shipped ones too; `arg` is the run (struct pool). */
void run_each_pipeline(void *arg, void (*visit)(void *, const struct pipeline *), void *to);

/* identity = SHA-256 over document, settings and models, as in a token's key. */
void run_identity(const char *document_sha256, const struct pipeline *p, const struct readers *r,
		  char identity[SHA256_HEX_SIZE]);

/* schedule.c: claim documents while there is room for them; hand pages to decoders. */
void run_claim(struct run *run);
void run_ask_pages(struct run *run);

/* No token is put off for longer. */
#define DEFERRED_SECONDS_MAX 60

/* recovery.c: everything that puts right what a crash, or another worker, left behind. */
bool run_load_tokens(struct run *run);    /* ready/ into the queue; as gatekeeper, all paths */
void run_reap_workers(struct run *run);   /* tokens of dead workers back to ready/ */
size_t run_wake_deferred(struct run *run);/* those that are due; returns how many are left */
void run_sweep_attempts(struct run *run); /* as gatekeeper: what is left of finished documents in tmp/ and members/ */

void run_take_back_strays(struct run *run);

/* The spool is out of room: stop taking on work until there is some. */
void run_disk_full(struct run *run, const char *what);

#endif
