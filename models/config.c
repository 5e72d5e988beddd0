/* SPDX-License-Identifier: MIT
 *
 * Reads the configuration of a model folder. Field names and defaults are those of transformers'
 * configuration classes; sizes are bounded well above any real model, so that products of them stay
 * far from overflowing before the tensors are compared with them.
 */
#include "config.h"

#include "base/num.h"
#include "weights/json_file.h"
#include "weights/safetensors.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#define SIZE_LIMIT   262144u
#define VOCAB_LIMIT  (1u << 24)
#define PIXELS_LIMIT (1u << 28)

static const struct {
	const char *architecture;
	enum family family;
	bool experts;
} families[] = {
	{"Qwen3ForCausalLM", FAMILY_QWEN3, false},
	{"Qwen3MoeForCausalLM", FAMILY_QWEN3, true},
	{"Qwen2_5_VLForConditionalGeneration", FAMILY_QWEN2_5_VL, false},
	{"Qwen3VLForConditionalGeneration", FAMILY_QWEN3_VL, false},
	{"Qwen3VLMoeForConditionalGeneration", FAMILY_QWEN3_VL, true},
	{"Phi3ForCausalLM", FAMILY_PHI3, false},
};

bool model_architecture_known(const char *architecture)
{
	for (size_t i = 0; i < ARRAY_SIZE(families); i++)
		if (strcmp(architecture, families[i].architecture) == 0)
			return true;
	return false;
}

static enum rc wrong(const struct json_place *place, struct err *err, const char *what)
{
	return err_set(err, RC_FATAL, "model-config", "%.200s: %s", place->file, what);
}

/* *experts: is it of an architecture that has some? */
static enum rc read_family(struct model_config *c, const struct json_place *top, bool *experts,
			   struct err *err)
{
	const json_t *list = json_place_get(top, "architectures");
	const char *name = json_string_value(json_array_get(list, 0));

	if (!name)
		return wrong(top, err, "architectures does not name one");
	for (size_t i = 0; i < ARRAY_SIZE(families); i++) {
		if (strcmp(name, families[i].architecture) == 0) {
			c->family = families[i].family;
			c->architecture = families[i].architecture;
			*experts = families[i].experts;
			return RC_OK;
		}
	}
	return err_set(err, RC_FATAL, "model-architecture",
		       "%.200s: this engine does not know the architecture %.100s", top->file,
		       name);
}

/* A factor for each frequency. */
static enum rc read_factors(const struct json_place *place, const struct json_place *rope,
			    const char *key, unsigned count, float *out, struct err *err)
{
	const json_t *list = json_place_get(rope, key);

	if (json_array_size(list) != count)
		return err_set(
			err, RC_FATAL, "model-config",
			"%.200s: %s is not a list of %u numbers, one for each pair that rope "
			"turns",
			place->file, key, count);
	for (unsigned j = 0; j < count; j++) {
		const json_t *item = json_array_get(list, j);
		double factor = json_number_value(item);

		if (!json_is_number(item) || !(factor >= 1e-3 && factor <= 1e6))
			return err_set(err, RC_FATAL, "model-config",
				       "%.200s: %s has an entry that is not a number from 0.001 to "
				       "1000000",
				       place->file, key);
		out[j] = (float)factor;
	}
	return RC_OK;
}

/*
 * longrope: one list of factors for sequences up to the length that the model was first trained
 * with, one for longer ones. Cosines and sines grow with the ratio of the two lengths, also in
 * short sequences.
 */
static enum rc read_longrope(struct text_config *t, const struct json_place *place,
			     const struct json_place *rope, const struct json_place *both,
			     struct err *err)
{
	double ratio, scale;

