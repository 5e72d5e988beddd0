/* SPDX-License-Identifier: MIT
 *
 * Maps the shards of a model and keeps one table of their tensors, sorted by name.
 *
 * Invariant: a tensor in the table lies wholly inside its mapping, and its size is what its shape
 * and type say. So whoever takes one needs to check its shape alone.
 *
 * As the format demands, the tensors of a file cover its data without holes and without overlap: a
 * header that lies about offsets is found here and not as wrong text on a page.
 */
#include "weights/safetensors.h"

#include "base/num.h"
#include "weights/json_file.h"

#include <errno.h>
#include <fcntl.h>
#include <jansson.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#define HEADER_MAX (100u << 20) /* the reference implementation's own limit */
#define SHARDS_MAX 512
#define INDEX	   "model.safetensors.index.json"

struct shard {
	char *name;
	void *map;
	size_t size;
	json_t *header; /* owns the stored names of its tensors */
};

struct entry {
	struct tensor tensor;
	char *name; /* owned */
	uint64_t begin, end;
	bool taken;
};

struct weights {
	struct shard *shards;
	size_t shard_count;
	struct entry *entries;
	size_t count;
	const char *list; /* the file that says which tensors there are */
	uint32_t group;	  /* of quantised matrices */
	bool as_stored;	  /* names are not made alike */
	bool random; /* any tensor is there, and lies at the start of the last shard that was made
			up */
};

static const struct {
	const char *name;
	unsigned size;
} dtypes[] = {
	{"F64", 8}, {"F32", 4}, {"F16", 2},  {"BF16", 2},    {"I64", 8},
	{"I32", 4}, {"I16", 2}, {"I8", 1},   {"U64", 8},     {"U32", 4},
	{"U16", 2}, {"U8", 1},	{"BOOL", 1}, {"F8_E4M3", 1}, {"F8_E5M2", 1},
};

/* Ways in which models have been saved, longest first where one begins with another. */
static const struct {
	const char *stored, *name;
} prefixes[] = {
	{"model.visual.", "visual."},
	{"model.vision_tower.", "visual."},
	{"vision_tower.", "visual."},
	{"model.language_model.lm_head.", "lm_head."},
	{"language_model.lm_head.", "lm_head."},
	{"model.language_model.", "text."},
	{"language_model.model.", "text."},
	{"model.", "text."},
};

char *weights_name_of(const char *stored)
{
	for (size_t i = 0; i < ARRAY_SIZE(prefixes); i++) {
		size_t n = strlen(prefixes[i].stored);

		if (strncmp(stored, prefixes[i].stored, n) == 0)
			return xasprintf("%s%s", prefixes[i].name, stored + n);
	}
	return xstrdup(stored);
}

static enum rc damaged(struct err *err, const char *file, const char *tensor, const char *why)
{
	if (tensor)
		return err_set(err, RC_FATAL, "model-damaged", "%.200s: tensor %.120s: %s", file,
			       tensor, why);
	return err_set(err, RC_FATAL, "model-damaged", "%.200s: %s", file, why);
}

static enum rc read_shape(struct tensor *t, const json_t *shape, unsigned item, struct err *err)
{
	size_t size = item, i;
	const json_t *value;

	if (!json_is_array(shape) || json_array_size(shape) > TENSOR_RANK_MAX)
		return damaged(err, t->file, t->stored, "shape is not a list of up to 6 sizes");
	t->rank = (unsigned)json_array_size(shape);
	json_array_foreach(shape, i, value)
	{
		json_int_t n = json_is_integer(value) ? json_integer_value(value) : -1;

		if (n < 0)
			return damaged(err, t->file, t->stored,
				       "shape has an entry that is not a size");
		t->shape[i] = (uint64_t)n;
		if (!checked_mul(size, (size_t)n, &size))
			return damaged(err, t->file, t->stored, "shape overflows");
	}
	t->size = size;
	return RC_OK;
}

