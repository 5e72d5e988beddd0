/* SPDX-License-Identifier: MIT
 *
 * list: every model beneath a folder, a line each.
 *
 * Folders are looked for in the forms of modelfolder.h. Each model is looked at in a process of its
 * own, which can read that model and nothing else.
 */
#include "base/buf.h"
#include "folders/folders.h"
#include "folders/state.h"
#include "modelfolder.h"
#include "pipeline.h"

#include <dirent.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#define DEPTH_MAX 3

struct user { /* a pipeline that uses a model */
	char *pipeline, *folder;
};

struct list {
	char **folders;
	size_t n;
	struct user *users;
	size_t n_users;
	int width; /* of the longest name */
};

/* ---- which there are ---- */

static int by_name(const void *a, const void *b)
{
	return strcmp(*(char *const *)a, *(char *const *)b);
}

/* Folders in it that are not hidden, by name; NULL-terminated. The caller frees all. */
static char **subfolders(const char *folder)
{
	DIR *dir = opendir(folder);
	char **v = xcalloc(1, sizeof(*v));
	size_t n = 0;

	for (struct dirent *e; dir && (e = readdir(dir));) {
		char *path = xasprintf("%s/%s", folder, e->d_name);
		struct stat st;

		if (e->d_name[0] == '.' || stat(path, &st) || !S_ISDIR(st.st_mode)) {
			free(path);
			continue;
		}
		v = xrealloc(v, (n + 2) * sizeof(*v));
		v[n++] = path;
		v[n] = NULL;
	}
	if (dir)
		closedir(dir);
	qsort(v, n, sizeof(*v), by_name);
	return v;
}

static void take(struct list *l, const char *folder)
{
	char *name = model_name(folder);

	if ((int)strlen(name) > l->width)
		l->width = (int)strlen(name);
	free(name);
	l->folders = xrealloc(l->folders, (l->n + 1) * sizeof(*l->folders));
	l->folders[l->n++] = xstrdup(folder);
}

static void find_models(struct list *l, const char *folder, unsigned depth)
{
	const char *slash = strrchr(folder, '/'), *base = slash ? slash + 1 : folder;
	char *snapshots = xasprintf("%s/snapshots", folder);
	bool cache = !strncmp(base, "models--", 8);
	size_t before = l->n;
	char **v;

	if (model_folder_seems(folder)) {
		take(l, folder);
		free(snapshots);
		return;
	}
	v = subfolders(cache ? snapshots : folder);
	for (size_t i = 0; v[i]; i++) {
		if (cache)
			take(l, v[i]);
		else if (depth < DEPTH_MAX)
			find_models(l, v[i], depth + 1);
		free(v[i]);
	}
	/* Called like a model, and nothing in it: a download that came to nothing. */
	if (l->n == before && depth && strstr(base, "--"))
		take(l, folder);
	free(v);
	free(snapshots);
}

/* ---- who uses them ---- */

static bool has_user(const struct list *l, const char *pipeline)
{
	for (size_t i = 0; i < l->n_users; i++)
		if (!strcmp(l->users[i].pipeline, pipeline))
			return true;
	return false;
}

/* model: as a pipeline calls it; NULL: none, but the name is taken. */
static void add_user(struct list *l, const char *pipeline, const char *model)
{
	char *place = model ? model_folder(model) : NULL;

	l->users = xrealloc(l->users, (l->n_users + 1) * sizeof(*l->users));
	l->users[l->n_users++] =
		(struct user){xstrdup(pipeline), place ? realpath(place, NULL) : NULL};
	free(place);
}

/* Pipelines of an earlier folder hide those of a later one. */
static void read_pipelines(struct list *l, const char *folder)
{
	DIR *dir = opendir(folder);
	struct err err;

	for (struct dirent *e; dir && (e = readdir(dir));) {
		size_t n = strlen(e->d_name);
		struct pipeline p = {NULL};
		char *file, *name;

		if (n <= 5 || strcmp(e->d_name + n - 5, ".yaml"))
			continue;
		name = xstrndup(e->d_name, n - 5);
		file = xasprintf("%s/%s", folder, e->d_name);
		if (!has_user(l, name)) {
			bool good = pipeline_load(&p, name, file, &err) == RC_OK &&
				    p.recogniser == RECOGNISER_MODEL;

			add_user(l, name, good ? p.model.folder : NULL);
			for (size_t i = 0; good && i < p.model.n_adapters; i++)
				add_user(l, name, p.model.adapters[i]);
			pipeline_release(&p);
		}
		free(file);
		free(name);
	}
	if (dir)
		closedir(dir);
}

