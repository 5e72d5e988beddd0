/* SPDX-License-Identifier: MIT
 *
 * The words around a prompt. Sources: the chat templates of Qwen2.5-VL, Qwen3, Qwen3-VL,
 * Phi-4-mini.
 */
#include "chat.h"

#include "base/name.h"
#include "base/num.h"
#include "weights/json_file.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define PROMPT_MAX   32768
#define TEMPLATE_MAX (1u << 20)

struct chat_marks {
	const char *needed[3]; /* tokens; NULL: none */
	const char *system, *user, *end, *answer;
};

static const struct chat_marks chatml = {
	.needed = {"<|im_start|>", "<|im_end|>"},
	.system = "<|im_start|>system\n",
	.user = "<|im_start|>user\n",
	.end = "<|im_end|>\n",
	.answer = "<|im_start|>assistant\n",
};

static const struct chat_marks phi = {
	.needed = {"<|user|>", "<|end|>", "<|assistant|>"},
	.system = "<|system|>",
	.user = "<|user|>",
	.end = "<|end|>",
	.answer = "<|assistant|>",
};

static const char helpful[] = "You are a helpful assistant.";

/* A text file of the folder; *out is NULL when there is none. */
static enum rc load_text(const char *folder, const char *name, size_t max, char **out,
			 struct err *err)
{
	char *path = xasprintf("%s/%s", folder, name);
	int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
	enum rc rc = RC_OK;
	struct buf text;
	char chunk[4096];
	ssize_t n = 0;

	*out = NULL;
	free(path);
	if (fd < 0 && errno == ENOENT)
		return RC_OK;
	buf_init(&text, max);
	while (fd >= 0 && !text.overflow && (n = read(fd, chunk, sizeof(chunk))) > 0)
		buf_add(&text, chunk, (size_t)n);
	if (fd < 0 || n < 0)
		rc = err_errno(err, RC_FATAL, "model-file", "read %s", name);
	else if (text.overflow)
		rc = err_set(err, RC_FATAL, "model-file", "%s has more than %zu bytes", name, max);
	else if (text.len && (memchr(text.data, 0, text.len) || !utf8_valid(text.data, text.len)))
		rc = err_set(err, RC_FATAL, "model-file", "%s is not UTF-8 text", name);
	if (rc == RC_OK && text.len)
		*out = buf_detach(&text);
	buf_release(&text);
	if (fd >= 0)
		close(fd);
	return rc;
}

/* The chat_template of a JSON file: a text, or a list of named ones, of which one is "default". */
static enum rc load_template_of(const char *folder, const char *file, char **out, struct err *err)
{
	json_t *root, *value, *one;
	const char *text;
	size_t i;

	if (json_file_load(folder, file, JSON_FILE_OPTIONAL, &root, err) != RC_OK)
		return RC_FATAL;
	value = json_object_get(root, "chat_template");
	text = json_string_value(value);
	json_array_foreach(value, i, one)
	{
		const char *name = json_string_value(json_object_get(one, "name"));

		if (name && !strcmp(name, "default"))
			text = json_string_value(json_object_get(one, "template"));
	}
	*out = text ? xstrdup(text) : NULL;
	json_decref(root);
	return RC_OK;
}

static enum rc load_template(const char *folder, char **out, struct err *err)
{
	enum rc rc = load_text(folder, "chat_template.jinja", TEMPLATE_MAX, out, err);

	if (rc == RC_OK && !*out)
		rc = load_template_of(folder, "chat_template.json", out, err);
	if (rc == RC_OK && !*out)
		rc = load_template_of(folder, "tokenizer_config.json", out, err);
	return rc;
}

/* Every id that the prompt or the answer can hold has its row in the model's matrices. */
static enum rc check_tokenizer(const struct chat *c, struct err *err)
{
	const char *const *needed = c->marks->needed;
	const struct model_config *config = c->config;
	uint32_t id;

	for (size_t i = 0; i < ARRAY_SIZE(c->marks->needed) && needed[i]; i++)
		if (!tokenizer_find(c->tokenizer, needed[i], &id))
			return err_set(err, RC_FATAL, "model-tokenizer",
				       "tokenizer.json: there is no token %s", needed[i]);
	if (tokenizer_size(c->tokenizer) > config->text.vocab)
		return err_set(err, RC_FATAL, "model-tokenizer",
			       "tokenizer.json: %zu tokens, but vocab_size of config.json is %u",
			       tokenizer_size(c->tokenizer), config->text.vocab);
	if (config->vision.depth && (config->image_token >= config->text.vocab ||
				     config->vision_start >= config->text.vocab ||
				     config->vision_end >= config->text.vocab))
		return err_set(
			err, RC_FATAL, "model-config",
			"config.json: the tokens around an image are not below vocab_size %u",
			config->text.vocab);
	return RC_OK;
}