static enum rc read_entry(struct entry *e, const struct shard *s, const char *stored,
			  const json_t *value, size_t data_size, bool as_stored, struct err *err)
{
	struct tensor *t = &e->tensor;
	const char *dtype = json_string_value(json_object_get(value, "dtype"));
	const json_t *offsets = json_object_get(value, "data_offsets");
	const json_t *begin = json_array_get(offsets, 0), *end = json_array_get(offsets, 1);
	unsigned item = 0;

	t->stored = stored;
	t->file = s->name;
	for (size_t i = 0; dtype && i < ARRAY_SIZE(dtypes); i++) {
		if (strcmp(dtype, dtypes[i].name) == 0) {
			t->dtype = dtypes[i].name;
			item = dtypes[i].size;
		}
	}
	if (!item)
		return damaged(err, s->name, stored, dtype ? "unknown dtype" : "no dtype");
	if (read_shape(t, json_object_get(value, "shape"), item, err) != RC_OK)
		return RC_FATAL;
	if (json_array_size(offsets) != 2 || !json_is_integer(begin) || !json_is_integer(end) ||
	    json_integer_value(begin) < 0 || json_integer_value(end) < json_integer_value(begin))
		return damaged(err, s->name, stored, "data_offsets is not a begin and an end");
	e->begin = (uint64_t)json_integer_value(begin);
	e->end = (uint64_t)json_integer_value(end);
	if (e->end > data_size)
		return damaged(
			err, s->name, stored,
			"its data lies beyond the end of the file (is the download complete?)");
	if (e->end - e->begin != t->size)
		return damaged(err, s->name, stored, "shape and dtype do not fit data_offsets");
	e->name = as_stored ? xstrdup(stored) : weights_name_of(stored);
	t->name = e->name;
	return RC_OK;
}

static int by_offset(const void *a, const void *b)
{
	const struct entry *x = a, *y = b;

	if (x->begin != y->begin)
		return x->begin < y->begin ? -1 : 1;
	return x->end < y->end ? -1 : x->end > y->end;
}

static int by_name(const void *a, const void *b)
{
	return strcmp(((const struct entry *)a)->tensor.name,
		      ((const struct entry *)b)->tensor.name);
}

static enum rc read_header(struct weights *w, struct shard *s, struct err *err)
{
	const unsigned char *p = s->map;
	uint64_t header = 0, next = 0;
	size_t first = w->count, data_size;
	const char *stored;
	json_error_t why;
	json_t *value;

	if (s->size < 8)
		return damaged(err, s->name, NULL, "too short for a safetensors file");
	for (unsigned i = 0; i < 8; i++)
		header |= (uint64_t)p[i] << (8 * i);
	if (header > HEADER_MAX || header > s->size - 8)
		return damaged(err, s->name, NULL,
			       "its header is longer than the file, or than 100 MiB");
	data_size = s->size - 8 - (size_t)header;
	s->header = json_loadb((const char *)p + 8, (size_t)header, JSON_REJECT_DUPLICATES, &why);
	if (!s->header)
		return err_set(err, RC_FATAL, "model-damaged", "%.200s: its header: %.150s",
			       s->name, why.text);
	if (!json_is_object(s->header))
		return damaged(err, s->name, NULL, "its header is not a JSON object");

	w->entries = xrealloc(w->entries,
			      (w->count + json_object_size(s->header) + 1) * sizeof(*w->entries));
	json_object_foreach(s->header, stored, value)
	{
		struct entry *e = &w->entries[w->count];

		if (strcmp(stored, "__metadata__") == 0)
			continue;
		*e = (struct entry){0};
		if (read_entry(e, s, stored, value, data_size, w->as_stored, err) != RC_OK)
			return RC_FATAL;
		e->tensor.data = p + 8 + header + e->begin;
		w->count++;
	}
	qsort(w->entries + first, w->count - first, sizeof(*w->entries), by_offset);
	for (size_t i = first; i < w->count; i++) {
		if (w->entries[i].begin != next)
			return damaged(err, s->name, w->entries[i].tensor.stored,
				       "its data overlaps another's, or there is a hole before it");
		next = w->entries[i].end;
	}
	if (next != data_size)
		return damaged(err, s->name, NULL, "there is data after the last tensor");
	return RC_OK;
}

static enum rc open_shard(struct weights *w, const char *folder, const char *name, struct err *err)
{
	struct shard *s;
	struct stat st;
	enum rc rc = RC_FATAL;
	char *path;
	int fd;

