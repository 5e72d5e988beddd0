/* SPDX-License-Identifier: MIT
 *
 * Resizing, normalising and cutting pages. See image.h for what it has to agree with.
 */
#include "image.h"

#include "base/num.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#define RATIO_MAX   200
#define PILLOW_BITS 22

void image_release(struct image *i)
{
	free(i->rgb);
	*i = (struct image){0};
}

static double bicubic(double x)
{
	const double a = -0.5;

	x = fabs(x);
	if (x < 1)
		return ((a + 2) * x - (a + 3)) * x * x + 1;
	return x < 2 ? (((x - 5) * x + 8) * x - 4) * a : 0;
}

static double sinc(double x)
{
	return x == 0 ? 1 : sin(x * M_PI) / (x * M_PI);
}

static double lanczos(double x)
{
	return x >= -3 && x < 3 ? sinc(x) * sinc(x / 3) : 0;
}

/* What each pixel of a line is made of: `taps` weights from `first` on. */
struct line_filter {
	size_t most; /* taps a pixel at most */
	unsigned *first, *taps;
	int *weight; /* [pixels][most], fixed point */
	unsigned bits;
};

static void filter_release(struct line_filter *f)
{
	free(f->first);
	free(f->taps);
	free(f->weight);
}

/* Weights as doubles first, each pixel's adding up to 1. */
static double *exact_weights(struct line_filter *f, unsigned in, unsigned out,
			     enum image_filter kind)
{
	double (*shape)(double) = kind == IMAGE_LANCZOS_PILLOW ? lanczos : bicubic;
	double scale = (double)in / out, stretch = scale < 1 ? 1 : scale;
	double support = (kind == IMAGE_LANCZOS_PILLOW ? 3 : 2) * stretch;
	double *weights;

	f->most = 2 * (size_t)ceil(support) + 1;
	f->first = malloc(out * sizeof(*f->first));
	f->taps = malloc(out * sizeof(*f->taps));
	f->weight = malloc(out * f->most * sizeof(*f->weight));
	weights = calloc(out * f->most, sizeof(*weights));
	for (unsigned i = 0; weights && f->first && f->taps && i < out; i++) {
		double centre = (i + 0.5) * scale, sum = 0, *w = weights + i * f->most;
		long low = (long)(centre - support + 0.5), high = (long)(centre + support + 0.5);

		low = low < 0 ? 0 : low;
		high = high > (long)in ? (long)in : high;
		f->first[i] = (unsigned)low;
		f->taps[i] = (unsigned)(high - low);
		for (unsigned k = 0; k < f->taps[i]; k++)
			sum += w[k] =
				shape(((double)k + (double)low - centre + 0.5) * (1 / stretch));
		/* Times the reciprocal, as Pillow has it: the last bit decides where a level is a
		 * tie. */
		for (unsigned k = 0; sum != 0 && k < f->taps[i]; k++)
			w[k] *= 1 / sum;
	}
	return weights;
}

/* torchvision takes as many bits as let the largest weight fit into 16. */
static unsigned torch_bits(const double *weights, size_t n)
{
	double most = 0;
	unsigned bits = 0;

	for (size_t i = 0; i < n; i++)
		most = fmax(most, weights[i]);
	while (bits < 22 && (int)(0.5 + most * (double)(1 << (bits + 1))) < 1 << 15)
		bits++;
	return bits;
}

static bool filter_prepare(struct line_filter *f, unsigned in, unsigned out, enum image_filter kind)
{
	double *weights = exact_weights(f, in, out, kind);
	bool fine = weights && f->first && f->taps && f->weight;

	if (fine) {
		f->bits = kind == IMAGE_BICUBIC_TORCH ? torch_bits(weights, out * f->most)
						      : PILLOW_BITS;
		for (size_t i = 0; i < out * f->most; i++) {
			double w = weights[i] * (double)(1 << f->bits);

			f->weight[i] = (int)(w < 0 ? w - 0.5 : w + 0.5);
		}
	}
	free(weights);
	return fine;
}

static unsigned char clamp8(int sum, unsigned bits)
{
	int x = sum >> bits;

	return x < 0 ? 0 : x > 255 ? 255 : (unsigned char)x;
}

struct pass {
	const struct line_filter *filter;
	const unsigned char *in;
	unsigned char *out;
	unsigned in_width, out_width; /* pixels of a line before and after */
};

