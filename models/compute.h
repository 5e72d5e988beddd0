/* SPDX-License-Identifier: MIT
 *
 * compute: where a model's numbers are computed. The CPU (compute_cpu.c) is the reference, a GPU (cuda/)
 * does the same with its own memory; what is above (engine.c, serve/) is the same for both.
 *
 * Memory of the device is only handed through: pointers in struct features are not to be followed.
 */
#ifndef MODELS_COMPUTE_H
#define MODELS_COMPUTE_H

#include "adapter.h"
#include "config.h"
#include "kernels/attention.h"
#include "sampler.h"
#include "weights/safetensors.h"

#include <stdint.h>

enum { DEEPSTACKS_MAX = 8 };

/* What the vision tower made of a page, [tokens][hidden of the language model] each. */
struct features {
	float *embeddings;
	float *deepstack[DEEPSTACKS_MAX]; /* added after layer 0, 1, ... up to the first NULL */
	uint64_t ticket; /* of a page that is still being looked at; 0: it is there */
};

/* A page that is to be looked at. */
struct view {
	const void *patches; /* as pack() made them */
	unsigned rows, columns;
	struct features *features; /* come out; stay where they are until seen() */
};

/* The blocks of one sequence, first tokens first. */
struct text_sequence {
	uint32_t *blocks;
	size_t count;
	unsigned slot; /* its own among those that run; below compute->sequences */
};

/* What a token is chosen by. */
struct draw {
	const struct sampling *how;
	/* Prompt and output so far. What was chosen in a step that has not ended yet comes last, and is
	 * there when this one ends. */
	const unsigned *seen;
	size_t seen_count;
	bool fresh;	 /* all of it is there, and new to the device; else: one more than at its last draw */
	bool apart;	 /* the sequence has others in this step: its slot learns nothing of any. No penalty then */
	uint64_t step;	 /* of the sequence */
	unsigned limit;	 /* tokens from here on are never chosen */
	bool dropped;	 /* set between begin() and end(): nobody wants the choice any more */
	/* Come out. late: it was made so late that a step begun meanwhile, which took what was chosen,
	 * took another token. */
	struct choice choice;
	bool late;
};

enum {
	ADAPTERS_MAX = 64, /* loaded beside a model */
	ADAPTED_MAX = 4,   /* for one sequence */
};

/* The adapters of a sequence, by the numbers that adapt() gave them, in the order in which they are added. */
struct adapted {
	unsigned count, number[ADAPTED_MAX];
};

struct text_row {
	const struct text_sequence *sequence;
	size_t index;		   /* of the token in its sequence; its block is there */
	unsigned position[3];	   /* time, row, column; all three the same for text */
	bool written;		   /* by the model, and not read as the prompt is */
	struct adapted adapted;	   /* the same in all rows of a sequence */
	bool far;		   /* the sequence is longer than text_config.switch_at */
	unsigned token;		   /* whose embedding goes in, unless ... */
	bool chosen;		   /* ... it is what the last draw in the sequence's slot chose, or ... */
	const struct features *page; /* ... this is set: */
	size_t place;		   /* then row `place` of it, and of its deepstack */
	float *logits;		   /* [vocab], to be copied out; or NULL */
	struct draw *draw;	   /* the next token is to be chosen; or NULL */
};

struct compute_peak {
	double copied; /* bytes a second, those that are read and those that are written */
	double flop;   /* operations a second, with bf16 */
	double flop_fp8; /* with e4m3; 0: the model's weights are not */
};

struct compute;

