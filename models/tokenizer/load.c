/* SPDX-License-Identifier: MIT
 *
 * load: a tokenizer.json, and the end token of the tokenizer_config.json beside it.
 *
 * The members are found first, then read in the order in which they need each other: vocabulary,
 * merges, added tokens, the rest. Vocabulary and merges are read in place, the others by jansson.
 * What does not fit together (an id twice, a merge of unknown parts) is refused: such a file was
 * damaged or made up.
 */
#include "tokenizer/internal.h"
#include "tokenizer/scan.h"
#include "tokenizer/unicode.h"
#include "base/num.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

struct load {
	struct tokenizer *t;
	const char *json, *file;
	size_t len;
	struct err *err;
};

/* A member of an object; s NULL: it is not there. */
struct member {
	const char *name;
	struct span value;
};

enum {
	TOP_VERSION,
	TOP_TRUNCATION,
	TOP_PADDING,
	TOP_ADDED,
	TOP_NORMALIZER,
	TOP_PRE,
	TOP_POST,
	TOP_DECODER,
	TOP_MODEL,
	TOP_COUNT
};
static const char *const top_names[] = {"version",	  "truncation", "padding",
					"added_tokens",	  "normalizer", "pre_tokenizer",
					"post_processor", "decoder",	"model"};

enum {
	MODEL_TYPE,
	MODEL_DROPOUT,
	MODEL_UNK,
	MODEL_PREFIX,
	MODEL_SUFFIX,
	MODEL_FUSE,
	MODEL_FALLBACK,
	MODEL_IGNORE,
	MODEL_VOCAB,
	MODEL_MERGES,
	MODEL_COUNT
};
static const char *const model_names[] = {"type",
					  "dropout",
					  "unk_token",
					  "continuing_subword_prefix",
					  "end_of_word_suffix",
					  "fuse_unk",
					  "byte_fallback",
					  "ignore_merges",
					  "vocab",
					  "merges"};

static enum rc refuse(const struct load *l, const char *path, const char *what)
{
	return err_set(l->err, RC_FATAL, "tokenizer", "%s: %s: %s", l->file, path, what);
}

static void scan_at(const struct load *l, struct scan *s, struct span span, const char *path)
{
	scan_init(s, span, l->json, l->file, path, l->err);
}

static enum rc scan_result(struct scan *s)
{
	enum rc rc = s->failed ? RC_FATAL : RC_OK;

	scan_release(s);
	return rc;
}

/* The spans of the members of an object, which has no others than `names`. */
static enum rc find_members(const struct load *l, struct span object, const char *path,
			    const char *const *names, size_t count, struct span *values)
{
	bool first = true;
	struct scan s;
	struct span key, value;
	size_t i;

	memset(values, 0, count * sizeof(*values));
	scan_at(l, &s, object, path);
	scan_open(&s, '{');
	while (scan_more(&s, '{', &first) && scan_key(&s, &key)) {
		for (i = 0; i < count; i++)
			if (strlen(names[i]) == key.len && !memcmp(names[i], key.s, key.len))
				break;
		if (i == count)
			scan_fail(&s, "field \"%.*s\" is not known", (int)min_u64(key.len, 60),
				  key.s);
		else if (values[i].s)
			scan_fail(&s, "field \"%s\" a second time", names[i]);
		else if (scan_value(&s, &value))
			values[i] = value;
	}
	scan_finish(&s);
	return scan_result(&s);
}

/* A small member as a value; what is missing is null. */
static enum rc parse(const struct load *l, struct span span, const char *path, json_t **out)
{
	json_error_t error;

	if (!span.s)
		span = (struct span){"null", 4};
	*out = json_loadb(span.s, span.len, JSON_DECODE_ANY | JSON_REJECT_DUPLICATES, &error);
	return *out ? RC_OK : refuse(l, path, error.text);
}

/* null, or the value that means the same. */
static enum rc expect(const struct load *l, struct span span, const char *path, const char *same)
{
	if (!span.s || (span.len == 4 && !memcmp(span.s, "null", 4)) ||
	    (span.len == strlen(same) && !memcmp(span.s, same, span.len)))
		return RC_OK;
	return err_set(l->err, RC_FATAL, "tokenizer", "%s: %s: %.*s is not supported", l->file,
		       path, (int)min_u64(span.len, 60), span.s);
}

static enum rc model_flags(const struct load *l, const struct span *model)
{
	enum rc rc;

