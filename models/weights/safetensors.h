/* SPDX-License-Identifier: MIT
 *
 * safetensors: the weights of a model folder, as downloaded.
 *
 * Format: https://huggingface.co/docs/safetensors (8 bytes little-endian header length, a JSON
 * header, the data), alone in model.safetensors or in the shards that the weight_map of
 * model.safetensors.index.json names.
 *
 * The files are mapped read-only and stay as they are on disk: tensors are row-major and need not
 * be aligned. Every tensor has one name here, whichever way it was saved: `visual.` for the vision
 * tower, `text.` for the language model, `lm_head.weight`.
 */
#ifndef MODELS_WEIGHTS_SAFETENSORS_H
#define MODELS_WEIGHTS_SAFETENSORS_H

#include "base/err.h"
#include "kernels/linear.h"

#include <stdint.h>

enum { TENSOR_RANK_MAX = 6 };

struct tensor {
	const char *name;   /* as above */
	const char *stored; /* as in the file */
	const char *file;   /* the shard, without the folder */
	const char *dtype;  /* "BF16", "F16", "F32", ... */
	unsigned rank;
	uint64_t shape[TENSOR_RANK_MAX];
	const void *data;
	size_t size; /* bytes; what shape and dtype say */
};

struct weights;

/* Map and check every shard. RC_FATAL names the file and what is wrong with it. */
enum rc weights_open(struct weights **, const char *folder, struct err *);

/*
 * How quantised matrices are saved (weights/awq.h): the numbers of a row that share a zero and a
 * scale. AWQ_NONE at first: there are none; AWQ_WHOLE: all of a row; else a multiple of 32.
 */
#define AWQ_NONE  0u
#define AWQ_WHOLE UINT32_MAX
void weights_set_group(struct weights *, uint32_t group);
uint32_t weights_group(const struct weights *);

/* One file alone; tensors keep the names they have in it. */
enum rc weights_open_file(struct weights **, const char *folder, const char *name, struct err *);

/* Weights for any configuration: every tensor asked for is there, bf16 numbers around 0. For
 * measuring: all of them share the same memory. */
struct weights *weights_random(void);
void weights_close(struct weights *);
size_t weights_count(const struct weights *);
const struct tensor *weights_at(const struct weights *, size_t); /* by name */

/* Numbers in all of them; eight to an integer where they are packed (AWQ), without scales and
 * zeros. */
uint64_t weights_parameters(const struct weights *);

/* What a tensor is called here that is saved under this name; freed by the caller. */
char *weights_name_of(const char *stored);

/* NULL when there is none. */
const struct tensor *weights_find(const struct weights *, const char *name);

/* Take a tensor of any shape and type. RC_FATAL names it when it is missing. */
enum rc weights_take_tensor(struct weights *, const char *name, const struct tensor **,
			    struct err *);

/* RC_FATAL names a tensor that is not F32, BF16 or F16. */
enum rc tensor_number(const struct tensor *, enum number *, struct err *);

/* An INT4 matrix of weights_random(); false: its sizes do not fit the group, or they are not
 * random. */
bool weights_make_up_int4(struct weights *, uint64_t rows, uint64_t columns, struct matrix *);

/*
 * Take a matrix of F32, BF16 or F16 numbers with this shape (a vector: columns 1; a tensor of
 * higher rank: its first dimension, and the product of the others). RC_FATAL names the tensor when
 * it is missing or has another shape or type.
 */
enum rc weights_take(struct weights *, const char *name, uint64_t rows, uint64_t columns,
		     struct matrix *, struct err *);

/* The same as weights_take(), as fp32 in memory that the caller frees. */
enum rc weights_take_f32(struct weights *, const char *name, uint64_t rows, uint64_t columns,
			 float **, struct err *);

/* RC_FATAL naming the first tensor that nobody took: this is not the architecture it is said to be.
 */
enum rc weights_all_taken(const struct weights *, struct err *);

#endif
