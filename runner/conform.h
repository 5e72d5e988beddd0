/* SPDX-License-Identifier: MIT
 *
 * conform: does a recogniser keep to the protocol (cloister-airlock(7))?
 *
 * The recogniser is started as a run starts it and asked one thing after another; each check is one
 * line of the report.  What it does wrong while a check waits for it, in whatever way, is that
 * check's fault: the process is killed then, and the next check begins with a new one.
 *
 * conform.c has the process and the questions, conform_checks.c what is asked.
 */
#ifndef RUNNER_CONFORM_H
#define RUNNER_CONFORM_H

#include "child.h"
#include "options.h"
#include "pipeline.h"
#include "recogniser.h"
#include "scratch.h"

#include <jansson.h>
#include <stdbool.h>

#define ASKED_MAX 16 /* at one time */

/* The pages that are asked about, by their slots. */
enum conform_page {
	PAGE_LINES, /* testpage.h */
	PAGE_BLANK, /* of the same size, white */
	PAGE_COLOUR,
	PAGE_DOT,  /* one pixel */
	PAGE_HUGE, /* as large as the pipeline lets pages be */
	PAGE_CUT,  /* its file ends early */
	PAGES,
	PAGE_MISSING = PAGES, /* there is no such file */
};

struct asked {
	struct reading reading;
	json_t *more;	/* keys that are added to the request; or NULL; owned */
	json_t *result; /* the raw answer; NULL: none yet; owned */
};

struct conform {
	const struct options *options;
	const struct pipeline *pipeline;
	const char *const *argv;
	struct launcher launcher;
	struct config config; /* it was asked for: all is allowed */
	struct pool pool;     /* only what says how recognisers are started */
	struct loop loop;
	struct scratch scratch;
	double seconds; /* for a hello or an answer */
	/* the process */
	struct child child;
	char *private;
	bool up, ready, closed; /* closed: we have closed its standard input */
	bool broken;		/* fault says what it did; it is of no more use */
	int status;		/* when it has ended after `closed` */
	bool ended;
	struct err fault;
	json_t *hello;
	unsigned window, takes;
	/* the questions */
	struct asked asked[ASKED_MAX];
	size_t n_asked;
	uint64_t next_id;
	unsigned folder;
	struct slot slots[PAGES];
	uint32_t width[PAGES + 1], height[PAGES + 1];
	bool have[PAGES + 1];
	char *text; /* what it said to PAGE_LINES, or to its text; NULL: nothing yet */
	bool same;  /* and said again */
	json_t *report;
	bool failed;
};

enum verdict { PASS, FAIL, NOT_TRIED };

struct conform_check {
	const char *name;
	enum verdict (*run)(struct conform *c, struct err *why);
	unsigned takes; /* what it must take for this to be tried; 0: anything */
	bool needed;	/* where it fails the others are not tried */
};

extern const struct conform_check conform_checks[]; /* ends with a NULL name */

/* RC_FAILED: it did not come up, and the fault says why. */
enum rc conform_start(struct conform *c);
void conform_stop(struct conform *c);

/* A question to be sent, filled with what the pipeline has for it: about a page, or about a text
 * where text is not NULL (borrowed). */
struct asked *conform_ask(struct conform *c, enum conform_page page, const char *text,
			  const char *format);
void conform_send(struct conform *c, struct asked *asked);
/* Wait until all that was sent has been answered. false: the process is broken, and c->fault is
 * why. */
bool conform_await(struct conform *c);
/* Turn the loop for so long, or until the process is broken or has ended. */
void conform_wait(struct conform *c, double seconds);
/* Forget questions and answers. */
void conform_clear(struct conform *c);

/* The answer as a run would take it; new reference. NULL: it says error, or is wrong (reason
 * "protocol"); err tells. */
json_t *conform_result(const struct asked *asked, struct err *err);

#endif
