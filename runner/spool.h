/* SPDX-License-Identifier: MIT
 *
 * spool: the directory tree that is the queue.
 *
 *   SPOOL/in/PIPELINE/any/sub/report.pdf      dropped documents; stay here until they are finished
 *   SPOOL/out/PIPELINE/any/sub/report.pdf/    results, each published by one rename
 *   SPOOL/failed/PIPELINE/.../report.pdf      originals that could not be read, + .why.json
 *   SPOOL/done/PIPELINE/.../report.pdf        originals of results
 *   SPOOL/pipelines/NAME.yaml                 the operator's pipelines; they win over shipped ones
 *   SPOOL/cloister.yaml                       settings of the spool (config.h)
 *   SPOOL/state/ready/P/PIPELINE/KEY.aN       tokens waiting, P = priority 0..9
 *              active/WORKER/{hb,KEY.aN}      tokens being worked on; hb: see lease.h
 *              deferred/KEY.aN                tokens waiting for another try, mtime = not before
 *              hold/KEY.aN                    tokens an operator has put aside
 *              tmp/KEY.WORKER/                the private folder of an attempt
 *              members/KEY/NNNN               documents out of an archive, admitted like dropped ones
 *              status.json  cloister.prom  index
 *
 * A token is a small JSON file about one admitted document.  Its folder is the document's state, its
 * name tells the key and the number of attempts begun; moving it is one rename.
 *
 *   KEY = time of arrival (UTC, microseconds) - identity - path
 *   20261121T201500.123456-0123456789abcdef-0123456789abcdef
 *
 * The time is the file system's: when the file was last renamed or written to (ctime).  So whoever
 * admits a drop gives it the same key, and where two machines did so without knowing of each other,
 * the second finds its result there, or under its name, and lets it be.  The ctime changes once more when
 * the file is moved away; so it has to have been the same for the settle time when a key is made of it.
 *
 * identity = first 16 hex digits of SHA-256 over document, effective pipeline and model: equal for a
 * document that was dropped twice.  path = 16 hex digits of SHA-256 over the path beneath in/ (or
 * members/), so that the names of the tokens tell which files have been admitted.
 */
#ifndef RUNNER_SPOOL_H
#define RUNNER_SPOOL_H

#include "base/err.h"
#include "base/hash.h"

#include <jansson.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define KEY_SIZE        57 /* 22 + 1 + 16 + 1 + 16 and NUL */
#define TOKEN_NAME_SIZE (KEY_SIZE + 12)
#define ATTEMPTS_MAX    999
#define PRIORITIES      10

struct spool {
	char *path; /* as given by the user */
	bool shared; /* other machines may change it behind stale names and attributes that we see */
	int root, in, out, failed, done, state, ready, active, deferred, hold, tmp, members;
};

/* Open a spool, making what is missing of it when `create`. RC_FATAL with reason "configuration"
 * when it cannot be used: not a folder, parts of it on different file systems, writable by
 * everybody, one part inside another. */
enum rc spool_open(struct spool *s, const char *path, bool create, struct err *err);
void spool_close(struct spool *s);

/* Which drop a document came in by: its file lies beneath in/ or beneath state/members/. */
enum token_source { SOURCE_IN, SOURCE_MEMBER };

struct token {
	char key[KEY_SIZE];
	unsigned attempt;  /* attempts begun */
	unsigned priority; /* 0 first .. 9 last */
	char *pipeline;    /* name */
	enum token_source source;
	char *file;      /* path beneath in/ or state/members/: bytes, not UTF-8 */
	char *result;    /* path of the result beneath out/, before a ~2 is added */
	char sha256[SHA256_HEX_SIZE];
	char identity[SHA256_HEX_SIZE];
	uint64_t bytes;
	int64_t mtime_ns; /* of the file when it was hashed */
	json_t *ticket;   /* options of NAME.cloister.yaml, normalised; or NULL */
	json_t *archive;  /* of a member: {"path","sha256","member","ordinal","depth"}; or NULL */
	json_t *failures; /* array of {"attempt","reason","text"}: explained failures so far */
};

void token_release(struct token *t);

/* "KEY.aN" of t. */
void token_name(const struct token *t, char name[TOKEN_NAME_SIZE]);

