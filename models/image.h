/* SPDX-License-Identifier: MIT
 *
 * image: from a page's pixels to the patches that a vision tower reads, as the model's own image
 * processor makes them.
 *
 * Resizing is bit for bit what the reference does: torchvision's bicubic filter on 8-bit tensors (ATen's
 * UpSampleKernel: fixed point with 16-bit coefficients, first across, then down, 8 bits between), which
 * transformers takes by whatever name a model saved its processor (AutoImageProcessor, since 4.54), and for
 * Lanczos Pillow's (src/libImaging/Resample.c up to Pillow 12: the same with 22 bits; Pillow 13 turns the
 * passes round for some sizes, but no model was trained with it). Sizes follow smart_resize of
 * transformers' Qwen2-VL image processor: sides are multiples of patch x merge, the area within
 * limits.
 */
#ifndef MODELS_IMAGE_H
#define MODELS_IMAGE_H

#include "config.h"
#include "kernels/pool.h"

struct image {
	unsigned width, height;
	unsigned char *rgb; /* [height][width][3], owned */
};

enum image_filter {
	IMAGE_BICUBIC_TORCH,
	IMAGE_LANCZOS_PILLOW,
};

void image_release(struct image *);

/* RC_FATAL: no memory. */
enum rc image_resize(const struct image *, unsigned width, unsigned height, enum image_filter,
		     struct pool *, struct image *out, struct err *);

/*
 * The size a page is brought to. RC_FAILED when one side is more than 200 times the other, as the
 * reference refuses it.
 */
enum rc image_fit(const struct model_config *, unsigned width, unsigned height, unsigned *fit_width,
		  unsigned *fit_height, struct err *);

/*
 * What some models' makers do to a page before their image processor sees it (Chandra's scale_to_fit):
 * by Lanczos to where its shorter side has `enlarge` pixels, if it has fewer, and the area is `most`
 * at most; 0 for either: as it is. *in is replaced where its size changes.
 */
enum rc image_prepare(struct image *in, unsigned enlarge, unsigned long long most, struct pool *,
		      struct err *);

/*
 * The whole way: resize, normalise, cut. *patches: [rows * columns][3][temporal][patch][patch], in
 * merge order (vision.h); the caller frees it.
 */
enum rc image_patches(const struct model_config *, const struct image *, struct pool *,
		      float **patches, unsigned *rows, unsigned *columns, struct err *);

#endif
