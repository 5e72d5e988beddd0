/* SPDX-License-Identifier: MIT
 *
 * Finds out what a folder lacks, in the order in which somebody has to mend it: parts of a
 * download, files that are not there, files that are damaged, an architecture that the engine does
 * not know, the lock. A later question is asked only when the earlier ones have no answer.
 */
#include "folders/state.h"

#include "base/num.h"
#include "folders/folders.h"
#include "model.h"
#include "tokenizer/tokenizer.h"
#include "weights/json_file.h"
#include "weights/safetensors.h"

#include <dirent.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define INDEX	  "model.safetensors.index.json"
#define SHOWN_MAX 8 /* of a kind of problem */

const char *model_readiness_name(enum model_readiness readiness)
{
	static const char *const names[] = {"ready",	   "unlocked",	 "differs",
					    "unsupported", "incomplete", "refused"};

	return names[readiness];
}

static void add_shown(json_t *texts, const char *text)
{
	char *shown = folders_display(text);

	json_array_append_new(texts, json_string(shown));
	free(shown);
}

static void problem(struct model_state *m, enum model_readiness readiness, const char *format, ...)
	__attribute__((format(printf, 3, 4)));

static void problem(struct model_state *m, enum model_readiness readiness, const char *format, ...)
{
	char *text = NULL;
	va_list ap;

	va_start(ap, format);
	if (vasprintf(&text, format, ap) < 0)
		die(EX_BUG, "out of memory");
	va_end(ap);
	m->readiness = readiness > m->readiness ? readiness : m->readiness;
	add_shown(m->problems, text);
	free(text);
}

/* ---- parts of a download ---- */

static const char *const half[] = {".incomplete", ".part",     ".partial", ".crdownload",
				   ".aria2",	  ".download", ".tmp",	   NULL};

/* In a folder that download tools keep for themselves. */
static void find_halves(struct model_state *m, const char *folder, const char *shown,
			unsigned depth)
{
	DIR *dir = opendir(folder);

	for (struct dirent *e; dir && (e = readdir(dir));) {
		char *path, *name;

		if (e->d_name[0] == '.')
			continue;
		path = xasprintf("%s/%s", folder, e->d_name);
		name = xasprintf("%s/%s", shown, e->d_name);
		if (model_file_ends(e->d_name, half))
			problem(m, MODEL_INCOMPLETE, "%s: a download that has not ended", name);
		else if (depth && e->d_type == DT_DIR)
			find_halves(m, path, name, depth - 1);
		free(name);
		free(path);
	}
	if (dir)
		closedir(dir);
}

static void look_for_halves(struct model_state *m)
{
	char *cache = xasprintf("%s/.cache/huggingface/download", m->folder);

	for (size_t i = 0; i < m->files.n; i++) {
		const struct model_file *f = &m->files.v[i];

		if (model_file_ends(f->path, half))
			problem(m, MODEL_INCOMPLETE, "%s: a download that has not ended", f->path);
		else if (f->dangling)
			problem(m, MODEL_INCOMPLETE, "%s is a link to what is not there", f->path);
		else if (f->odd)
			problem(m, MODEL_INCOMPLETE, "%s is not a file", f->path);
	}
	find_halves(m, cache, ".cache", MODEL_DEPTH_MAX);
	free(cache);
}

/* The blobs of a cache belong to all revisions: half ones matter to a revision that lacks
 * something. */
static void look_for_half_blobs(struct model_state *m)
{
	char *blobs = xasprintf("%s/../../blobs", m->folder);

	if (m->readiness == MODEL_INCOMPLETE && strstr(m->folder, "/snapshots/"))
		find_halves(m, blobs, "blobs", 0);
	free(blobs);
}

/* ---- what is missing ---- */

static bool has(const struct model_state *m, const char *path)
{
	return model_files_find(&m->files, path) != NULL;
}

/* Git without LFS leaves a text of some 130 bytes in place of each large file. */
static bool is_lfs_pointer(const struct model_state *m, const struct model_file *f)
{
	static const char start[] = "version https://git-lfs";
	char *path = xasprintf("%s/%s", m->folder, f->path), text[sizeof(start) - 1];
	int fd = f->size < 1024 ? open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK) : -1;
	bool is = fd >= 0 && read(fd, text, sizeof(text)) == (ssize_t)sizeof(text) &&
		  !memcmp(text, start, sizeof(text));

	if (fd >= 0)
		close(fd);
	free(path);
	return is;
}

