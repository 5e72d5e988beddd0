/* SPDX-License-Identifier: MIT
 *
 * sight: from a page file to embeddings: resized, cut into patches, through the vision tower.
 */
#include "serve.h"

#include "base/num.h"
#include "picture.h"

#include <stdlib.h>
#include <string.h>

/* Grey becomes RGB, three times the same. */
static void to_rgb(struct picture *picture, struct image *image)
{
	size_t n = (size_t)picture->width * picture->height;

	*image = (struct image){.width = picture->width, .height = picture->height};
	if (picture->channels == 3) {
		image->rgb = picture->pixels;
		picture->pixels = NULL;
		return;
	}
	image->rgb = xmalloc(3 * n);
	for (size_t i = 0; i < n; i++)
		memset(image->rgb + 3 * i, picture->pixels[i], 3);
}

/* Embeddings, and behind them each block's deepstack. */
static enum rc see(struct sight *s, const struct server *server, const float *patches,
		   unsigned rows, unsigned columns, struct err *err)
{
	const struct vision_config *v = &server->model.config.vision;
	size_t size = (size_t)(rows / v->merge) * (columns / v->merge) * v->out;
	float *deepstack[ARRAY_SIZE(v->deepstack)] = {NULL};

	s->memory = malloc((1 + v->deepstacks) * size * sizeof(float));
	if (!s->memory)
		return err_set(err, RC_FAILED, "memory", "no memory for a page of %zu tokens",
			       size / v->out);
	s->page.embeddings = s->memory;
	for (unsigned d = 0; d < v->deepstacks; d++)
		s->page.deepstack[d] = deepstack[d] = s->memory + (1 + d) * size;
	s->rows = rows / v->merge;
	s->columns = columns / v->merge;
	return vision_run(server->model.vision, server->pool, patches, rows, columns, s->memory,
			  deepstack, err);
}

static void digest(const struct vision_config *v, const float *patches, unsigned rows,
		   unsigned columns, unsigned char out[32])
{
	size_t values = (size_t)rows * columns * 3 * v->temporal * v->patch * v->patch;
	unsigned grid[2] = {rows, columns};
	struct sha256_ctx hash;

	sha256_init(&hash);
	sha256_update(&hash, sizeof(grid), (const uint8_t *)grid);
	sha256_update(&hash, values * sizeof(float), (const uint8_t *)patches);
	sha256_digest(&hash, 32, out);
}

enum rc sight_load(struct sight *s, const struct server *server, const char *path, uint32_t width,
		   uint32_t height, uint64_t most_pixels, struct err *err)
{
	struct model_config config = server->model.config;
	struct image_config *limits = &config.image;
	struct image image = {0};
	struct picture picture;
	unsigned rows, columns;
	float *patches = NULL;
	enum rc rc;

	*s = (struct sight){0};
	if (!server->model.vision)
		return err_set(err, RC_FAILED, "model", "this model reads text alone, no pages");
	rc = picture_load(&picture, server->pages, server->page_folder, path, width, height, err);
	if (rc != RC_OK)
		return rc;
	to_rgb(&picture, &image);
	picture_release(&picture);
	if (most_pixels)
		limits->max_pixels =
			max_u64(min_u64(most_pixels, limits->max_pixels), limits->min_pixels);
	rc = image_patches(&config, &image, server->pool, &patches, &rows, &columns, err);
	image_release(&image);
	if (rc == RC_OK) {
		digest(&config.vision, patches, rows, columns, s->page.digest);
		rc = see(s, server, patches, rows, columns, err);
	}
	free(patches);
	if (rc != RC_OK)
		sight_release(s);
	return rc;
}

void sight_release(struct sight *s)
{
	free(s->memory);
	*s = (struct sight){0};
}