	if (!model[MODEL_TYPE].s)
		return refuse(l, "model.type", "missing");
	rc = expect(l, model[MODEL_TYPE], "model.type", "\"BPE\"");
	if (!rc)
		rc = expect(l, model[MODEL_DROPOUT], "model.dropout", "0.0");
	if (!rc)
		rc = expect(l, model[MODEL_PREFIX], "model.continuing_subword_prefix", "\"\"");
	if (!rc)
		rc = expect(l, model[MODEL_SUFFIX], "model.end_of_word_suffix", "\"\"");
	if (!rc)
		rc = expect(l, model[MODEL_FALLBACK], "model.byte_fallback", "false");
	if (rc)
		return rc;
	l->t->ignore_merges =
		model[MODEL_IGNORE].len == 4 && !memcmp(model[MODEL_IGNORE].s, "true", 4);
	/* unk_token and fuse_unk have no meaning: every byte has a token. */
	return l->t->ignore_merges ? RC_OK
				   : expect(l, model[MODEL_IGNORE], "model.ignore_merges", "false");
}

static void token_reserve(struct tokenizer *t, size_t size, size_t *cap)
{
	if (size > *cap) {
		*cap = max_u64(size, *cap * 2);
		t->token = xrealloc(t->token, *cap * sizeof(*t->token));
	}
	while (t->size < size)
		t->token[t->size++] = (struct token){0};
}

static void token_set(struct tokenizer *t, uint32_t id, const char *name, size_t len, bool special)
{
	size_t at = t->bytes.len;

	/* The decoder of the reference: letters of the alphabet are bytes, all else is itself. */
	if (!alphabet_decode(&t->bytes, name, len))
		buf_add(&t->bytes, name, len);
	t->token[id] = (struct token){(uint32_t)at, (uint32_t)(t->bytes.len - at), special};
}

static enum rc read_vocab(const struct load *l, struct span vocab)
{
	struct tokenizer *t = l->t;
	bool first = true;
	struct scan s;
	struct span key;
	size_t cap = 0;
	uint32_t id;

	scan_at(l, &s, vocab, "model.vocab");
	scan_open(&s, '{');
	while (scan_more(&s, '{', &first) && scan_key(&s, &key)) {
		if (!key.len || key.len > TOKEN_BYTES_MAX) {
			scan_fail(&s, "a token of %zu bytes", key.len);
			break;
		}
		/* The value follows; the key is in a buffer that it does not use. */
		if (!scan_number(&s, TOKENS_MAX - 1, &id))
			break;
		token_reserve(t, (size_t)id + 1, &cap);
		if (t->token[id].len)
			scan_fail(&s, "id %u a second time", id);
		else if (!strings_add(&t->names, key.s, key.len, id))
			scan_fail(&s, "the token of id %u a second time", id);
		else
			token_set(t, id, key.s, key.len, false);
	}
	scan_finish(&s);
	return scan_result(&s);
}

static enum rc byte_tokens(const struct load *l)
{
	for (int byte = 0; byte < 256; byte++) {
		char c = (char)byte;
		struct buf name;
		bool found;

		buf_init(&name, 4);
		alphabet_encode(&name, &c, 1);
		found = strings_find(&l->t->names, name.data, name.len, &l->t->byte_token[byte]);
		buf_release(&name);
		if (!found)
			return err_set(l->err, RC_FATAL, "tokenizer",
				       "%s: model.vocab: no token for byte 0x%02x", l->file, byte);
	}
	return RC_OK;
}

/* "a b" or ["a", "b"], joined into `both`; *split is the length of a. */
static bool read_merge(struct scan *s, struct buf *both, size_t *split)
{
	bool first = true;
	struct span part;
	const char *space;

	buf_clear(both);
	if (scan_peek(s) == '"') {
		if (!scan_string(s, &part))
			return false;
		space = memchr(part.s, ' ', part.len);
		if (!space || memchr(space + 1, ' ', part.len - (size_t)(space - part.s) - 1))
			return scan_fail(s, "two parts with a space between expected");
		*split = (size_t)(space - part.s);
		buf_add(both, part.s, *split);
		buf_add(both, space + 1, part.len - *split - 1);
	} else {
		if (!scan_open(s, '[') || !scan_more(s, '[', &first) || !scan_string(s, &part))
			return scan_fail(s, "two parts expected");
		buf_add(both, part.s, part.len);
		*split = part.len;
		if (!scan_more(s, '[', &first) || !scan_string(s, &part))
			return scan_fail(s, "two parts expected");
		buf_add(both, part.s, part.len);
		if (scan_more(s, '[', &first))
			return scan_fail(s, "two parts expected");
	}
	return !s->failed && (!both->overflow || scan_fail(s, "too long"));
}