	if (json_place_get(rope, "short_mscale") || json_place_get(rope, "long_mscale"))
		return wrong(place, err, "short_mscale and long_mscale are not supported");
	if (json_place_size(both, "original_max_position_embeddings", true, 2, 1u << 24,
			    &t->switch_at, err) != RC_OK ||
	    read_factors(place, rope, "short_factor", t->rotary / 2, t->factor[0], err) != RC_OK ||
	    read_factors(place, rope, "long_factor", t->rotary / 2, t->factor[1], err) != RC_OK)
		return RC_FATAL;
	ratio = (double)t->max_positions / t->switch_at;
	if (json_place_number(rope, "factor", false, 0, 1e6, &ratio, err) != RC_OK)
		return RC_FATAL;
	scale = ratio > 1 ? sqrt(1 + log(ratio) / log(t->switch_at)) : 1;
	if (json_place_number(rope, "attention_factor", false, 1e-3, 1e3, &scale, err) != RC_OK)
		return RC_FATAL;
	t->rope_scale = (float)scale;
	return RC_OK;
}

/* How much of a head is turned. */
static enum rc read_rotary(struct model_config *c, const struct json_place *place, struct err *err)
{
	struct text_config *t = &c->text;
	double part = 1;

	if (json_place_number(place, "partial_rotary_factor", false, 0, 1, &part, err) != RC_OK)
		return RC_FATAL;
	t->rotary = (unsigned)(t->head_dim * part);
	if (part < 1 && c->family != FAMILY_PHI3)
		return wrong(place, err,
			     "partial_rotary_factor is not supported for this architecture");
	if (t->rotary < 4 || t->rotary % 4)
		return wrong(place, err,
			     "partial_rotary_factor of head_dim is not a multiple of 4 numbers");
	return RC_OK;
}

/* rope_scaling of transformers 4, rope_parameters of 5. */
static enum rc read_rope(struct model_config *c, const struct json_place *place, struct err *err)
{
	struct text_config *t = &c->text;
	const json_t *parameters = json_place_get(place, "rope_parameters");
	const struct json_place rope = {
		place->file,
		{parameters ? parameters : json_place_get(place, "rope_scaling"), NULL, NULL}};
	const struct json_place both = {
		place->file, {rope.objects[0], place->objects[0], place->objects[1]}};
	const char *type = "default";
	unsigned count = 0;

	t->rope_theta = 10000;
	t->rope_scale = 1;
	if (json_place_number(place, "rope_theta", false, 1, 1e12, &t->rope_theta, err) != RC_OK ||
	    read_rotary(c, &both, err) != RC_OK)
		return RC_FATAL;
	if (!rope.objects[0])
		return RC_OK;
	if (json_place_number(&rope, "rope_theta", false, 1, 1e12, &t->rope_theta, err) != RC_OK ||
	    json_place_string(&rope, "type", false, &type, err) != RC_OK ||
	    json_place_string(&rope, "rope_type", false, &type, err) != RC_OK)
		return RC_FATAL;
	if (c->family == FAMILY_PHI3 && !strcmp(type, "longrope"))
		return read_longrope(t, place, &rope, &both, err);
	if (strcmp(type, "default") != 0 && strcmp(type, "mrope") != 0)
		return err_set(err, RC_FATAL, "model-config",
			       "%.200s: rope type \"%.60s\" is not supported", place->file, type);
	if (json_place_sizes(&rope, "mrope_section", false, SIZE_LIMIT, 3, t->mrope, &count, err) !=
		    RC_OK ||
	    json_place_bool(&rope, "mrope_interleaved", &t->mrope_interleaved, err) != RC_OK)
		return RC_FATAL;
	if (count && (count != 3 || t->mrope[0] + t->mrope[1] + t->mrope[2] != t->head_dim / 2))
		return wrong(place, err,
			     "mrope_section is not three sizes that add up to half of head_dim");
	return RC_OK;
}

/* Phi-3 looks back no further than its window, unless that is longer than any text. */
static enum rc read_window(const struct text_config *t, const struct json_place *place,
			   struct err *err)
{
	unsigned window = t->max_positions;

	if (json_place_size(place, "sliding_window", false, 1, 1u << 30, &window, err) != RC_OK)
		return RC_FATAL;
	if (window < t->max_positions)
		return wrong(place, err,
			     "sliding_window is shorter than max_position_embeddings, which is not "
			     "supported");
	return RC_OK;
}

/* Which layers have experts: every `decoder_sparse_step`-th, but for those of `mlp_only_layers`. */
static enum rc read_experts(struct model_config *c, const struct json_place *place, struct err *err)
{
	struct text_config *t = &c->text;
	unsigned step = 1, dense[LAYERS_MAX], count = 0;
	const char *name =
		json_place_get(place, "num_local_experts") ? "num_local_experts" : "num_experts";

