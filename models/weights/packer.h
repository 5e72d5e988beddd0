/* SPDX-License-Identifier: MIT
 *
 * packer: how a device wants its weights. Families say which tensors make which projection, in
 * text_weights.c and vision_*.c; the device says what becomes of them.
 */
#ifndef MODELS_WEIGHTS_PACKER_H
#define MODELS_WEIGHTS_PACKER_H

#include "kernels/linear.h"
#include "weights/safetensors.h"

/* Numbers in the device's memory, as it wants them: fp32 on the CPU, bf16 on a GPU. */
typedef void vector;

struct packer {
	/* As linear_pack(). */
	enum rc (*linear)(const struct packer *, struct linear *, const struct matrix *parts,
			  const float *const *biases, size_t count, struct err *);
	void (*free_linear)(const struct packer *, struct linear *);
	/* RC_FATAL when memory is not to be had. `values` becomes the packer's. */
	enum rc (*vector)(const struct packer *, float *values, size_t n, vector **, struct err *);
	void (*free_vector)(const struct packer *, vector *);
	/* For the few weights whose result is a choice, which a rounding may turn over; NULL: this one. */
	const struct packer *fine;
	/* For the head, which a GPU reads embeddings from as well; NULL: this one. */
	const struct packer *head;
	/* linear() `count` times, of `each` parts and the same shapes, to be given back together. NULL: one
	 * after the other. */
	enum rc (*stack)(const struct packer *, struct linear *, const struct matrix *parts, size_t each,
			 size_t count, struct err *);
	void (*free_stack)(const struct packer *, struct linear *, size_t count);
};

/* A projection of tensors NAME.PART.weight, or of AWQ's in their place (weights/awq.h), one below the
 * other, and NAME.PART.bias where the model has biases; PART "" and no dot: NAME itself. rows: of each part. */
enum rc packer_linear(const struct packer *, struct weights *, struct linear *, const char *name,
		      const char *const *parts, const size_t *rows, size_t count, size_t columns,
		      bool bias, struct err *);

/* One tensor NAME.weight that holds the rows of all parts, one below the other. */
enum rc packer_stacked(const struct packer *, struct weights *, struct linear *, const char *name,
		       const size_t *rows, size_t count, size_t columns, struct err *);

enum rc packer_stack(const struct packer *, struct linear *, const struct matrix *parts, size_t each,
		     size_t count, struct err *);
void packer_free_stack(const struct packer *, struct linear *, size_t count);

/* The tensor NAME, as weights_take() takes it. */
enum rc packer_vector(const struct packer *, struct weights *, vector **, const char *name,
		      size_t rows, size_t columns, struct err *);

#endif
