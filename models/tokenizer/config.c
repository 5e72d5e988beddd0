/* SPDX-License-Identifier: MIT
 *
 * config: the small members of tokenizer.json: what is done to a text before and after the merging.
 *
 * Every type and every field is either understood or refused by name: a field passed over would
 * mean other ids than those that the model was trained on.
 */
#include "tokenizer/internal.h"
#include "tokenizer/unicode.h"

#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#define GPT2_REGEX                                                                                 \
	"'s|'t|'re|'ve|'m|'ll|'d| ?\\p{L}+| ?\\p{N}+| ?[^\\s\\p{L}\\p{N}]+|\\s+(?!\\S)|\\s+"
#define PATH_BYTES  160
#define CONTENT_MAX 4096
#define AROUND_MAX  64
#define LIST_MAX    16

/* Where in the file we are, for errors. */
struct place {
	const char *file;
	char path[PATH_BYTES];
	struct err *err;
};

static enum rc refuse(const struct place *place, const char *field, const char *format, ...)
	__attribute__((format(printf, 3, 4)));

static enum rc refuse(const struct place *place, const char *field, const char *format, ...)
{
	struct buf what;
	va_list ap;

	buf_init(&what, 256);
	va_start(ap, format);
	buf_vaddf(&what, format, ap);
	va_end(ap);
	err_set(place->err, RC_FATAL, "tokenizer", "%s: %s%s%s: %s", place->file, place->path,
		*field ? "." : "", field, what.data ? what.data : "not supported");
	buf_release(&what);
	return RC_FATAL;
}

static void place_set(struct place *place, const char *file, struct err *err, const char *format,
		      ...) __attribute__((format(printf, 4, 5)));

static void place_set(struct place *place, const char *file, struct err *err, const char *format,
		      ...)
{
	va_list ap;

	place->file = file;
	place->err = err;
	va_start(ap, format);
	vsnprintf(place->path, sizeof(place->path), format, ap);
	va_end(ap);
}

/* An object with no fields but "type" and those of `known`, a list with spaces around each. */
static enum rc known_fields(const struct place *place, json_t *object, const char *known)
{
	const char *key;
	json_t *value;

	if (!json_is_object(object))
		return refuse(place, "", "an object expected");
	json_object_foreach(object, key, value)
	{
		char word[64];
		int len = snprintf(word, sizeof(word), " %s ", key);

		if (strcmp(key, "type") &&
		    (len >= (int)sizeof(word) || strchr(key, ' ') || !strstr(known, word)))
			return refuse(place, "", "field \"%.60s\" is not known", key);
	}
	return RC_OK;
}

static enum rc get_bool(const struct place *place, json_t *object, const char *key, bool otherwise,
			bool *out)
{
	json_t *value = json_object_get(object, key);

	*out = value ? json_is_true(value) : otherwise;
	if (value && !json_is_boolean(value))
		return refuse(place, key, "true or false expected");
	return RC_OK;
}

static const char *type_of(json_t *object)
{
	const char *type = json_string_value(json_object_get(object, "type"));

	return type ? type : "";
}

static enum rc refuse_type(const struct place *place, json_t *object)
{
	return refuse(place, "type", "\"%.60s\" is not supported", type_of(object));
}

/* The list `key` of a Sequence. */
static enum rc get_list(const struct place *place, json_t *object, const char *key, json_t **list)
{
	*list = json_object_get(object, key);
	if (!json_is_array(*list) || json_array_size(*list) > LIST_MAX)
		return refuse(place, key, "a list of at most %d expected", LIST_MAX);
	return RC_OK;
}

static enum rc normalizer_one(struct tokenizer *t, const struct place *place, json_t *object)
{
	enum rc rc = known_fields(place, object, "");

	if (rc)
		return rc;
	if (strcmp(type_of(object), "NFC"))
		return refuse_type(place, object);
	t->nfc = true;
	return RC_OK;
}

enum rc config_normalizer(struct tokenizer *t, json_t *object, const char *file, struct err *err)
{
	struct place place;
	json_t *list, *item;
	size_t i;
	enum rc rc;