static void across(void *arg, size_t row, unsigned thread)
{
	const struct pass *p = arg;
	const struct line_filter *f = p->filter;
	const unsigned char *in = p->in + row * p->in_width * 3;
	unsigned char *out = p->out + row * p->out_width * 3;

	(void)thread;
	for (unsigned x = 0; x < p->out_width; x++) {
		const int *w = f->weight + x * f->most;
		const unsigned char *from = in + (size_t)f->first[x] * 3;
		int r = 1 << (f->bits - 1), g = r, b = r;

		for (unsigned k = 0; k < f->taps[x]; k++, from += 3) {
			r += from[0] * w[k];
			g += from[1] * w[k];
			b += from[2] * w[k];
		}
		out[3 * x] = clamp8(r, f->bits);
		out[3 * x + 1] = clamp8(g, f->bits);
		out[3 * x + 2] = clamp8(b, f->bits);
	}
}

static void down(void *arg, size_t row, unsigned thread)
{
	const struct pass *p = arg;
	const struct line_filter *f = p->filter;
	const int *w = f->weight + row * f->most;
	size_t line = (size_t)p->out_width * 3;
	const unsigned char *in = p->in + f->first[row] * line;
	unsigned char *out = p->out + row * line;

	(void)thread;
	for (size_t start = 0; start < line; start += 256) {
		size_t n = min_u64(256, line - start);
		int sum[256];

		for (size_t x = 0; x < n; x++)
			sum[x] = 1 << (f->bits - 1);
		for (unsigned k = 0; k < f->taps[row]; k++)
			for (size_t x = 0; x < n; x++)
				sum[x] += in[k * line + start + x] * w[k];
		for (size_t x = 0; x < n; x++)
			out[start + x] = clamp8(sum[x], f->bits);
	}
}

static enum rc image_new(struct image *i, unsigned width, unsigned height, struct err *err)
{
	size_t size;

	*i = (struct image){.width = width, .height = height};
	if (checked_mul(width, height, &size) && checked_mul(size, 3, &size))
		i->rgb = malloc(size + 1);
	if (!i->rgb)
		return err_set(err, RC_FATAL, "memory", "no memory for an image of %u x %u", width,
			       height);
	return RC_OK;
}

enum rc image_resize(const struct image *in, unsigned width, unsigned height,
		     enum image_filter kind, struct pool *pool, struct image *out, struct err *err)
{
	struct line_filter h = {0}, v = {0};
	struct image middle = {0};
	enum rc rc = RC_FATAL;

	*out = (struct image){0};
	if (image_new(&middle, width, in->height, err) != RC_OK ||
	    image_new(out, width, height, err) != RC_OK)
		goto out;
	if (!filter_prepare(&h, in->width, width, kind) ||
	    !filter_prepare(&v, in->height, height, kind)) {
		err_set(err, RC_FATAL, "memory", "no memory for an image of %u x %u", width,
			height);
		goto out;
	}
	/* A pass that would change nothing is left out, as both references do. */
	if (in->width != width)
		pool_run(pool, across, &(struct pass){&h, in->rgb, middle.rgb, in->width, width},
			 in->height);
	else
		memcpy(middle.rgb, in->rgb, (size_t)width * in->height * 3);
	if (in->height != height)
		pool_run(pool, down, &(struct pass){&v, middle.rgb, out->rgb, width, width},
			 height);
	else
		memcpy(out->rgb, middle.rgb, (size_t)width * height * 3);
	rc = RC_OK;
out:
	filter_release(&h);
	filter_release(&v);
	image_release(&middle);
	if (rc != RC_OK)
		image_release(out);
	return rc;
}

static unsigned multiple(double x, unsigned factor)
{
	return x < factor ? factor : (unsigned)x / factor * factor;
}

enum rc image_fit(const struct model_config *c, unsigned width, unsigned height,
		  unsigned *fit_width, unsigned *fit_height, struct err *err)
{
	unsigned factor = c->vision.patch * c->vision.merge;
	double area = (double)width * height, most = (double)c->image.max_pixels,
	       least = (double)c->image.min_pixels;
	/* Half to even, as Python rounds. */
	double w = nearbyint((double)width / factor) * factor,
	       h = nearbyint((double)height / factor) * factor;

	if (!width || !height ||
	    (double)max_u64(width, height) / (double)min_u64(width, height) > RATIO_MAX)
		return err_set(err, RC_FAILED, "limit:aspect",
			       "a page of %u x %u: one side is more than %d times the other", width,
			       height, RATIO_MAX);
	/* A side of no token at all makes an area of 0, and the page is "enlarged" to the least. */
	*fit_width = (unsigned)w;
	*fit_height = (unsigned)h;
	if (w * h > most) {
		double shrink = sqrt(area / most);

		*fit_width = multiple(floor(width / shrink / factor) * factor, factor);
		*fit_height = multiple(floor(height / shrink / factor) * factor, factor);
	} else if (w * h < least) {
		double grow = sqrt(least / area);

		*fit_width = multiple(ceil(width * grow / factor) * factor, factor);
		*fit_height = multiple(ceil(height * grow / factor) * factor, factor);
	}
	return RC_OK;
}