struct compute_calls {
	/* Blocks of KV_PAGE tokens in all layers, `count` of them, instead of those there were; 0: they are only
	 * given back. RC_FATAL when they do not fit. */
	enum rc (*reserve)(struct compute *, uint32_t count, struct err *);
	/* One more adapter, with the next number, from 0 to ADAPTERS_MAX - 1; it may be gone when it returns.
	 * Before reserve(): cache_size may become less. RC_FATAL names what does not fit the model, or the
	 * device. */
	enum rc (*adapt)(struct compute *, struct adapter *, struct err *);
	/* Zeros, before anything is stored in it. */
	void (*clear)(struct compute *, uint32_t block);
	/*
	 * A step. rows <= compute->rows_max, those of one sequence in ascending order. Stores keys and
	 * values of the rows, and computes the logits and choices asked for. What comes out for a row
	 * depends on its own sequence alone, but for the last bits with any_order. Rows and features may be gone when it returns; draws,
	 * and what they point to, stay until end(). A device that fails ends the process: its pages
	 * are read again.
	 */
	void (*begin)(struct compute *, const struct text_row *, size_t count);
	/* Of the steps that were begun, the first ends: its logits and choices are there. Up to
	 * compute->ahead + 1 may be under way. */
	void (*end)(struct compute *);
	/* patches [rows * columns][3 * temporal * patch^2], see vision.h. RC_FAILED: no room for this page. */
	enum rc (*see)(struct compute *, const float *patches, unsigned rows, unsigned columns,
		       struct features *, struct err *);
	/* Patches as look() wants them; from any thread. Those given (malloc) are the device's, the result is the
	 * caller's to free. */
	void *(*pack)(const struct compute *, float *patches, unsigned rows, unsigned columns);
	/* As see(), but it only begins, for as many of the pages, from the first on, as go through the tower in
	 * one pass: how many, or 0: no room for the first. What comes out for a page depends on itself alone.
	 * Patches may be gone when it returns. compute->looks passes may be under way, a further one waits for
	 * the first. */
	size_t (*look)(struct compute *, const struct view *, size_t count, struct err *);
	/* Is the page there? wait: it is. */
	bool (*seen)(struct compute *, struct features *, bool wait);
	void (*forget)(struct compute *, struct features *);
	/* What the device can do at best: a copy of `bytes` in its memory, and the product of two bf16
	 * matrices of side x side; of e4m3 ones as well where weights are. RC_FAILED: no room. Before reserve(). */
	enum rc (*measure)(struct compute *, size_t side, size_t bytes, struct compute_peak *,
			   struct err *);
	void (*close)(struct compute *);
};

/* The head of every kind's own structure. */
struct compute {
	const struct compute_calls *calls;
	const char *name;   /* "cpu avx512-bf16", "cuda NVIDIA H100" */
	size_t rows_max;    /* in one step */
	unsigned sequences; /* side by side at most */
	unsigned rows_few;  /* written tokens in a step up to which one more costs little: guesses go no further */
	unsigned ahead;	    /* steps that may be begun while one before has not ended */
	size_t block_size;  /* bytes */
	size_t cache_size;  /* bytes that blocks may take, unless somebody asked for less */
	unsigned looks;	    /* passes of its tower while steps go on; 0: it does one thing at a time */
	bool singly;	    /* tokens that the model has written come one a step, again as at first */
};

/* One step and nothing beside it. */
static inline void compute_forward(struct compute *c, const struct text_row *rows, size_t count)
{
	c->calls->begin(c, rows, count);
	c->calls->end(c);
}

/* What keys and values are kept in. */
enum compute_keys {
	COMPUTE_KEYS_AS_WEIGHTS, /* bf16; fp32 in a model opened so */
	COMPUTE_KEYS_FP8,	 /* e4m3 with a scale for each token and head: on a GPU */
};

struct compute_options {
	enum number weights;
	/* The language model alone, in bf16, to hold those weights against (gate.h). What the device does not
	 * compute with is refused all the same. */
	bool plain;
	enum compute_keys keys;
	unsigned sequences; /* side by side at most; 0: as many as the device likes */
	unsigned drafts;    /* guesses for each in one step at most */
	size_t cache_size;  /* bytes for keys and values; 0: what the device has left */
	bool any_order;	    /* sums may depend on what is beside a row, where that is faster: on a GPU */
};

struct pool;

/* Takes the tensors it needs, or RC_FATAL names the one that is wrong, or what does not fit. Without a place
 * for it, and without weights, only whether the device computes such a model with these options. */
typedef enum rc compute_opener(struct compute **, const struct model_config *, struct weights *,
			       const struct compute_options *, struct pool *, struct err *);

compute_opener compute_open_cpu, compute_open_cuda;

#endif