	place_set(&place, file, err, "normalizer");
	if (json_is_null(object))
		return RC_OK;
	if (strcmp(type_of(object), "Sequence"))
		return normalizer_one(t, &place, object);
	rc = known_fields(&place, object, " normalizers ");
	if (!rc)
		rc = get_list(&place, object, "normalizers", &list);
	if (rc)
		return rc;
	json_array_foreach(list, i, item)
	{
		place_set(&place, file, err, "normalizer.normalizers[%zu]", i);
		rc = normalizer_one(t, &place, item);
		if (rc)
			return rc;
	}
	return RC_OK;
}

static enum rc add_split(struct tokenizer *t, const struct place *place, const char *regex,
			 size_t len, enum split_keep keep)
{
	if (t->split_count == SPLITS_MAX)
		return refuse(place, "", "more than %d splits", SPLITS_MAX);
	return split_new(&t->split[t->split_count++], regex, len, keep, SPLIT_BEST,
			 "tokenizer.json: pre_tokenizer", place->err);
}

static enum rc split_keep_of(const struct place *place, json_t *object, enum split_keep *keep)
{
	const char *behavior = json_string_value(json_object_get(object, "behavior"));
	bool invert;
	enum rc rc = get_bool(place, object, "invert", false, &invert);

	if (rc)
		return rc;
	if (behavior && !strcmp(behavior, "Isolated"))
		*keep = SPLIT_KEEP_ALL;
	else if (behavior && !strcmp(behavior, "Removed"))
		*keep = invert ? SPLIT_KEEP_MATCHES : SPLIT_KEEP_GAPS;
	else
		return refuse(place, "behavior", "\"%.60s\" is not supported",
			      behavior ? behavior : "");
	return RC_OK;
}

static enum rc pre_split(struct tokenizer *t, const struct place *place, json_t *object)
{
	json_t *pattern = json_object_get(object, "pattern"), *regex, *string;
	enum split_keep keep = SPLIT_KEEP_ALL;
	struct buf escaped;
	enum rc rc = known_fields(place, object, " pattern behavior invert ");

	if (!rc)
		rc = split_keep_of(place, object, &keep);
	if (rc)
		return rc;
	regex = json_object_get(pattern, "Regex");
	string = json_object_get(pattern, "String");
	if (json_object_size(pattern) != 1 || !(json_is_string(regex) || json_is_string(string)))
		return refuse(place, "pattern", "{\"Regex\": ...} or {\"String\": ...} expected");
	if (regex)
		return add_split(t, place, json_string_value(regex), json_string_length(regex),
				 keep);
	buf_init(&escaped, CONTENT_MAX);
	for (const char *c = json_string_value(string); *c; c++) {
		if (strchr("\\[](){}^$|.*+?&-", *c))
			buf_addc(&escaped, '\\');
		buf_addc(&escaped, *c);
	}
	if (!escaped.len || escaped.overflow)
		rc = refuse(place, "pattern", "1 to %d bytes expected", CONTENT_MAX);
	else
		rc = add_split(t, place, escaped.data, escaped.len, keep);
	buf_release(&escaped);
	return rc;
}

static enum rc pre_bytes(struct tokenizer *t, const struct place *place, json_t *object)
{
	bool prefix, regex, trim;
	enum rc rc = known_fields(place, object, " add_prefix_space trim_offsets use_regex ");

	if (!rc)
		rc = get_bool(place, object, "add_prefix_space", true, &prefix);
	if (!rc)
		rc = get_bool(place, object, "trim_offsets", true, &trim);
	if (!rc)
		rc = get_bool(place, object, "use_regex", true, &regex);
	if (rc)
		return rc;
	if (prefix)
		t->prefix_before = t->split_count;
	return regex ? add_split(t, place, GPT2_REGEX, strlen(GPT2_REGEX), SPLIT_KEEP_ALL) : RC_OK;
}

enum rc config_pre_tokenizer(struct tokenizer *t, json_t *object, const char *file, struct err *err)
{
	struct place place;
	json_t *list, *item;
	bool bytes = false;
	enum rc rc;
	size_t i;