static void look_for_pointers(struct model_state *m)
{
	for (size_t i = 0; i < m->files.n; i++)
		if (model_file_is_read(m->files.v[i].path) && is_lfs_pointer(m, &m->files.v[i]))
			problem(m, MODEL_INCOMPLETE,
				"%s is a pointer of Git LFS, not the file: `git lfs pull`",
				m->files.v[i].path);
}

static void look_for_shards(struct model_state *m)
{
	json_t *index = NULL, *named = json_object(), *value;
	const char *tensor, *shard;
	struct err err;
	size_t missing = 0;

	if (json_file_load(m->folder, INDEX, JSON_FILE_REQUIRED, &index, &err) != RC_OK) {
		problem(m, MODEL_INCOMPLETE, "%s", err.text);
		json_decref(named);
		return;
	}
	json_object_foreach(json_object_get(index, "weight_map"), tensor,
			    value) if ((shard = json_string_value(value)))
		json_object_set_new(named, shard, json_null());
	json_object_foreach(named, shard, value) if (!has(m, shard) && ++missing <= SHOWN_MAX)
		problem(m, MODEL_INCOMPLETE, "%s is missing", shard);
	if (missing > SHOWN_MAX)
		problem(m, MODEL_INCOMPLETE, "and %zu more of the %zu shards", missing - SHOWN_MAX,
			json_object_size(named));
	json_decref(named);
	json_decref(index);
}

static bool any_ends(const struct model_state *m, const char *ending)
{
	const char *const endings[] = {ending, NULL};

	for (size_t i = 0; i < m->files.n; i++)
		if (!strchr(m->files.v[i].path, '/') &&
		    model_file_ends(m->files.v[i].path, endings))
			return true;
	return false;
}

/* A folder of LoRA weights has no model of its own. */
static bool is_adapter(const struct model_state *m)
{
	return has(m, "adapter_config.json") && !has(m, "config.json");
}

static void look_for_files(struct model_state *m)
{
	static const char *const pickles[] = {".bin", ".pt", ".pth", ".pkl", ".ckpt"};

	if (is_adapter(m)) {
		if (!has(m, "adapter_model.safetensors"))
			problem(m, MODEL_INCOMPLETE, "adapter_model.safetensors is missing");
		return;
	}
	if (!has(m, "config.json"))
		problem(m, MODEL_INCOMPLETE, "config.json is missing");
	if (!has(m, "tokenizer.json"))
		problem(m, MODEL_INCOMPLETE, "tokenizer.json is missing");
	if (has(m, INDEX)) {
		look_for_shards(m);
		return;
	}
	if (has(m, "model.safetensors"))
		return;
	for (size_t i = 0; i < ARRAY_SIZE(pickles) && !any_ends(m, ".safetensors"); i++) {
		if (!any_ends(m, pickles[i]))
			continue;
		problem(m, MODEL_REFUSED,
			"its weights are pickles (*%s), which run code in whoever opens them; the "
			"engine reads safetensors alone",
			pickles[i]);
		return;
	}
	problem(m, MODEL_INCOMPLETE,
		any_ends(m, ".safetensors") ? INDEX " is missing" : "model.safetensors is missing");
}

/* ---- what is damaged, or not known ---- */

static void look_at_config(struct model_state *m)
{
	const char *architecture, *end;
	json_t *config = NULL;
	struct err err;

	if (is_adapter(m))
		m->family = xstrdup("LoRA");
	if (!has(m, "config.json"))
		return;
	if (json_file_load(m->folder, "config.json", JSON_FILE_REQUIRED, &config, &err) != RC_OK) {
		problem(m, MODEL_INCOMPLETE, "%s", err.text);
		return;
	}
	architecture =
		json_string_value(json_array_get(json_object_get(config, "architectures"), 0));
	end = architecture ? strstr(architecture, "For") : NULL;
	if (architecture) {
		char *family = xstrndup(architecture,
					end ? (size_t)(end - architecture) : strlen(architecture));

		m->family = folders_display(family);
		free(family);
	}
	if (json_object_get(config, "auto_map"))
		add_shown(m->code, "auto_map in config.json");
	json_decref(config);
}

