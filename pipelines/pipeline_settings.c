/* SPDX-License-Identifier: MIT
 *
 * The table of keys (pipeline_settings.h), and what it says as JSON.
 */
#include "pipeline_settings.h"
#include "base/num.h"

#include <string.h>

const char *const output_names[] = { "text.md", "text.txt", "document.json", "pages.jsonl",
				     "document.hocr", "document.html" };

static const struct word recognisers[] = { { "tesseract", RECOGNISER_TESSERACT },
					   { "model", RECOGNISER_MODEL },
					   { "command", RECOGNISER_COMMAND },
					   { NULL, 0 } };
static const struct word rotations[] = { { "auto", ROTATE_AUTO }, { "none", ROTATE_NONE },
					 { NULL, 0 } };
static const struct word text_layers[] = { { "ignore", TEXT_LAYER_IGNORE },
					   { "prefer", TEXT_LAYER_PREFER },
					   { NULL, 0 } };
static const struct word weights[] = { { "bf16", MODEL_BF16 },
				       { "int8", MODEL_INT8 },
				       { "fp8", MODEL_FP8 },
				       { "f32", MODEL_F32 },
				       { NULL, 0 } };
static const struct word kv_numbers[] = { { "bf16", MODEL_KV_BF16 },
					  { "fp8", MODEL_KV_FP8 },
					  { NULL, 0 } };
static const struct word devices[] = { { "cpu", DEVICE_CPU },
				       { "cuda", DEVICE_CUDA },
				       { "auto", DEVICE_AUTO },
				       { NULL, 0 } };
static const struct word wraps[] = { { "sandbox", WRAP_SANDBOX },
				     { "podman", WRAP_PODMAN },
				     { "docker", WRAP_DOCKER },
				     { "none", WRAP_NONE },
				     { NULL, 0 } };
static const struct word replies[] = { { "text", REPLY_TEXT },
				       { "markdown", REPLY_MARKDOWN },
				       { "layout", REPLY_LAYOUT },
				       { "same", REPLY_SAME },
				       { NULL, 0 } };
static const struct word heads[] = { { "drop", HEADS_DROP }, { "keep", HEADS_KEEP }, { NULL, 0 } };
static const struct word resizes[] = { { "once", RESIZE_ONCE },
				       { "lanczos", RESIZE_LANCZOS },
				       { NULL, 0 } };
static const struct word yes_or_no[] = { { "no", false }, { "yes", true }, { NULL, 0 } };
static const struct word true_or_false[] = { { "true", true }, { "false", false }, { NULL, 0 } };
static const struct word originals[] = { { "move", ORIGINALS_MOVE },
					 { "keep", ORIGINALS_KEEP },
					 { "delete", ORIGINALS_DELETE },
					 { NULL, 0 } };
static const struct word duplicates[] = { { "link", DUPLICATES_LINK },
					  { "skip", DUPLICATES_SKIP },
					  { "process", DUPLICATES_PROCESS },
					  { NULL, 0 } };
static const struct word figures[] = { { "cut", FIGURES_CUT }, { "none", FIGURES_NONE }, { NULL, 0 } };
/* Tesseract's PSM without 0 and 2, which find orientation or layout but read nothing. */
static const struct word segmentations[] = {
	{ "auto", 3 },	       { "auto-osd", 1 },    { "single-column", 4 },
	{ "vertical-block", 5 }, { "single-block", 6 }, { "single-line", 7 },
	{ "single-word", 8 },  { "circle-word", 9 }, { "single-character", 10 },
	{ "sparse", 11 },      { "sparse-osd", 12 }, { "raw-line", 13 },
	{ NULL, 0 }
};

/* A code becomes a file name beneath tessdata, e.g. "script/Latin". */
static bool is_language(const char *s)
{
	size_t len = strlen(s);

	return len >= 1 && len <= 40 && s[0] != '/' && s[len - 1] != '/' &&
	       strspn(s, "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789_-/") ==
		       len;
}

static bool is_password(const char *s)
{
	return strlen(s) <= 512;
}

static bool is_argument(const char *s)
{
	return strlen(s) <= 4096;
}

static bool is_adapter(const char *s)
{
	return *s && strlen(s) <= 4000;
}

/* A container's client takes "PATH:PATH:ro". */
static bool is_path(const char *s)
{
	return s[0] == '/' && strlen(s) <= 4000 && !strpbrk(s, ":,") && !strstr(s, "/../");
}

