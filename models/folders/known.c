/* SPDX-License-Identifier: MIT
 *
 * The table of known models. Whoever adds one puts down only what was read from its page or
 * computed from its configuration: a size that nobody has seen stays NULL.
 */
#include "folders/known.h"

#include <stddef.h>
#include <string.h>
#include <strings.h>

#define COMPUTED "computed: 2 bytes (bf16) for each parameter of the tensors' shapes"
#define SHARDS	 "all that model.safetensors.index.json names"
#define SOME	 "where there is one"

/* Of a model that reads text alone, and of one that reads pages. */
static const struct known_file text_files[] = {
	{"config.json", NULL, NULL},	 {"generation_config.json", NULL, NULL},
	{"tokenizer.json", NULL, NULL},	 {"tokenizer_config.json", NULL, NULL},
	{"chat_template.*", NULL, SOME}, {"model.safetensors.index.json", NULL, NULL},
	{"*.safetensors", NULL, SHARDS}, {NULL, NULL, NULL},
};
static const struct known_file page_files[] = {
	{"config.json", NULL, NULL},
	{"generation_config.json", NULL, NULL},
	{"preprocessor_config.json", NULL, NULL},
	{"processor_config.json", NULL, SOME},
	{"tokenizer.json", NULL, NULL},
	{"tokenizer_config.json", NULL, NULL},
	{"chat_template.*", NULL, SOME},
	{"model.safetensors.index.json", NULL, NULL},
	{"*.safetensors", NULL, SHARDS},
	{NULL, NULL, NULL},
};
static const struct known_file chandra_files[] = {
	{"config.json", NULL, NULL},
	{"generation_config.json", "213 bytes", NULL},
	{"preprocessor_config.json", NULL, NULL},
	{"processor_config.json", NULL, SOME},
	{"tokenizer.json", NULL, NULL},
	{"tokenizer_config.json", NULL, NULL},
	{"chat_template.jinja", "5.29 kB", NULL},
	{"model.safetensors.index.json", NULL, NULL},
	{"model-00001-of-00004.safetensors", "5 GB", NULL},
	{"model-00002-of-00004.safetensors", "4.92 GB", NULL},
	{"model-00003-of-00004.safetensors", "4.92 GB", NULL},
	{"model-00004-of-00004.safetensors", "2.7 GB", NULL},
	{NULL, NULL, NULL},
};
static const struct known_file phi_mini_files[] = {
	{"config.json", NULL, NULL},
	{"generation_config.json", NULL, NULL},
	{"tokenizer.json", NULL, NULL},
	{"tokenizer_config.json", NULL, NULL},
	{"chat_template.*", NULL, SOME},
	{"model.safetensors.index.json", NULL, NULL},
	{"model-00001-of-00002.safetensors", NULL, NULL},
	{"model-00002-of-00002.safetensors", NULL, NULL},
	{NULL, NULL, NULL},
};
static const struct known_file phi_multimodal_files[] = {
	{"config.json", NULL, NULL},
	{"generation_config.json", NULL, NULL},
	{"preprocessor_config.json", NULL, NULL},
	{"processor_config.json", NULL, SOME},
	{"tokenizer.json", NULL, NULL},
	{"tokenizer_config.json", NULL, NULL},
	{"model.safetensors.index.json", NULL, NULL},
	{"model-00001-of-00003.safetensors", NULL, NULL},
	{"model-00002-of-00003.safetensors", NULL, NULL},
	{"model-00003-of-00003.safetensors", NULL, NULL},
	{"vision-lora/*", NULL, "a copy of an adapter that the shards hold already"},
	{"speech-lora/*", NULL, "likewise"},
	{NULL, NULL, NULL},
};

const struct known_model known_models[] = {
	{
		.name = "nanonets/Nanonets-OCR2-3B",
		.architecture = "Qwen2_5_VLForConditionalGeneration",
		.parameters = 3754622976,
		.weights = 7509245952,
		.weights_how = COMPUTED,
		.token_bytes = 36864,
		.pipeline = "nanonets",
		.licence =
			"its page names it; the base, Qwen2.5-VL-3B, is said to be under the Qwen "
			"Research licence: look before you use it for a trade",
		.files = page_files,
	},
	{
		.name = "Qwen/Qwen3-4B-Instruct-2507",
		.architecture = "Qwen3ForCausalLM",
		.parameters = 4022468096,
		.weights = 8044936192,
		.weights_how = COMPUTED,
		.token_bytes = 147456,
		.pipeline = "qwen3-text",
		.licence = "said to be Apache-2.0",
		.files = text_files,
	},
	{
		.name = "Qwen/Qwen3-14B",
		.architecture = "Qwen3ForCausalLM",
		.parameters = 14768307200,
		.weights = 29536614400,
		.weights_how = COMPUTED,
		.token_bytes = 163840,
		.licence = "said to be Apache-2.0",
		.files = text_files,
	},
	{
		.name = "Qwen/Qwen3-VL-4B-Instruct",
		.architecture = "Qwen3VLForConditionalGeneration",
		.parameters = 4437815808,
		.weights = 8875631616,
		.weights_how = COMPUTED,
		.token_bytes = 147456,
		.pipeline = "qwen3-vl",
		.licence = "said to be Apache-2.0",
		.files = page_files,
	},
	{
		.name = "QuantTrio/Qwen3-VL-30B-A3B-Instruct-AWQ",
		.architecture = "Qwen3VLMoeForConditionalGeneration",
		.parameters = 31070754032,
		.weights = 19220000000,
		.weights_how =
			"computed: experts in int4, all else in bf16; 17.9 GB if attention is int4 "
			"as well; the page says 17GB",
		.token_bytes = 98304,
		.pipeline = "qwen3-vl",
		.copied = true,
		.licence = "the base, Qwen3-VL-30B-A3B-Instruct, is said to be Apache-2.0",
		.files = page_files,
	},
	{
		.name = "datalab-to/chandra",
		.architecture = "Qwen3VLForConditionalGeneration",
		.parameters = 8767123696,
		.weights = 17534247392,
		.weights_how = COMPUTED,
		.token_bytes = 147456,
		.pipeline = "chandra",
		.licence =
			"weights under a modified OpenRAIL-M: free for research, persons and small "
			"companies, not to compete with the vendor's service; the page has the "
			"terms",
		.files = chandra_files,
	},
	{
		.name = "datalab-to/chandra-ocr-2",
		.architecture = "Qwen3_5ForConditionalGeneration",
		.parameters = 4540000000,
		.weights = 9080000000,
		.weights_how = "computed: 2 bytes (bf16) for each of about 4.54 billion parameters",
		.token_bytes = 32768,
		.state_bytes = 51500000,
		.licence = "said to be of the kind of datalab-to/chandra's, a modified OpenRAIL-M",
		.files = page_files,
	},
	{
		.name = "microsoft/Phi-4-mini-instruct",
		.architecture = "Phi3ForCausalLM",
		.parameters = 3836021760,
		.weights = 7672043520,
		.weights_how = COMPUTED,
		.token_bytes = 131072,
		.pipeline = "phi-4",
		.licence = "said to be MIT",
		.files = phi_mini_files,
	},
	{
		.name = "microsoft/Phi-4-multimodal-instruct",
		.architecture = "Phi4MMForCausalLM",
		.parameters = 5600000000,
		.weights = 11200000000,
		.weights_how = "the three shards of its page, about 11.2 GB; the whole repository "
			       "has 12.9 GB",
		.token_bytes = 131072,
		.licence = "said to be MIT",
		.files = phi_multimodal_files,
	},
	{.name = NULL},
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