	t->expert_weights_normed = c->family == FAMILY_QWEN3_VL;
	if (json_place_size(place, name, true, 1, EXPERTS_MAX, &t->experts, err) != RC_OK ||
	    json_place_size(place, "num_experts_per_tok", true, 1, t->experts, &t->experts_used,
			    err) != RC_OK ||
	    json_place_size(place, "moe_intermediate_size", true, 1, SIZE_LIMIT,
			    &t->expert_intermediate, err) != RC_OK ||
	    json_place_bool(place, "norm_topk_prob", &t->expert_weights_normed, err) != RC_OK ||
	    json_place_size(place, "decoder_sparse_step", false, 1, LAYERS_MAX, &step, err) !=
		    RC_OK ||
	    json_place_sizes(place, "mlp_only_layers", false, t->layers - 1, LAYERS_MAX, dense,
			     &count, err) != RC_OK)
		return RC_FATAL;
	for (unsigned i = 0; i < t->layers; i++)
		t->routed[i] = (i + 1) % step == 0;
	for (unsigned i = 0; i < count; i++)
		t->routed[dense[i]] = false;
	return RC_OK;
}

static enum rc read_text(struct model_config *c, const struct json_place *place, struct err *err)
{
	/* The head belongs to the whole model, so here the top level wins. */
	const struct json_place whole = {place->file, {place->objects[1], place->objects[0], NULL}};
	struct text_config *t = &c->text;
	const char *activation = "silu";
	bool window = false, bias = c->family == FAMILY_QWEN2_5_VL, mlp_bias = false,
	     head_bias = false;
	double eps = c->family == FAMILY_PHI3 ? 1e-5 : 1e-6;

	if (json_place_size(place, "hidden_size", true, 8, SIZE_LIMIT, &t->hidden, err) != RC_OK ||
	    json_place_size(place, "num_hidden_layers", true, 1, LAYERS_MAX, &t->layers, err) !=
		    RC_OK ||
	    json_place_size(place, "num_attention_heads", true, 1, 1024, &t->heads, err) != RC_OK)
		return RC_FATAL;
	t->kv_heads = t->heads;
	t->head_dim = t->hidden / t->heads;
	t->max_positions = 32768;
	if (json_place_size(place, "num_key_value_heads", false, 1, 1024, &t->kv_heads, err) !=
		    RC_OK ||
	    json_place_size(place, "head_dim", false, 8, 256, &t->head_dim, err) != RC_OK ||
	    json_place_size(place, "intermediate_size", true, 1, SIZE_LIMIT, &t->intermediate,
			    err) != RC_OK ||
	    json_place_size(place, "vocab_size", true, 1, VOCAB_LIMIT, &t->vocab, err) != RC_OK ||
	    json_place_size(place, "max_position_embeddings", false, 1, 1u << 24, &t->max_positions,
			    err) != RC_OK ||
	    json_place_number(place, "rms_norm_eps", false, 0, 1, &eps, err) != RC_OK ||
	    json_place_bool(&whole, "tie_word_embeddings", &t->tied, err) != RC_OK ||
	    json_place_bool(place, "use_sliding_window", &window, err) != RC_OK ||
	    json_place_bool(place, "attention_bias", &bias, err) != RC_OK ||
	    json_place_bool(place, "mlp_bias", &mlp_bias, err) != RC_OK ||
	    json_place_bool(&whole, "lm_head_bias", &head_bias, err) != RC_OK ||
	    json_place_string(place, "hidden_act", false, &activation, err) != RC_OK)
		return RC_FATAL;
	t->eps = (float)eps;
	t->qkv_bias = c->family == FAMILY_QWEN2_5_VL;
	t->qk_norm = c->family == FAMILY_QWEN3 || c->family == FAMILY_QWEN3_VL;
	t->stacked = c->family == FAMILY_PHI3;
	if (t->heads % t->kv_heads)
		return wrong(place, err,
			     "num_attention_heads is not a multiple of num_key_value_heads");
	if (t->head_dim % 8 || t->head_dim > 256)
		return wrong(place, err, "head_dim is not a multiple of 8 up to 256");
	if (strcmp(activation, "silu") != 0)
		return wrong(place, err, "hidden_act is not silu");
	if (window)
		return wrong(place, err, "use_sliding_window is not supported");
	if (bias != t->qkv_bias)
		return wrong(place, err, "attention_bias is not supported for this architecture");
	if (mlp_bias || head_bias)
		return wrong(place, err, "mlp_bias and lm_head_bias are not supported");
	if (c->family == FAMILY_PHI3 && read_window(t, place, err) != RC_OK)
		return RC_FATAL;
	return read_rope(c, place, err);
}