static void look_at_weights(struct model_state *m)
{
	struct weights *weights = NULL;
	struct err err;
	enum rc rc = is_adapter(m) ? weights_open_file(&weights, m->folder,
						       "adapter_model.safetensors", &err)
				   : weights_open(&weights, m->folder, &err);

	if (rc != RC_OK)
		problem(m, MODEL_INCOMPLETE, "%s", err.text);
	else
		m->parameters = weights_parameters(weights);
	weights_close(weights);
}

static void look_at_engine(struct model_state *m)
{
	struct tokenizer *tokenizer = NULL;
	struct adapter *adapter = NULL;
	struct model_config config;
	struct err err;

	if (is_adapter(m)) {
		if (adapter_open(&adapter, m->folder, &err) != RC_OK)
			problem(m, MODEL_UNSUPPORTED, "%s", err.text);
		adapter_close(adapter);
		return;
	}
	if (model_config_load(&config, m->folder, &err) != RC_OK)
		problem(m, MODEL_UNSUPPORTED, "%s", err.text);
	else if (tokenizer_open(&tokenizer, m->folder, &err) != RC_OK)
		problem(m, MODEL_UNSUPPORTED, "%s", err.text);
	tokenizer_free(tokenizer);
}

static void look_at_lock(struct model_state *m)
{
	struct difference_of *v = NULL;
	struct err err;
	size_t n;

	if (model_lock_load(&m->lock, m->folder, &err) != RC_OK) {
		bool none = !strcmp(err.reason, "model-unlocked");

		model_lock_release(&m->lock);
		if (!none)
			problem(m, MODEL_DIFFERS, "%s", err.text);
		else if (m->readiness == MODEL_READY)
			problem(m, MODEL_UNLOCKED, "not locked: `cloister models lock` it");
		return;
	}
	n = model_lock_compare(&m->lock, m->folder, &m->files, NULL, DIGEST_PIECES, NULL, NULL, &v);
	for (size_t i = 0; i < n && i < SHOWN_MAX; i++) {
		char *text = difference_text(&v[i]);

		problem(m, MODEL_DIFFERS, "%s", text);
		free(text);
	}
	if (n > SHOWN_MAX)
		problem(m, MODEL_DIFFERS, "and %zu more", n - SHOWN_MAX);
	free(v);
}

void model_state_take(struct model_state *m, const char *folder)
{
	struct err err;

	*m = (struct model_state){.folder = xstrdup(folder), .name = model_name(folder)};
	m->problems = json_array();
	m->code = json_array();
	if (model_files_list(&m->files, folder, &err) != RC_OK) {
		problem(m, MODEL_INCOMPLETE, "%s", err.text);
		return;
	}
	for (size_t i = 0; i < m->files.n; i++)
		if (model_file_is_code(m->files.v[i].path))
			add_shown(m->code, m->files.v[i].path);
	look_for_halves(m);
	look_for_pointers(m);
	look_for_files(m);
	look_for_half_blobs(m);
	look_at_config(m);
	if (m->readiness == MODEL_READY)
		look_at_weights(m);
	if (m->readiness == MODEL_READY)
		look_at_engine(m);
	look_at_lock(m);
}

void model_state_release(struct model_state *m)
{
	model_files_release(&m->files);
	model_lock_release(&m->lock);
	json_decref(m->problems);
	json_decref(m->code);
	free(m->family);
	free(m->folder);
	free(m->name);
	*m = (struct model_state){NULL};
}

bool model_folder_seems(const char *folder)
{
	static const char *const endings[] = {".safetensors", ".bin",	     ".pt",
					      ".pth",	      ".incomplete", NULL};
	DIR *dir = opendir(folder);
	bool seems = false;

	for (struct dirent *e; dir && !seems && (e = readdir(dir));)
		seems = !strcmp(e->d_name, "config.json") || !strcmp(e->d_name, INDEX) ||
			!strcmp(e->d_name, "adapter_config.json") ||
			!strcmp(e->d_name, MODEL_LOCK_NAME) || model_file_ends(e->d_name, endings);
	if (dir)
		closedir(dir);
	if (!seems) { /* a download that has only begun */
		char *cache = xasprintf("%s/.cache/huggingface", folder);

		seems = !access(cache, F_OK);
		free(cache);
	}
	return seems;
}