	/* A name of the index must not lead out of the folder. */
	if (!*name || strchr(name, '/') || name[0] == '.')
		return err_set(err, RC_FATAL, "model-damaged",
			       INDEX ": weight_map names the shard \"%.100s\"", name);
	if (w->shard_count == SHARDS_MAX)
		return err_set(err, RC_FATAL, "model-damaged", "%.300s has more than %d shards",
			       folder, SHARDS_MAX);
	path = xasprintf("%s/%s", folder, name);
	fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
	if (fd < 0) {
		rc = err_errno(err, RC_FATAL, "model-incomplete", "cannot open %.300s", path);
		goto out;
	}
	if (fstat(fd, &st) < 0 || !S_ISREG(st.st_mode)) {
		err_set(err, RC_FATAL, "model-damaged", "%.300s is not a file", path);
		goto out;
	}
	w->shards = xrealloc(w->shards, (w->shard_count + 1) * sizeof(*w->shards));
	s = &w->shards[w->shard_count];
	*s = (struct shard){.name = xstrdup(name), .size = (size_t)st.st_size, .map = MAP_FAILED};
	w->shard_count++;
	if (s->size)
		s->map = mmap(NULL, s->size, PROT_READ, MAP_PRIVATE, fd, 0);
	if (s->size && s->map == MAP_FAILED) {
		rc = err_errno(err, RC_FATAL, "model", "cannot map %.300s", path);
		goto out;
	}
	rc = read_header(w, s, err);
out:
	if (fd >= 0)
		close(fd);
	free(path);
	return rc;
}

static bool has_shard(const struct weights *w, const char *name)
{
	for (size_t i = 0; i < w->shard_count; i++)
		if (strcmp(w->shards[i].name, name) == 0)
			return true;
	return false;
}

static enum rc sort_names(struct weights *w, struct err *err)
{
	if (!w->count)
		return RC_OK;
	qsort(w->entries, w->count, sizeof(*w->entries), by_name);
	for (size_t i = 1; i < w->count; i++)
		if (strcmp(w->entries[i - 1].name, w->entries[i].name) == 0)
			return damaged(err, w->entries[i].tensor.file, w->entries[i].tensor.stored,
				       "is there twice");
	return RC_OK;
}

/* Every tensor of the index lies in the shard it is said to lie in, and no shard has others. */
static enum rc check_index(const struct weights *w, const json_t *map, struct err *err)
{
	const char *stored;
	json_t *value;

	json_object_foreach((json_t *)map, stored, value)
	{
		char *name = weights_name_of(stored);
		const struct tensor *t = weights_find(w, name);

		free(name);
		if (!t || strcmp(t->file, json_string_value(value)) != 0)
			return damaged(err, json_string_value(value), stored,
				       "is not there, but the index says so");
	}
	if (json_object_size(map) != w->count)
		return err_set(err, RC_FATAL, "model-damaged",
			       INDEX ": weight_map has %zu tensors, the shards have %zu",
			       json_object_size(map), w->count);
	return RC_OK;
}

static enum rc open_shards(struct weights *w, const char *folder, const json_t *index,
			   struct err *err)
{
	const json_t *map = json_object_get(index, "weight_map");
	const char *stored;
	json_t *value;

	if (!json_is_object(map))
		return err_set(err, RC_FATAL, "model-damaged", INDEX ": weight_map is missing");
	json_object_foreach((json_t *)map, stored, value)
	{
		const char *name = json_string_value(value);

		if (!name)
			return err_set(err, RC_FATAL, "model-damaged",
				       INDEX ": weight_map: %.100s lies in no file", stored);
		if (!has_shard(w, name) && open_shard(w, folder, name, err) != RC_OK)
			return RC_FATAL;
	}
	if (sort_names(w, err) != RC_OK)
		return RC_FATAL;
	return check_index(w, map, err);
}

enum rc weights_open(struct weights **out, const char *folder, struct err *err)
{
	struct weights *w = xcalloc(1, sizeof(*w));
	json_t *index = NULL;
	enum rc rc;

	rc = json_file_load(folder, INDEX, JSON_FILE_OPTIONAL, &index, err);
	w->list = index ? INDEX : "model.safetensors";
	if (rc == RC_OK && index)
		rc = open_shards(w, folder, index, err);
	else if (rc == RC_OK && (rc = open_shard(w, folder, "model.safetensors", err)) == RC_OK)
		rc = sort_names(w, err);
	json_decref(index);
	if (rc != RC_OK) {
		weights_close(w);
		w = NULL;
	}
	*out = w;
	return rc;
}

