/* SPDX-License-Identifier: MIT
 *
 * sight: from a page file to patches, resized and normalised, and through the vision tower to embeddings.
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

enum rc sight_load(struct sight *s, const struct server *server, const struct sight_page *page,
		   struct pool *pool, struct err *err)
{
	const struct compute *compute = server->model.compute;
	struct model_config config = server->model.config;
	struct image_config *limits = &config.image;
	uint64_t most = page->most_pixels;
	struct image image = {0};
	struct picture picture;
	unsigned rows, columns;
	float *patches = NULL;
	enum rc rc;

	*s = (struct sight){0};
	if (!config.vision.depth)
		return err_set(err, RC_FAILED, "model", "this model reads text alone, no pages");
	rc = picture_load(&picture, server->pages, server->page_folder, page->path, page->width,
			  page->height, err);
	if (rc != RC_OK)
		return rc;
	to_rgb(&picture, &image);
	picture_release(&picture);
	if (page->lanczos)
		rc = image_prepare(&image, page->enlarge, most, pool, err);
	else if (most)
		limits->max_pixels = max_u64(min_u64(most, limits->max_pixels), limits->min_pixels);
	if (rc == RC_OK)
		rc = image_patches(&config, &image, pool, &patches, &rows, &columns, err);
	image_release(&image);
	if (rc != RC_OK)
		return rc;
	digest(&config.vision, patches, rows, columns, s->page.digest);
	s->rows = rows / config.vision.merge;
	s->columns = columns / config.vision.merge;
	s->patches = compute->calls->pack(compute, patches, rows, columns);
	return RC_OK;
}

size_t sight_look(struct sight *const *sights, size_t count, const struct server *server, struct err *err)
{
	struct compute *compute = server->model.compute;
	unsigned merge = server->model.config.vision.merge;
	struct view *views = xcalloc(count, sizeof(*views));
	size_t looked;

	for (size_t i = 0; i < count; i++)
		views[i] = (struct view){sights[i]->patches, sights[i]->rows * merge,
					 sights[i]->columns * merge, &sights[i]->features};
	looked = compute->calls->look(compute, views, count, err);
	for (size_t i = 0; i < max_u64(looked, 1); i++) {
		free(sights[i]->patches);
		sights[i]->patches = NULL;
	}
	for (size_t i = 0; i < looked; i++) {
		sights[i]->compute = compute;
		sights[i]->page.features = &sights[i]->features;
	}
	free(views);
	return looked;
}

bool sight_seen(struct sight *s, bool wait)
{
	return !s->compute || s->compute->calls->seen(s->compute, &s->features, wait);
}

void sight_release(struct sight *s)
{
	if (s->compute)
		s->compute->calls->forget(s->compute, &s->features);
	free(s->patches);
	*s = (struct sight){0};
}