#define AT(member) .at = offsetof(struct pipeline, member)
#define LIST_AT(member) AT(member), .count_at = offsetof(struct pipeline, n_##member)
#define LIMIT(member, lowest, highest)                                                             \
	{                                                                                          \
		#member, NUMBER64, AT(limits.member), .min = lowest, .max = highest                \
	}

static const struct setting limit_settings[] = {
	LIMIT(input_mebibytes, 1, 1 << 24),
	LIMIT(document_pages, 1, 10000000),
	LIMIT(page_megapixels, 1, 1000),
	LIMIT(page_side_pixels, 100, 32767), /* the most cairo can draw */
	LIMIT(image_megapixels, 1, 10000),
	LIMIT(page_cpu_seconds, 1, 86400),
	LIMIT(page_seconds, 1, 86400),
	LIMIT(open_seconds, 1, 86400),
	LIMIT(memory_mebibytes, 256, 1 << 20),
	LIMIT(read_seconds, 1, 86400),
	LIMIT(result_kibibytes, 16, 1 << 20),
	LIMIT(page_figures, 1, 1024),
	LIMIT(figures_mebibytes, 1, 32), /* a journal record holds them */
	LIMIT(archive_members, 1, 10000000),
	LIMIT(archive_depth, 0, 8),
	LIMIT(archive_mebibytes, 1, 1 << 24),
	LIMIT(archive_ratio, 1, 1000000),
};

const struct setting model_settings[] = {
	{ "folder", TEXT, AT(model.folder), .max = 4000 },
	{ "adapters", LIST, AT(model.adapters),
	  .count_at = offsetof(struct pipeline, model.n_adapters), .max = 4, .check = is_adapter,
	  .meaning = "the folder of an adapter", .example = "[org/name]" },
	{ "weights", WORD, AT(model.weights), .words = weights },
	{ "kv", WORD, AT(model.kv), .words = kv_numbers },
	{ "deterministic", WORD, AT(model.deterministic), .words = true_or_false },
	{ "speculate", NUMBER64, NOT_HASHED, AT(model.speculate), .max = 8 },
	{ "device", WORD, AT(model.device), .words = devices },
	{ "gpus", NUMBER64, NOT_HASHED, AT(model.gpus), .max = 64 },
	{ "reply", WORD, AT(model.reply), .words = replies },
	{ "heads", WORD, AT(model.heads), .words = heads },
	{ "think", WORD, AT(model.think), .words = yes_or_no },
	{ "page_pixels", NUMBER64, AT(model.page_pixels), .max = 1 << 30 },
	{ "resize", WORD, AT(model.resize), .words = resizes },
	{ "enlarge", NUMBER64, AT(model.enlarge), .max = 4096 },
	{ "tokens", NUMBER64, AT(model.tokens), .min = 1, .max = 1 << 20 },
	{ "temperature", REAL, AT(model.temperature), .max = 2 },
	{ "top_p", REAL, AT(model.top_p), .max = 1 },
	{ "top_k", NUMBER64, AT(model.top_k), .max = 1 << 20 },
	{ "min_p", REAL, AT(model.min_p), .max = 1 },
	{ "repetition_penalty", REAL, AT(model.repetition_penalty), .min = 1, .max = 2 },
	{ "retries", NUMBER64, AT(model.retries), .max = 10 },
	{ "sequences", NUMBER64, NOT_HASHED, AT(model.sequences), .min = 1, .max = 256 },
	{ "cache_mebibytes", NUMBER64, NOT_HASHED, AT(model.cache_mebibytes), .max = 1 << 24 },
	{ "threads", NUMBER64, NOT_HASHED, AT(model.threads), .max = 1024 },
};