static enum rc read_vision_qwen2_5(struct vision_config *v, const struct json_place *place,
				   struct err *err)
{
	unsigned blocks[VISION_BLOCKS_MAX] = {7, 15, 23, 31}, count = 4;

	v->window = 112;
	if (json_place_size(place, "window_size", false, 1, SIZE_LIMIT, &v->window, err) != RC_OK ||
	    json_place_sizes(place, "fullatt_block_indexes", false, VISION_BLOCKS_MAX - 1,
			     VISION_BLOCKS_MAX, blocks, &count, err) != RC_OK)
		return RC_FATAL;
	for (unsigned i = 0; i < count; i++) {
		if (blocks[i] >= v->depth && json_place_get(place, "fullatt_block_indexes"))
			return wrong(place, err,
				     "fullatt_block_indexes names a block beyond depth");
		v->full[blocks[i]] = blocks[i] < v->depth;
	}
	if (v->window / v->merge / v->patch == 0)
		return wrong(place, err, "window_size is smaller than one token");
	return RC_OK;
}

static enum rc read_vision_qwen3(struct vision_config *v, const struct json_place *place,
				 struct err *err)
{
	unsigned positions = 2304;

	v->deepstack[0] = 8, v->deepstack[1] = 16, v->deepstack[2] = 24;
	v->deepstacks = 3;
	if (json_place_size(place, "num_position_embeddings", false, 1, 1u << 20, &positions,
			    err) != RC_OK ||
	    json_place_sizes(place, "deepstack_visual_indexes", false, VISION_BLOCKS_MAX - 1,
			     ARRAY_SIZE(v->deepstack), v->deepstack, &v->deepstacks, err) != RC_OK)
		return RC_FATAL;
	v->positions = (unsigned)lround(sqrt(positions));
	if (v->positions * v->positions != positions)
		return wrong(place, err, "num_position_embeddings is not a square");
	for (unsigned i = 0; i < v->deepstacks; i++)
		if (v->deepstack[i] >= v->depth)
			return wrong(place, err,
				     "deepstack_visual_indexes names a block beyond depth");
	return RC_OK;
}

static enum rc read_vision(struct model_config *c, const struct json_place *top, struct err *err)
{
	struct json_place place = {top->file, {json_place_get(top, "vision_config"), NULL, NULL}};
	const char *activation = c->family == FAMILY_QWEN3_VL ? "gelu_pytorch_tanh" : "silu",
		   *wanted = activation;
	struct vision_config *v = &c->vision;
	unsigned channels = 3;

