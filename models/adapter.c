/* SPDX-License-Identifier: MIT
 *
 * Reads an adapter's folder.
 *
 * The tensors say which projections are adapted, by names as PEFT writes them
 * (base_model.model.PATH.lora_A.weight); the configuration says which should be (target_modules:
 * ends of paths, or an expression for all of one; layers_to_transform). The two have to agree.
 * Source: peft's tuners/tuners_utils.py and tuners/lora/config.py.
 */
#define PCRE2_CODE_UNIT_WIDTH 8

#include "adapter.h"

#include "base/num.h"
#include "weights/json_file.h"
#include "weights/safetensors.h"

#include <math.h>
#include <pcre2.h>
#include <stdlib.h>
#include <string.h>

#define CONFIG	    "adapter_config.json"
#define TENSORS	    "adapter_model.safetensors"
#define BEFORE	    "base_model.model."
#define LAYERS	    "text.layers."
#define RANK_MAX    4096
#define ENTRIES_MAX 16384
#define LAYER_MAX   1023
#define TARGETS_MAX 1024
#define MATCH_LIMIT 100000 /* steps of an expression on one name */
#define NOT_APPLIED " is not supported: the adapter would not do what it was trained to"

/* One projection. */
struct entry {
	char *path;	    /* as the model called it in training */
	const char *module; /* in it: what follows the layer's number */
	unsigned layer;
	const struct tensor *a, *b;
	bool taken;
};

struct adapter {
	json_t *config;
	struct weights *weights;
	struct entry *entries; /* by path */
	size_t count;
	const json_t *targets; /* a list of ends; or NULL: */
	pcre2_code *expression;
	pcre2_match_context *limits;
	pcre2_match_data *match;
	unsigned layers[LAYER_MAX + 1], layer_count; /* none: all */
	unsigned rank;
	float scale;
};

unsigned adapter_rank(const struct adapter *a)
{
	return a->rank;
}

float adapter_scale(const struct adapter *a)
{
	return a->scale;
}

static enum rc wrong(struct err *err, const char *field, const char *what)
{
	return err_set(err, RC_FATAL, "adapter-config", CONFIG ": %.100s%s", field, what);
}

/* ---- the configuration ---- */

static bool is_empty(const json_t *value)
{
	return !value || json_is_null(value) || json_is_false(value) ||
	       ((json_is_array(value) || json_is_object(value)) && !json_array_size(value) &&
		!json_object_size(value)) ||
	       (json_is_string(value) && !json_string_length(value));
}

/* Fields that are read below, or cannot change a result. All others have to be empty. */
static bool is_harmless(const char *key)
{
	static const char *const keys[] = {
		/* read */
		"peft_type",
		"r",
		"lora_alpha",
		"use_rslora",
		"target_modules",
		"layers_to_transform",
		"layers_pattern",
		"bias",
		"init_lora_weights",
		/* of training, or where it came from */
		"lora_dropout",
		"inference_mode",
		"task_type",
		"base_model_name_or_path",
		"revision",
		"auto_mapping",
		"peft_version",
		"loftq_config",
		"eva_config",
		"corda_config",
		"qalora_group_size",
		"megatron_core",
		"runtime_config",
	};

	for (size_t i = 0; i < ARRAY_SIZE(keys); i++)
		if (!strcmp(key, keys[i]))
			return true;
	return false;
}

/* These ways to begin leave the model's own weights as they are. */
static bool begins_beside(const json_t *init)
{
	static const char *const ways[] = {"gaussian", "orthogonal", "eva"};
	const char *word = json_string_value(init);

	for (size_t i = 0; word && i < ARRAY_SIZE(ways); i++)
		if (!strcmp(word, ways[i]))
			return true;
	return !init || json_is_null(init) || json_is_boolean(init);
}

static enum rc check_fields(const struct json_place *place, struct err *err)
{
	const char *type = NULL, *bias = "none", *key;
	json_t *value;

