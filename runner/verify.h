/* SPDX-License-Identifier: MIT
 *
 * verify: what the parts of `cloister verify` share.
 *
 * The checks are made in the order in which `cloister run` gives its rights away: first what this
 * process finds around it, then within the network namespace, then behind the supervisor's sandbox.
 */
#ifndef RUNNER_VERIFY_H
#define RUNNER_VERIFY_H

#include "child.h"
#include "config.h"
#include "launcher.h"
#include "loop.h"
#include "options.h"
#include "sandbox.h"
#include "scratch.h"
#include "spool.h"

#include <jansson.h>
#include <stdbool.h>

struct verify {
	const struct options *o;
	struct spool *spool;
	const struct config *config;
	const char *tree; /* probe_tree_make() */
	int outside;      /* a process that is not locked, for acts against others */
	json_t *control;  /* {ACT: OUTCOME} without a sandbox */
	struct loop loop;
	struct scratch scratch;
	struct launcher launcher;
	enum sandbox_mode mode;
	json_t *checks;
	bool own_network; /* cloister could make an empty namespace */
	bool failed;
};

/* Which part of an installation keeps the promise, for the table. */
#define HELD_BY_SURROUNDINGS "surroundings" /* container, unit, machine */
#define HELD_BY_NAMESPACE    "namespace"    /* the network namespace that cloister makes */
#define HELD_BY_SANDBOX      "sandbox"

/* Add a line to the table. What could not be tried has not passed. */
void verify_say(struct verify *v, bool passed, const char *check, const char *held_by,
		const char *format, ...) __attribute__((format(printf, 5, 6)));

/* verify_places.c: may be called before anything is locked. */
void verify_read_only(struct verify *v);
void verify_spool(struct verify *v);

/* verify_network.c */
void verify_family_listeners(struct verify *v); /* with the machine's /proc in sight */
void verify_network(struct verify *v);          /* leaves the network, as a run does */

/* A program that says something on standard output and ends. */
struct verify_child {
	struct child child;
	struct buf out; /* its lines */
	bool ended;
	int status;
};

/* verify_programs.c. Start it and wait for its end, as long as `seconds` (0: however long). The caller calls
 * verify_child_end() in any case. */
enum rc verify_child_run(struct verify *v, struct verify_child *c, const struct child_spec *spec,
			 unsigned seconds, struct err *err);
void verify_child_end(struct verify_child *c);

/* verify_programs.c: verify_control() before anything is locked, the rest behind the supervisor's
 * sandbox. */
void verify_control(struct verify *v);
void verify_supervisor(struct verify *v);
void verify_programs(struct verify *v);
int verify_foreign_probe(const char *dir); /* we are the foreign recogniser; exit code */

/* verify_pages.c */
struct engine;
struct pipeline;
/* A page of which the text is known, read through the engines of a pipeline; the result's text, or
 * NULL and err. The caller frees it. *is_text: it was asked about the page's text instead. */
char *verify_read_page(struct verify *v, const struct pipeline *p, bool *is_text, struct err *err);
void verify_pages(struct verify *v);

#endif
