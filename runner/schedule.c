/* SPDX-License-Identifier: MIT
 *
 * What is worked on next: which tokens are claimed, and whose page is decoded.
 *
 * A claim is one rename, ready/P/PIPELINE/KEY.aN -> active/ME/KEY.aN+1: the name that a crash leaves
 * behind has counted the attempt.  The token is synced, then the worker's folder, once for a batch.
 *
 * Pages go round: first by priority, then to the pipeline that was served least, then to the document
 * that was, so a volume of 5,000 pages takes its turn with the letters.  Documents past their first 64
 * pages do not count against the number that may be open, so letters can start beside volumes.
 */
#include "document.h"
#include "durable.h"
#include "base/log.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <unistd.h>

#define DOCUMENTS_MAX 64
#define WRITERS_MAX   16
#define BATCH_MAX     16

struct load {
	unsigned documents, reading, writing;
};

static struct load current_load(const struct run *run)
{
	struct load load = { 0 };

	for (const struct document *d = run->documents; d; d = d->next) {
		load.documents++;
		if (d->phase == DOC_WRITING || d->phase == DOC_WRITTEN)
			load.writing++;
		else if (d->asked < LONG_DOCUMENT)
			load.reading++;
	}
	return load;
}

static bool skip_broken(const struct queue_lane *lane, void *arg)
{
	(void)arg;
	return lane->closed;
}

/* What is published under a token must not be left without it: a document whose token is torn is
 * admitted anew, and nobody would know that the members of an archive are still to be moved. */
static void sync_token(struct run *run, const char *name)
{
	int fd = openat(run->lease.dir, name, O_RDONLY | O_NOFOLLOW | O_CLOEXEC);

	if (fd < 0) {
		log_warn("token %s: %s", name, strerror(errno)); /* reading it will say so again */
		return;
	}
	durable_sync(fd, name);
	close(fd);
}

/* false when somebody else has the token. */
static bool claim(struct run *run, const char *name, unsigned priority, const char *pipeline,
		  char claimed[TOKEN_NAME_SIZE])
{
	struct token t = { 0 };
	struct err err;
	enum rc rc;
	int ready;

	if (!token_name_parse(name, t.key, &t.attempt, NULL))
		BUG("token name %s", name);
	t.attempt++;
	token_name(&t, claimed);
	ready = spool_ready_dir(run->spool, priority, pipeline, &err);
	if (ready < 0) {
		run_disk_full(run, err.text);
		return false;
	}
	rc = durable_replace(ready, name, run->lease.dir, claimed, &err);
	close(ready);
	/* A file system that sends its requests again can report an error for what was done the first
	 * time; nobody else puts anything under this name. */
	if (rc != RC_OK && !faccessat(run->lease.dir, claimed, F_OK, AT_SYMLINK_NOFOLLOW))
		rc = RC_OK;
	if (rc == RC_RETRY)
		run_disk_full(run, err.text);
	if (rc == RC_OK)
		sync_token(run, claimed);
	return rc == RC_OK;
}

void run_claim(struct run *run)
{
	char claimed[BATCH_MAX][TOKEN_NAME_SIZE], name[TOKEN_NAME_SIZE], pipeline[65];
	struct load load = current_load(run);
	unsigned priority, n = 0;

	while (n < BATCH_MAX && !run->draining && !run->disk_full &&
	       load.documents + n < DOCUMENTS_MAX && load.writing < WRITERS_MAX &&
	       load.reading + n < run->jobs + 2 &&
	       queue_next(&run->queue, skip_broken, NULL, name, &priority, pipeline))
		n += claim(run, name, priority, pipeline, claimed[n]);
	if (!n)
		return;
	durable_sync(run->lease.dir, run->lease.name);
	for (unsigned i = 0; i < n; i++) {
		struct document *d = document_begin(run, claimed[i]), **end = &run->documents;

		while (*end)
			end = &(*end)->next;
		*end = d;
	}
	run->last_activity = loop_now();
}

/* Pages on their way to an engine: being decoded, waiting, being read. */
static unsigned engine_load(const struct run *run, const struct engine *e)
{
	unsigned n = e->waiting + e->in_flight;

	for (const struct document *d = run->documents; d; d = d->next)
		n += (d->readers.page == e || d->readers.text == e) && d->decoding;
	return n;
}

static bool has_appetite(const struct run *run, const struct engine *e)
{
	return engine_load(run, e) < 2 * engine_appetite(e);
}

static bool goes_before(struct run *run, const struct document *a, const struct document *b)
{
	uint64_t sa = *queue_served(&run->queue, a->token.pipeline);
	uint64_t sb = *queue_served(&run->queue, b->token.pipeline);

	if (a->token.priority != b->token.priority)
		return a->token.priority < b->token.priority;
	if (sa != sb)
		return sa < sb;
	return a->asked < b->asked;
}

void run_ask_pages(struct run *run)
{
	while (!run->draining && !run->disk_full) {
		struct document *best = NULL;

		for (struct document *d = run->documents; d; d = d->next)
			if (document_wants_page(d) &&
			    has_appetite(run, d->readers.page) &&
			    (!d->readers.text || has_appetite(run, d->readers.text)) &&
			    (!best || goes_before(run, d, best)))
				best = d;
		if (!best)
			return;
		++*queue_served(&run->queue, best->token.pipeline);
		document_ask_page(best);
		if (!best->decoding)
			return; /* its decoder had to be started first, or it ended */
	}
}