/* Other models of this architecture (Phi-3, Phi-4) put other words, or line breaks, around a
 * message. */
static enum rc check_template(const struct chat *c, const char *template, struct err *err)
{
	if (c->marks != &phi || !template || strstr(template, "'<|assistant|>'") ||
	    strstr(template, "\"<|assistant|>\""))
		return RC_OK;
	return err_set(err, RC_FATAL, "model-chat",
		       "the chat template is not that of Phi-4-mini, which asks for an answer with "
		       "'<|assistant|>': it is not supported");
}

enum rc chat_open(struct chat *c, const char *folder, const struct model_config *config,
		  struct tokenizer *tokenizer, struct err *err)
{
	char *template = NULL;
	enum rc rc;

	*c = (struct chat){.config = config,
			   .tokenizer = tokenizer,
			   .marks = config->family == FAMILY_PHI3 ? &phi : &chatml};
	rc = check_tokenizer(c, err);
	if (rc == RC_OK)
		rc = load_text(folder, "prompt.txt", PROMPT_MAX, &c->prompt, err);
	if (rc == RC_OK)
		rc = load_template(folder, &template, err);
	if (rc == RC_OK)
		rc = check_template(c, template, err);
	if (rc != RC_OK) {
		free(template);
		chat_release(c);
		return rc;
	}
	for (size_t n = c->prompt ? strlen(c->prompt) : 0;
	     n && strchr(" \t\r\n", c->prompt[n - 1]);)
		c->prompt[--n] = '\0';
	if (config->family == FAMILY_QWEN2_5_VL && (!template || strstr(template, helpful)))
		c->system = helpful;
	if (template && strstr(template, "<|im_start|>assistant\\n<think>\\n'"))
		c->thinking = CHAT_ALWAYS;
	if (template && c->marks == &chatml && strstr(template, "enable_thinking"))
		c->thinking = CHAT_OPTIONAL;
	free(template);
	return RC_OK;
}

void chat_release(struct chat *c)
{
	free(c->prompt);
	*c = (struct chat){0};
}

static enum rc add(const struct chat *c, const char *text, unsigned flags, struct token_ids *out,
		   struct err *err)
{
	return tokenizer_encode(c->tokenizer, text, strlen(text), flags, out, err);
}

static void add_page(const struct chat *c, const struct chat_message *m, struct token_ids *out,
		     size_t *first)
{
	size_t tokens = (size_t)m->rows * m->columns;

	token_ids_add(out, c->config->vision_start);
	*first = out->count;
	for (size_t i = 0; i < tokens; i++)
		token_ids_add(out, c->config->image_token);
	token_ids_add(out, c->config->vision_end);
}

static char *with_text(const char *prompt, const char *text)
{
	return text ? xasprintf("%s\n\n%s", prompt, text) : xstrdup(prompt);
}

enum rc chat_build(const struct chat *c, const struct chat_message *m, struct token_ids *out,
		   size_t *first, struct err *err)
{
	const struct chat_marks *marks = c->marks;
	const char *thoughts = "";
	char *words = with_text(m->prompt, m->text);
	enum rc rc = RC_OK;

	if (c->thinking == CHAT_ALWAYS)
		thoughts = "<think>\n";
	else if (c->thinking == CHAT_OPTIONAL && !m->think)
		thoughts = "<think>\n\n</think>\n\n";
	*first = 0;
	if (c->system) {
		char *system = xasprintf("%s%s%s", marks->system, c->system, marks->end);

		rc = add(c, system, ENCODE_ADDED, out, err);
		free(system);
	}
	if (rc == RC_OK)
		rc = add(c, marks->user, ENCODE_ADDED, out, err);
	if (rc == RC_OK && m->rows)
		add_page(c, m, out, first);
	if (rc == RC_OK)
		rc = add(c, words, 0, out, err);
	if (rc == RC_OK)
		rc = add(c, marks->end, ENCODE_ADDED, out, err);
	if (rc == RC_OK)
		rc = add(c, marks->answer, ENCODE_ADDED, out, err);
	if (rc == RC_OK)
		rc = add(c, thoughts, ENCODE_ADDED, out, err);
	free(words);
	return rc;
}
