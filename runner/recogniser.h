/* SPDX-License-Identifier: MIT
 *
 * recogniser: the programs that read pages, and the pages that wait for them.
 *
 * An engine is a recogniser command; documents whose pipelines give the same command, adapters of a model
 * aside, share it.  Its
 * processes are started when pages wait and there is room (jobs in all, but at least one for every
 * engine with work), kept between documents, and replaced when they die.  A page lost with its
 * process is tried once more; a page that takes too long fails; a line that is not the protocol
 * costs the process its life.  An engine whose processes die ten times, over different documents and
 * without one result between, is broken: its pages go back unread, never counted as failed.
 *
 * An engine on GPUs has a process for each, however many jobs there are; pages go where the fewest are
 * read.  A GPU whose processes do not come up, or die as above, is left out; without any the engine is
 * broken.  One whose cache takes what memory is left there (cache_mebibytes: 0) has the GPUs to itself:
 * others wait until it is idle, and then it goes, to come back when they are.
 */
#ifndef RUNNER_RECOGNISER_H
#define RUNNER_RECOGNISER_H

#include "adapters.h"
#include "child.h"
#include "gpus.h"
#include "launcher.h"
#include "config.h"
#include "pipeline.h"
#include "scratch.h"

#include <jansson.h>
#include <stdbool.h>
#include <stdint.h>

/* One page to be read, or the text of one to be worked on; owned by the caller until `done` is
 * called. */
struct reading {
	char page[32];          /* file, relative to the scratch folder; names the page also for a text */
	const char *text;       /* what is asked about instead of the page; or NULL; borrowed */
	const char *format;     /* of the text; borrowed */
	uint32_t width, height;
	double dpi;
	bool native;            /* the resolution is the page's own */
	const char *prompt;     /* or NULL; borrowed */
	json_t *params;         /* owned by the reading */
	unsigned seconds;       /* time limit */
	size_t max_line;
	/* result: a clean result object (new reference), or NULL and why. RC_RETRY in rc: the engine
	 * is broken, the page was not read and is nobody's fault. */
	void (*done)(void *arg, struct reading *reading, enum rc rc, json_t *result,
		     double seconds, const struct err *why);
	void *arg;
	/* private */
	struct engine *engine;
	const struct gpu *lost_on; /* the last time it was tried; or NULL */
	unsigned tries;
	uint64_t id;
	double started, deadline;
	struct reading *next;
};

enum engine_takes { TAKES_PAGE = 1 << 0, TAKES_TEXT = 1 << 1 };
enum engine_state { ENGINE_STARTING, ENGINE_READY, ENGINE_BROKEN };

struct engine {
	struct pool *pool;
	char *id;	    /* its command without the adapters */
	const char **argv;
	struct adapters adapters;
	struct pipeline settings; /* of the first pipeline that has it; its own copy */
	bool alone;   /* its first process says how many there should be */
	unsigned read_seconds_start; /* time limit until it is ready */
	enum engine_state state;
	struct err why; /* ENGINE_BROKEN */
	unsigned window; /* 0: it has not said hello yet */
	unsigned takes;  /* enum engine_takes bits */
	unsigned documents; /* that are open and need it: one process stays */
	char name[64], version[64], model_name[128], model_sha256[65];
	char model_lock[65]; /* of the cloister.lock that it keeps to; or "" */
	unsigned deaths; /* in a row, without a result */
	unsigned long blamed; /* folder of the document that was read at the last of them */
	double restart_at;
	struct reading *first, *last; /* waiting */
	unsigned waiting, in_flight;
	struct process **processes;
	size_t n_processes;
	struct gpu *gpus; /* or NULL: on the CPU */
	size_t n_gpus;
};

struct pool {
	struct loop *loop;
	struct scratch *scratch;
	unsigned jobs;
	enum sandbox_mode sandbox;
	bool require_lock;
	const struct launcher *launcher; /* borrowed; what it is allowed to start: */
	bool allow_containers, allow_unwrapped;
	struct engine **engines;
	size_t n_engines;
	uint64_t next_id;
	size_t expected; /* documents that wait: so many processes are worth starting ahead */
	/* Every pipeline that there is, for engines to be shared by; or NULL. */
	void (*each_pipeline)(void *arg, void (*visit)(void *, const struct pipeline *), void *to);
	void (*changed)(void *arg); /* an engine became ready or broken, or finished a page */
	void *arg;
};

/* The launcher is borrowed. */
void pool_init(struct pool *p, struct loop *loop, struct scratch *scratch, unsigned jobs,
	       enum sandbox_mode sandbox, const struct launcher *launcher,
	       const struct config *config);
void pool_release(struct pool *p);

/* The engine of a pipeline, made when it is new; its first process is started. */
struct engine *pool_engine(struct pool *p, const struct pipeline *pipeline);

void engine_read(struct engine *e, struct reading *reading);
/* Take a reading back that is waiting or in flight (then its result is thrown away); `done` is not
 * called. */
void engine_forget(struct reading *reading);
/* How many pages, waiting and being read, keep all its processes busy. */
unsigned engine_appetite(const struct engine *e);

/* Start, stop and time out processes. Returns the next moment it wants to be called. */
double pool_turn(struct pool *p, double now);

/* What its parts share with cloister check --recogniser. The command of a pipeline, which the caller frees, all of it. */
char **recogniser_argv(const struct pool *p, const struct pipeline *pipeline, bool cuda);
void recogniser_argv_free(char **argv);
/* Start one, as a run does; gpu: for the environment of one of ours, as in struct child_spec; the rest as
 * child_start(). *private: its folder for temporary files, or NULL; for
 * scratch_drop_private() when it has ended. */
enum rc recogniser_start(struct child *child, struct pool *pool, const struct pipeline *pipeline,
			 const char *const *argv, const char *const *gpu, char **private,
			 loop_handler *on_line,
			 loop_handler *on_end, void *arg, struct err *err);
/* May it be started as its pipeline says? RC_FAILED, reason "recogniser". */
enum rc recogniser_allowed(const struct pool *pool, const struct pipeline *pipeline, struct err *err);
/* enum engine_takes bits, of the hello's "takes". */
unsigned recogniser_takes(const json_t *list);
/* New reference. */
json_t *recogniser_request(const struct reading *r);

/* [{"name":..,"busy":N,"processes":N}], new reference. */
json_t *pool_status(const struct pool *p);

#endif
