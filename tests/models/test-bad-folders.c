/* SPDX-License-Identifier: MIT
 *
 * Model folders that are damaged: whatever has become of config.json or of the header of the weights,
 * opening ends with a model or with an error that says what is wrong, never otherwise.
 *
 * CLOISTER_TEST_SEED=N CLOISTER_TEST_FULL=1 for other and for more mutations.
 */
#include "model.h"

#include "base/buf.h"
#include "base/log.h"
#include "weights/awq.h"

#include <dirent.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

static const struct compute_options bf16 = {.weights = NUMBER_BF16};

#define GOLDEN "tests/golden/models/"

static char folder[] = "/tmp/cloister-folder-XXXXXX";
static struct pool *pool;
static unsigned seed = 1;

static unsigned next(void)
{
	seed = seed * 1664525u + 1013904223u;
	return seed >> 8;
}

static struct buf slurp(const char *path)
{
	struct buf b;
	char chunk[65536];
	FILE *f = fopen(path, "r");
	size_t n;

	assert_non_null(f);
	buf_init(&b, 64u << 20);
	while ((n = fread(chunk, 1, sizeof(chunk), f)) > 0)
		buf_add(&b, chunk, n);
	fclose(f);
	return b;
}

static void put(const char *name, const char *data, size_t len)
{
	char *path = xasprintf("%s/%s", folder, name);
	FILE *f;

	unlink(path); /* the link, not what it leads to */
	f = fopen(path, "w");
	assert_non_null(f);
	assert_int_equal(fwrite(data, 1, len, f), len);
	fclose(f);
	free(path);
}

/* Links to all files of a golden model; the one that is mutated is put in the link's place. */
static void fill(const char *golden)
{
	DIR *dir = opendir(golden);
	char *here = realpath(golden, NULL);

	assert_non_null(dir);
	for (struct dirent *e; (e = readdir(dir));) {
		char *to = xasprintf("%s/%s", folder, e->d_name), *from = xasprintf("%s/%s", here, e->d_name);

		if (e->d_name[0] != '.' && strcmp(e->d_name, "expected.safetensors"))
			assert_int_equal(symlink(from, to), 0);
		free(to);
		free(from);
	}
	closedir(dir);
	free(here);
}

static void empty(void)
{
	DIR *dir = opendir(folder);

	for (struct dirent *e; (e = readdir(dir));)
		unlinkat(dirfd(dir), e->d_name, 0);
	closedir(dir);
}

/* A number becomes a wild one, a character another, a piece goes or comes twice. */
static void mutate(struct buf *b, size_t from, size_t len)
{
	static const char *const wild[] = { "0", "-1", "1", "7", "2147483648", "18446744073709551615", "1e308", "\"x\"",
					    "[]", "{}", "null", "true", "99999999999999999999" };

	for (unsigned n = 1 + next() % 4; n; n--) {
		size_t at = from + next() % len, digits, left = from + len - at;
		char *p = b->data + at;

		switch (next() % 4) {
		case 0: /* the same length: what comes behind the header stays where it is */
			digits = strspn(p, "0123456789");
			for (size_t i = 0; i < digits && i < left; i++)
				p[i] = (char)('0' + next() % 10);
			break;
		case 1:
			*p = "{}[]\",:0 x\xff"[next() % 11];
			break;
		case 2:
			*p = (char)next();
			break;
		default: {
			const char *word = wild[next() % (sizeof(wild) / sizeof(*wild))];
			char *colon = memchr(p, ':', left);
			size_t k = strlen(word);

			if (colon && colon + 2 + k < b->data + from + len) {
				size_t old = strcspn(colon + 1, ",}");

				memset(colon + 1, ' ', old < (size_t)(b->data + from + len - colon - 1) ? old : 0);
				if (old >= k)
					memcpy(colon + 1, word, k);
			}
		}
		}
	}
}

static unsigned refused, opened;