	if (json_place_string(place, "peft_type", true, &type, err) != RC_OK ||
	    json_place_string(place, "bias", false, &bias, err) != RC_OK)
		return RC_FATAL;
	if (strcmp(type, "LORA") != 0)
		return err_set(err, RC_FATAL, "adapter-config",
			       CONFIG ": peft_type is \"%.60s\", and only LORA is supported", type);
	if (strcmp(bias, "none") != 0)
		return err_set(err, RC_FATAL, "adapter-config",
			       CONFIG ": bias \"%.60s\"" NOT_APPLIED, bias);
	if (!begins_beside(json_place_get(place, "init_lora_weights")))
		return wrong(err, "init_lora_weights",
			     " is a way that changes the model's own weights" NOT_APPLIED);
	json_object_foreach((json_t *)place->objects[0], key, value)
	{
		if (!is_harmless(key) && !is_empty(value))
			return wrong(err, key, NOT_APPLIED);
	}
	return RC_OK;
}

static enum rc read_scale(struct adapter *a, const struct json_place *place, struct err *err)
{
	double alpha = 0;
	bool root = false;

	if (json_place_size(place, "r", true, 1, RANK_MAX, &a->rank, err) != RC_OK ||
	    json_place_number(place, "lora_alpha", true, 0, 1e6, &alpha, err) != RC_OK ||
	    json_place_bool(place, "use_rslora", &root, err) != RC_OK)
		return RC_FATAL;
	a->scale = (float)(alpha / (root ? sqrt(a->rank) : a->rank));
	return RC_OK;
}

static enum rc read_expression(struct adapter *a, const char *text, struct err *err)
{
	PCRE2_UCHAR why[100];
	PCRE2_SIZE at;
	int code;

	if (!strcmp(text, "all-linear"))
		text = ".*";
	a->expression = pcre2_compile((PCRE2_SPTR)text, PCRE2_ZERO_TERMINATED,
				      PCRE2_ANCHORED | PCRE2_ENDANCHORED | PCRE2_NEVER_BACKSLASH_C,
				      &code, &at, NULL);
	if (!a->expression) {
		pcre2_get_error_message(code, why, sizeof(why));
		return err_set(err, RC_FATAL, "adapter-config",
			       CONFIG ": target_modules is no expression: %s at %zu",
			       (const char *)why, at);
	}
	a->limits = pcre2_match_context_create(NULL);
	a->match = pcre2_match_data_create_from_pattern(a->expression, NULL);
	if (!a->limits || !a->match)
		die(EX_BUG, "out of memory");
	pcre2_set_match_limit(a->limits, MATCH_LIMIT);
	return RC_OK;
}

static enum rc read_targets(struct adapter *a, const struct json_place *place, struct err *err)
{
	const json_t *targets = json_place_get(place, "target_modules"),
		     *pattern = json_place_get(place, "layers_pattern");
	const char *word =
		json_string_value(json_is_array(pattern) ? json_array_get(pattern, 0) : pattern);
	const json_t *item;
	size_t i;

	if (json_place_sizes(place, "layers_to_transform", false, LAYER_MAX, LAYER_MAX + 1,
			     a->layers, &a->layer_count, err) != RC_OK)
		return RC_FATAL;
	if (!is_empty(pattern) &&
	    (!word || strcmp(word, "layers") != 0 || json_array_size(pattern) > 1))
		return wrong(err, "layers_pattern", " other than \"layers\" is not supported");
	if (json_is_string(targets) && json_string_length(targets)) {
		if (a->layer_count)
			return wrong(err, "layers_to_transform",
				     " goes with a list of target_modules, not with an expression");
		return read_expression(a, json_string_value(targets), err);
	}
	if (!json_array_size(targets) || json_array_size(targets) > TARGETS_MAX)
		return wrong(err, "target_modules",
			     " is neither a list of names nor an expression");
	json_array_foreach(targets, i, item)
	{
		if (!json_string_length(item))
			return wrong(err, "target_modules", " has an entry that is no name");
	}
	a->targets = targets;
	return RC_OK;
}

static bool ends_in(const char *path, const char *end)
{
	size_t n = strlen(path), m = strlen(end);

	return n >= m && !strcmp(path + n - m, end) && (n == m || path[n - m - 1] == '.');
}