/* Both at once: enlarged first, a strip would have to be shrunk from millions of columns. */
enum rc image_prepare(struct image *in, unsigned enlarge, unsigned long long most,
		      struct pool *pool, struct err *err)
{
	double width = in->width, height = in->height, small = fmin(width, height);
	struct image out;
	enum rc rc;

	if (small > 0 && small < enlarge) {
		width = trunc(width * (enlarge / small));
		height = trunc(height * (enlarge / small));
	}
	if (most && width * height > (double)most) {
		double shrink = sqrt((double)most / (width * height));

		width = fmax(floor(width * shrink), 1);
		height = fmax(floor(height * shrink), 1);
	}
	if (width == in->width && height == in->height)
		return RC_OK;
	rc = image_resize(in, (unsigned)width, (unsigned)height, IMAGE_LANCZOS_PILLOW, pool, &out,
			  err);
	if (rc == RC_OK) {
		image_release(in);
		*in = out;
	}
	return rc;
}

struct cut {
	const struct model_config *c;
	const struct image *image;
	float *patches;
	unsigned columns;
	float scale[3], offset[3];
};

static void cut_patch(void *arg, size_t i, unsigned thread)
{
	const struct cut *cut = arg;
	const struct vision_config *v = &cut->c->vision;
	unsigned side = v->merge * v->merge, across_tokens = cut->columns / v->merge;
	size_t token = i / side, inner = i % side, square = (size_t)v->patch * v->patch;
	size_t top = (token / across_tokens * v->merge + inner / v->merge) * v->patch;
	size_t left = (token % across_tokens * v->merge + inner % v->merge) * v->patch;
	float *to = cut->patches + i * 3 * v->temporal * square;

	(void)thread;
	for (unsigned channel = 0; channel < 3; channel++) {
		float *first = to;

		for (unsigned y = 0; y < v->patch; y++) {
			const unsigned char *from = cut->image->rgb +
						    ((top + y) * cut->image->width + left) * 3 +
						    channel;

			for (unsigned x = 0; x < v->patch; x++)
				*to++ = ((float)from[3 * x] - cut->offset[channel]) /
					cut->scale[channel];
		}
		/* A still page is a film whose frames are all the same. */
		for (unsigned t = 1; t < v->temporal; t++, to += square)
			memcpy(to, first, square * sizeof(float));
	}
}

enum rc image_patches(const struct model_config *c, const struct image *in, struct pool *pool,
		      float **patches, unsigned *rows, unsigned *columns, struct err *err)
{
	const struct vision_config *v = &c->vision;
	struct cut cut = {.c = c};
	struct image fitted = {0};
	unsigned width, height;
	enum rc rc;

	*patches = NULL;
	rc = image_fit(c, in->width, in->height, &width, &height, err);
	if (rc == RC_OK)
		rc = image_resize(in, width, height, IMAGE_BICUBIC_TORCH, pool, &fitted, err);
	if (rc != RC_OK)
		return rc;
	*rows = height / v->patch;
	*columns = width / v->patch;
	*patches = malloc((size_t)*rows * *columns * 3 * v->temporal * v->patch * v->patch *
			  sizeof(float));
	if (!*patches) {
		image_release(&fitted);
		return err_set(err, RC_FATAL, "memory",
			       "no memory for the patches of %u x %u pixels", width, height);
	}
	cut.image = &fitted;
	cut.patches = *patches;
	cut.columns = *columns;
	for (unsigned channel = 0; channel < 3; channel++) {
		cut.offset[channel] = 255 * c->image.mean[channel];
		cut.scale[channel] = 255 * c->image.std[channel];
	}
	pool_run(pool, cut_patch, &cut, (size_t)*rows * *columns);
	image_release(&fitted);
	return RC_OK;
}
