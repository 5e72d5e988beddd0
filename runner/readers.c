/* SPDX-License-Identifier: MIT
 *
 * Both recognisers of a pipeline asked at once (readers.h).
 */
#include "readers.h"

struct readers readers_of(struct pool *pool, const struct pipeline *pipeline)
{
	return (struct readers){
		.page = pool_engine(pool, pipeline),
		.text = pipeline->next ? pool_engine(pool, pipeline->next) : NULL,
	};
}

enum engine_state readers_state(const struct readers *r)
{
	const struct engine *text = r->text ? r->text : r->page;

	if (r->page->state == ENGINE_BROKEN || text->state == ENGINE_BROKEN)
		return ENGINE_BROKEN;
	return r->page->state == ENGINE_STARTING ? ENGINE_STARTING : text->state;
}

static bool is_known(const struct engine *e)
{
	return e->window > 0;
}

enum engine_state readers_known(const struct readers *r, struct err *why)
{
	const struct engine *both[] = {r->page, r->text ? r->text : r->page};

	for (size_t i = 0; i < 2; i++)
		if (both[i]->state == ENGINE_BROKEN && !is_known(both[i])) {
			*why = both[i]->why;
			return ENGINE_BROKEN;
		}
	return is_known(both[0]) && is_known(both[1]) ? ENGINE_READY : ENGINE_STARTING;
}

enum rc readers_check(const struct readers *r, const struct pipeline *pipeline, struct err *err)
{
	if (!(r->page->takes & TAKES_PAGE))
		return err_set(
			err, RC_FAILED, "pipeline",
			"%s: recogniser %s (%s) takes text, not pages: name this pipeline with "
			"`then: %s` in one that reads pages",
			pipeline->file, r->page->name, r->page->model_name, pipeline->name);
	if (r->text && !(r->text->takes & TAKES_TEXT))
		return pipeline_blame_then(pipeline, err,
					   "recogniser %s (%s) of '%s' takes no text",
					   r->text->name, r->text->model_name, pipeline->then);
	return RC_OK;
}

void readers_hold(const struct readers *r)
{
	r->page->documents++;
	if (r->text)
		r->text->documents++;
}

void readers_let_go(const struct readers *r)
{
	r->page->documents--;
	if (r->text)
		r->text->documents--;
}

unsigned readers_appetite(const struct readers *r)
{
	return engine_appetite(r->page) + (r->text ? engine_appetite(r->text) : 0);
}

static json_t *engine_json(const struct engine *e, const struct pipeline *pipeline)
{
	return json_pack("{s:s, s:s, s:{s:s, s:s, s:s*, s:o*}}", "name", e->name, "version",
			 e->version, "model", "name", e->model_name, "sha256", e->model_sha256,
			 "lock", *e->model_lock ? e->model_lock : NULL, "adapters",
			 adapters_json(&e->adapters, pipeline));
}

json_t *readers_json(const struct readers *r, const struct pipeline *pipeline)
{
	json_t *both = engine_json(r->page, pipeline);

	if (r->text)
		json_object_set_new(both, "then", engine_json(r->text, pipeline->next));
	return both;
}