static void try_open(const char *what)
{
	struct err err = { .text = "" };
	struct model model;

	if (model_open(&model, folder, compute_open_cpu, &bf16, pool, &err) == RC_OK) {
		opened++;
		model_close(&model);
		return;
	}
	refused++;
	if (!strstr(err.text, ".json") && !strstr(err.text, ".safetensors") && !strstr(err.text, "tensor"))
		fail_msg("%s: the error does not say where: %s", what, err.text);
}

static void mutate_file(const char *golden, const char *name, unsigned times)
{
	char *path = xasprintf("%s/%s", golden, name);
	struct buf whole = slurp(path);
	bool weights = strstr(name, ".safetensors") && !strstr(name, ".json");
	uint64_t header = 0;

	fill(golden);
	if (weights)
		memcpy(&header, whole.data, 8);
	for (unsigned i = 0; i < times; i++) {
		struct buf copy;
		char what[200];

		snprintf(what, sizeof(what), "%s, seed %u", path, seed);
		buf_init(&copy, 64u << 20);
		buf_add(&copy, whole.data, whole.len);
		mutate(&copy, weights ? 8 : 0, weights ? header : whole.len);
		if (weights && next() % 8 == 0)
			copy.data[next() % 8] = (char)next();
		if (next() % 8 == 0)
			copy.len = next() % copy.len;
		put(name, copy.data, copy.len);
		buf_release(&copy);
		try_open(what);
	}
	buf_release(&whole);
	free(path);
	empty();
}

static void test_mutations(void **state)
{
	static const char *const models[] = { "qwen3-vl", "qwen2.5-vl-old", "qwen3-vl-moe-awq", "qwen3-moe-stacked",
					      "qwen3-awq", "qwen3" };
	static const char *const files[] = { "config.json", "generation_config.json", "model.safetensors",
					     "preprocessor_config.json" };
	unsigned times = getenv("CLOISTER_TEST_FULL") ? 2000 : 25;

	(void)state;
	for (size_t m = 0; m < sizeof(models) / sizeof(*models); m++)
		for (size_t f = 0; f < sizeof(files) / sizeof(*files) - (m >= 3); f++) {
			char *golden = xasprintf(GOLDEN "%s", models[m]);

			mutate_file(golden, files[f], times);
			free(golden);
		}
	print_message("# figure: damaged model folders: %u refused by name, %u opened\n", refused, opened);
	assert_true(refused > opened / 4);
}

static void test_missing(void **state)
{
	static const char *const files[] = { "config.json", "model-00002-of-00002.safetensors",
					     "preprocessor_config.json" };

	(void)state;
	for (size_t i = 0; i < sizeof(files) / sizeof(*files); i++) {
		char *path = xasprintf("%s/%s", folder, files[i]);
		struct model model;
		struct err err;

		fill(GOLDEN "qwen2.5-vl");
		assert_int_equal(unlink(path), 0);
		assert_int_equal(model_open(&model, folder, compute_open_cpu, &bf16, pool, &err), RC_FATAL);
		if (!strstr(err.text, files[i]))
			fail_msg("without %s: %s", files[i], err.text);
		free(path);
		empty();
	}
}

/* ---- what is wrong by name ---- */

struct fault {
	const char *model, *file, *from, *to;
	const char *words; /* that the error has, beside the file */
};