	if (!json_is_object(place.objects[0]))
		return wrong(top, err, "vision_config is missing");
	v->patch = c->family == FAMILY_QWEN3_VL ? 16 : 14;
	v->temporal = v->merge = 2;
	v->out = c->text.hidden;
	if (json_place_size(&place, "depth", true, 1, VISION_BLOCKS_MAX, &v->depth, err) != RC_OK ||
	    json_place_size(&place, "hidden_size", true, 8, SIZE_LIMIT, &v->hidden, err) != RC_OK ||
	    json_place_size(&place, "num_heads", true, 1, 1024, &v->heads, err) != RC_OK ||
	    json_place_size(&place, "intermediate_size", true, 1, SIZE_LIMIT, &v->intermediate,
			    err) != RC_OK ||
	    json_place_size(&place, "patch_size", false, 1, 256, &v->patch, err) != RC_OK ||
	    json_place_size(&place, "temporal_patch_size", false, 1, 16, &v->temporal, err) !=
		    RC_OK ||
	    json_place_size(&place, "spatial_merge_size", false, 1, 16, &v->merge, err) != RC_OK ||
	    json_place_size(&place, "out_hidden_size", false, 1, SIZE_LIMIT, &v->out, err) !=
		    RC_OK ||
	    json_place_size(&place, "in_channels", false, 1, 16, &channels, err) != RC_OK ||
	    json_place_size(&place, "in_chans", false, 1, 16, &channels, err) != RC_OK ||
	    json_place_string(&place, "hidden_act", false, &activation, err) != RC_OK)
		return RC_FATAL;
	if (v->out != c->text.hidden)
		return wrong(top, err,
			     "out_hidden_size of vision_config is not the hidden_size of the "
			     "language model");
	if (v->hidden % v->heads || v->hidden / v->heads % 8 || v->hidden / v->heads > 256)
		return wrong(top, err,
			     "hidden_size / num_heads of vision_config is not a multiple of 8 up "
			     "to 256");
	if (strcmp(activation, wanted) != 0)
		return err_set(err, RC_FATAL, "model-config",
			       "%.200s: hidden_act of vision_config is not %s", top->file, wanted);
	if (channels != 3)
		return wrong(top, err, "the vision tower does not read three channels");
	if (json_place_size(top, "image_token_id", true, 0, c->text.vocab - 1, &c->image_token,
			    err) != RC_OK ||
	    json_place_size(top, "vision_start_token_id", true, 0, c->text.vocab - 1,
			    &c->vision_start, err) != RC_OK ||
	    json_place_size(top, "vision_end_token_id", true, 0, c->text.vocab - 1, &c->vision_end,
			    err) != RC_OK)
		return RC_FATAL;
	return c->family == FAMILY_QWEN3_VL ? read_vision_qwen3(v, &place, err)
					    : read_vision_qwen2_5(v, &place, err);
}

/* AWQ as AutoAWQ saves it, which some call version and others format; some write w_bit and
 * q_group_size. */
static enum rc read_quantisation(struct model_config *c, const struct json_place *top,
				 struct err *err)
{
	const struct json_place place = {"config.json: quantization_config",
					 {json_place_get(top, "quantization_config"), NULL, NULL}};
	const json_t *whole = json_place_get(&place, "group_size");
	const char *method = NULL, *version = "gemm";
	unsigned bits = 4, group = 128;
	bool zeros = true;

	if (!json_is_object(place.objects[0]))
		return wrong(top, err, "quantization_config is not an object");
	if (json_place_string(&place, "quant_method", true, &method, err) != RC_OK)
		return RC_FATAL;
	if (strcmp(method, "awq") != 0)
		return err_set(err, RC_FATAL, "model-config",
			       "%s: quant_method \"%.60s\" is not supported", place.file, method);
	if (json_place_string(&place, "format", false, &version, err) != RC_OK ||
	    json_place_string(&place, "version", false, &version, err) != RC_OK ||
	    json_place_size(&place, "w_bit", false, 0, 64, &bits, err) != RC_OK ||
	    json_place_size(&place, "bits", false, 0, 64, &bits, err) != RC_OK ||
	    json_place_bool(&place, "zero_point", &zeros, err) != RC_OK)
		return RC_FATAL;
	if (strcasecmp(version, "gemm") != 0)
		return err_set(err, RC_FATAL, "model-config",
			       "%s: version \"%.60s\" is not supported", place.file, version);
	if (bits != 4)
		return err_set(err, RC_FATAL, "model-config",
			       "%s: %u bits are not supported, 4 are", place.file, bits);
	if (!zeros)
		return wrong(&place, err, "zero_point false is not supported");
	if (!whole)
		whole = json_place_get(&place, "q_group_size");
	c->awq_group = AWQ_WHOLE;
	if (json_is_integer(whole) && json_integer_value(whole) == -1)
		return RC_OK;
	if (json_place_size(&place, "q_group_size", false, 1, SIZE_LIMIT, &group, err) != RC_OK ||
	    json_place_size(&place, "group_size", false, 1, SIZE_LIMIT, &group, err) != RC_OK)
		return RC_FATAL;
	if (group % 32)
		return err_set(err, RC_FATAL, "model-config",
			       "%s: group_size %u is not supported, multiples of 32 are, and -1",
			       place.file, group);
	c->awq_group = group;
	return RC_OK;
}

