/* SPDX-License-Identifier: MIT
 *
 * config.json, generation_config.json and preprocessor_config.json, parted by lines of "---": what
 * is let through has sizes that can be multiplied, names no token and no block that is not there,
 * and gives each page a size in whole tokens within the limits. An error names the file.
 */
#include "fuzz.h"

#include "image.h"
#include "model.h"

#include <math.h>

static void check_text(const struct text_config *t)
{
	CHECK(t->hidden && t->layers && t->heads && t->kv_heads && t->intermediate && t->vocab);
	CHECK(t->heads % t->kv_heads == 0 && t->max_positions);
	CHECK(t->head_dim >= 8 && t->head_dim <= 256 && t->head_dim % 8 == 0);
	CHECK(t->eps >= 0 && t->eps <= 1 && t->rope_theta >= 1 && isfinite((float)t->rope_theta));
	CHECK(t->rotary >= 4 && t->rotary % 4 == 0 && t->rotary <= t->head_dim);
	CHECK(t->rope_scale > 0 && isfinite(t->rope_scale));
	for (unsigned j = 0; t->switch_at && j < t->rotary / 2; j++)
		CHECK(t->factor[0][j] > 0 && t->factor[1][j] > 0 && t->factor[1][j] < 1e7f);
	CHECK(!t->mrope[0] && !t->mrope[1] && !t->mrope[2]
		      ? true
		      : t->mrope[0] + t->mrope[1] + t->mrope[2] == t->head_dim / 2);
}

static void check_experts(const struct model_config *c)
{
	const struct text_config *t = &c->text;
	bool routed = false;

	for (unsigned i = 0; i < LAYERS_MAX; i++) {
		CHECK(i < t->layers || !t->routed[i]);
		routed = routed || t->routed[i];
	}
	CHECK(t->layers <= LAYERS_MAX && t->experts <= EXPERTS_MAX && (t->experts || !routed));
	CHECK(!t->experts || (t->experts_used && t->experts_used <= t->experts && t->expert_intermediate));
	CHECK(c->awq_group == AWQ_NONE || c->awq_group == AWQ_WHOLE || c->awq_group % 32 == 0);
}

static void check_vision(const struct model_config *c)
{
	const struct vision_config *v = &c->vision;

	CHECK(v->depth <= VISION_BLOCKS_MAX && v->patch && v->temporal && v->merge);
	CHECK(v->hidden % v->heads == 0 && v->hidden / v->heads % 8 == 0);
	CHECK(v->out == c->text.hidden && v->deepstacks <= ARRAY_SIZE(v->deepstack));
	for (unsigned i = 0; i < v->deepstacks; i++)
		CHECK(v->deepstack[i] < v->depth);
	for (unsigned i = v->depth; i < VISION_BLOCKS_MAX; i++)
		CHECK(!v->full[i]);
	CHECK(c->family != FAMILY_QWEN2_5_VL || v->window / v->merge / v->patch);
	CHECK(c->family != FAMILY_QWEN3_VL || v->positions);
	CHECK(c->image_token < c->text.vocab && c->vision_start < c->text.vocab &&
	      c->vision_end < c->text.vocab);
}

static void check_fit(const struct model_config *c)
{
	static const unsigned sides[] = {0, 1, 2, 28, 199, 201, 1000, 65535};
	unsigned factor = c->vision.patch * c->vision.merge, width, height;
	struct err err;

	CHECK(c->image.min_pixels <= c->image.max_pixels);
	for (size_t i = 0; i < 3; i++)
		CHECK(isfinite(c->image.mean[i]) && c->image.std[i] > 0);
	for (size_t i = 0; i < ARRAY_SIZE(sides) * ARRAY_SIZE(sides); i++) {
		unsigned w = sides[i / ARRAY_SIZE(sides)], h = sides[i % ARRAY_SIZE(sides)];
		enum rc rc = image_fit(c, w, h, &width, &height, &err);

		if (rc) {
			CHECK(rc == RC_FAILED);
			check_err(rc, &err);
			continue;
		}
		CHECK(width && height && width % factor == 0 && height % factor == 0);
		/* A page that is enlarged to the least size may end above the largest, as in the
		 * reference, where the two are near each other. */
		CHECK(width == factor || height == factor ||
		      (double)width * height <= (double)c->image.max_pixels ||
		      (width >= w && height >= h));
	}
}

static void check_generation(const struct model_config *c)
{
	const struct generation_config *g = &c->generation;

	CHECK(g->eos_count <= ARRAY_SIZE(g->eos));
	for (unsigned i = 0; i < g->eos_count; i++)
		CHECK(g->eos[i] < c->text.vocab);
	CHECK(g->temperature >= 0 && g->top_p >= 0 && g->top_p <= 1 && g->min_p >= 0 &&
	      g->min_p <= 1 && g->repetition_penalty > 0);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static const char *const names[] = {"config.json", "generation_config.json",
					    "preprocessor_config.json"};
	const char *at = (const char *)data, *end = at + size;
	int folder = fuzz_folder();
	struct model_config c;
	struct err err;
	enum rc rc;

	for (size_t i = 0; i < ARRAY_SIZE(names); i++) {
		const char *stop = memmem(at, (size_t)(end - at), "---\n", 4);

		unlinkat(folder, names[i], 0);
		if (at < end)
			fuzz_write(folder, names[i], at, (size_t)((stop ? stop : end) - at));
		at = stop ? stop + 4 : end;
	}
	rc = model_config_load(&c, fuzz_path, &err);
	if (rc) {
		check_err(rc, &err);
		CHECK(rc == RC_FATAL && strstr(err.text, "config.json"));
		return 0;
	}
	check_text(&c.text);
	check_experts(&c);
	check_generation(&c);
	if (!c.vision.depth)
		return 0;
	check_vision(&c);
	check_fit(&c);
	return 0;
}