static bool add_merge(struct scan *s, struct tokenizer *t, const struct buf *both, size_t split)
{
	uint32_t a, b, id;

	if (!strings_find(&t->names, both->data, split, &a) ||
	    !strings_find(&t->names, both->data + split, both->len - split, &b))
		return scan_fail(s, "[%zu]: a part that is not in model.vocab", t->merge_count);
	if (!strings_find(&t->names, both->data, both->len, &id))
		return scan_fail(s, "[%zu]: its result is not in model.vocab", t->merge_count);
	if (!merges_add(t, a, b, id))
		return scan_fail(s, "[%zu]: the same a second time", t->merge_count);
	return true;
}

static enum rc read_merges(const struct load *l, struct span merges)
{
	bool first = true;
	struct scan s;
	struct buf both;
	size_t split = 0;

	merges_grow(l->t);
	buf_init(&both, (size_t)TOKEN_BYTES_MAX * 2);
	scan_at(l, &s, merges, "model.merges");
	scan_open(&s, '[');
	while (scan_more(&s, '[', &first) && read_merge(&s, &both, &split) &&
	       add_merge(&s, l->t, &both, split))
		continue;
	scan_finish(&s);
	buf_release(&both);
	return scan_result(&s);
}

static enum rc read_model(const struct load *l, struct span model)
{
	struct span member[MODEL_COUNT];
	enum rc rc = find_members(l, model, "model", model_names, MODEL_COUNT, member);

	if (!rc)
		rc = model_flags(l, member);
	if (!rc && !member[MODEL_VOCAB].s)
		rc = refuse(l, "model.vocab", "missing");
	if (!rc && !member[MODEL_MERGES].s)
		rc = refuse(l, "model.merges", "missing");
	if (!rc)
		rc = read_vocab(l, member[MODEL_VOCAB]);
	if (!rc)
		rc = byte_tokens(l);
	return rc ? rc : read_merges(l, member[MODEL_MERGES]);
}

/* Added tokens become entries of the vocabulary, for decoding. */
static enum rc place_added(const struct load *l)
{
	struct tokenizer *t = l->t;
	size_t cap = t->size;

	for (size_t i = 0; i < t->added_count; i++) {
		const struct added *a = &t->added[i];
		uint32_t known;

		token_reserve(t, (size_t)a->id + 1, &cap);
		if (strings_find(&t->names, a->text, a->len, &known))
			t->token[a->id].special = a->special;
		else if (t->token[a->id].len)
			return err_set(l->err, RC_FATAL, "tokenizer",
				       "%s: added_tokens[%zu].id: %u a second time", l->file, i,
				       a->id);
		else
			token_set(t, a->id, a->text, a->len, a->special);
	}
	return RC_OK;
}

static enum rc read_member(const struct load *l, struct span span, int which)
{
	json_t *value;
	enum rc rc = parse(l, span, top_names[which], &value);

	if (rc)
		return rc;
	switch (which) {
	case TOP_ADDED:
		if (!json_is_null(value))
			rc = config_added_tokens(l->t, value, l->file, l->err);
		if (!rc)
			rc = place_added(l);
		break;
	case TOP_NORMALIZER:
		rc = config_normalizer(l->t, value, l->file, l->err);
		break;
	case TOP_PRE:
		rc = config_pre_tokenizer(l->t, value, l->file, l->err);
		break;
	case TOP_POST:
		rc = config_post_processor(l->t, value, l->file, l->err);
		break;
	case TOP_DECODER:
		rc = config_decoder(value, l->file, l->err);
		break;
	}
	json_decref(value);
	return rc;
}

static enum rc load(const struct load *l)
{
	/* Truncation and padding are for batches of training; a caller sets his own. */
	static const int order[] = {TOP_NORMALIZER, TOP_ADDED, TOP_PRE, TOP_POST, TOP_DECODER};
	struct span member[TOP_COUNT];
	size_t valid = utf8_valid_prefix(l->json, l->len);
	enum rc rc;

	if (valid != l->len)
		return err_set(l->err, RC_FATAL, "tokenizer", "%s: not UTF-8 (byte %zu)", l->file,
			       valid);
	rc = find_members(l, (struct span){l->json, l->len}, "", top_names, TOP_COUNT, member);
	if (!rc && !member[TOP_MODEL].s)
		rc = refuse(l, "model", "missing");
	if (!rc)
		rc = read_model(l, member[TOP_MODEL]);
	for (size_t i = 0; !rc && i < ARRAY_SIZE(order); i++)
		rc = read_member(l, member[order[i]], order[i]);
	if (!rc)
		added_prepare(l->t);
	return rc;
}

enum rc tokenizer_parse(struct tokenizer **out, const char *json, size_t len, const char *name,
			struct err *err)
{
	struct tokenizer *t = xcalloc(1, sizeof(*t));
	struct load l = {t, json, name, len, err};
	enum rc rc;