static const struct fault faults[] = {
	/* Sizes that no model has, or that do not go together. */
	{ "qwen3", "config.json", "\"hidden_size\": 48", "\"hidden_size\": 4294967296", "hidden_size is" },
	{ "qwen3", "config.json", "\"hidden_size\": 48", "\"hidden_size\": 0", "hidden_size is 0" },
	{ "qwen3", "config.json", "\"hidden_size\": 48", "\"hidden_size\": 48.5", "hidden_size is not a whole" },
	{ "qwen3", "config.json", "\"hidden_size\": 48,", "", "hidden_size is missing" },
	{ "qwen3", "config.json", "\"num_hidden_layers\": 3", "\"num_hidden_layers\": 1000000", "num_hidden_layers" },
	{ "qwen3", "config.json", "\"num_hidden_layers\": 3", "\"num_hidden_layers\": -1", "num_hidden_layers" },
	{ "qwen3", "config.json", "\"num_attention_heads\": 2", "\"num_attention_heads\": 99999", "num_attention_heads" },
	{ "qwen3", "config.json", "\"num_key_value_heads\": 1", "\"num_key_value_heads\": 3", "num_key_value_heads" },
	{ "qwen3", "config.json", "\"head_dim\": 128", "\"head_dim\": 100", "head_dim" },
	{ "qwen3", "config.json", "\"intermediate_size\": 150", "\"intermediate_size\": 1e9", "intermediate_size" },
	{ "qwen3", "config.json", "\"vocab_size\": 304", "\"vocab_size\": 99999999999999999999", "too big" },
	{ "qwen3", "config.json", "\"vocab_size\": 304", "\"vocab_size\": 2147483647", "vocab_size" },
	{ "qwen3", "config.json", "\"eos_token_id\": 299", "\"eos_token_id\": 304", "eos_token_id" },
	{ "qwen3", "config.json", "\"rms_norm_eps\": 1e-06", "\"rms_norm_eps\": \"small\"", "rms_norm_eps" },
	{ "qwen3", "config.json", "\"rope_theta\": 1000000.0", "\"rope_theta\": -1", "rope_theta" },
	{ "qwen3", "config.json", "\"silu\"", "\"relu\"", "hidden_act" },
	{ "qwen3", "config.json", "\"Qwen3ForCausalLM\"", "\"GPT2LMHeadModel\"", "GPT2LMHeadModel" },
	{ "qwen3", "config.json", "\"architectures\"", "\"architecture\"", "architectures" },
	{ "qwen3", "config.json", "\"torch_dtype\"", "\"quantization_config\"", "quantization_config" },
	{ "qwen3", "config.json", "}\n", "", "}" },
	{ "qwen3-vl", "config.json", "\"mrope_section\": [", "\"mrope_section\": [7,", "mrope_section" },
	{ "qwen3-vl", "config.json", "\"rope_type\": \"default\"", "\"rope_type\": \"yarn\"", "rope type \"yarn\"" },
	{ "qwen3-vl", "config.json", "\"depth\": 4", "\"depth\": 100000", "depth" },
	{ "qwen3-vl", "config.json", "\"depth\": 4", "\"depth\": 3", "deepstack_visual_indexes" },
	{ "qwen3-vl", "config.json", "\"patch_size\": 16", "\"patch_size\": 0", "patch_size" },
	{ "qwen3-vl", "config.json", "\"num_heads\": 1", "\"num_heads\": 7", "num_heads" },
	{ "qwen3-vl", "config.json", "\"out_hidden_size\": 96", "\"out_hidden_size\": 97", "out_hidden_size" },
	{ "qwen3-vl", "config.json", "\"num_position_embeddings\": 144", "\"num_position_embeddings\": 143",
	  "num_position_embeddings" },
	{ "qwen3-vl", "config.json", "\"image_token_id\": 302", "\"image_token_id\": 304", "image_token_id" },
	{ "qwen3-vl", "config.json", "\"vision_config\"", "\"visual_config\"", "vision_config" },
	{ "qwen2.5-vl", "config.json", "\"window_size\": 48", "\"window_size\": 11", "window_size" },
	{ "qwen2.5-vl", "config.json", "\"fullatt_block_indexes\": [", "\"fullatt_block_indexes\": [2,",
	  "fullatt_block_indexes" },
	{ "qwen3", "generation_config.json", "[299]", "[304]", "eos_token_id" },
	{ "qwen3", "generation_config.json", "false", "\"no\"", "do_sample" },
	{ "qwen3-vl", "preprocessor_config.json", "31360", "575", "pixels" },
	{ "qwen3-vl", "preprocessor_config.json", "31360", "1e10", "longest_edge" },
	{ "qwen3-vl", "preprocessor_config.json", "\"resample\": 3", "\"resample\": 2", "resample" },
	{ "qwen3-vl", "preprocessor_config.json", "\"image_std\": [", "\"image_std\": [0,", "image_std" },
	{ "qwen3-vl", "preprocessor_config.json", "\"patch_size\": 16", "\"patch_size\": 14", "patch_size" },

	/* The header of the weights; the length before it is what it then is. */
	{ "qwen3", "model.safetensors", "[304,48]", "[4611686018427387904,48]", "embed_tokens.weight: shape overflows" },
	{ "qwen3", "model.safetensors", "[304,48]", "[-304,48]", "embed_tokens.weight: shape" },
	{ "qwen3", "model.safetensors", "[304,48]", "[304,47]", "embed_tokens.weight: shape and dtype" },
	{ "qwen3", "model.safetensors", "[304,48]", "[48,304]", "embed_tokens.weight has 48 x 304" },
	{ "qwen3", "model.safetensors", "[304,48]", "[1,1,1,1,1,304,48]", "embed_tokens.weight: shape" },
	{ "qwen3", "model.safetensors", "\"BF16\"", "\"Q4_K\"", "embed_tokens.weight: unknown dtype" },
	{ "qwen3", "model.safetensors", "\"BF16\"", "\"I16\"", "embed_tokens.weight has dtype I16" },
	{ "qwen3", "model.safetensors", "[0,29184]", "[29184,0]", "embed_tokens.weight: data_offsets" },
	{ "qwen3", "model.safetensors", "[0,29184]", "[-1,29183]", "embed_tokens.weight: data_offsets" },
	{ "qwen3", "model.safetensors", "[0,29184]", "[2,29186]", "overlaps" },
	{ "qwen3", "model.safetensors", "[382080,382176]", "[18446744073709000000,382176]", "too big" },
	{ "qwen3", "model.safetensors", "[382080,382176]", "[482080,482176]", "norm.weight: its data lies beyond" },
	{ "qwen3", "model.safetensors", "model.norm.weight", "model.norms.weight", "text.norm.weight is missing" },
	{ "qwen3", "model.safetensors", "layers.2.self_attn.k_norm", "layers.2.self_attn.k_nor",
	  "text.layers.2.self_attn.k_norm.weight is missing" },
	{ "qwen3", "model.safetensors", "{\"model.embed", "{\"more\":{\"dtype\":\"U8\",\"shape\":[0],\"data_offsets\":[0,0]},"
	  "\"model.embed", "more: is not one of this architecture's" },
	{ "qwen3", "model.safetensors", "{\"model.embed", "{\"model.norm.weight\":0,\"model.embed", "duplicate" },
	{ "qwen3", "model.safetensors", "{\"model.embed", "[\"model.embed", "model.safetensors" },

	/* Experts. */
	{ "qwen3-moe", "config.json", "\"num_experts\": 7", "\"num_experts\": 0", "num_experts is 0" },
	{ "qwen3-moe", "config.json", "\"num_experts\": 7", "\"num_experts\": 1000000", "num_experts" },
	{ "qwen3-moe", "config.json", "\"num_experts\": 7,", "", "num_experts is missing" },
	{ "qwen3-moe", "config.json", "\"num_experts\": 7", "\"num_experts\": 8",
	  ".mlp.gate.weight has 7 x 56" },
	{ "qwen3-moe", "config.json", "\"num_experts_per_tok\": 2", "\"num_experts_per_tok\": 8",
	  "num_experts_per_tok is 8" },
	{ "qwen3-moe", "config.json", "\"num_experts_per_tok\": 2", "\"num_experts_per_tok\": 0",
	  "num_experts_per_tok is 0" },
	{ "qwen3-moe", "config.json", "\"moe_intermediate_size\": 36", "\"moe_intermediate_size\": 37",
	  "experts.0.gate_proj.weight has 36 x 56 numbers" },
	{ "qwen3-moe", "config.json", "\"norm_topk_prob\": false", "\"norm_topk_prob\": 1", "norm_topk_prob" },
	{ "qwen3-moe", "config.json", "\"decoder_sparse_step\": 2", "\"decoder_sparse_step\": 0",
	  "decoder_sparse_step" },
	{ "qwen3-moe", "config.json", "\"mlp_only_layers\": [\n  1", "\"mlp_only_layers\": [\n  4", "mlp_only_layers" },
	{ "qwen3-moe", "config.json", "\"mlp_only_layers\": [\n  1", "\"mlp_only_layers\": [\n  0",
	  ".1.mlp.gate.weight is missing" },
	{ "qwen3-moe", "model.safetensors", "experts.6.down_proj", "experts.7.down_proj",
	  "experts.6.down_proj.weight is missing" },
	{ "qwen3-moe-stacked", "model.safetensors", "\"shape\":[5,64,64]", "\"shape\":[5,128,32]",
	  "mlp.experts.gate_up_proj is no stack of 5 experts" },
	{ "qwen3-moe-stacked", "model.safetensors", "\"shape\":[5,64,32]", "\"shape\":[64,5,32]",
	  "mlp.experts.down_proj is no stack of 5 experts" },
	{ "qwen3-moe-stacked", "model.safetensors", "\"shape\":[5,64,64]", "\"shape\":[5,4096]",
	  "mlp.experts.gate_up_proj is no stack of 5 experts" },
	{ "qwen3-moe-stacked", "model.safetensors", "0.mlp.experts.down_proj", "0.mlp.experts.down",
	  "experts.down_proj is missing" },
	{ "qwen3-moe-stacked", "model.safetensors", "\"BF16\",\"shape\":[5,64,64]", "\"I16\",\"shape\":[5,64,64]",
	  "experts.gate_up_proj has dtype I16" },

	/* Weights of 4 bits. */
	{ "qwen3-awq", "config.json", "\"awq\"", "\"gptq\"", "quant_method \"gptq\"" },
	{ "qwen3-awq", "config.json", "\"quant_method\": \"awq\",", "", "quant_method is missing" },
	{ "qwen3-awq", "config.json", "\"w_bit\": 4", "\"w_bit\": 3", "3 bits are not supported" },
	{ "qwen3-awq", "config.json", "\"w_bit\": 4", "\"bits\": \"4\"", "bits" },
	{ "qwen3-awq", "config.json", "\"GEMM\"", "\"gemv\"", "version \"gemv\"" },
	{ "qwen3-awq", "config.json", "\"zero_point\": true", "\"zero_point\": false", "zero_point" },
	{ "qwen3-awq", "config.json", "\"q_group_size\": -1", "\"q_group_size\": 0", "q_group_size" },
	{ "qwen3-awq", "config.json", "\"q_group_size\": -1", "\"q_group_size\": 40", "group_size 40" },
	{ "qwen3-awq", "config.json", "\"quantization_config\"", "\"quantization\"",
	  "q_proj.qweight is quantised, but config.json has no quantization_config" },
	{ "qwen3-awq", "config.json", "\"q_group_size\": -1", "\"q_group_size\": 32", "_proj.qweight has columns that are no multiple of group_size" },
	{ "qwen3-vl-moe-awq", "config.json", "\"group_size\": 32", "\"group_size\": 96",
	  "gate_proj.qzeros has 3 x 4 numbers, the configuration wants 1 x 4" },
	{ "qwen3-awq", "model.safetensors", "\"I32\",\"shape\":[104,9]", "\"F32\",\"shape\":[104,9]",
	  "down_proj.qweight is not of dtype I32" },
	{ "qwen3-awq", "model.safetensors", "\"shape\":[104,9]", "\"shape\":[9,104]",
	  "down_proj.qweight has 9 x 104 numbers, the configuration wants 104 x 9" },
	{ "qwen3-awq", "model.safetensors", "\"shape\":[104,9]", "\"shape\":[936]", "down_proj.qweight has 936 x 1" },
	{ "qwen3-awq", "model.safetensors", "\"I32\",\"shape\":[1,9]", "\"F32\",\"shape\":[1,9]",
	  "down_proj.qzeros is not of dtype I32" },
	{ "qwen3-awq", "model.safetensors", "\"shape\":[1,9]", "\"shape\":[9,1]", "down_proj.qzeros has 9 x 1" },
	{ "qwen3-awq", "model.safetensors", "\"shape\":[1,72]", "\"shape\":[72,1]", "down_proj.scales has 72 x 1" },
	{ "qwen3-awq", "model.safetensors", "\"F32\",\"shape\":[1,72]", "\"I32\",\"shape\":[1,72]",
	  "down_proj.scales has dtype I32" },
	{ "qwen3-awq", "model.safetensors", "0.mlp.down_proj.scales", "0.mlp.down_proj.scale", "down_proj.scales is missing" },
	{ "qwen3-awq", "model.safetensors", "0.mlp.down_proj.qweight", "0.mlp.down_proj.qw",
	  "down_proj.weight is missing" },
	{ "qwen3-awq", "config.json", "\"intermediate_size\": 104", "\"intermediate_size\": 100",
	  "gate_proj.qweight packs eight rows in a word" },

	{ "qwen2.5-vl", "model.safetensors.index.json", "model-00001-of-00002.safetensors",
	  "../model-00001-of-00002.safetensors", "weight_map names the shard" },
	{ "qwen2.5-vl", "model.safetensors.index.json", "model-00001-of-00002.safetensors",
	  "model-00003-of-00002.safetensors", "model-00003-of-00002.safetensors" },
	{ "qwen2.5-vl", "model.safetensors.index.json", "\"lm_head.weight\": \"model-00001",
	  "\"lm_head.weight\": \"model-00002", "lm_head.weight: is not there" },
	{ "qwen2.5-vl", "model.safetensors.index.json", "\"lm_head.weight\": \"model-00001-of-00002.safetensors\",",
	  "", "weight_map has" },
	{ "qwen2.5-vl", "model.safetensors.index.json", "\"weight_map\"", "\"weights\"", "weight_map is missing" },
};

