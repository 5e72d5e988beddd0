/* SPDX-License-Identifier: MIT
 *
 * serve: cloister-model, a recogniser that reads pages with the engine of this folder.
 *
 * identity.c says which model it is, sight.c takes a page in, eyes.c does that in threads, job.c is one
 * request from its line to its result, serve.c reads requests while it generates. Pages are answered in the order in
 * which they end; what a page gives does not depend on those beside it.
 */
#ifndef MODELS_SERVE_SERVE_H
#define MODELS_SERVE_SERVE_H

#include "chat.h"
#include "engine.h"
#include "image.h"
#include "output.h"
#include "weights/lock.h"
#include "base/hash.h"

#include <jansson.h>

struct eyes;

struct server {
	const char *folder; /* of the model */
	const char *page_folder;
	int pages; /* the same, open */
	struct pool *pool;
	struct model model;
	struct tokenizer *tokenizer;
	struct chat chat;
	struct engine *engine;
	struct served_adapter *adapters;
	size_t adapter_count;
	size_t cache_tokens; /* that fit into the engine's cache */
	unsigned sequences;
	struct eyes *eyes; /* or NULL */
};

/* identity.c */
struct model_identity {
	/*
	 * SHA-256 of all that can change a result: of "NAME SIZE PIECES\n" (weights/digest.h) for
	 * each of the folder's files that the engine reads, by name. Every start proves anew what
	 * is used.
	 */
	char sha256[SHA256_HEX_SIZE];
	char lock[SHA256_HEX_SIZE]; /* of cloister.lock, when these files are as it says; or "" */
	struct err unlocked;	    /* why not */
};
enum rc model_identity(const char *folder, struct pool *, struct model_identity *, struct err *);

/* adapters.c: those that requests may name, each a folder like the model's own. */
struct served_adapter {
	const char *name; /* as it was given, and as requests say it */
	char *folder;	  /* owned */
	struct model_identity id;
	struct err why;	 /* it could not be loaded; reason "": it is there */
	unsigned number; /* that the model knows it by */
};
void adapters_add(struct server *, const char *name);
void adapters_release(struct server *);
/* The list `names` of a request. RC_FAILED: it names one that is not there, or cannot be used. */
enum rc adapters_find(const struct server *, const json_t *names, struct adapted *, struct err *);
/* For hello: [{"name":.., "sha256":.., "lock":..}], or with "error" what is wrong; for a result: names. New
 * references. */
json_t *adapters_hello(const struct server *);
json_t *adapters_names(const struct server *, const struct adapted *);

/* sight.c: a picture in patches, and then what the engine needs to know of it. Zeroed: nothing. */
struct sight {
	void *patches; /* owned, as the device wants them, until it looks at them */
	struct engine_page page;
	struct features features;  /* owned, in the memory of: */
	struct compute *compute;
	unsigned rows, columns;	   /* of tokens; 0: no page */
};
/* A page file, and what is done to it before it is cut into patches. */
struct sight_page {
	const char *path;
	uint32_t width, height;
	uint64_t most_pixels; /* 0: as many as the model's settings say */
	bool lanczos;	      /* brought below by image_prepare() */
	unsigned enlarge;     /* for that; 0: left as it is */
};
/* From any thread, with a pool of its own. */
enum rc sight_load(struct sight *, const struct server *, const struct sight_page *, struct pool *,
		   struct err *);
/* Begins to look at as many of them, from the first on, as the device takes at once, and returns how many; 0:
 * it cannot look at the first. Their patches are gone then; they stay where they are until sight_seen(). */
size_t sight_look(struct sight *const *, size_t count, const struct server *, struct err *);
bool sight_seen(struct sight *, bool wait);
void sight_release(struct sight *);

/* job.c */
struct job;

/* A request's line. Never NULL: what is wrong with it is found when it is started. */
struct job *job_new(uint64_t number, const char *line, size_t len);
/* Takes its page in, from any thread, with a pool of its own: all of a job that takes long before the tower
 * has it. What is wrong is found when it is started. */
void job_look(struct job *, const struct server *, struct pool *);
/* The tower begins to look at the pages of as many jobs, from the first on, as it takes in one pass; a job
 * without a page, or with one that is not good, is among them as it comes. Returns how many. This from the
 * thread of the engine, as all that follows. */
size_t jobs_see(struct job *const *, size_t count, const struct server *, uint64_t pass);
uint64_t job_pass(const struct job *);
/* Is its page there? wait: it is. */
bool job_seen(struct job *, bool wait);
/* Give it to the engine, or answer it with what is wrong. False: it was answered and is gone. */
bool job_start(struct job *, struct server *);
/* What the engine made of it: answered (true, and it is gone), or given to the engine once more. */
bool job_end(struct job *, struct server *, struct engine_result *);
uint64_t job_number(const struct job *);
void job_free(struct job *);

/* serve.c: until standard input ends. Returns the exit code. */
int serve(struct server *);

#endif
