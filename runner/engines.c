/* SPDX-License-Identifier: MIT
 *
 * Which engine reads the pages of a pipeline (recogniser.h): pipelines whose recognisers would be started alike
 * share one.  A model's adapters do not tell engines apart: all pipelines' are put into one command when its
 * engine is made; a pipeline whose adapter came later, or is wrong, gets an engine of its own.
 */
#include "recogniser.h"
#include "spool.h"
#include "base/log.h"
#include "base/num.h"

#include <stdlib.h>
#include <string.h>

#define HELLO_SECONDS	   60
#define HELLO_SECONDS_LONG 900 /* models are large */

static const char adapter_option[] = "--adapter=";

char **recogniser_argv(const struct pool *p, const struct pipeline *pipeline, bool cuda)
{
	size_t n = 0;
	char **argv;

	if (pipeline->recogniser == RECOGNISER_COMMAND) {
		argv = xcalloc(pipeline->n_command + 1, sizeof(*argv));
		for (; n < pipeline->n_command; n++)
			argv[n] = xstrdup(pipeline->command[n]);
	} else if (pipeline->recogniser == RECOGNISER_MODEL) {
		static const char *const weights[] = {
			[MODEL_BF16] = "bf16", [MODEL_INT8] = "int8", [MODEL_FP8] = "fp8",
			[MODEL_F32] = "f32",
		};
		const struct model_settings *m = &pipeline->model;

		argv = xcalloc(13 + ENGINE_ADAPTERS_MAX, sizeof(*argv));
		argv[n++] = xasprintf("%s/cloister-model%s", install_program_dir(),
				      cuda ? "-cuda" : "");
		argv[n++] = xstrdup(sandbox_mode_option(p->sandbox));
		argv[n++] = xasprintf("--pages=%s", p->scratch->path);
		argv[n++] = xasprintf("--model=%s", m->folder);
		argv[n++] = xasprintf("--weights=%s", weights[m->weights]);
		argv[n++] = xasprintf("--kv=%s", m->kv == MODEL_KV_FP8 ? "fp8" : "bf16");
		argv[n++] = xasprintf("--speculate=%llu", (unsigned long long)m->speculate);
		argv[n++] = xasprintf("--sequences=%llu", (unsigned long long)m->sequences);
		argv[n++] = xasprintf("--cache=%lluM", (unsigned long long)m->cache_mebibytes);
		argv[n++] = xasprintf("--threads=%llu", (unsigned long long)m->threads);
		if (cuda && !m->deterministic)
			argv[n++] = xstrdup("--any-order");
		if (p->require_lock)
			argv[n++] = xstrdup("--require-lock");
		for (size_t i = 0; i < m->n_adapters; i++)
			argv[n++] = xasprintf("%s%s", adapter_option, m->adapters[i]);
	} else {
		struct buf languages;

		buf_init(&languages, 4096);
		for (size_t i = 0; i < pipeline->n_languages; i++)
			buf_addf(&languages, "%s%s", i ? "+" : "", pipeline->languages[i]);
		argv = xcalloc(6, sizeof(*argv));
		argv[n++] = xasprintf("%s/cloister-tesseract", install_program_dir());
		argv[n++] = xstrdup(sandbox_mode_option(p->sandbox));
		argv[n++] = xasprintf("--pages=%s", p->scratch->path);
		argv[n++] = xasprintf("--languages=%s", languages.data);
		buf_release(&languages);
	}
	return argv;
}

void recogniser_argv_free(char **argv)
{
	for (size_t i = 0; argv[i]; i++)
		free(argv[i]);
	free(argv);
}

/* Of two commands that are the same, what else makes them two engines. */
static void add_surroundings(struct buf *id, const struct pipeline *pipeline)
{
	const struct foreign_settings *w = &pipeline->foreign;

	if (pipeline->recogniser != RECOGNISER_COMMAND)
		return;
	buf_addf(id, "%d %s %s %llu %llu\n", (int)w->wrap, w->image ? w->image : "",
		 w->gpus ? w->gpus : "", (unsigned long long)w->memory_mebibytes,
		 (unsigned long long)w->temporary_mebibytes);
	for (size_t i = 0; i < w->n_reads; i++)
		buf_addf(id, "%s\n", w->reads[i]);
}

static bool is_adapter(const char *argument)
{
	return !strncmp(argument, adapter_option, strlen(adapter_option));
}

/* How the engine of a pipeline is started, and what tells it from others. */
struct start {
	char **argv, *id;
	struct gpu *gpus;
	size_t n_gpus;
	enum rc rc; /* of looking for them, and why */
	struct err why;
};

static struct start start_of(const struct pool *p, const struct pipeline *pipeline, const char *more)
{
	struct start s = { NULL };
	struct buf id;