/* Their names; new reference. */
static json_t *users_of(const struct list *l, const char *folder)
{
	char *real = realpath(folder, NULL);
	json_t *names = json_array();

	for (size_t i = 0; real && i < l->n_users; i++)
		if (l->users[i].folder && !strcmp(l->users[i].folder, real))
			json_array_append_new(names, json_string(l->users[i].pipeline));
	free(real);
	return names;
}

/* ---- a line each ---- */

struct look {
	const char *folder;
	json_t *users;
	int width;
};

/* Texts of the list, with `between`. */
static void add_texts(struct buf *b, const json_t *texts, const char *between)
{
	const json_t *text;
	size_t i;

	json_array_foreach(texts, i, text)
		buf_addf(b, "%s%s", i ? between : "", json_string_value(text));
}

static void print_line(const struct model_state *m, const struct look *look)
{
	char parameters[24] = "-", *name;
	struct buf text, users;

	if (m->parameters >= 10000000)
		snprintf(parameters, sizeof(parameters), "%.2f B", (double)m->parameters / 1e9);
	else if (m->parameters)
		snprintf(parameters, sizeof(parameters), "%llu", (unsigned long long)m->parameters);
	buf_init(&text, 1 << 20);
	buf_init(&users, 1 << 16);
	add_texts(&text, m->problems, "; ");
	if (json_array_size(m->code)) {
		buf_addf(&text, "%scarries code, never opened: ", text.len ? "; " : "");
		add_texts(&text, m->code, ", ");
	}
	add_texts(&users, look->users, ",");
	name = folders_display(m->name);
	printf("%-11s  %-*s  %-10s  %8s  %9s  %-6s  %-10s  %s\n",
	       model_readiness_name(m->readiness), look->width, name, m->family ? m->family : "-",
	       parameters, size_text(m->files.bytes).s, m->lock.v ? "locked" : "-",
	       users.len ? users.data : "-", text.len ? text.data : "");
	free(name);
	buf_release(&text);
	buf_release(&users);
}

static int look_at(const struct folders_options *o, void *arg, int out)
{
	const struct look *look = arg;
	struct model_state m;

	(void)out;
	model_state_take(&m, look->folder);
	if (o->json) {
		char *name = folders_display(m.name), *folder = folders_display(m.folder);

		folders_print_json(json_pack(
			"{s:s, s:s, s:s, s:s?, s:I, s:I, s:i, s:b, s:s?, s:O, s:O, s:O}", "model",
			name, "folder", folder, "state", model_readiness_name(m.readiness),
			"family", m.family, "parameters", (json_int_t)m.parameters, "bytes",
			(json_int_t)m.files.bytes, "files", (int)m.files.n, "locked",
			m.lock.v != NULL, "lock", m.lock.v ? m.lock.sha256 : NULL, "pipelines",
			look->users, "problems", m.problems, "code", m.code));
		free(folder);
		free(name);
	} else if (!o->quiet || m.readiness != MODEL_READY) {
		print_line(&m, look);
	}
	return m.readiness == MODEL_READY ? EX_ALL_DONE : EX_SOME_FAILED;
}

int folders_list(const struct folders_options *o)
{
	struct list l = {.width = 10};
	int code = EX_ALL_DONE;

	for (size_t i = 0; o->pipelines[i]; i++)
		read_pipelines(&l, o->pipelines[i]);
	for (int i = 0; i < (o->n_args ? o->n_args : 1); i++) {
		char *root = folders_path(o->n_args ? o->args[i] : folders_root());
		size_t before = l.n;
		DIR *dir = opendir(root);

		if (dir)
			find_models(&l, root, 0);
		if (!dir)
			folders_say(o, "%s: %s", root, strerror(errno));
		else if (l.n == before)
			folders_say(o, "%s: no model in it", root);
		if (l.n == before)
			code = EX_SOME_FAILED;
		if (dir)
			closedir(dir);
		free(root);
	}
	for (size_t i = 0; i < l.n; i++) {
		struct look look = {l.folders[i], users_of(&l, l.folders[i]), l.width};
		int one = folders_confined(o, SANDBOX_MODEL, l.folders[i], -1, look_at, &look, NULL,
					   NULL);

		code = one ? EX_SOME_FAILED : code;
		json_decref(look.users);
		free(l.folders[i]);
	}
	for (size_t i = 0; i < l.n_users; i++) {
		free(l.users[i].pipeline);
		free(l.users[i].folder);
	}
	free(l.users);
	free(l.folders);
	return code;
}