/* One place of a file; in weights, one of the header, whose length is set anew. */
static void replace(const struct fault *f)
{
	char *path = xasprintf(GOLDEN "%s/%s", f->model, f->file), *at;
	struct buf whole = slurp(path), out;
	uint64_t header;

	at = memmem(whole.data, whole.len, f->from, strlen(f->from));
	if (!at)
		fail_msg("%s has no %s", path, f->from);
	buf_init(&out, 64u << 20);
	buf_add(&out, whole.data, (size_t)(at - whole.data));
	buf_add(&out, f->to, strlen(f->to));
	at += strlen(f->from);
	buf_add(&out, at, whole.len - (size_t)(at - whole.data));
	if (!strcmp(f->file, "model.safetensors")) {
		memcpy(&header, out.data, 8);
		header += out.len - whole.len;
		memcpy(out.data, &header, 8);
	}
	put(f->file, out.data, out.len);
	buf_release(&out);
	buf_release(&whole);
	free(path);
}

static void expect_refused(const char *file, const char *words, const char *what)
{
	struct model model;
	struct err err;

	if (model_open(&model, folder, compute_open_cpu, &bf16, pool, &err) != RC_FATAL)
		fail_msg("%s, %s: it was opened", file, what);
	if (!strstr(err.text, file) || !strstr(err.text, words))
		fail_msg("%s, %s: expected \"%s\" in: %s", file, what, words, err.text);
}