	s.rc = gpus_find(pipeline, &s.gpus, &s.n_gpus, &s.why);
	s.argv = recogniser_argv(p, pipeline, s.n_gpus || s.rc != RC_OK);
	buf_init(&id, 1 << 20);
	for (size_t i = 0; s.argv[i]; i++)
		if (!is_adapter(s.argv[i]))
			buf_addf(&id, "%s\n", s.argv[i]);
	if (s.n_gpus)
		buf_addf(&id, "on %zu GPUs\n", s.n_gpus);
	add_surroundings(&id, pipeline);
	buf_adds(&id, more);
	s.id = buf_detach(&id);
	return s;
}

static void start_release(struct start *s)
{
	recogniser_argv_free(s->argv);
	free(s->id);
	gpus_free(s->gpus, s->n_gpus);
}

struct sharing {
	const struct engine *engine;
	struct adapters *adapters;
};

static void add_if_shared(void *arg, const struct pipeline *pipeline)
{
	struct sharing *sharing = arg;
	struct start s;

	if (pipeline->recogniser != RECOGNISER_MODEL || !pipeline->model.n_adapters)
		return;
	s = start_of(sharing->engine->pool, pipeline, "");
	if (!strcmp(s.id, sharing->engine->id))
		adapters_add(sharing->adapters, pipeline);
	start_release(&s);
}

/* The adapters of all pipelines that may come to share the engine, into its command: who comes later finds
 * what it needs. */
static void gather_adapters(struct engine *e, const struct pipeline *pipeline)
{
	struct sharing sharing = { e, &e->adapters };
	char **argv = (char **)e->argv;
	size_t n = 0;

	adapters_add(&e->adapters, pipeline);
	if (e->pool->each_pipeline)
		e->pool->each_pipeline(e->pool->arg, add_if_shared, &sharing);
	while (argv[n] && !is_adapter(argv[n]))
		n++;
	for (size_t i = n; argv[i]; i++) {
		free(argv[i]);
		argv[i] = NULL;
	}
	for (size_t i = 0; i < e->adapters.n; i++)
		argv[n++] = xasprintf("%s%s", adapter_option, e->adapters.v[i].name);
}

static struct engine *find_engine(const struct pool *p, const struct pipeline *pipeline, const char *id)
{
	for (size_t i = 0; i < p->n_engines; i++)
		if (!strcmp(p->engines[i]->id, id) &&
		    adapters_cover(&p->engines[i]->adapters, pipeline))
			return p->engines[i];
	return NULL;
}

/* Takes over what *s owns. */
static struct engine *add_engine(struct pool *p, const struct pipeline *pipeline, struct start *s)
{
	struct engine *e = xcalloc(1, sizeof(*e));

	e->pool = p;
	e->id = s->id;
	e->argv = (const char **)s->argv;
	pipeline_copy(&e->settings, pipeline);
	e->alone = pipeline->recogniser != RECOGNISER_TESSERACT;
	e->read_seconds_start = e->alone ? HELLO_SECONDS_LONG : HELLO_SECONDS;
	e->gpus = s->gpus;
	e->n_gpus = s->n_gpus;
	p->engines = xrealloc(p->engines, (p->n_engines + 1) * sizeof(*p->engines));
	p->engines[p->n_engines++] = e;
	if (pipeline->recogniser == RECOGNISER_MODEL)
		gather_adapters(e, pipeline);
	return e;
}

static void break_new(struct engine *e, const struct err *why)
{
	log_error("recogniser %s cannot be used: %s", e->argv[0], why->text);
	e->state = ENGINE_BROKEN;
	e->why = *why;
}

/* Stands in for an engine that runs, but without this pipeline's adapter. */
static struct engine *engine_without(struct pool *p, const struct pipeline *pipeline,
				     const struct engine_adapter *adapter)
{
	struct start s = start_of(p, pipeline, adapter->name);
	struct engine *e = find_engine(p, pipeline, s.id);

	if (e) {
		start_release(&s);
		return e;
	}
	e = add_engine(p, pipeline, &s);
	break_new(e, &adapter->why);
	return e;
}

struct engine *pool_engine(struct pool *p, const struct pipeline *pipeline)
{
	struct start s = start_of(p, pipeline, "");
	struct engine *e = find_engine(p, pipeline, s.id);
	const struct engine_adapter *bad = e ? adapters_bad(&e->adapters, pipeline) : NULL;

	if (e) {
		start_release(&s);
		return bad ? engine_without(p, pipeline, bad) : e;
	}
	e = add_engine(p, pipeline, &s);
	if (s.rc == RC_OK)
		s.rc = recogniser_allowed(p, pipeline, &s.why);
	if (s.rc != RC_OK)
		break_new(e, &s.why);
	return e;
}
