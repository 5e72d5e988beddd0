/* SPDX-License-Identifier: MIT
 *
 * document: one attempt at one document, from its claim to its end.
 *
 *   claimed -> opening -> pages -> writing -> written -> out/
 *                 |         ^ |        |
 *                 |         | +- decoder died: a fresh one goes on with the next page
 *                 +-> unpacking (archive): members/ -> out/, members are admitted like dropped files
 *                 any step -> failed/, or deferred/ for another attempt, or ready/ uncounted
 *
 * Pages are pulled: the decoder is asked for one page at a time, into a slot that has room for
 * exactly that page, and only while the recogniser has an appetite.  A page is final when its record
 * is in the journal; records of earlier attempts that died are taken over when they were made from
 * the same document with the same settings and model.
 */
#ifndef RUNNER_DOCUMENT_H
#define RUNNER_DOCUMENT_H

#include "airlock.h"
#include "child.h"
#include "journal.h"
#include "readers.h"
#include "run.h"
#include "scratch.h"

#include <time.h>

#define TRIES_OF_A_PAGE     2
#define ATTEMPTS_EXPLAINED  2
#define ATTEMPTS_UNEXPLAINED 5
#define CRASHES_IN_A_ROW    50
#define SYNC_PAGES          16
#define LONG_DOCUMENT       64 /* pages; from there on others may start beside it */

enum document_phase { DOC_OPENING, DOC_PAGES, DOC_UNPACKING, DOC_WRITING, DOC_WRITTEN };
enum page_progress { PAGE_PENDING, PAGE_BUSY, PAGE_DONE };
enum slot_use { SLOT_FREE, SLOT_DECODING, SLOT_READING, SLOT_ASIDE };

struct document {
	struct run *run;
	struct document *next;
	struct token token;
	char token_name[TOKEN_NAME_SIZE];
	struct pipeline pipeline;
	char pipeline_hash[SHA256_HEX_SIZE];
	struct readers readers;
	int fd;                /* the document */
	char attempt_name[KEY_SIZE + WORKER_NAME_SIZE + 16]; /* KEY.WORKER-N */
	int attempt;           /* its folder in state/tmp */
	struct journal journal;
	bool adopted;          /* it holds what earlier attempts had read; they are removed */
	double next_sync;
	enum document_phase phase;
	char kind[16];
	time_t started;
	double started_at;
	char *duplicate_of;    /* path beneath out/, or NULL */
	char *final;           /* path beneath out/, once published */
	bool closed;           /* to be removed from the list */

	struct child decoder;  /* also the unpacker */
	bool decoder_open;     /* has answered the open line */
	double deadline;       /* of what the decoder does now; 0: nothing */
	unsigned crashes;      /* of decoders, without a finished page between */

	uint32_t pages, finished, asked; /* asked: pages given to a decoder, for the turns */
	uint32_t ok, blank, flagged, failed, reused;
	uint32_t first_pending;
	uint8_t *progress;     /* [pages] enum page_progress */
	uint8_t *tries;        /* [pages] */
	unsigned folder;
	struct document_slot {
		struct slot slot;
		enum slot_use use;
		uint32_t page;
		uint64_t needs;      /* bytes the decoder waits for; 0: it has them */
		json_t *decoded;     /* what the decoder said about the page */
		double began, decode_seconds;
		struct reading reading;
		json_t *record;      /* of the page, while its text is worked on; or NULL */
		struct aside *aside; /* SLOT_ASIDE */
		struct document *document;
	} slots[DECODE_SLOTS_MAX];
	size_t n_slots;
	struct document_slot *decoding; /* the slot it fills now, or NULL */

	struct unpacking *unpacking;
	struct child writer;
	json_t *written;
};

/* Take a token that this worker has claimed (it lies in the lease's folder) and begin. NULL when
 * the document has been dealt with already (it failed, or was finished by an earlier attempt). */
struct document *document_begin(struct run *run, const char *token_name);
/* Release memory and processes; the token must have been dealt with. */
void document_release(struct document *d);

/* Ask for the next page if there is one, a slot is free, and nothing stands against it. */
bool document_wants_page(const struct document *d);
void document_ask_page(struct document *d);
/* Time limits, group commit, retries of what waited for room. Returns when to call again. */
double document_turn(struct document *d, double now);
/* No more pages will be asked for: give the token back when nothing is in flight. */
void document_drain(struct document *d);
bool document_idle(const struct document *d);

/* Has the file been written to, or replaced, since it was admitted? Then the attempt is over, and the file is
 * admitted anew. Asked before anything is published. */
bool document_changed(struct document *d);

/* Does a document hold this token of ours? */
bool document_holds(const struct run *run, const char *token_name);

/* Ends of an attempt. Each closes the document. */
void document_fail(struct document *d, const struct err *why);      /* to failed/ */
void document_try_again(struct document *d, const struct err *why); /* explained failure: deferred */
void document_give_back(struct document *d);                        /* to ready/, uncounted */
/* The same, because the system lacks something: the run waits before it goes on. */
void document_wait(struct document *d, const char *what);
void document_park(struct document *d); /* the same, but this run does not take it on again */
void document_gone(struct document *d);   /* the file is not what it was: forget the token */
void document_acknowledge(struct document *d); /* after its publication was synced */

/* Remove the folders of all attempts at it, or of all but one. */
void document_sweep_attempts(struct document *d, const char *but);

/* pages.c */
void document_pages_begin(struct document *d, uint32_t pages);
void document_page_failed(struct document *d, uint32_t page, const struct err *why,
			  json_t *decoded, double decode_seconds);
void document_page_decoded(struct document_slot *slot, json_t *done);
/* The keys of a record that say how it ended; status, reason and detail may be NULL. */
void document_set_outcome(json_t *record, const char *status, const char *reason, const char *detail);
/* Something of the page is missing, though its text is not: it is worth a look. */
void document_flag(json_t *record, const struct err *why);
/* What stands on the slot's page is known: on to the text step, where one follows. record: consumed. */
void document_page_read(struct document_slot *slot, json_t *record);
/* What the page is to say is known: on to its HTML, where that is asked for. record: consumed. */
void document_page_final(struct document_slot *slot, json_t *record);
/* All is made of the slot's page (record: consumed); or nothing: its recogniser broke. */
void document_page_keep(struct document_slot *slot, json_t *record);
void document_page_unread(struct document_slot *slot);
void document_free_slot(struct document_slot *slot);
void document_after_page(struct document *d);

/* text_step.c: give the text of a page that was read to the recogniser of the pipeline that follows
 * (record: consumed). false: there is nothing to do, and the record is still the caller's. */
bool text_step_begin(struct document_slot *slot, json_t *record);

/* decoder.c: the decoder's side of the pull protocol. */
enum rc decoder_start(struct document *d, struct err *err);
void decoder_stop(struct document *d);
void decoder_ask(struct document *d, struct document_slot *slot);
bool decoder_grant(struct document *d, struct document_slot *slot); /* false: no room yet */
void decoder_late(struct document *d);

/* unpacker.c */
void unpacking_begin(struct document *d);
/* After publication: hand the members to the intake. */
void unpacking_finish(struct document *d);
/* The same, for what an attempt that died had published. false: they cannot be moved now. */
bool unpacking_recover(struct document *d);
void unpacking_release(struct document *d);

/* finish.c */
void document_write(struct document *d); /* all pages are final: start the writer */

#endif