	t->prefix_before = SIZE_MAX;
	place_set(&place, file, err, "pre_tokenizer");
	if (!strcmp(type_of(object), "ByteLevel"))
		return pre_bytes(t, &place, object);
	if (strcmp(type_of(object), "Sequence"))
		return refuse_type(&place, object);
	rc = known_fields(&place, object, " pretokenizers ");
	if (!rc)
		rc = get_list(&place, object, "pretokenizers", &list);
	if (rc)
		return rc;
	json_array_foreach(list, i, item)
	{
		place_set(&place, file, err, "pre_tokenizer.pretokenizers[%zu]", i);
		if (bytes)
			return refuse(&place, "", "something behind ByteLevel is not supported");
		bytes = !strcmp(type_of(item), "ByteLevel");
		if (bytes)
			rc = pre_bytes(t, &place, item);
		else if (!strcmp(type_of(item), "Split"))
			rc = pre_split(t, &place, item);
		else
			rc = refuse_type(&place, item);
		if (rc)
			return rc;
	}
	return bytes ? RC_OK : refuse(&place, "", "no ByteLevel: only byte-level BPE is supported");
}

/* The ids of one special token of a template. */
static enum rc template_ids(struct tokenizer *t, const struct place *place, json_t *special,
			    json_t *name, struct token_ids *out)
{
	json_t *ids = json_object_get(json_object_get(special, json_string_value(name)), "ids"),
	       *id;
	size_t i;

	if (!json_is_string(name) || !json_is_array(ids))
		return refuse(place, "special_tokens", "a name of the template is missing");
	json_array_foreach(ids, i, id)
	{
		json_int_t value = json_is_integer(id) ? json_integer_value(id) : -1;

		if (value < 0 || (size_t)value >= t->size || !t->token[value].len)
			return refuse(place, "special_tokens", "no token has such an id");
		if (out->count == AROUND_MAX)
			return refuse(place, "special_tokens", "more than %d ids", AROUND_MAX);
		token_ids_add(out, (uint32_t)value);
	}
	return RC_OK;
}

static enum rc post_template(struct tokenizer *t, const struct place *place, json_t *object)
{
	json_t *single, *item, *token;
	bool text = false;
	enum rc rc = known_fields(place, object, " single pair special_tokens ");
	size_t i;

	if (!rc)
		rc = get_list(place, object, "single", &single);
	if (rc)
		return rc;
	json_array_foreach(single, i, item)
	{
		token = json_object_get(item, "SpecialToken");
		if (json_object_get(item, "Sequence") && !text)
			text = true;
		else if (!token)
			return refuse(place, "single", "item %zu is not supported", i);
		else
			rc = template_ids(t, place, json_object_get(object, "special_tokens"),
					  json_object_get(token, "id"),
					  text ? &t->after : &t->before);
		if (rc)
			return rc;
	}
	return text ? RC_OK : refuse(place, "single", "the text has no place in it");
}

enum rc config_post_processor(struct tokenizer *t, json_t *object, const char *file,
			      struct err *err)
{
	struct place place;
	bool template = false;
	json_t *list = NULL, *item = object;
	enum rc rc = RC_OK;
	size_t count = 1;

	place_set(&place, file, err, "post_processor");
	if (json_is_null(object))
		return RC_OK;
	if (!strcmp(type_of(object), "Sequence")) {
		rc = known_fields(&place, object, " processors ");
		if (!rc)
			rc = get_list(&place, object, "processors", &list);
		count = json_array_size(list);
	}
	for (size_t i = 0; !rc && i < count; i++) {
		if (list) {
			item = json_array_get(list, i);
			place_set(&place, file, err, "post_processor.processors[%zu]", i);
		}
		/* ByteLevel corrects offsets alone. */
		if (!strcmp(type_of(item), "ByteLevel"))
			rc = known_fields(&place, item,
					  " add_prefix_space trim_offsets use_regex ");
		else if (strcmp(type_of(item), "TemplateProcessing"))
			rc = refuse_type(&place, item);
		else if (template)
			rc = refuse(&place, "", "a second template");
		else
			rc = post_template(t, &place, item);
		template |= !strcmp(type_of(item), "TemplateProcessing");
	}
	return rc;
}