static void test_named(void **state)
{
	(void)state;
	for (size_t i = 0; i < sizeof(faults) / sizeof(*faults); i++) {
		const struct fault *f = &faults[i];
		char *golden = xasprintf(GOLDEN "%s", f->model);
		/* An error of a tensor names the shard. */
		bool index = (strstr(f->file, ".index.json") && !strstr(f->words, "weight_map")) ||
			     strstr(f->words, ".mlp.") || strstr(f->words, "_proj.");

		fill(golden);
		replace(f);
		expect_refused(index ? "safetensors" : f->file, f->words, f->to);
		empty();
		free(golden);
	}
	print_message("# figure: faults of a model's folder named: %zu\n", sizeof(faults) / sizeof(*faults));
}

/* Modules that are said to be left as they are: those that are not are counted, and the tensors win. */
static void test_left_alone(void **state)
{
	static const struct {
		const char *module;
		unsigned converted;
	} modules[] = { { "visual", 0 },	 { "mlp.experts.3.up_proj", 1 },
			{ "mlp.gate", 0 },	 { "model.language_model.layers.1.", 1 },
			{ "gate_proj.", 1 },	 { "gate_pro", 0 },
			{ "", 0 },		 { "language_model.layers.2", 0 } };

	(void)state;
	for (size_t i = 0; i < sizeof(modules) / sizeof(*modules); i++) {
		char *to = xasprintf("\"%s\"", modules[i].module);
		struct fault f = { "qwen3-vl-moe-awq", "config.json", "\"visual\"", to, NULL };
		struct model model;
		struct err err;

		fill(GOLDEN "qwen3-vl-moe-awq");
		replace(&f);
		assert_int_equal(model_open(&model, folder, compute_open_cpu, &bf16, pool, &err), RC_OK);
		if (weights_compare_awq(model.weights, folder) != modules[i].converted)
			fail_msg("%s: not %u", modules[i].module, modules[i].converted);
		model_close(&model);
		empty();
		free(to);
	}
}