enum rc weights_open_file(struct weights **out, const char *folder, const char *name,
			  struct err *err)
{
	struct weights *w = xcalloc(1, sizeof(*w));
	enum rc rc;

	w->as_stored = true;
	w->list = name;
	rc = open_shard(w, folder, name, err);
	if (rc == RC_OK)
		rc = sort_names(w, err);
	if (rc != RC_OK) {
		weights_close(w);
		w = NULL;
	}
	*out = w;
	return rc;
}

struct weights *weights_random(void)
{
	struct weights *w = xcalloc(1, sizeof(*w));

	w->random = true;
	return w;
}

void weights_close(struct weights *w)
{
	if (!w)
		return;
	for (size_t i = 0; i < w->count; i++)
		free(w->entries[i].name);
	for (size_t i = 0; i < w->shard_count; i++) {
		struct shard *s = &w->shards[i];

		if (s->map != MAP_FAILED)
			munmap(s->map, s->size);
		json_decref(s->header);
		free(s->name);
	}
	free(w->entries);
	free(w->shards);
	free(w);
}

size_t weights_count(const struct weights *w)
{
	return w->count;
}

const struct tensor *weights_at(const struct weights *w, size_t i)
{
	return &w->entries[i].tensor;
}

void weights_set_group(struct weights *w, uint32_t group)
{
	w->group = group;
}

uint32_t weights_group(const struct weights *w)
{
	return w->group;
}

static bool ends_with(const char *s, const char *end)
{
	size_t n = strlen(s), m = strlen(end);

	return n >= m && !strcmp(s + n - m, end);
}

uint64_t weights_parameters(const struct weights *w)
{
	uint64_t sum = 0;

	for (size_t i = 0; i < w->count; i++) {
		const struct tensor *t = &w->entries[i].tensor;
		uint64_t n = ends_with(t->name, ".qweight") ? 8 : 1;

		if (ends_with(t->name, ".qzeros") || ends_with(t->name, ".scales"))
			continue;
		for (unsigned k = 0; k < t->rank; k++)
			n *= t->shape[k]; /* does not overflow: size would have */
		sum += n;
	}
	return sum;
}

static struct entry *find(const struct weights *w, const char *name)
{
	struct entry key = {.tensor.name = name};

	return w->count ? bsearch(&key, w->entries, w->count, sizeof(key), by_name) : NULL;
}

const struct tensor *weights_find(const struct weights *w, const char *name)
{
	struct entry *e = find(w, name);

	return e ? &e->tensor : NULL;
}

static enum rc make_up_shard(struct weights *w, size_t n, struct err *err)
{
	uint32_t x = 2463534242u;
	struct shard *s;
	uint16_t *p;

	p = mmap(NULL, n * sizeof(*p), PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	if (p == MAP_FAILED)
		return err_errno(err, RC_FATAL, "memory", "no memory for %zu random weights", n);
	for (size_t i = 0; i < n; i++) {
		x ^= x << 13, x ^= x >> 17,
			x ^= x << 5; /* xorshift32: Marsaglia, J. Stat. Softw. 8 (2003) */
		p[i] = (uint16_t)((x & 0x8000) | 0x3c00 | (x >> 17 & 0xff)); /* +- 2^-7 .. 2^-5 */
	}
	w->shards = xrealloc(w->shards, (w->shard_count + 1) * sizeof(*w->shards));
	s = &w->shards[w->shard_count++];
	*s = (struct shard){.name = xstrdup("random"), .map = p, .size = n * sizeof(*p)};
	return RC_OK;
}

/* A larger one than any before gets memory of its own: the smaller stay where they were given out.
 */
static enum rc take_random(struct weights *w, uint64_t rows, uint64_t columns, struct matrix *out,
			   struct err *err)
{
	const struct shard *last = w->shard_count ? &w->shards[w->shard_count - 1] : NULL;
	size_t n;

