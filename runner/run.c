/* SPDX-License-Identifier: MIT
 *
 * Settings of pipelines, read once and again when their file changes; identities; full disks.
 */
#include "run.h"
#include "base/log.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

struct cached_pipeline {
	char *name;
	struct stat st;
	struct pipeline pipeline;
};

static bool same_file(const struct stat *a, const struct stat *b)
{
	return a->st_dev == b->st_dev && a->st_ino == b->st_ino && a->st_size == b->st_size &&
	       a->st_mtim.tv_sec == b->st_mtim.tv_sec && a->st_mtim.tv_nsec == b->st_mtim.tv_nsec;
}

/* An operator may put an own file over a shipped one at any time: look at the name, too. */
static bool is_current(struct run *run, const struct cached_pipeline *c)
{
	char *own = xasprintf("%s/pipelines/%s.yaml", run->spool->path, c->name);
	struct stat st;
	bool current;

	if (stat(own, &st))
		current = !stat(c->pipeline.file, &st) && same_file(&st, &c->st);
	else
		current = same_file(&st, &c->st);
	free(own);
	return current;
}

static enum rc load(struct run *run, const char *folder, const char *name,
		    const struct pipeline **loaded, struct err *err)
{
	struct cached_pipeline *c = NULL;
	enum rc rc;

	for (size_t i = 0; i < run->n_pipelines && !c; i++)
		if (!strcmp(run->pipelines[i].name, name))
			c = &run->pipelines[i];
	if (c && is_current(run, c)) {
		*loaded = &c->pipeline;
		return RC_OK;
	}
	if (c) {
		pipeline_release(&c->pipeline);
		free(c->name);
		*c = run->pipelines[--run->n_pipelines];
	}
	run->pipelines =
		xrealloc(run->pipelines, (run->n_pipelines + 1) * sizeof(*run->pipelines));
	c = &run->pipelines[run->n_pipelines];
	*c = (struct cached_pipeline){ 0 };
	rc = spool_find_pipeline(folder, name, &c->pipeline, err);
	if (rc != RC_OK) {
		pipeline_release(&c->pipeline);
		return rc;
	}
	if (stat(c->pipeline.file, &c->st))
		c->st = (struct stat){ 0 }; /* gone again already: never current */
	c->name = xstrdup(name);
	run->n_pipelines++;
	*loaded = &c->pipeline;
	return RC_OK;
}

enum rc run_pipeline(struct run *run, const char *name, const json_t *ticket, struct pipeline *p,
		     struct err *err)
{
	char *folder = xasprintf("%s/pipelines", run->spool->path);
	const struct pipeline *loaded;
	enum rc rc = load(run, folder, name, &loaded, err);

	*p = (struct pipeline){ 0 };
	if (rc == RC_OK) {
		pipeline_copy(p, loaded);
		rc = spool_follow_pipeline(folder, p, err);
	}
	if (rc == RC_OK && ticket)
		rc = pipeline_apply_ticket(p, ticket, err);
	if (rc != RC_OK && p->name)
		pipeline_release(p);
	free(folder);
	return rc;
}

void run_release_pipelines(struct run *run)
{
	for (size_t i = 0; i < run->n_pipelines; i++) {
		pipeline_release(&run->pipelines[i].pipeline);
		free(run->pipelines[i].name);
	}
	free(run->pipelines);
}

/* Those of the spool, which hide shipped ones of the same name. One that cannot be loaded is none: that is told
 * when it is used. */
void run_each_pipeline(void *arg, void (*visit)(void *, const struct pipeline *), void *to)
{
	struct run *run = arg;
	char *own = xasprintf("%s/pipelines", run->spool->path);
	json_t *names = spool_pipeline_names(run->spool), *value;
	const char *name;

	json_object_foreach(names, name, value) {
		struct pipeline p = { 0 };
		struct err err;

		if (spool_find_pipeline(own, name, &p, &err) == RC_OK)
			visit(to, &p);
		if (p.name)
			pipeline_release(&p);
	}
	json_decref(names);
	free(own);
}

static void add_engine(struct buf *text, const struct engine *e, const struct pipeline *p)
{
	json_t *adapters = adapters_json(&e->adapters, p), *one;
	size_t i;

	buf_addf(text, "%s\n%s\n%s\n", e->name, e->version, e->model_sha256);
	json_array_foreach(adapters, i, one)
		buf_addf(text, "%s\n", json_string_value(json_object_get(one, "sha256")));
	json_decref(adapters);
}

void run_identity(const char *document_sha256, const struct pipeline *p, const struct readers *r,
		  char identity[SHA256_HEX_SIZE])
{
	char hash[SHA256_HEX_SIZE];
	struct buf text;

	pipeline_hash(p, hash);
	buf_init(&text, 4096);
	buf_addf(&text, "cloister identity 1\n%s\n%s\n", document_sha256, hash);
	add_engine(&text, r->page, p);
	if (r->text)
		add_engine(&text, r->text, p->next);
	sha256_hex_of(text.data, text.len, identity);
	buf_release(&text);
}

void run_disk_full(struct run *run, const char *what)
{
	if (!run->disk_full)
		log_error("paused, nothing is lost: %s", what);
	run->disk_full = true;
	run->intake.rescan = true; /* for what was given up now */
	run->next_disk_look = loop_now() + 2;
}