enum rc config_decoder(json_t *object, const char *file, struct err *err)
{
	struct place place;
	json_t *list;
	enum rc rc;

	place_set(&place, file, err, "decoder");
	if (!strcmp(type_of(object), "Sequence")) {
		rc = known_fields(&place, object, " decoders ");
		if (!rc)
			rc = get_list(&place, object, "decoders", &list);
		if (rc)
			return rc;
		if (json_array_size(list) != 1)
			return refuse(&place, "decoders", "anything but one is not supported");
		object = json_array_get(list, 0);
	}
	if (strcmp(type_of(object), "ByteLevel"))
		return refuse_type(&place, object);
	return known_fields(&place, object, " add_prefix_space trim_offsets use_regex ");
}

/* Its id is the one that the vocabulary has for its text, or one that is free. */
static enum rc added_id(struct tokenizer *t, const struct place *place, json_t *id,
			const char *text, size_t len, uint32_t *out)
{
	json_int_t value = json_is_integer(id) ? json_integer_value(id) : -1;
	uint32_t listed;

	if (value < 0 || value >= TOKENS_MAX)
		return refuse(place, "id", "whole number below %u expected", TOKENS_MAX);
	*out = (uint32_t)value;
	if (strings_find(&t->names, text, len, &listed) && listed != *out)
		return refuse(place, "id", "%u, but model.vocab has it as %u", *out, listed);
	if (!strings_find(&t->names, text, len, &listed) && *out < t->size && t->token[*out].len)
		return refuse(place, "id", "%u belongs to another token", *out);
	return RC_OK;
}

/* A copy; of a `normalized` one as normalised text has it, as which the reference shows it too. */
static char *added_text(const struct tokenizer *t, bool normalized, const char *s, size_t len,
			size_t *out_len)
{
	struct buf text;

	buf_init(&text, len * 4 + 16);
	if (!normalized || !t->nfc || !unicode_nfc(&text, s, len))
		buf_add(&text, s, len);
	*out_len = text.len;
	return buf_detach(&text);
}

static enum rc added_one(struct tokenizer *t, const struct place *place, json_t *object)
{
	json_t *content = json_object_get(object, "content");
	struct added *added = &t->added[t->added_count];
	size_t len;
	enum rc rc = known_fields(place, object,
				  " id content single_word lstrip rstrip normalized special ");

	if (!rc)
		rc = get_bool(place, object, "special", false, &added->special);
	if (!rc)
		rc = get_bool(place, object, "single_word", false, &added->single_word);
	if (!rc)
		rc = get_bool(place, object, "lstrip", false, &added->lstrip);
	if (!rc)
		rc = get_bool(place, object, "rstrip", false, &added->rstrip);
	if (!rc)
		rc = get_bool(place, object, "normalized", !added->special, &added->normalized);
	if (rc)
		return rc;
	len = json_string_length(content);
	if (!json_is_string(content) || !len || len > CONTENT_MAX)
		return refuse(place, "content", "1 to %d bytes expected", CONTENT_MAX);
	added->text =
		added_text(t, added->normalized, json_string_value(content), len, &added->len);
	t->added_count++;
	rc = added_id(t, place, json_object_get(object, "id"), added->text, added->len, &added->id);
	if (rc)
		return rc;
	if (!strings_add(&t->added_names, added->text, added->len, added->id))
		return refuse(place, "content", "a second time, or too many");
	return RC_OK;
}

enum rc config_added_tokens(struct tokenizer *t, json_t *list, const char *file, struct err *err)
{
	struct place place;
	json_t *item;
	enum rc rc;
	size_t i;

	place_set(&place, file, err, "added_tokens");
	if (!json_is_array(list) || json_array_size(list) > ADDED_MAX)
		return refuse(&place, "", "a list of at most %u expected", ADDED_MAX);
	t->added = xcalloc(json_array_size(list) + 1, sizeof(*t->added));
	json_array_foreach(list, i, item)
	{
		place_set(&place, file, err, "added_tokens[%zu]", i);
		rc = added_one(t, &place, item);
		if (rc)
			return rc;
	}
	return RC_OK;
}