	if (!checked_mul(rows, columns, &n) || n > SIZE_MAX / 4)
		return err_set(err, RC_FATAL, "model-config", "a matrix of %llu x %llu numbers",
			       (unsigned long long)rows, (unsigned long long)columns);
	if ((!last || last->size < n * sizeof(uint16_t)) && make_up_shard(w, n, err) != RC_OK)
		return RC_FATAL;
	*out = (struct matrix){.data = w->shards[w->shard_count - 1].map,
			       .number = NUMBER_BF16,
			       .rows = rows,
			       .columns = columns};
	return RC_OK;
}

bool weights_make_up_int4(struct weights *w, uint64_t rows, uint64_t columns, struct matrix *out)
{
	uint64_t group = w->group == AWQ_WHOLE ? columns : w->group;
	struct matrix words, scales;
	struct err err;

	if (!w->random || group == AWQ_NONE || rows % 8 || columns % group ||
	    take_random(w, columns, rows / 4, &words, &err) != RC_OK ||
	    take_random(w, columns / group, rows, &scales, &err) != RC_OK)
		return false;
	*out = (struct matrix){.data = words.data,
			       .number = NUMBER_INT4,
			       .rows = rows,
			       .columns = columns,
			       .across = rows,
			       .zeros = words.data,
			       .scales = scales.data,
			       .scale = scales.number,
			       .group = group};
	return true;
}

static enum rc missing(const struct weights *w, const char *name, struct err *err)
{
	return err_set(err, RC_FATAL, "model-damaged", "%s: tensor %s is missing", w->list, name);
}

enum rc weights_take_tensor(struct weights *w, const char *name, const struct tensor **out,
			    struct err *err)
{
	struct entry *e = find(w, name);

	if (!e)
		return missing(w, name, err);
	e->taken = true;
	*out = &e->tensor;
	return RC_OK;
}

enum rc tensor_number(const struct tensor *t, enum number *out, struct err *err)
{
	if (strcmp(t->dtype, "BF16") == 0)
		*out = NUMBER_BF16;
	else if (strcmp(t->dtype, "F32") == 0)
		*out = NUMBER_F32;
	else if (strcmp(t->dtype, "F16") == 0)
		*out = NUMBER_F16;
	else
		return err_set(err, RC_FATAL, "model-damaged",
			       "%.100s: tensor %.120s has dtype %s, not BF16, F16 or F32", t->file,
			       t->stored, t->dtype);
	return RC_OK;
}

enum rc weights_take(struct weights *w, const char *name, uint64_t rows, uint64_t columns,
		     struct matrix *out, struct err *err)
{
	struct entry *e = find(w, name);
	const struct tensor *t;
	uint64_t rest = 1;

	if (w->random)
		return take_random(w, rows, columns, out, err);
	if (!e)
		return missing(w, name, err);
	t = &e->tensor;
	for (unsigned i = 1; i < t->rank; i++)
		rest *= t->shape[i]; /* does not overflow: size would have */
	if (t->rank == 0 || t->shape[0] != rows || rest != columns)
		return err_set(err, RC_FATAL, "model-damaged",
			       "%.100s: tensor %.120s has %llu x %llu numbers, the configuration "
			       "wants %llu x %llu",
			       t->file, t->stored, t->rank ? (unsigned long long)t->shape[0] : 1,
			       (unsigned long long)rest, (unsigned long long)rows,
			       (unsigned long long)columns);
	*out = (struct matrix){.data = t->data, .rows = rows, .columns = columns};
	if (tensor_number(t, &out->number, err) != RC_OK)
		return RC_FATAL;
	e->taken = true;
	return RC_OK;
}

enum rc weights_take_f32(struct weights *w, const char *name, uint64_t rows, uint64_t columns,
			 float **out, struct err *err)
{
	struct matrix m;

	*out = NULL;
	if (weights_take(w, name, rows, columns, &m, err) != RC_OK)
		return RC_FATAL;
	*out = xmalloc((rows * columns + 1) * sizeof(float));
	matrix_to_f32(&m, 0, rows, *out);
	return RC_OK;
}

enum rc weights_all_taken(const struct weights *w, struct err *err)
{
	for (size_t i = 0; i < w->count; i++)
		if (!w->entries[i].taken)
			return damaged(err, w->entries[i].tensor.file, w->entries[i].tensor.stored,
				       "is not one of this architecture's");
	return RC_OK;
}