enum rc model_config_read(struct model_config *c, const json_t *root, const char *name,
			  struct err *err)
{
	const json_t *text = json_object_get(root, "text_config");
	struct json_place top = {name, {root, NULL, NULL}}, place = top;
	bool experts = false;

	*c = (struct model_config){
		.generation = {.temperature = 1, .top_p = 1, .repetition_penalty = 1}};
	if (read_family(c, &top, &experts, err) != RC_OK)
		return RC_FATAL;
	if (json_place_get(&top, "quantization_config") && read_quantisation(c, &top, err) != RC_OK)
		return RC_FATAL;
	if (json_is_object(text)) {
		place.objects[0] = text;
		place.objects[1] = root;
	}
	if (read_text(c, &place, err) != RC_OK ||
	    (experts && read_experts(c, &place, err) != RC_OK))
		return RC_FATAL;
	if (json_place_sizes(&place, "eos_token_id", false, c->text.vocab - 1,
			     ARRAY_SIZE(c->generation.eos), c->generation.eos,
			     &c->generation.eos_count, err) != RC_OK)
		return RC_FATAL;
	return c->family == FAMILY_QWEN3 || c->family == FAMILY_PHI3 ? RC_OK
								     : read_vision(c, &top, err);
}

static enum rc read_generation(struct model_config *c, const char *folder, struct err *err)
{
	struct generation_config *g = &c->generation;
	json_t *root = NULL;
	enum rc rc;

	rc = json_file_load(folder, "generation_config.json", JSON_FILE_OPTIONAL, &root, err);
	if (rc != RC_OK || !root)
		return rc;
	struct json_place place = {"generation_config.json", {root, NULL, NULL}};
	if (json_place_sizes(&place, "eos_token_id", false, c->text.vocab - 1, ARRAY_SIZE(g->eos),
			     g->eos, &g->eos_count, err) != RC_OK ||
	    json_place_bool(&place, "do_sample", &g->sample, err) != RC_OK ||
	    json_place_size(&place, "top_k", false, 0, VOCAB_LIMIT, &g->top_k, err) != RC_OK ||
	    json_place_number(&place, "temperature", false, 0, 100, &g->temperature, err) !=
		    RC_OK ||
	    json_place_number(&place, "top_p", false, 0, 1, &g->top_p, err) != RC_OK ||
	    json_place_number(&place, "min_p", false, 0, 1, &g->min_p, err) != RC_OK ||
	    json_place_number(&place, "repetition_penalty", false, 0.01, 100,
			      &g->repetition_penalty, err) != RC_OK)
		rc = RC_FATAL;
	json_decref(root);
	return rc;
}

static enum rc read_triple(const struct json_place *place, const char *key, double min, float *out,
			   struct err *err)
{
	const json_t *list = json_place_get(place, key);

	if (!list)
		return RC_OK;
	for (unsigned i = 0; i < 3; i++) {
		const json_t *item = json_array_get(list, i);

		if (json_array_size(list) != 3 || !json_is_number(item) ||
		    !(json_number_value(item) >= min) || json_number_value(item) > 1000)
			return err_set(err, RC_FATAL, "model-config", "%s: %s is not three numbers",
				       place->file, key);
		out[i] = (float)json_number_value(item);
	}
	return RC_OK;
}

static enum rc read_pixels(const struct json_place *place, const char *key, uint64_t *out,
			   struct err *err)
{
	double n = (double)*out;

	if (json_place_number(place, key, false, 1, PIXELS_LIMIT, &n, err) != RC_OK)
		return RC_FATAL;
	*out = (uint64_t)n;
	return RC_OK;
}

static enum rc read_image(struct model_config *c, const struct json_place *place, struct err *err)
{
	struct json_place size = {place->file, {json_place_get(place, "size"), NULL, NULL}};
	struct image_config *i = &c->image;
	unsigned resample = 3, patch = c->vision.patch, merge = c->vision.merge,
		 temporal = c->vision.temporal;