const struct setting pipeline_settings[] = {
	{ "recogniser", WORD, AT(recogniser), .words = recognisers },
	{ "command", LIST, LIST_AT(command), .min = 1, .max = 256,
	  .check = is_argument, .meaning = "an argument of at most 4096 bytes",
	  .example = "[/usr/bin/python3, /opt/reader.py]" },
	{ "wrap", WORD, NOT_HASHED | FOREIGN, AT(foreign.wrap), .words = wraps },
	{ "image", TEXT, FOREIGN, AT(foreign.image), .max = 512 },
	{ "reads", LIST, FOREIGN, AT(foreign.reads),
	  .count_at = offsetof(struct pipeline, foreign.n_reads), .max = 64, .check = is_path,
	  .meaning = "an absolute path without ':', ',' and '/../'", .example = "[/models/mine, /opt/venv]" },
	{ "gpus", TEXT, NOT_HASHED | FOREIGN, AT(foreign.gpus), .max = 100 },
	{ "memory_mebibytes", NUMBER64, NOT_HASHED | FOREIGN, AT(foreign.memory_mebibytes),
	  .max = 1 << 24 },
	{ "temporary_mebibytes", NUMBER64, NOT_HASHED | FOREIGN, AT(foreign.temporary_mebibytes),
	  .max = 1 << 24 },
	{ "languages", LIST, IN_TICKET, LIST_AT(languages), .min = 1, .max = 32,
	  .check = is_language, .meaning = "a Tesseract language code such as eng or script/Latin",
	  .example = "[eng, deu]" },
	{ "page_segmentation", NAMED_NUMBER, IN_TICKET, AT(page_segmentation),
	  .words = segmentations },
	{ "rotate", WORD, IN_TICKET, AT(rotate), .words = rotations },
	{ "dpi", NUMBER, IN_TICKET, AT(dpi), .min = 50, .max = 1200 },
	{ "short_side", NUMBER, AT(short_side), .max = 4096 },
	{ "text_layer", WORD, IN_TICKET, AT(text_layer), .words = text_layers },
	{ "blank_ink", REAL, AT(blank_ink), .max = 1 },
	{ "passwords", LIST, IN_TICKET | NOT_HASHED | SECRET, LIST_AT(passwords), .max = 64,
	  .check = is_password, .meaning = "a password of at most 512 bytes",
	  .example = "[\"first\", \"second\"]" },
	{ "figures", WORD, AT(figures), .words = figures },
	{ "outputs", FILES, IN_TICKET | NOT_HASHED, AT(outputs), .max = N_OUTPUTS,
	  .example = "[text.md, pages.jsonl]" },
	{ "priority", NUMBER, IN_TICKET | NOT_HASHED, AT(priority), .max = 9 },
	{ "originals", WORD, NOT_HASHED, AT(originals), .words = originals },
	{ "duplicates", WORD, NOT_HASHED, AT(duplicates), .words = duplicates },
	{ "prompt", TEXT, AT(prompt), .max = 32768 },
	{ "then", TEXT, NOT_HASHED, AT(then), .max = 64 }, /* what it names is hashed, not its name */
	{ "model", GROUP, .example = "{folder: /models/mine}, or one indented key a line",
	  .members = model_settings, .n_members = ARRAY_SIZE(model_settings) },
	{ "limits", GROUP, .example = "{page_seconds: 60}, or one indented key a line",
	  .members = limit_settings, .n_members = ARRAY_SIZE(limit_settings) },
};

const size_t pipeline_settings_count = ARRAY_SIZE(pipeline_settings);
const size_t model_settings_count = ARRAY_SIZE(model_settings);

static json_t *setting_to_json(const struct pipeline *p, const struct setting *s, unsigned without)
{
	const void *from = setting_place(p, s->at);
	json_t *out;

	switch (s->kind) {
	case WORD:
		for (const struct word *w = s->words; w->name; w++)
			if (w->value == *(const unsigned *)from)
				return json_string(w->name);
		BUG("%s has value %u", s->key, *(const unsigned *)from);
	case NAMED_NUMBER:
	case NUMBER:
		return json_integer(*(const unsigned *)from);
	case NUMBER64:
		return json_integer((json_int_t)*(const uint64_t *)from);
	case REAL:
		return json_real(*(const double *)from);
	case TEXT:
		return *(char *const *)from ? json_string(*(char *const *)from) : NULL;
	case LIST:
		out = json_array();
		for (size_t i = 0; i < *(const size_t *)setting_place(p, s->count_at); i++)
			json_array_append_new(out, json_string((*(char **const *)from)[i]));
		return out;
	case FILES:
		out = json_array();
		for (size_t i = 0; i < N_OUTPUTS; i++)
			if (*(const unsigned *)from & 1u << i)
				json_array_append_new(out, json_string(output_names[i]));
		return out;
	case GROUP:
		return settings_to_json(p, s->members, s->n_members, without);
	}
	return NULL;
}

json_t *settings_to_json(const struct pipeline *p, const struct setting *table, size_t n,
			 unsigned without)
{
	json_t *out = json_object();

	for (size_t i = 0; i < n; i++) {
		const struct setting *s = &table[i];
		bool unset = (s->kind == LIST && !*(const size_t *)setting_place(p, s->count_at)) ||
			     (s->members == model_settings && p->recogniser != RECOGNISER_MODEL) ||
			     (s->flags & FOREIGN && p->recogniser != RECOGNISER_COMMAND);
		json_t *value = s->flags & without || unset ? NULL : setting_to_json(p, s, without);

		if (value)
			json_object_set_new(out, s->key, value);
	}
	return out;
}
