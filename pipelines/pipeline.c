/* SPDX-License-Identifier: MIT
 *
 * pipeline: read settings from YAML or JSON, check them, write them as JSON.
 *
 * One table describes every key: its kind, range, words, where it lies in struct pipeline, whether
 * a ticket may set it and whether it can change a result.  From it come the keys for libcyaml, the
 * checks and the JSON form.  Invariant: a setting reaches struct pipeline only
 * through apply_setting(), whether it comes from a file, a ticket or the supervisor's open line.
 *
 * YAML comes as JSON with strings for scalars from base/yaml.c.  A complaint of apply_setting()
 * names a key; yaml's marks turn that key into a line.
 */
#include "pipeline.h"
#include "airlock.h"
#include "base/buf.h"
#include "base/num.h"
#include "base/suggest.h"
#include "base/trusted.h"
#include "base/yaml.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define FILE_BYTES_MAX 65536

const char *const output_names[] = { "text.md", "text.txt", "document.json", "pages.jsonl",
				     "document.hocr", "document.html" };

struct word {
	const char *name;
	unsigned value;
};

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
				       { "f32", MODEL_F32 },
				       { NULL, 0 } };
static const struct word kv_numbers[] = { { "bf16", MODEL_KV_BF16 },
					  { "fp8", MODEL_KV_FP8 },
					  { NULL, 0 } };