/* The parts of a token's file name; false when it is not one. path_hash may be NULL. */
bool token_name_parse(const char *name, char key[KEY_SIZE], unsigned *attempt,
		      uint64_t *path_hash);

/* Hash of a path as in a KEY: source and file together. */
uint64_t token_path_hash(enum token_source source, const char *file);

/* Parts of a key to a key, and its time (microseconds) back. */
void key_make(char key[KEY_SIZE], uint64_t time_us, uint64_t identity, uint64_t path);
uint64_t key_time(const char *key);

/* Fill t->key from t->identity, t->source, t->file and, for what lies in in/, the time of arrival. */
void token_make_key(struct token *t, uint64_t arrived_us);

/* Read dirfd/name. RC_FAILED, reason "token", when it is torn or not one of ours (it is left where
 * it is); "vanished" when somebody else took it; "unreadable" when the system does not let us now.
 * Caller releases. */
enum rc token_read(int dirfd, const char *name, struct token *t, struct err *err);

/* Write t as dirfd/KEY.aN, replacing; not synced (claiming does that). */
enum rc token_write(int dirfd, const struct token *t, struct err *err);

/* ready/PRIORITY/PIPELINE as a descriptor the caller closes; made when missing. -1 and err. */
int spool_ready_dir(const struct spool *s, unsigned priority, const char *pipeline,
		    struct err *err);

/* Where a token lies. */
enum token_state { TOKEN_READY, TOKEN_ACTIVE, TOKEN_DEFERRED, TOKEN_HOLD, TOKEN_STATES };
const char *token_state_name(enum token_state state);

/* A token met on a walk; dirfd is the folder it lies in and, like the strings, borrowed. */
struct token_entry {
	enum token_state state;
	int dirfd;
	const char *name;     /* file name */
	const char *key;      /* parsed from it */
	unsigned attempt;
	uint64_t path_hash;
	const char *worker;   /* TOKEN_ACTIVE, else NULL */
	const char *pipeline; /* TOKEN_READY, else NULL */
	unsigned priority;    /* TOKEN_READY */
};

/* Call visit for every token of the states in `states` (bits 1 << enum token_state) until it returns
 * false. Names that are not tokens are skipped. Tokens may move while it walks. RC_RETRY when it could
 * not see all of them. */
enum rc spool_walk_tokens(const struct spool *s, unsigned states,
			  bool (*visit)(const struct token_entry *entry, void *arg), void *arg,
			  struct err *err);

/* Files that are never admitted: leading '.', trailing ~ .part .tmp .filepart .crdownload, tickets. */
bool spool_ignores(const char *basename);
#define TICKET_SUFFIX ".cloister.yaml"
#define WHY_SUFFIX    ".why.json"

/* First folder of a path beneath in/, or `fallback` for a file that lies in in/ itself. */
void spool_pipeline_of(const char *file, const char *fallback, char name[65]);
/* [A-Za-z0-9][A-Za-z0-9._-]{0,63} */
bool spool_pipeline_name_valid(const char *name);

/* Read PIPELINE's file: SPOOL/pipelines/NAME.yaml, else the shipped one, and that of the pipeline that
 * it names with `then`. Reason "unknown-pipeline" when there is none, "pipeline" when it is wrong.
 * Caller releases. */
struct pipeline;
enum rc spool_load_pipeline(const struct spool *s, const char *name, struct pipeline *p,
			    struct err *err);

/* The same in two steps, with the folder that goes before the shipped ones: the file alone, what follows
 * (nothing where there is no `then`). */
enum rc spool_find_pipeline(const char *folder, const char *name, struct pipeline *p,
			    struct err *err);
enum rc spool_follow_pipeline(const char *folder, struct pipeline *p, struct err *err);

/* {NAME: null}: of all that there are, shipped ones too; new reference. */
json_t *spool_pipeline_names(const struct spool *s);

/* Folders of the installation: programs (cloister-decode ...) and shipped pipelines. Found beside
 * the running program (a build tree), else at the installed places; $CLOISTER_LIBEXEC and
 * $CLOISTER_PIPELINES win. The strings live as long as the program. */
const char *install_program_dir(void);
/* RC_FATAL when a program that every document needs is not there: no document's fault. */
enum rc install_check(struct err *err);
const char *install_pipeline_dir(void);

#endif