/* Does the configuration say that this projection is adapted? */
static enum rc is_target(const struct adapter *a, const char *path, unsigned layer, bool *is,
			 struct err *err)
{
	const json_t *item;
	size_t i;

	*is = false;
	if (a->expression) {
		int n = pcre2_match(a->expression, (PCRE2_SPTR)path, strlen(path), 0, 0, a->match,
				    a->limits);

		if (n < 0 && n != PCRE2_ERROR_NOMATCH)
			return wrong(err, "target_modules",
				     " is an expression that comes to no end");
		*is = n >= 0;
		return RC_OK;
	}
	json_array_foreach(a->targets, i, item) *is |= ends_in(path, json_string_value(item));
	for (i = 0; *is && i < a->layer_count; i++)
		if (a->layers[i] == layer)
			return RC_OK;
	*is = *is && !a->layer_count;
	return RC_OK;
}

/* ---- the tensors ---- */

static enum rc refuse(struct err *err, const struct tensor *t, const char *what)
{
	return err_set(err, RC_FATAL, "adapter-tensor", TENSORS ": %.200s: %s", t->stored, what);
}

/* "text.layers.3.self_attn.q_proj": layer 3, and the rest. */
static bool parse_layer(const char *name, unsigned *layer, size_t *module)
{
	const char *digits = name + strlen(LAYERS);
	size_t n;

	if (strncmp(name, LAYERS, strlen(LAYERS)) != 0)
		return false;
	n = strspn(digits, "0123456789");
	if (!n || n > 4 || digits[n] != '.' || !digits[n + 1])
		return false;
	*layer = (unsigned)strtoul(digits, NULL, 10);
	*module = strlen(LAYERS) + n + 1;
	return *layer <= LAYER_MAX;
}

static enum rc add_tensor(struct adapter *a, const struct tensor *t, struct err *err)
{
	static const char *const ends[] = {".lora_A.weight", ".lora_B.weight"};
	const char *path = t->stored + strlen(BEFORE);
	struct entry *e = a->count ? &a->entries[a->count - 1] : NULL;
	size_t len = strlen(t->stored), end = strlen(ends[0]), module = 0;
	unsigned layer = 0, side = 0;
	char *bare, *name;
	bool good;

	if (strncmp(t->stored, BEFORE, strlen(BEFORE)) != 0)
		return refuse(err, t, "its name does not begin with " BEFORE);
	while (side < 2 && (len < end || strcmp(t->stored + len - end, ends[side]) != 0))
		side++;
	if (side == 2)
		return refuse(err, t, "is neither lora_A nor lora_B of a projection" NOT_APPLIED);
	bare = xstrndup(path, len - strlen(BEFORE) - end);
	name = weights_name_of(bare);
	good = parse_layer(name, &layer, &module);
	if (!good) {
		bool sees = !strncmp(name, "visual.", 7);

		free(name);
		free(bare);
		return refuse(err, t,
			      sees ? "adapts the vision tower, which is not supported"
				   : "adapts what is no projection of a layer, which is not "
				     "supported");
	}
	if (!e || strcmp(e->path, bare) != 0) {
		if (a->count == ENTRIES_MAX)
			return refuse(err, t, "there are too many");
		e = &a->entries[a->count++];
		*e = (struct entry){.path = bare, .layer = layer};
		e->module = bare + strlen(bare) - strlen(name + module);
	} else {
		free(bare);
	}
	free(name);
	*(side ? &e->b : &e->a) = t;
	return RC_OK;
}

static enum rc check_entry(const struct adapter *a, const struct entry *e, struct err *err)
{
	bool is;

	if (!e->a || !e->b)
		return refuse(err, e->a ? e->a : e->b, e->a ? "has no lora_B" : "has no lora_A");
	if (e->a->rank != 2 || e->a->shape[0] != a->rank)
		return refuse(err, e->a, "does not have as many rows as r says");
	if (e->b->rank != 2 || e->b->shape[1] != a->rank)
		return refuse(err, e->b, "does not have as many columns as r says");
	if (is_target(a, e->path, e->layer, &is, err) != RC_OK)
		return RC_FATAL;
	if (!is)
		return refuse(err, e->a,
			      "is there, but target_modules and layers_to_transform of " CONFIG
			      " do not name it");
	return RC_OK;
}