static const struct word devices[] = { { "auto", DEVICE_AUTO },
				       { "cpu", DEVICE_CPU },
				       { "cuda", DEVICE_CUDA },
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

static bool is_gpus(const char *s)
{
	return !strcmp(s, "none") || !strcmp(s, "all") ||
	       (strlen(s) <= 100 && *s && !s[strspn(s, "0123456789,")] && s[0] != ',' &&
		s[strlen(s) - 1] != ',' && !strstr(s, ",,"));
}

enum setting_kind {
	WORD,         /* enum, one of words */
	NAMED_NUMBER, /* unsigned, one of words by name or number */
	NUMBER,       /* unsigned in min..max */
	NUMBER64,     /* uint64_t in min..max */
	REAL,         /* double in min..max */
	TEXT,         /* char * or NULL */
	LIST,         /* char ** of min..max items that pass check */
	FILES,        /* bits, list of output_names */
	GROUP,        /* mapping of members */
};

enum setting_flag {
	IN_TICKET = 1 << 0,
	NOT_HASHED = 1 << 1, /* cannot change the text of a result */
	SECRET = 1 << 2,
	NUL_ENDED = 1 << 3, /* LIST with a NULL after its last item */
	FOREIGN = 1 << 4,   /* only with recogniser: command */
};

struct setting {
	const char *key;
	enum setting_kind kind;
	unsigned flags;
	size_t at, count_at; /* offsets in struct pipeline */
	uint64_t min, max;
	const struct word *words;
	bool (*check)(const char *item);
	const char *meaning; /* what an item of a list is */
	const char *example; /* of a list or group, as it is written */
	const struct setting *members;
	size_t n_members;
};

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

static const struct setting model_settings[] = {
	{ "folder", TEXT, AT(model.folder), .max = 4000 },
	{ "adapters", LIST, AT(model.adapters),
	  .count_at = offsetof(struct pipeline, model.n_adapters), .max = 4, .check = is_adapter,
	  .meaning = "the folder of an adapter", .example = "[org/name]" },
	{ "weights", WORD, AT(model.weights), .words = weights },
	{ "kv", WORD, AT(model.kv), .words = kv_numbers },
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

static const struct setting settings[] = {
	{ "recogniser", WORD, AT(recogniser), .words = recognisers },
	{ "command", LIST, NUL_ENDED, LIST_AT(command), .min = 1, .max = 256,
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

#define N_SETTINGS ARRAY_SIZE(settings)
#define N_MEMBERS  (ARRAY_SIZE(limit_settings) + ARRAY_SIZE(model_settings))

static const struct setting *find_setting(const struct setting *table, size_t n, const char *key)
{
	for (size_t i = 0; i < n; i++)
		if (!strcmp(table[i].key, key))
			return &table[i];
	return NULL;
}

static void *member(const struct pipeline *p, size_t at)
{
	return (char *)p + at;
}

static char **copy_list(char *const *list, size_t n)
{
	char **copy = xcalloc(n + 1, sizeof(*copy));

	for (size_t i = 0; i < n; i++)
		copy[i] = xstrdup(list[i]);
	return copy;
}

static void free_list(char **list, size_t n)
{
	for (size_t i = 0; i < n; i++)
		free(list[i]);
	free(list);
}

void pipeline_defaults(struct pipeline *p, const char *name)
{
	static char *const english[] = { (char *)"eng" };

	*p = (struct pipeline){
		.name = xstrdup(name),
		.file = xstrdup(""),
		.languages = copy_list(english, 1),
		.n_languages = 1,
		.page_segmentation = 3,
		.rotate = ROTATE_AUTO,
		.dpi = 300,
		.blank_ink = 0.00003,
		.outputs = OUTPUT_DOCUMENT_HTML - 1,
		.foreign = { .temporary_mebibytes = 64 },
		.priority = 5,
		.model = {
			.reply = REPLY_MARKDOWN,
			.tokens = 8192,
			.top_p = 1,
			.repetition_penalty = 1,
			.retries = 3,
			.sequences = 8,
		},
		.limits = {
			.input_mebibytes = 4096,
			.document_pages = 20000,
			.page_megapixels = 100,
			.page_side_pixels = 30000,
			.image_megapixels = 400,
			.page_cpu_seconds = 30,
			.page_seconds = 60,
			.open_seconds = 60,
			.memory_mebibytes = 2048,
			.read_seconds = 300,
			.result_kibibytes = 16384,
			.page_figures = 64,
			.figures_mebibytes = 16,
			.archive_members = 16384,
			.archive_depth = 2,
			.archive_mebibytes = 20480,
			.archive_ratio = 200,
		},
	};
}

void pipeline_release(struct pipeline *p)
{
	free(p->name);
	free(p->file);
	free(p->prompt);
	free(p->then);
	free(p->model.folder);
	free_list(p->model.adapters, p->model.n_adapters);
	free(p->foreign.image);
	free(p->foreign.gpus);
	free_list(p->foreign.reads, p->foreign.n_reads);
	if (p->next)
		pipeline_release(p->next);
	free(p->next);
	free_list(p->command, p->n_command);
	free_list(p->languages, p->n_languages);
	free_list(p->passwords, p->n_passwords);
	*p = (struct pipeline){ 0 };
}

void pipeline_copy(struct pipeline *to, const struct pipeline *from)
{
	*to = *from;
	to->name = xstrdup(from->name);
	to->file = xstrdup(from->file);
	to->prompt = from->prompt ? xstrdup(from->prompt) : NULL;
	to->then = from->then ? xstrdup(from->then) : NULL;
	to->next = from->next ? xmalloc(sizeof(*to->next)) : NULL;
	if (to->next)
		pipeline_copy(to->next, from->next);
	to->model.folder = from->model.folder ? xstrdup(from->model.folder) : NULL;
	to->model.adapters = copy_list(from->model.adapters, from->model.n_adapters);
	to->foreign.image = from->foreign.image ? xstrdup(from->foreign.image) : NULL;
	to->foreign.gpus = from->foreign.gpus ? xstrdup(from->foreign.gpus) : NULL;
	to->foreign.reads = copy_list(from->foreign.reads, from->foreign.n_reads);
	to->command = copy_list(from->command, from->n_command);
	to->languages = copy_list(from->languages, from->n_languages);
	to->passwords = copy_list(from->passwords, from->n_passwords);
}

/* ---- what is wrong, and where ---- */

/* A complaint about a key, before anyone has looked up its line. */
struct fault {
	const char *group; /* "", or the one that it stands in */
	const char *key;   /* "" when it is about the whole */
	size_t item;       /* of a list, from 1; 0 for the key itself */
	size_t line;       /* where it is known, else 0 */
	char text[ERR_TEXT_MAX - 128];
};

static bool blame(struct fault *f, const char *format, ...) __attribute__((format(printf, 2, 3)));

static bool blame(struct fault *f, const char *format, ...)
{
	va_list ap;

	va_start(ap, format);
	vsnprintf(f->text, sizeof(f->text), format, ap);
	va_end(ap);
	return false;
}

/* ---- from JSON values to settings ---- */

static bool find_word(const struct word *words, const char *given, bool by_number, unsigned *out)
{
	uint64_t number;

	for (; words->name; words++) {
		if (!strcmp(words->name, given) ||
		    (by_number && parse_u64(given, 99, &number) && number == words->value)) {
			*out = words->value;
			return true;
		}
	}
	return false;
}

static bool blame_word(struct fault *f, const struct setting *s, const char *given)
{
	struct suggestion best = { NULL, 0 };
	struct buf list;

	buf_init(&list, 300);
	for (const struct word *w = s->words; w->name; w++) {
		buf_addf(&list, "%s%s", list.len ? ", " : "", w->name);
		suggest(&best, given, w->name);
	}
	if (s->kind == NAMED_NUMBER)
		buf_adds(&list, ", or Tesseract's number, 1 and 3 to 13");
	blame(f, "'%s' is not one of %s%s%s%s", shown(given).s, list.data,
	      best.word ? "; did you mean '" : "", best.word ? best.word : "",
	      best.word ? "'?" : "");
	buf_release(&list);
	return false;
}

/* The text of a scalar; numbers as they are written. false for anything else. */
static bool scalar_text(const json_t *v, char number[32], const char **out)
{
	if (json_is_string(v)) {
		*out = json_string_value(v);
		return true;
	}
	if (!json_is_number(v))
		return false;
	if (json_is_integer(v))
		snprintf(number, 32, "%lld", (long long)json_integer_value(v));
	else
		snprintf(number, 32, "%.17g", json_real_value(v));
	*out = number;
	return true;
}

static bool apply_number(void *to, const struct setting *s, const char *given, struct fault *f)
{
	uint64_t n;

	if (!parse_u64(given, UINT64_MAX, &n))
		return blame(f, "'%s' is not a whole number from %llu to %llu", shown(given).s,
			     (unsigned long long)s->min, (unsigned long long)s->max);
	if (n < s->min || n > s->max)
		return blame(f, "%s is out of range, %llu to %llu", given,
			     (unsigned long long)s->min, (unsigned long long)s->max);
	if (s->kind == NUMBER)
		*(unsigned *)to = (unsigned)n;
	else
		*(uint64_t *)to = n;
	return true;
}

static bool apply_real(double *to, const struct setting *s, const char *given, struct fault *f)
{
	size_t digits = strspn(given, "0123456789.eE+-");
	char *end;
	double v = strtod(given, &end);

	if (!*given || given[digits] || *end || !isfinite(v))
		return blame(f, "'%s' is not a number from %llu to %llu", shown(given).s,
			     (unsigned long long)s->min, (unsigned long long)s->max);
	if (v < (double)s->min || v > (double)s->max)
		return blame(f, "%s is out of range, %llu to %llu", given,
			     (unsigned long long)s->min, (unsigned long long)s->max);
	*to = v;
	return true;
}

static bool apply_scalar(struct pipeline *p, const struct setting *s, const json_t *v,
			 struct fault *f)
{
	void *to = member(p, s->at);
	char number[32];
	const char *given;

	if (!scalar_text(v, number, &given))
		return blame(f, "must be a single value");
	if (!*given && s->kind != TEXT)
		return blame(f, "has no value");
	switch (s->kind) {
	case WORD:
	case NAMED_NUMBER:
		return find_word(s->words, given, s->kind == NAMED_NUMBER, to) ||
		       blame_word(f, s, given);
	case NUMBER:
	case NUMBER64:
		return apply_number(to, s, given, f);
	case REAL:
		return apply_real(to, s, given, f);
	default:
		if (strlen(given) > s->max)
			return blame(f, "is longer than %llu bytes", (unsigned long long)s->max);
		free(*(char **)to);
		*(char **)to = *given ? xstrdup(given) : NULL;
		return true;
	}
}

static bool apply_list(struct pipeline *p, const struct setting *s, const json_t *v,
		       struct fault *f)
{
	size_t n = json_array_size(v);
	char ***list = member(p, s->at);
	size_t *count = member(p, s->count_at);
	char **fresh;

	if (n < s->min || n > s->max)
		return blame(f, "needs %llu to %llu entries", (unsigned long long)s->min,
			     (unsigned long long)s->max);
	for (size_t i = 0; i < n; i++) {
		const char *item = json_string_value(json_array_get(v, i));

		f->item = i + 1;
		if (!item || !s->check(item))
			return blame(f, "%s%s%snot %s", item && !(s->flags & SECRET) ? "'" : "",
				     item && !(s->flags & SECRET) ? shown(item).s : "",
				     item && !(s->flags & SECRET) ? "' is " : "an entry is ",
				     s->meaning);
	}
	f->item = 0;
	fresh = xcalloc(n + 1, sizeof(*fresh));
	for (size_t i = 0; i < n; i++)
		fresh[i] = xstrdup(json_string_value(json_array_get(v, i)));
	free_list(*list, *count);
	*list = fresh;
	*count = n;
	return true;
}

static bool apply_files(struct pipeline *p, const json_t *v, struct fault *f)
{
	unsigned bits = OUTPUT_DOCUMENT_JSON;
	struct suggestion best;
	const json_t *item;
	size_t i, k;

	json_array_foreach(v, i, item) {
		const char *name = json_string_value(item) ? json_string_value(item) : "";

		f->item = i + 1;
		best = (struct suggestion){ NULL, 0 };
		for (k = 0; k < N_OUTPUTS && strcmp(name, output_names[k]); k++)
			suggest(&best, name, output_names[k]);
		if (k == N_OUTPUTS)
			return blame(f, "'%s' is not one of text.md, text.txt, document.json, "
				     "pages.jsonl, document.hocr, document.html%s%s%s",
				     shown(name).s, best.word ? "; did you mean '" : "",
				     best.word ? best.word : "", best.word ? "'?" : "");
		bits |= 1u << k;
	}
	f->item = 0;
	p->outputs = bits;
	return true;
}

static bool apply_all(struct pipeline *p, const struct setting *table, size_t n, unsigned flags,
		      const json_t *given, struct fault *f);

static bool apply_setting(struct pipeline *p, const struct setting *s, const json_t *v,
			  struct fault *f)
{
	f->key = s->key;
	f->item = 0;
	switch (s->kind) {
	case GROUP:
		if (!json_is_object(v))
			return blame(f, "needs keys of its own: %s: %s", s->key, s->example);
		f->group = s->key;
		if (!apply_all(p, s->members, s->n_members, 0, v, f))
			return false;
		f->group = "";
		return true;
	case LIST:
	case FILES:
		if (!json_is_array(v))
			return blame(f, "must be a list: %s: %s", s->key, s->example);
		return s->kind == LIST ? apply_list(p, s, v, f) : apply_files(p, v, f);
	default:
		return apply_scalar(p, s, v, f);
	}
}

/* Every key of given; those of the table that have all `flags`. */
static bool apply_all(struct pipeline *p, const struct setting *table, size_t n, unsigned flags,
		      const json_t *given, struct fault *f)
{
	const char *key;
	json_t *v;

	json_object_foreach((json_t *)given, key, v) {
		const struct setting *s = find_setting(table, n, key);

		f->key = key;
		if (!s || (s->flags & flags) != flags)
			return blame(f, "is not a key of this place");
		if (!apply_setting(p, s, v, f))
			return false;
	}
	return true;
}

static bool wrap_agrees(const struct pipeline *p, struct fault *f)
{
	const struct foreign_settings *w = &p->foreign;
	bool container = w->wrap == WRAP_PODMAN || w->wrap == WRAP_DOCKER;

	f->key = "wrap";
	if (w->wrap != WRAP_SANDBOX && p->recogniser != RECOGNISER_COMMAND)
		return blame(f, "is used only with recogniser: command");
	if (container && !w->image)
		return blame(f, "is a container, but there is no image: write image: localhost/mine:1");
	f->key = "image";
	if (w->image && !container)
		return blame(f, "is used only with wrap: podman or docker");
	if (w->image && w->image[0] == '-')
		return blame(f, "'%s' is not the name of an image", shown(w->image).s);
	f->key = "gpus";
	if (w->gpus && !is_gpus(w->gpus))
		return blame(f, "'%s' is neither none nor all nor numbers such as 0,1",
			     shown(w->gpus).s);
	f->key = "reads";
	if (w->n_reads && p->recogniser != RECOGNISER_COMMAND)
		return blame(f, "is used only with recogniser: command");
	f->key = "command";
	if (p->n_command && p->command[0][0] != '/' && !container)
		return blame(f, "'%s' is not an absolute path", shown(p->command[0]).s);
	return true;
}

/* What no key can see alone. */
static bool agrees(const struct pipeline *p, struct fault *f)
{
	f->group = "";
	f->item = 0;
	f->key = "recogniser";
	if (p->recogniser == RECOGNISER_COMMAND && !p->n_command)
		return blame(f, "is command, but there is no command: write command: %s",
			     settings[1].example);
	if (p->recogniser == RECOGNISER_MODEL && !p->model.folder)
		return blame(f, "is model, but there is no model: write model: {folder: /models/mine}");
	f->group = "model";
	f->key = "device";
	if (p->model.device == DEVICE_CUDA && p->model.weights != MODEL_BF16)
		return blame(f, "is cuda, which computes with weights: bf16 alone");
	if (p->model.device == DEVICE_CUDA && p->model.n_adapters)
		return blame(f, "is cuda, where adapters are not applied: device: cpu");
	f->key = "kv";
	if (p->model.device == DEVICE_CPU && p->model.kv == MODEL_KV_FP8)
		return blame(f, "is fp8, which needs a GPU, not device: cpu");
	f->key = "gpus";
	if (p->model.device == DEVICE_CPU && p->model.gpus)
		return blame(f, "is used only with a GPU, not with device: cpu");
	f->key = "adapters";
	for (size_t i = 0; i < p->model.n_adapters; i++)
		for (size_t k = 0; k < i; k++)
			if (!strcmp(p->model.adapters[i], p->model.adapters[k]))
				return blame(f, "'%s' is named twice", shown(p->model.adapters[i]).s);
	f->group = "";
	f->key = "command";
	if (p->n_command && p->recogniser != RECOGNISER_COMMAND)
		return blame(f, "is used only with recogniser: command");
	return wrap_agrees(p, f);
}

/* ---- from YAML ---- */

/* Names that other programs have for the same things. */
static const struct yaml_key known_as[] = {
	{ "", "psm", YAML_SCALAR, NULL, "is called page_segmentation here" },
	{ "", "lang", YAML_SCALAR, NULL, "is called languages here, a list: languages: [eng, deu]" },
	{ "", "engine", YAML_SCALAR, NULL, "is called recogniser here" },
	{ "", "resolution", YAML_SCALAR, NULL, "is called dpi here" },
};

#define N_KEYS_MAX (N_SETTINGS + N_MEMBERS + ARRAY_SIZE(known_as) + 1)

static enum yaml_kind kind_in_yaml(const struct setting *s)
{
	if (s->kind == GROUP)
		return YAML_MAPPING;
	return s->kind == LIST || s->kind == FILES ? YAML_LIST : YAML_SCALAR;
}

static struct yaml_key yaml_key_of(const struct setting *s, const char *group, bool ticket)
{
	return (struct yaml_key){
		group, s->key, kind_in_yaml(s), s->example,
		ticket && !(s->flags & IN_TICKET) ? "is for pipelines, a ticket cannot set it" : NULL,
	};
}

static json_t *read_yaml(const char *text, size_t len, bool ticket, struct yaml_marks *marks,
			 struct fault *f)
{
	struct yaml_key keys[N_KEYS_MAX];
	struct yaml_problem problem;
	size_t n = 0;
	json_t *all;

	for (size_t i = 0; i < N_SETTINGS; i++) {
		const struct setting *s = &settings[i];

		keys[n++] = yaml_key_of(s, "", ticket);
		for (size_t k = 0; k < s->n_members; k++)
			keys[n++] = yaml_key_of(&s->members[k], s->key, ticket);
	}
	for (size_t i = 0; i < ARRAY_SIZE(known_as); i++)
		keys[n++] = known_as[i];
	if (ticket)
		keys[n++] = (struct yaml_key){ "", "password", YAML_SCALAR, NULL, NULL };
	all = yaml_load(text, len, keys, n, marks, &problem);
	if (!all) {
		f->line = problem.line;
		blame(f, "%s", problem.text);
	}
	return all;
}

/* ---- the interface ---- */

/* A fault becomes "NAME:LINE: GROUP.KEY: text". */
static enum rc complain(const char *name, const struct yaml_marks *marks, const struct fault *f,
			const char *reason, struct err *err)
{
	const struct yaml_mark *mark = NULL;
	size_t line = f->line;
	char item[32], where[32] = "";

	snprintf(item, sizeof(item), "%zu", f->item);
	if (*f->key && f->item)
		mark = yaml_find(marks, f->key, item);
	if (*f->key && !mark)
		mark = yaml_find(marks, f->group, f->key);
	if (*f->key && !mark)
		mark = yaml_find(marks, "", "password"); /* folded into passwords */
	if (!line && mark)
		line = mark->line;
	if (line)
		snprintf(where, sizeof(where), "%zu:", line);
	return err_set(err, RC_FAILED, reason, "%s:%s %s%s%s%s%s", name, where, f->group,
		       *f->group ? "." : "", f->key, *f->key ? ": " : "", f->text);
}

enum rc pipeline_load(struct pipeline *p, const char *name, const char *file, struct err *err)
{
	struct yaml_marks marks = { NULL, 0 };
	struct fault f = { .group = "", .key = "" };
	struct buf text;
	json_t *given = NULL;
	enum rc rc;

	pipeline_defaults(p, name);
	free(p->file);
	p->file = xstrdup(file);
	buf_init(&text, FILE_BYTES_MAX);
	rc = trusted_read(file, geteuid(), &text, "pipeline", err);
	if (rc == RC_RETRY && !strcmp(err->reason, "absent")) {
		strcpy(err->reason, "pipeline");
		rc = RC_FAILED;
	}
	if (rc)
		goto out;
	given = read_yaml(text.data ? text.data : "", text.len, false, &marks, &f);
	if (!given || !apply_all(p, settings, N_SETTINGS, 0, given, &f) || !agrees(p, &f))
		rc = complain(file, &marks, &f, "pipeline", err);
	else if (p->then)
		p->then_line = yaml_find(&marks, "", "then")->line;
out:
	json_decref(given);
	yaml_marks_release(&marks);
	buf_release(&text);
	return rc;
}

enum rc pipeline_blame_then(const struct pipeline *p, struct err *err, const char *format, ...)
{
	struct fault f = { .group = "", .key = "then", .line = p->then_line };
	const struct yaml_marks none = { NULL, 0 };
	va_list ap;

	va_start(ap, format);
	vsnprintf(f.text, sizeof(f.text), format, ap);
	va_end(ap);
	return complain(p->file, &none, &f, "pipeline", err);
}

enum rc pipeline_follow(struct pipeline *p, struct pipeline *next, struct err *err)
{
	enum rc rc = RC_OK;

	if (!strcmp(p->then, p->name))
		rc = pipeline_blame_then(p, err, "'%s' is this pipeline itself", p->then);
	else if (next->then)
		rc = pipeline_blame_then(p, err, "'%s' has a then of its own, and only one may follow",
					 p->then);
	else if (next->recogniser == RECOGNISER_TESSERACT)
		rc = pipeline_blame_then(p, err,
					 "'%s' reads pages with Tesseract, which takes no text: "
					 "its recogniser must be model or command", p->then);
	if (rc != RC_OK) {
		pipeline_release(next);
		return rc;
	}
	p->next = xmalloc(sizeof(*p->next));
	*p->next = *next;
	return RC_OK;
}

/* password: x  ->  passwords: [x, ...] */
static void fold_password(json_t *given)
{
	json_t *password = json_object_get(given, "password");
	json_t *list = json_object_get(given, "passwords");

	if (!password)
		return;
	if (!list) {
		list = json_array();
		json_object_set_new(given, "passwords", list);
	}
	json_array_insert(list, 0, password);
	json_object_del(given, "password");
}

enum rc ticket_parse(const char *name, const void *bytes, size_t len, json_t **out,
		     struct err *err)
{
	struct yaml_marks marks = { NULL, 0 };
	struct pipeline checked;
	struct fault f = { .group = "", .key = "" };
	json_t *given = NULL, *all;
	enum rc rc = RC_OK;
	const char *key;
	json_t *value;

	pipeline_defaults(&checked, "ticket");
	if (len > FILE_BYTES_MAX)
		blame(&f, "larger than %d bytes", FILE_BYTES_MAX);
	else
		given = read_yaml(len ? bytes : "", len, true, &marks, &f);
	if (given)
		fold_password(given);
	if (!given || !apply_all(&checked, settings, N_SETTINGS, IN_TICKET, given, &f)) {
		rc = complain(shown(name).s, &marks, &f, "ticket", err);
		goto out;
	}
	*out = json_object();
	all = pipeline_json(&checked, true);
	json_object_foreach(given, key, value)
		json_object_set(*out, key, json_object_get(all, key));
	json_decref(all);
out:
	json_decref(given);
	yaml_marks_release(&marks);
	pipeline_release(&checked);
	return rc;
}

/* Put `given` on top of p, or leave p as it was. */
static enum rc apply_json(struct pipeline *p, const json_t *given, unsigned flags,
			  const char *reason, struct err *err)
{
	const struct yaml_marks none = { NULL, 0 };
	struct fault f = { .group = "", .key = "" };
	struct pipeline changed;

	pipeline_copy(&changed, p);
	if (!apply_all(&changed, settings, N_SETTINGS, flags, given, &f) || !agrees(&changed, &f)) {
		pipeline_release(&changed);
		return complain(reason, &none, &f, reason, err);
	}
	pipeline_release(p);
	*p = changed;
	return RC_OK;
}

enum rc pipeline_apply_ticket(struct pipeline *p, const json_t *ticket, struct err *err)
{
	json_t *given;
	enum rc rc;

	if (!json_is_object(ticket))
		return err_set(err, RC_FAILED, "ticket", "ticket is not a JSON object");
	given = json_copy((json_t *)ticket);
	if (json_object_get(given, "passwords")) { /* the ticket's first, then the pipeline's */
		json_t *list = json_copy(json_object_get(given, "passwords"));

		for (size_t i = 0; i < p->n_passwords; i++)
			json_array_append_new(list, json_string(p->passwords[i]));
		json_object_set_new(given, "passwords", list);
	}
	rc = apply_json(p, given, IN_TICKET, "ticket", err);
	json_decref(given);
	return rc;
}

enum rc pipeline_from_json(struct pipeline *p, const json_t *json, struct err *err)
{
	const char *name = json_string_value(json_object_get(json, "name"));
	json_t *given;
	enum rc rc;

	pipeline_defaults(p, name ? name : "");
	if (!json_is_object(json) || !name)
		return err_set(err, RC_FAILED, "pipeline", "settings are not an object with a name");
	given = json_copy((json_t *)json);
	json_object_del(given, "name");
	rc = apply_json(p, given, 0, "pipeline", err);
	json_decref(given);
	return rc;
}

static json_t *table_to_json(const struct pipeline *p, const struct setting *table, size_t n,
			     unsigned without);

static json_t *setting_to_json(const struct pipeline *p, const struct setting *s, unsigned without)
{
	const void *from = member(p, s->at);
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
		for (size_t i = 0; i < *(const size_t *)member(p, s->count_at); i++)
			json_array_append_new(out, json_string((*(char **const *)from)[i]));
		return out;
	case FILES:
		out = json_array();
		for (size_t i = 0; i < N_OUTPUTS; i++)
			if (*(const unsigned *)from & 1u << i)
				json_array_append_new(out, json_string(output_names[i]));
		return out;
	case GROUP:
		return table_to_json(p, s->members, s->n_members, without);
	}
	return NULL;
}

/* Those of the table that have none of the flags in `without`. */
static json_t *table_to_json(const struct pipeline *p, const struct setting *table, size_t n,
			     unsigned without)
{
	json_t *out = json_object();

	for (size_t i = 0; i < n; i++) {
		const struct setting *s = &table[i];
		bool unset = (s->kind == LIST && !*(const size_t *)member(p, s->count_at)) ||
			     (s->members == model_settings && p->recogniser != RECOGNISER_MODEL) ||
			     (s->flags & FOREIGN && p->recogniser != RECOGNISER_COMMAND);
		json_t *value = s->flags & without || unset ? NULL : setting_to_json(p, s, without);

		if (value)
			json_object_set_new(out, s->key, value);
	}
	return out;
}

static json_t *to_json(const struct pipeline *p, unsigned without)
{
	return table_to_json(p, settings, N_SETTINGS, without);
}

json_t *pipeline_json(const struct pipeline *p, bool secrets)
{
	json_t *out = to_json(p, secrets ? 0 : SECRET);

	json_object_set_new(out, "name", json_string(p->name));
	return out;
}

json_t *pipeline_params(const struct pipeline *p)
{
	json_t *model;

	if (p->recogniser != RECOGNISER_MODEL)
		return json_pack("{s:i, s:s}", "page_segmentation", (int)p->page_segmentation, "rotate",
				 p->rotate == ROTATE_AUTO ? "auto" : "none");
	model = table_to_json(p, model_settings, ARRAY_SIZE(model_settings), NOT_HASHED);
	json_object_del(model, "folder");
	json_object_del(model, "weights");
	json_object_del(model, "kv");
	json_object_del(model, "device");
	return model;
}

void pipeline_hash(const struct pipeline *p, char hex[SHA256_HEX_SIZE])
{
	json_t *all = to_json(p, NOT_HASHED);
	char *text;

	if (p->next)
		json_object_set_new(all, "then", to_json(p->next, NOT_HASHED));
	text = airlock_dump(all);
	sha256_hex_of(text, strlen(text), hex);
	free(text);
	json_decref(all);
}
