/* SPDX-License-Identifier: MIT
 *
 * shapes: each is the part of a config.json that says how large a model is, read as any config.json is.
 * The tiny ones are for tests.
 */
#include "shapes.h"

#include "base/num.h"

#include <jansson.h>
#include <string.h>

#define TOKENS "\"image_token_id\":151655,\"vision_start_token_id\":151652,\"vision_end_token_id\":151653,"
#define QWEN3_TEXT(hidden, layers, heads, kv_heads, inner, more)                                    \
	"{\"hidden_size\":" #hidden ",\"num_hidden_layers\":" #layers ",\"num_attention_heads\":" #heads \
	",\"num_key_value_heads\":" #kv_heads ",\"head_dim\":128,\"intermediate_size\":" #inner           \
	",\"vocab_size\":151936,\"max_position_embeddings\":262144,\"rms_norm_eps\":1e-6,"                \
	"\"rope_theta\":5000000,\"hidden_act\":\"silu\",\"eos_token_id\":151645" more "}"
#define MROPE                                                                                      \
	",\"rope_scaling\":{\"rope_type\":\"default\",\"mrope_section\":[24,20,20],"                      \
	"\"mrope_interleaved\":true}"
#define QWEN3_EYES(depth, hidden, inner, out, deepstack)                                            \
	"{\"depth\":" #depth ",\"hidden_size\":" #hidden ",\"num_heads\":16,\"intermediate_size\":" #inner \
	",\"out_hidden_size\":" #out ",\"patch_size\":16,\"temporal_patch_size\":2,"                      \
	"\"spatial_merge_size\":2,\"num_position_embeddings\":2304,\"deepstack_visual_indexes\":" deepstack \
	",\"hidden_act\":\"gelu_pytorch_tanh\"}"
#define QWEN3_VL(tied, text, eyes)                                                                  \
	"{\"architectures\":[\"Qwen3VLForConditionalGeneration\"]," TOKENS "\"tie_word_embeddings\":" #tied \
	",\"text_config\":" text ",\"vision_config\":" eyes "}"

static const struct shape {
	const char *name, *of, *json;
} shapes[] = {
	{"nanonets", "Nanonets-OCR2-3B, Qwen2.5-VL-3B",
	 "{\"architectures\":[\"Qwen2_5_VLForConditionalGeneration\"]," TOKENS
	 "\"hidden_size\":2048,\"num_hidden_layers\":36,\"num_attention_heads\":16,\"num_key_value_heads\":2,"
	 "\"intermediate_size\":11008,\"vocab_size\":151936,\"max_position_embeddings\":128000,"
	 "\"rms_norm_eps\":1e-6,\"rope_theta\":1000000,"
	 "\"rope_scaling\":{\"type\":\"mrope\",\"mrope_section\":[16,24,24]},\"tie_word_embeddings\":true,"
	 "\"hidden_act\":\"silu\",\"eos_token_id\":151645,\"vision_config\":{\"depth\":32,\"hidden_size\":1280,"
	 "\"num_heads\":16,\"intermediate_size\":3420,\"out_hidden_size\":2048,\"patch_size\":14,"
	 "\"temporal_patch_size\":2,\"spatial_merge_size\":2,\"window_size\":112,"
	 "\"fullatt_block_indexes\":[7,15,23,31],\"hidden_act\":\"silu\"}}"},
	{"qwen3-vl-4b", "Qwen3-VL-4B",
	 QWEN3_VL(true, QWEN3_TEXT(2560, 36, 32, 8, 9728, MROPE),
		  QWEN3_EYES(24, 1024, 4096, 2560, "[5,11,17]"))},
	{"chandra", "chandra, Qwen3-VL-8B",
	 QWEN3_VL(false, QWEN3_TEXT(4096, 36, 32, 8, 12288, MROPE),
		  QWEN3_EYES(27, 1152, 4304, 4096, "[8,16,24]"))},
	{"qwen3-4b", "Qwen3-4B, text alone",
	 "{\"architectures\":[\"Qwen3ForCausalLM\"],\"tie_word_embeddings\":true,"
	 "\"hidden_size\":2560,\"num_hidden_layers\":36,\"num_attention_heads\":32,\"num_key_value_heads\":8,"
	 "\"head_dim\":128,\"intermediate_size\":9728,\"vocab_size\":151936,\"max_position_embeddings\":262144,"
	 "\"rms_norm_eps\":1e-6,\"rope_theta\":5000000,\"hidden_act\":\"silu\",\"eos_token_id\":151645}"},
	{"tiny", "a Qwen3-VL of two layers, for tests",
	 "{\"architectures\":[\"Qwen3VLForConditionalGeneration\"],\"image_token_id\":301,"
	 "\"vision_start_token_id\":302,\"vision_end_token_id\":303,\"tie_word_embeddings\":true,"
	 "\"text_config\":{\"hidden_size\":64,\"num_hidden_layers\":2,\"num_attention_heads\":4,"
	 "\"num_key_value_heads\":2,\"head_dim\":32,\"intermediate_size\":160,\"vocab_size\":304,"
	 "\"max_position_embeddings\":8192,\"rms_norm_eps\":1e-6,\"rope_theta\":5000000,"
	 "\"rope_scaling\":{\"rope_type\":\"default\",\"mrope_section\":[6,5,5],\"mrope_interleaved\":true},"
	 "\"hidden_act\":\"silu\",\"eos_token_id\":300},"
	 "\"vision_config\":{\"depth\":3,\"hidden_size\":64,\"num_heads\":4,\"intermediate_size\":128,"
	 "\"out_hidden_size\":64,\"patch_size\":16,\"temporal_patch_size\":2,\"spatial_merge_size\":2,"
	 "\"num_position_embeddings\":64,\"deepstack_visual_indexes\":[0],\"hidden_act\":\"gelu_pytorch_tanh\"}}"},
	{"tiny-text", "its language model alone",
	 "{\"architectures\":[\"Qwen3ForCausalLM\"],\"tie_word_embeddings\":true,\"hidden_size\":64,"
	 "\"num_hidden_layers\":2,\"num_attention_heads\":4,\"num_key_value_heads\":2,\"head_dim\":32,"
	 "\"intermediate_size\":160,\"vocab_size\":304,\"max_position_embeddings\":8192,\"rms_norm_eps\":1e-6,"
	 "\"rope_theta\":1000000,\"hidden_act\":\"silu\",\"eos_token_id\":300}"},
};

const char *shape_json(const char *name)
{
	for (size_t i = 0; i < ARRAY_SIZE(shapes); i++)
		if (!strcmp(name, shapes[i].name))
			return shapes[i].json;
	return NULL;
}

enum rc shape_config(struct model_config *c, const char *name, struct err *err)
{
	const char *text = shape_json(name);
	char names[200] = "";
	json_t *root;
	enum rc rc;

	for (size_t i = 0; !text && i < ARRAY_SIZE(shapes); i++)
		snprintf(names + strlen(names), sizeof(names) - strlen(names), "%s%s", i ? ", " : "",
			 shapes[i].name);
	if (!text)
		return err_set(err, RC_FAILED, "shape", "no shape is called %.100s; there are %s", name,
			       names);
	root = json_loads(text, 0, NULL);
	if (!root)
		BUG("shape %s is no JSON", name);
	rc = model_config_read(c, root, name, err);
	json_decref(root);
	return rc;
}

void shapes_list(FILE *out)
{
	for (size_t i = 0; i < ARRAY_SIZE(shapes); i++)
		fprintf(out, "  %-12s %s\n", shapes[i].name, shapes[i].of);
}
