/* SPDX-License-Identifier: MIT
 *
 * The table of known models. Whoever adds one puts down only what was read from its page or computed
 * from its configuration: a size that nobody has seen stays NULL.
 */
#include "folders/known.h"

#include <stddef.h>
#include <string.h>
#include <strings.h>

#define COMPUTED "computed: 2 bytes (bf16) for each parameter of the tensors' shapes"
#define SHARDS	 "all that model.safetensors.index.json names"

#define TEXT_FILES                                                                                 \
	{"config.json", NULL, NULL}, {"generation_config.json", NULL, NULL},                       \
		{"tokenizer.json", NULL, NULL}, {"tokenizer_config.json", NULL, NULL},             \
		{"model.safetensors.index.json", NULL, NULL}
#define CHAT_TEMPLATE                                                                              \
	{                                                                                          \
		"chat_template.*", NULL, "where there is one"                                      \
	}
#define PAGE_FILES                                                                                 \
	TEXT_FILES, {"preprocessor_config.json", NULL, NULL},                                      \
	{                                                                                          \
		"processor_config.json", NULL, "where there is one"                                \
	}

const struct known_model known_models[] = {
	{"nanonets/Nanonets-OCR2-3B", "Qwen2_5_VLForConditionalGeneration", 3754622976u,
	 7509245952u, COMPUTED, 36864, 0, "nanonets",
	 "its page names it; the base, Qwen2.5-VL-3B, is said to be under the Qwen Research licence: "
	 "look before you use it for a trade",
	 {PAGE_FILES, CHAT_TEMPLATE, {"model-*.safetensors", NULL, SHARDS}}},
	{"Qwen/Qwen3-4B-Instruct-2507", "Qwen3ForCausalLM", 4022468096u, 8044936192u, COMPUTED, 147456,
	 0, NULL, "said to be Apache-2.0",
	 {TEXT_FILES, CHAT_TEMPLATE, {"model-*.safetensors", NULL, SHARDS}}},
	{"Qwen/Qwen3-14B", "Qwen3ForCausalLM", 14768307200u, 29536614400u, COMPUTED, 163840, 0, NULL,
	 "said to be Apache-2.0",
	 {TEXT_FILES, CHAT_TEMPLATE, {"model-*.safetensors", NULL, SHARDS}}},
	{"Qwen/Qwen3-VL-4B-Instruct", "Qwen3VLForConditionalGeneration", 4437815808u, 8875631616u,
	 COMPUTED, 147456, 0, "qwen3-vl", "said to be Apache-2.0",
	 {PAGE_FILES, CHAT_TEMPLATE, {"model-*.safetensors", NULL, SHARDS}}},
	{"QuantTrio/Qwen3-VL-30B-A3B-Instruct-AWQ", "Qwen3VLMoeForConditionalGeneration", 31070754032u,
	 19220000000u,
	 "computed: experts in int4, all else in bf16; 17.9 GB if attention is int4 as well; the page "
	 "says 17GB",
	 98304, 0, NULL, "the base, Qwen3-VL-30B-A3B-Instruct, is said to be Apache-2.0",
	 {PAGE_FILES, CHAT_TEMPLATE, {"*.safetensors", NULL, SHARDS}}},
	{"datalab-to/chandra", "Qwen3VLForConditionalGeneration", 8767123696u, 17534247392u, COMPUTED,
	 147456, 0, "chandra",
	 "weights under a modified OpenRAIL-M: free for research, persons and small companies, not to "
	 "compete with the vendor's service; the page has the terms",
	 {{"config.json", NULL, NULL},
	  {"generation_config.json", "213 bytes", NULL},
	  {"preprocessor_config.json", NULL, NULL},
	  {"processor_config.json", NULL, "where there is one"},
	  {"tokenizer.json", NULL, NULL},
	  {"tokenizer_config.json", NULL, NULL},
	  {"chat_template.jinja", "5.29 kB", NULL},
	  {"model.safetensors.index.json", NULL, NULL},
	  {"model-00001-of-00004.safetensors", "5 GB", NULL},
	  {"model-00002-of-00004.safetensors", "4.92 GB", NULL},
	  {"model-00003-of-00004.safetensors", "4.92 GB", NULL},
	  {"model-00004-of-00004.safetensors", "2.7 GB", NULL}}},
	{"datalab-to/chandra-ocr-2", "Qwen3_5ForConditionalGeneration", 4540000000u, 9080000000u,
	 "computed: 2 bytes (bf16) for each of about 4.54 billion parameters", 32768, 51500000, NULL,
	 "said to be of the kind of datalab-to/chandra's, a modified OpenRAIL-M",
	 {PAGE_FILES, CHAT_TEMPLATE, {"*.safetensors", NULL, SHARDS}}},
	{"microsoft/Phi-4-mini-instruct", "Phi3ForCausalLM", 3836021760u, 7672043520u, COMPUTED, 131072,
	 0, NULL, "said to be MIT",
	 {TEXT_FILES,
	  CHAT_TEMPLATE,
	  {"model-00001-of-00002.safetensors", NULL, NULL},
	  {"model-00002-of-00002.safetensors", NULL, NULL}}},
	{"microsoft/Phi-4-multimodal-instruct", "Phi4MMForCausalLM", 5600000000u, 11200000000u,
	 "the page's three shards, about 11.2 GB; the whole repository has 12.9 GB", 131072, 0, NULL,
	 "said to be MIT",
	 {PAGE_FILES,
	  CHAT_TEMPLATE,
	  {"model-00001-of-00003.safetensors", NULL, NULL},
	  {"model-00002-of-00003.safetensors", NULL, NULL},
	  {"model-00003-of-00003.safetensors", NULL, NULL},
	  {"vision-lora/*", NULL, "copies of adapters that the shards hold already"},
	  {"speech-lora/*", NULL, "likewise"}}},
	{NULL},
};

/* Of "org/name" and "org--name". */
static const char *after_org(const char *name)
{
	const char *slash = strchr(name, '/'), *dashes = strstr(name, "--");

	return slash ? slash + 1 : dashes ? dashes + 2 : name;
}

static size_t org_length(const char *name)
{
	const char *rest = after_org(name);

	return rest == name ? 0 : (size_t)(rest - name) - (rest[-1] == '/' ? 1 : 2);
}

const struct known_model *known_model_find(const char *name)
{
	for (const struct known_model *m = known_models; m->name; m++) {
		size_t org = org_length(name);

		if (!strcasecmp(after_org(name), after_org(m->name)) &&
		    (!org || (org == org_length(m->name) && !strncasecmp(name, m->name, org))))
			return m;
	}
	return NULL;
}