	t->eos = NO_TOKEN;
	buf_init(&t->bytes, FILE_MAX);
	strings_init(&t->names, FILE_MAX);
	strings_init(&t->added_names, FILE_MAX);
	rc = load(&l);
	if (rc) {
		tokenizer_free(t);
		t = NULL;
	}
	*out = t;
	return rc;
}

void tokenizer_free(struct tokenizer *t)
{
	if (!t)
		return;
	for (size_t i = 0; i < t->split_count; i++)
		split_free(t->split[i]);
	token_ids_release(&t->before);
	token_ids_release(&t->after);
	added_release(t);
	bpe_release(t);
	strings_release(&t->names);
	buf_release(&t->bytes);
	free(t->token);
	free(t);
}

/* The whole file, to be unmapped; an absent one is RC_OK with data NULL where it may be. */
static enum rc map_file(const char *path, bool optional, const char **data, size_t *len,
			struct err *err)
{
	int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
	struct stat st;
	enum rc rc = RC_OK;

	*data = NULL;
	if (fd < 0)
		return optional && errno == ENOENT
			       ? RC_OK
			       : err_errno(err, RC_FATAL, "tokenizer", "%s", path);
	if (fstat(fd, &st)) {
		rc = err_errno(err, RC_FATAL, "tokenizer", "%s", path);
	} else if (!S_ISREG(st.st_mode) || st.st_size <= 0 || (uint64_t)st.st_size > FILE_MAX) {
		rc = err_set(err, RC_FATAL, "tokenizer", "%s: not a file of 1 to %zu bytes", path,
			     FILE_MAX);
	} else {
		*len = (size_t)st.st_size;
		*data = mmap(NULL, *len, PROT_READ, MAP_PRIVATE | MAP_POPULATE, fd, 0);
		if (*data == MAP_FAILED) {
			*data = NULL;
			rc = err_errno(err, RC_FATAL, "tokenizer", "%s", path);
		}
	}
	close(fd);
	return rc;
}

static const char *content_of(json_t *token)
{
	return json_string_value(json_is_object(token) ? json_object_get(token, "content") : token);
}

/* eos_token; and every token that the reference would add from here must be there already. */
static enum rc read_config(struct tokenizer *t, json_t *config, const char *path, struct err *err)
{
	json_t *eos = json_object_get(config, "eos_token"), *token;
	const char *content = content_of(eos), *key;
	uint32_t id;

	if (!json_is_object(config))
		return err_set(err, RC_FATAL, "tokenizer", "%s: an object expected", path);
	if (eos && !json_is_null(eos)) {
		if (!content || (!tokenizer_find(t, content, &t->eos) &&
				 !strings_find(&t->names, content, strlen(content), &t->eos)))
			return err_set(err, RC_FATAL, "tokenizer",
				       "%s: eos_token: not a token of tokenizer.json", path);
	}
	json_object_foreach(json_object_get(config, "added_tokens_decoder"), key, token)
	{
		content = content_of(token);
		if (!content || !tokenizer_find(t, content, &id) ||
		    (uint64_t)id != strtoull(key, NULL, 10))
			return err_set(err, RC_FATAL, "tokenizer",
				       "%s: added_tokens_decoder.%.20s: not so in tokenizer.json",
				       path, key);
	}
	return RC_OK;
}

static enum rc open_config(struct tokenizer *t, const char *path, struct err *err)
{
	json_error_t error;
	const char *data;
	size_t len = 0;
	json_t *config;
	enum rc rc = map_file(path, true, &data, &len, err);

	if (rc || !data)
		return rc;
	config = json_loadb(data, len, JSON_REJECT_DUPLICATES, &error);
	if (config)
		rc = read_config(t, config, path, err);
	else
		rc = err_set(err, RC_FATAL, "tokenizer", "%s:%d: %s", path, error.line, error.text);
	json_decref(config);
	munmap((void *)(uintptr_t)data, len);
	return rc;
}

enum rc tokenizer_open(struct tokenizer **out, const char *folder, struct err *err)
{
	char *path = xasprintf("%s/tokenizer.json", folder);
	char *config = xasprintf("%s/tokenizer_config.json", folder);
	const char *data;
	size_t len = 0;
	enum rc rc = map_file(path, false, &data, &len, err);

	*out = NULL;
	if (!rc) {
		rc = tokenizer_parse(out, data, len, path, err);
		munmap((void *)(uintptr_t)data, len);
	}
	if (!rc)
		rc = open_config(*out, config, err);
	if (rc) {
		tokenizer_free(*out);
		*out = NULL;
	}
	free(path);
	free(config);
	return rc;
}