static enum rc read_tensors(struct adapter *a, const char *folder, struct err *err)
{
	if (weights_open_file(&a->weights, folder, TENSORS, err) != RC_OK)
		return RC_FATAL;
	a->entries =
		xcalloc(min_u64(weights_count(a->weights), ENTRIES_MAX) + 1, sizeof(*a->entries));
	/* By name: A and B of a projection follow each other. */
	for (size_t i = 0; i < weights_count(a->weights); i++)
		if (add_tensor(a, weights_at(a->weights, i), err) != RC_OK)
			return RC_FATAL;
	for (size_t i = 0; i < a->count; i++)
		if (check_entry(a, &a->entries[i], err) != RC_OK)
			return RC_FATAL;
	if (!a->count)
		return err_set(err, RC_FATAL, "adapter-tensor", TENSORS ": there is nothing in it");
	return RC_OK;
}

enum rc adapter_open(struct adapter **out, const char *folder, struct err *err)
{
	struct adapter *a = xcalloc(1, sizeof(*a));
	enum rc rc = json_file_load(folder, CONFIG, JSON_FILE_REQUIRED, &a->config, err);
	const struct json_place place = {CONFIG, {a->config, NULL, NULL}};

	*out = NULL;
	if (rc == RC_OK)
		rc = check_fields(&place, err);
	if (rc == RC_OK)
		rc = read_scale(a, &place, err);
	if (rc == RC_OK)
		rc = read_targets(a, &place, err);
	if (rc == RC_OK)
		rc = read_tensors(a, folder, err);
	if (rc != RC_OK)
		adapter_close(a);
	else
		*out = a;
	return rc;
}

void adapter_close(struct adapter *a)
{
	if (!a)
		return;
	for (size_t i = 0; i < a->count; i++)
		free(a->entries[i].path);
	free(a->entries);
	weights_close(a->weights);
	pcre2_match_data_free(a->match);
	pcre2_match_context_free(a->limits);
	pcre2_code_free(a->expression);
	json_decref(a->config);
	free(a);
}

static enum rc take(struct adapter *a, const struct tensor *t, size_t rows, size_t columns,
		    struct matrix *out, struct err *err)
{
	if (weights_take(a->weights, t->stored, rows, columns, out, err) == RC_OK)
		return RC_OK;
	strcpy(err->reason, "adapter-tensor");
	return RC_FATAL;
}

/* The same projection of a model whose layers are called as those of the first one are. */
static char *path_of(const struct adapter *a, unsigned layer, const char *module)
{
	const struct entry *e = &a->entries[0];
	size_t before = (size_t)(e->module - e->path) - 1;

	while (e->path[before - 1] != '.')
		before--;
	return xasprintf("%.*s%u.%s", (int)before, e->path, layer, module);
}

enum rc adapter_take(struct adapter *a, unsigned layer, const char *module, size_t out, size_t in,
		     struct matrix *low, struct matrix *high, bool *there, struct err *err)
{
	enum rc rc = RC_OK;
	bool is;
	char *path;

	*there = false;
	for (size_t i = 0; i < a->count; i++) {
		struct entry *e = &a->entries[i];

		if (e->layer != layer || strcmp(e->module, module) != 0)
			continue;
		*there = e->taken = true;
		rc = take(a, e->a, a->rank, in, low, err);
		return rc == RC_OK ? take(a, e->b, out, a->rank, high, err) : rc;
	}
	path = path_of(a, layer, module);
	rc = is_target(a, path, layer, &is, err);
	if (rc == RC_OK && is)
		rc = err_set(err, RC_FATAL, "adapter-tensor",
			     TENSORS ": %.200s is not there, but target_modules of " CONFIG
				     " names it",
			     path);
	free(path);
	return rc;
}

enum rc adapter_all_taken(const struct adapter *a, struct err *err)
{
	for (size_t i = 0; i < a->count; i++)
		if (!a->entries[i].taken)
			return refuse(err, a->entries[i].a,
				      "the model has no projection that is called so, or none that "
				      "can be adapted");
	return RC_OK;
}