	/* size holds areas, not sides, whatever its keys are called. */
	if (read_pixels(&size, "shortest_edge", &i->min_pixels, err) != RC_OK ||
	    read_pixels(&size, "longest_edge", &i->max_pixels, err) != RC_OK ||
	    read_pixels(place, "min_pixels", &i->min_pixels, err) != RC_OK ||
	    read_pixels(place, "max_pixels", &i->max_pixels, err) != RC_OK ||
	    read_triple(place, "image_mean", -1000, i->mean, err) != RC_OK ||
	    read_triple(place, "image_std", 1e-6, i->std, err) != RC_OK ||
	    json_place_size(place, "patch_size", false, 1, 256, &patch, err) != RC_OK ||
	    json_place_size(place, "merge_size", false, 1, 16, &merge, err) != RC_OK ||
	    json_place_size(place, "temporal_patch_size", false, 1, 16, &temporal, err) != RC_OK ||
	    json_place_size(place, "resample", false, 0, 5, &resample, err) != RC_OK)
		return RC_FATAL;
	if (patch != c->vision.patch || merge != c->vision.merge || temporal != c->vision.temporal)
		return wrong(
			place, err,
			"patch_size, merge_size or temporal_patch_size differ from vision_config");
	if (resample != 3)
		return wrong(place, err, "resample is not 3 (bicubic)");
	if (i->min_pixels > i->max_pixels)
		return wrong(place, err, "the least number of pixels is above the largest");
	return RC_OK;
}

/* preprocessor_config.json, or image_processor of processor_config.json as transformers 5 saves it.
 */
static enum rc read_preprocessor(struct model_config *c, const char *folder, struct err *err)
{
	static const float clip_mean[] = {0.48145466f, 0.4578275f, 0.40821073f};
	static const float clip_std[] = {0.26862954f, 0.26130258f, 0.27577711f};
	const char *file = "preprocessor_config.json";
	json_t *root = NULL;
	enum rc rc;

	c->image.min_pixels = 56 * 56;
	c->image.max_pixels = 28 * 28 * 1280;
	for (unsigned i = 0; i < 3; i++) {
		c->image.mean[i] = c->family == FAMILY_QWEN3_VL ? 0.5f : clip_mean[i];
		c->image.std[i] = c->family == FAMILY_QWEN3_VL ? 0.5f : clip_std[i];
	}
	rc = json_file_load(folder, file, JSON_FILE_OPTIONAL, &root, err);
	if (rc == RC_OK && !root) {
		file = "processor_config.json";
		rc = json_file_load(folder, file, JSON_FILE_OPTIONAL, &root, err);
	}
	if (rc == RC_OK && !root)
		rc = err_set(err, RC_FATAL, "model-incomplete",
			     "%.300s has no preprocessor_config.json", folder);
	if (rc == RC_OK) {
		const json_t *inner = json_object_get(root, "image_processor");
		struct json_place place = {file,
					   {json_is_object(inner) ? inner : root, NULL, NULL}};

		rc = read_image(c, &place, err);
	}
	json_decref(root);
	return rc;
}

enum rc model_config_load(struct model_config *c, const char *folder, struct err *err)
{
	json_t *root = NULL;
	enum rc rc;

	rc = json_file_load(folder, "config.json", JSON_FILE_REQUIRED, &root, err);
	if (rc == RC_OK)
		rc = model_config_read(c, root, "config.json", err);
	json_decref(root);
	if (rc == RC_OK)
		rc = read_generation(c, folder, err);
	if (rc == RC_OK && c->vision.depth)
		rc = read_preprocessor(c, folder, err);
	return rc;
}

enum rc model_config_load_file(struct model_config *c, const char *path, struct err *err)
{
	const char *slash = strrchr(path, '/');
	char *folder = slash ? xstrndup(path, (size_t)(slash - path)) : xstrdup(".");
	json_t *root = NULL;
	enum rc rc;

	rc = json_file_load(folder, slash ? slash + 1 : path, JSON_FILE_REQUIRED, &root, err);
	if (rc == RC_OK)
		rc = model_config_read(c, root, slash ? slash + 1 : path, err);
	json_decref(root);
	free(folder);
	return rc;
}