/* A download that was cut off, at places of each kind; and a header whose length lies. */
static void test_truncated(void **state)
{
	static const char file[] = "model-00002-of-00002.safetensors";
	struct buf whole = slurp(GOLDEN "qwen2.5-vl/model-00002-of-00002.safetensors");
	const size_t cuts[] = { 0, 1, 7, 8, 9, 1000, whole.len / 2, whole.len - 1 };
	const uint64_t lies[] = { 0, 1, 100, whole.len - 7, 1u << 31, UINT64_C(1) << 63, UINT64_MAX, UINT64_MAX - 7 };

	(void)state;
	fill(GOLDEN "qwen2.5-vl");
	for (size_t i = 0; i < sizeof(cuts) / sizeof(*cuts); i++) {
		put(file, whole.data, cuts[i]);
		expect_refused(file, cuts[i] == whole.len - 1 ? "is the download complete?" : ": ", "cut off");
	}
	for (size_t i = 0; i < sizeof(lies) / sizeof(*lies); i++) {
		memcpy(whole.data, &lies[i], 8);
		put(file, whole.data, whole.len);
		expect_refused(file, "header", "another length of its header");
	}
	buf_release(&whole);
	empty();
}

static int setup(void **state)
{
	const char *given = getenv("CLOISTER_TEST_SEED");
	struct err err;

	(void)state;
	log_init("test", LOG_ERROR);
	if (given)
		seed = (unsigned)strtoul(given, NULL, 10);
	return !mkdtemp(folder) || pool_open(&pool, 1, &err) != RC_OK;
}

static int teardown(void **state)
{
	(void)state;
	pool_close(pool);
	empty();
	return rmdir(folder);
}

int main(void)
{
	const struct CMUnitTest tests[] = { cmocka_unit_test(test_mutations), cmocka_unit_test(test_missing),
					    cmocka_unit_test(test_named), cmocka_unit_test(test_left_alone),
					    cmocka_unit_test(test_truncated) };

	cmocka_set_message_output(CM_OUTPUT_TAP);
	return cmocka_run_group_tests(tests, setup, teardown);
}
