#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Make the golden models: small random ones of each family, and what the reference computes with them.

    tests/golden/make-models.py [--seed N] [--out FOLDER] [--only NAME...]

Needs torch (CPU), torchvision, transformers, peft, safetensors and Pillow before 13; `make check` needs none of them, it reads what lies
in tests/golden/models. Each folder is a model as one downloads it, and beside it expected.safetensors:

    image.K        U8  [height][width][3]     the pages of the prompt
    grid           I64 [images][2]            their patches, rows and columns
    pixels.K       F32 [patches][values]      as the reference's image processor has them
    lanczos.K      U8  [height][width][3]     the page at three quarters of its width, twice its height
    vision.K       F32 [tokens][hidden]       out of the tower, and
    deepstack.K.D  F32 [tokens][hidden]       what goes to text layer D
    prompt         I64 [n]                    token ids
    positions      I64 [3][n]
    tokens         I64 [steps]                chosen greedily
    logits         F32 [steps][vocab]         from which they were chosen, in fp32
    logits_bf16    F32 [steps][vocab]         the same steps with weights and activations in bf16

Weights are bf16 numbers, or of 4 bits with the scale of a group, so that both computations start from the same model.
In a model's folder lie folders of adapters (adapter-NAME) as peft saves them, each with an expected.safetensors of
its own: tokens, logits and logits_bf16 of the same prompt.
"""

import argparse
import json
import pathlib

import numpy
import peft
import PIL
import torch
import transformers
from safetensors.torch import load_file, save_file
from transformers import (Phi3ForCausalLM, Qwen2_5_VLForConditionalGeneration, Qwen3ForCausalLM, Qwen3MoeForCausalLM,
                          Qwen3VLForConditionalGeneration, Qwen3VLMoeForConditionalGeneration)
from PIL import Image
from transformers.models.qwen2_vl.image_processing_qwen2_vl import Qwen2VLImageProcessor

VOCAB, EOS, START, END, IMAGE = 304, 299, 300, 301, 302
STEPS = 12


def text(hidden, heads, kv_heads, head_dim, intermediate, layers, **more):
    return dict(hidden_size=hidden, num_attention_heads=heads, num_key_value_heads=kv_heads, head_dim=head_dim,
                intermediate_size=intermediate, num_hidden_layers=layers, vocab_size=VOCAB, rms_norm_eps=1e-6,
                max_position_embeddings=4096, hidden_act="silu", bos_token_id=None, eos_token_id=EOS, **more)


def mrope(section, interleaved=None, theta=1e6):
    more = {} if interleaved is None else {"mrope_interleaved": interleaved}
    return dict(rope_parameters=dict(rope_type="default", rope_theta=theta, mrope_section=section, **more))


def longrope(original, half, partial):
    """Two lists of factors, neither of them all 1; sequences longer than `original` take the second."""
    return dict(original_max_position_embeddings=original, rope_parameters=dict(
        rope_type="longrope", rope_theta=1e4, partial_rotary_factor=partial,
        original_max_position_embeddings=original, short_factor=[round(1 + 0.01 * j, 3) for j in range(half)],
        long_factor=[round(1.1 ** j + 0.5 * (j % 2), 3) for j in range(half)]))


def experts(count, used, width, normed, **more):
    return dict(num_experts=count, num_experts_per_tok=used, moe_intermediate_size=width, norm_topk_prob=normed,
                decoder_sparse_step=1, mlp_only_layers=[]) | more


CLIP = dict(image_mean=[0.48145466, 0.4578275, 0.40821073], image_std=[0.26862954, 0.26130258, 0.27577711])
HALF = dict(image_mean=[0.5] * 3, image_std=[0.5] * 3)

# Each family, with the shapes that have caught engines out: odd head and feed-forward sizes, windows
# cut by the edge, pages one token wide, several pages, tied and untied heads, old and new spelling.
MODELS = {
    "qwen2.5-vl-old": dict(
        cls=Qwen2_5_VLForConditionalGeneration, spelling="old", tied=True, processor=CLIP, pages=[(70, 100)],
        text=text(64, 1, 1, 64, 100, 3, **mrope([8, 12, 12])),
        vision=dict(depth=2, hidden_size=64, num_heads=1, intermediate_size=3420, patch_size=14, out_hidden_size=64,
                    window_size=112, fullatt_block_indexes=[1], hidden_act="silu")),
    "qwen2.5-vl": dict(
        cls=Qwen2_5_VLForConditionalGeneration, spelling="new", tied=False, processor=CLIP, shards=2,
        pages=[(12, 300), (100, 70)],
        text=text(128, 1, 1, 128, 148, 2, **mrope([16, 24, 24])),
        vision=dict(depth=2, hidden_size=80, num_heads=1, intermediate_size=108, patch_size=6, out_hidden_size=128,
                    window_size=48, fullatt_block_indexes=[1], hidden_act="silu")),
    "qwen3-vl": dict(
        cls=Qwen3VLForConditionalGeneration, spelling="new", tied=True, processor=HALF, pages=[(100, 130)],
        text=text(96, 4, 2, 64, 104, 4, **mrope([12, 10, 10], True, 5e6)),
        vision=dict(depth=4, hidden_size=72, num_heads=1, intermediate_size=152, patch_size=16, out_hidden_size=96,
                    num_position_embeddings=144, deepstack_visual_indexes=[0, 1, 3], hidden_act="gelu_pytorch_tanh")),
    "qwen3-vl-untied": dict(
        cls=Qwen3VLForConditionalGeneration, spelling="new", tied=False, processor=HALF, shards=3,
        pages=[(12, 250), (60, 13), (12, 12)],
        text=text(120, 3, 1, 128, 96, 2, **mrope([24, 20, 20], True, 5e6)),
        vision=dict(depth=2, hidden_size=128, num_heads=2, intermediate_size=100, patch_size=6, out_hidden_size=120,
                    num_position_embeddings=49, deepstack_visual_indexes=[1], hidden_act="gelu_pytorch_tanh")),
    "qwen3": dict(
        cls=Qwen3ForCausalLM, spelling="old", tied=True, pages=[],
        text=text(48, 2, 1, 128, 150, 3, rope_parameters=dict(rope_type="default", rope_theta=1e6))),
    "qwen3-untied": dict(
        cls=Qwen3ForCausalLM, spelling="new", tied=False, pages=[],
        text=text(64, 4, 2, 80, 100, 2, rope_parameters=dict(rope_type="default", rope_theta=5e6))),
    # Below the switch of longrope, above it, over it while tokens are written; and no longrope at all.
    "phi3": dict(
        cls=Phi3ForCausalLM, spelling="old", tied=True, pages=[],
        text=text(64, 1, 1, 64, 88, 2, pad_token_id=0, **longrope(128, 24, 0.75))),
    "phi3-long": dict(
        cls=Phi3ForCausalLM, spelling="new", tied=False, pages=[],
        text=text(96, 3, 1, 32, 72, 2, pad_token_id=0, **longrope(40, 8, 0.5))),
    "phi3-crossing": dict(
        cls=Phi3ForCausalLM, spelling="new", tied=True, pages=[], stepwise=True,
        text=text(128, 2, 1, 64, 64, 2, pad_token_id=0, **longrope(80, 32, 1.0))),
    "phi3-plain": dict(
        cls=Phi3ForCausalLM, spelling="old", tied=False, pages=[],
        text=text(96, 2, 2, 48, 60, 2, pad_token_id=0, sliding_window=4096,
                  rope_parameters=dict(rope_type="default", rope_theta=1e4, partial_rotary_factor=0.75))),
    "qwen3-vl-moe": dict(
        cls=Qwen3VLMoeForConditionalGeneration, spelling="new", tied=False, processor=HALF, shards=2, layout="turned",
        pages=[(60, 40)],
        text=text(72, 4, 2, 32, 100, 2, **mrope([6, 5, 5], True, 5e6), **experts(12, 3, 40, True)),
        vision=dict(depth=2, hidden_size=48, num_heads=1, intermediate_size=60, patch_size=6, out_hidden_size=72,
                    num_position_embeddings=49, deepstack_visual_indexes=[0], hidden_act="gelu_pytorch_tanh")),
    "qwen3-moe": dict(
        cls=Qwen3MoeForCausalLM, spelling="old", tied=False, pages=[], words=30, layout="each",
        text=text(56, 2, 1, 64, 90, 4, rope_parameters=dict(rope_type="default", rope_theta=1e6),
                  **experts(7, 2, 36, False, decoder_sparse_step=2, mlp_only_layers=[1]))),
    "qwen3-moe-stacked": dict(
        cls=Qwen3MoeForCausalLM, spelling="new", tied=True, pages=[], words=30, layout="straight",
        text=text(64, 2, 2, 32, 80, 2, rope_parameters=dict(rope_type="default", rope_theta=1e6),
                  **experts(5, 5, 32, True))),
    # Some of their weights are numbers of 4 bits, `awq` of them in a group; in whose configuration of
    # quantisation stands `spelled` as well. Modules of `plain` are left as they are.
    "qwen3-vl-moe-awq": dict(
        cls=Qwen3VLMoeForConditionalGeneration, spelling="new", tied=False, processor=HALF, layout="each",
        pages=[(40, 60)], awq=32, scales=torch.float16, plain=["mlp.gate", "self_attn"],
        spelled=dict(bits=4, group_size=32, version="gemm", modules_to_not_convert=["visual", "mlp.gate", "self_attn"]),
        text=text(96, 4, 2, 32, 100, 2, **mrope([6, 5, 5], True, 5e6), **experts(6, 2, 32, True)),
        vision=dict(depth=2, hidden_size=48, num_heads=1, intermediate_size=60, patch_size=6, out_hidden_size=96,
                    num_position_embeddings=49, deepstack_visual_indexes=[0], hidden_act="gelu_pytorch_tanh")),
    "qwen3-moe-awq": dict(
        cls=Qwen3MoeForCausalLM, spelling="old", tied=False, pages=[], words=30, layout="each", shards=2,
        awq=64, scales=torch.bfloat16, plain=["v_proj"], spelled=dict(bits=4, group_size=64, format="gemm"),
        text=text(192, 2, 1, 32, 128, 2, rope_parameters=dict(rope_type="default", rope_theta=1e6),
                  **experts(8, 2, 64, False, mlp_only_layers=[0]))),
    "qwen3-awq": dict(
        cls=Qwen3ForCausalLM, spelling="old", tied=True, pages=[], awq=0, scales=torch.float32, plain=[],
        spelled=dict(w_bit=4, q_group_size=-1, version="GEMM"),
        text=text(72, 2, 1, 40, 104, 2, rope_parameters=dict(rope_type="default", rope_theta=1e6))),
    "qwen2.5-vl-awq": dict(
        cls=Qwen2_5_VLForConditionalGeneration, spelling="old", tied=True, processor=CLIP, pages=[(30, 50)],
        awq=32, scales=torch.float16, plain=["o_proj", "up_proj"], spelled=dict(bits=4, group_size=32, version="gemm"),
        text=text(64, 1, 1, 64, 160, 2, **mrope([8, 12, 12])),
        vision=dict(depth=2, hidden_size=48, num_heads=1, intermediate_size=76, patch_size=6, out_hidden_size=64,
                    window_size=24, fullatt_block_indexes=[1], hidden_act="silu")),
}


ALL = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]
# LoRA on each kind of projection: all, some of those that are stacked here, those stacked in the file; some layers;
# names and expressions; both scales.
ADAPTERS = {
    "qwen3": {"all": dict(r=4, lora_alpha=8, target_modules=ALL),
              "some": dict(r=5, lora_alpha=11, target_modules=["v_proj", "up_proj"], layers_to_transform=[0, 2])},
    "qwen3-untied": {"expression": dict(r=3, lora_alpha=4, use_rslora=True, whole=True,
                                        target_modules=r"model\.layers\.\d+\.(self_attn\.(k|o)|mlp\.(gate|down))_proj")},
    "qwen3-vl": {"language": dict(r=8, lora_alpha=8, target_modules=["q_proj", "k_proj", "o_proj", "down_proj"],
                                  layers_to_transform=1),
                 "expression": dict(r=2, lora_alpha=3, target_modules=r".*language_model.*(v_proj|gate_proj)")},
    "phi3": {"stacked": dict(r=4, lora_alpha=8, use_rslora=True,
                             target_modules=["qkv_proj", "o_proj", "gate_up_proj", "down_proj"])},
    "phi3-crossing": {"stacked": dict(r=6, lora_alpha=6, target_modules=["qkv_proj", "gate_up_proj"])},
}


def configuration(recipe):
    """The keyword arguments of the configuration class, and config.json as it is spelled in the wild."""
    cls, vision = recipe["cls"], recipe.get("vision")
    own = recipe["text"] | dict(tie_word_embeddings=recipe["tied"])
    ids = dict(image_token_id=IMAGE, video_token_id=IMAGE + 1, vision_start_token_id=START, vision_end_token_id=END)
    arguments = own if vision is None else dict(text_config=own, vision_config=vision,
                                                tie_word_embeddings=recipe["tied"], **ids)
    written = dict(own)
    if cls in (Qwen2_5_VLForConditionalGeneration, Phi3ForCausalLM):
        del written["head_dim"]
    if cls is Phi3ForCausalLM:
        written["rms_norm_eps"] = own["rms_norm_eps"] = 1e-5
    if recipe["spelling"] == "old":
        rope = written.pop("rope_parameters")
        written |= dict(rope_theta=rope["rope_theta"], torch_dtype="bfloat16")
        if "mrope_section" in rope:
            written["rope_scaling"] = dict(type="mrope", mrope_section=rope["mrope_section"])
        if "partial_rotary_factor" in rope:
            written["partial_rotary_factor"] = rope["partial_rotary_factor"]
        if rope["rope_type"] == "longrope":
            written["rope_scaling"] = dict(type="longrope", short_factor=rope["short_factor"],
                                           long_factor=rope["long_factor"])
    whole = dict(architectures=[cls.__name__])
    if "awq" in recipe:
        whole["quantization_config"] = dict(quant_method="awq", zero_point=True, **recipe["spelled"])
    if vision is None:
        whole |= written
    elif recipe["spelling"] == "old":
        whole |= written | dict(vision_config=vision) | ids
    else:
        del written["eos_token_id"]
        whole |= dict(text_config=written, vision_config=vision, tie_word_embeddings=recipe["tied"],
                      dtype="bfloat16", **ids)
    return arguments, whole


def randomise(model, seed):
    """Weights large enough for logits that differ, and all of them bf16 numbers."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, p in model.named_parameters():
            if "norm" in name or "ln_q" in name:
                values = (0.1 if name.endswith("bias") else 1) + 0.2 * torch.randn(p.shape, generator=generator)
            elif p.dim() == 1:
                values = 0.1 * torch.randn(p.shape, generator=generator)
            else:
                fan_in = p.shape[-1] if "experts." in name else p[0].numel()
                scale = 1.0 if "embed_tokens" in name or "pos_embed" in name or "lm_head" in name else 1.3
                values = scale * torch.randn(p.shape, generator=generator) / fan_in ** 0.5
                if "embed_tokens" in name or "pos_embed" in name:
                    values = torch.randn(p.shape, generator=generator) * 0.3
            p.copy_(values.bfloat16().float())


def quantise(model, recipe):
    """The model's weights as numbers of 4 bits, with the zero and the scale of each group of a row (AutoAWQ's
    arithmetic); they become what these say."""
    packed = {}
    for name, p in model.named_parameters():
        parts = name.split(".")
        if "layers" not in parts or "visual" in parts or "norm" in name or name.endswith("bias") or \
                any(plain.split(".")[-1] in parts for plain in recipe["plain"]):
            continue
        weight = p.detach().float()
        groups = weight.unflatten(-1, (-1, recipe["awq"] or weight.shape[-1]))
        least, most = groups.amin(-1).clamp(max=0), groups.amax(-1).clamp(min=0)
        scale = ((most - least) / 15).to(recipe["scales"])
        zero = (-least / scale.float()).round().clamp(0, 15)
        numbers = (groups / scale.float()[..., None]).round() + zero[..., None]
        numbers = numbers.clamp(0, 15)
        with torch.no_grad():
            p.copy_(((numbers - zero[..., None]) * scale.float()[..., None]).flatten(-2))
        packed[name] = numbers.flatten(-2), zero, scale
    return packed


def words(numbers):
    """[rows][columns] of 4 bits as AWQ packs them: [columns][rows / 8] words, in each the rows in this order."""
    eight = numbers.T.long().unflatten(-1, (-1, 8))[..., [0, 2, 4, 6, 1, 3, 5, 7]]
    word = (eight << torch.arange(0, 32, 4)).sum(-1)
    return torch.where(word >= 2 ** 31, word - 2 ** 32, word).int().contiguous()


def stored_name(name, spelling):
    if spelling == "old":
        return name.replace("model.language_model.", "model.").replace("model.visual.", "visual.")
    return name


def laid_out(name, p, layout):
    """The tensors of a parameter: experts as they lie in the files of this recipe."""
    head, stack = name.rpartition(".")[::2]
    if not head.endswith(".experts") or layout == "straight":
        return {name: p}
    if layout == "turned":
        return {name: p.transpose(1, 2)}
    parts = {"gate_proj": p[:, :p.shape[1] // 2], "up_proj": p[:, p.shape[1] // 2:]} if stack == "gate_up_proj" \
        else {"down_proj": p}
    return {f"{head}.{expert}.{part}.weight": values[expert] for part, values in parts.items()
            for expert in range(p.shape[0])}


def save_weights(model, recipe, packed, folder):
    tensors = {stored_name(key, recipe["spelling"]): value.detach().bfloat16().clone().contiguous()
               for name, p in model.named_parameters() if name not in packed
               for key, value in laid_out(name, p, recipe.get("layout")).items()}
    for name, numbers_zero_scale in packed.items():
        laid = [laid_out(name, part, recipe.get("layout")) for part in numbers_zero_scale]
        for key, numbers in laid[0].items():
            base = stored_name(key, recipe["spelling"]).removesuffix("weight")
            tensors[base + "qweight"], tensors[base + "qzeros"] = words(numbers), words(laid[1][key])
            tensors[base + "scales"] = laid[2][key].T.contiguous()
    if recipe["tied"]:
        tensors.pop("lm_head.weight", None)
    shards = recipe.get("shards", 1)
    if shards == 1:
        return save_file(tensors, folder / "model.safetensors")
    names, index = sorted(tensors), {}
    for k in range(shards):
        file = f"model-{k + 1:05}-of-{shards:05}.safetensors"
        part = names[k::shards]
        save_file({name: tensors[name] for name in part}, folder / file)
        index |= {name: file for name in part}
    (folder / "model.safetensors.index.json").write_text(
        json.dumps(dict(metadata=dict(total_size=0), weight_map=index), indent=1) + "\n")


def page(height, width, generator):
    """Not noise alone: gradients and lines, so that resizing has something to get wrong."""
    y, x = numpy.mgrid[0:height, 0:width]
    image = numpy.stack([(x * 255 // max(width - 1, 1)), (y * 255 // max(height - 1, 1)), ((x * y) % 251)], -1)
    image[(y // 7 + x // 5) % 4 == 0] = generator.integers(0, 256, 3)
    noise = generator.integers(-20, 21, image.shape)
    return numpy.clip(image + noise, 0, 255).astype(numpy.uint8)


def ids_and_types(recipe, grids, merge, generator):
    ids, types = list(generator.integers(0, EOS, 5)), [0] * 5
    for rows, columns in grids:
        tokens = rows * columns // merge ** 2
        ids += [START] + [IMAGE] * tokens + [END]
        types += [0] + [1] * tokens + [0]
        more = int(generator.integers(1, 9))
        ids += list(generator.integers(0, EOS, more))
        types += [0] * more
    if not grids:
        ids += list(generator.integers(0, EOS, recipe.get("words", 70)))
        types += [0] * recipe.get("words", 70)
    return torch.tensor([ids]), torch.tensor([types], dtype=torch.int)


def logits_of(model, ids, types, pixels, grid):
    if not len(grid):
        return model(input_ids=ids).logits[0]
    model.model.rope_deltas = None
    return model(input_ids=ids, mm_token_type_ids=types, pixel_values=pixels.to(model.dtype),
                 image_grid_thw=grid).logits[0]


def watch_routers(model):
    """The least distance between the last expert that a row goes to and the next one, as it grows smaller."""
    least = [1e9]

    def look(module, _, output):
        if module.top_k < module.num_experts:
            best = output[0].float().topk(module.top_k + 1).values
            least[0] = min(least[0], float((best[:, -2] - best[:, -1]).min()))

    hooks = [module.register_forward_hook(look) for name, module in model.named_modules() if name.endswith("mlp.gate")
             and hasattr(module, "top_k")]
    return least, hooks


def write_steps(expected, recipe, model, ids, types, pixels, grid, hooks=()):
    """Tokens, and logits in both kinds of numbers; the least distance of a token from the next best. The model is in
    bf16 then."""
    steps, margin = [], 1e9
    for _ in range(STEPS):
        last = logits_of(model, ids, types, pixels, grid)[-1]
        top = last.topk(2).values
        margin = min(margin, float(top[0] - top[1]))
        if len(grid) and int(last.argmax()) in (IMAGE, IMAGE + 1):
            return 0  # the reference would look for one more page
        steps.append(last)
        ids = torch.cat([ids, last.argmax().view(1, 1)], 1)
        types = torch.cat([types, torch.zeros(1, 1, dtype=torch.int)], 1)
    expected["tokens"] = ids[0, -STEPS:].clone()
    expected["logits"] = torch.stack(steps)
    for hook in hooks:
        hook.remove()
    half = model.bfloat16()
    n = ids.shape[1]
    if recipe.get("stepwise"):
        half_steps = [logits_of(half, ids[:, :n - STEPS + k], types, pixels, grid)[-1].float() for k in range(STEPS)]
        expected["logits_bf16"] = torch.stack(half_steps)
    else:
        whole_half = logits_of(half, ids, types, pixels, grid).float()
        expected["logits_bf16"] = whole_half[n - STEPS - 1:n - 1].contiguous()
    return margin


@torch.no_grad()
def make_adapter(name, recipe, adapter, settings, seed, out):
    """An adapter of a model that has been made."""
    base, folder = out / name, out / name / f"adapter-{adapter}"
    config = recipe["cls"].config_class(**configuration(recipe)[0])
    config._attn_implementation = "eager"
    model = recipe["cls"](config).float().eval()
    stored = {key: value for file in base.glob("model*.safetensors") for key, value in load_file(file).items()}
    for key, p in model.named_parameters():
        p.copy_(stored[stored_name(key, recipe["spelling"])].float())
    whole = settings.get("whole")
    made = peft.get_peft_model(model, peft.LoraConfig(**{k: v for k, v in settings.items() if k != "whole"})).eval()
    generator = torch.Generator().manual_seed(seed)
    for key, p in made.named_parameters():
        if "lora_" in key:
            scale = p.shape[1] ** -0.5 if "lora_A" in key else 0.4 * p.shape[1] ** -0.5
            p.copy_((scale * torch.randn(p.shape, generator=generator)).bfloat16().float())
    made.save_pretrained(folder)
    (folder / "README.md").unlink(missing_ok=True)
    config = json.loads((folder / "adapter_config.json").read_text())
    config["target_modules"] = sorted(config["target_modules"]) if isinstance(config["target_modules"], list) \
        else config["target_modules"]
    (folder / "adapter_config.json").write_text(json.dumps(config, indent=1, sort_keys=True) + "\n")
    if not whole:
        file = folder / "adapter_model.safetensors"
        save_file({key: value.bfloat16() for key, value in load_file(file).items()}, file)

    known = load_file(base / "expected.safetensors")
    ids = known["prompt"].view(1, -1)
    types = (ids == IMAGE).int()
    grid = torch.tensor([[1, *pair] for pair in known.get("grid", torch.zeros(0, 2)).tolist()], dtype=torch.long)
    pixels = torch.cat([known[f"pixels.{k}"] for k in range(len(grid))]) if len(grid) else None
    expected = {}
    margin = write_steps(expected, recipe, made.base_model.model, ids, types, pixels, grid)
    save_file({key: value.contiguous() for key, value in expected.items()}, folder / "expected.safetensors")
    changed = float((expected["logits"][0] - known["logits"][0]).abs().max() / known["logits"].abs().max())
    size = sum(file.stat().st_size for file in folder.iterdir())
    print(f"{name} {adapter}: least margin {margin:.4f}, logits changed by {changed:.2f}, {size // 1024} KiB")
    return margin


@torch.no_grad()
def make(name, recipe, seed, out):
    folder = out / name
    folder.mkdir(parents=True, exist_ok=True)
    for old in sorted(folder.rglob("*"), reverse=True):
        old.rmdir() if old.is_dir() else old.unlink()
    arguments, whole = configuration(recipe)
    config = recipe["cls"].config_class(**arguments)
    config._attn_implementation = config._experts_implementation = "eager"
    model = recipe["cls"](config).float().eval()
    randomise(model, seed)
    save_weights(model, recipe, quantise(model, recipe) if "awq" in recipe else {}, folder)
    (folder / "config.json").write_text(json.dumps(whole, indent=1) + "\n")
    (folder / "generation_config.json").write_text(json.dumps(dict(eos_token_id=[EOS], do_sample=False)) + "\n")

    generator = numpy.random.default_rng(seed)
    expected, grids, all_pixels, merge = {}, [], [], 2
    for k, (height, width) in enumerate(recipe["pages"]):
        image = page(height, width, generator)
        settings = dict(patch_size=recipe["vision"]["patch_size"], merge_size=merge, temporal_patch_size=2,
                        **recipe["processor"])
        limits = dict(shortest_edge=576, longest_edge=28 * 28 * 40)
        made = Qwen2VLImageProcessor(size=limits, **settings)(
            torch.from_numpy(image).permute(2, 0, 1), return_tensors="pt")
        turned = Image.fromarray(image).resize((max(1, width * 3 // 4), height * 2), Image.Resampling.LANCZOS)
        expected[f"lanczos.{k}"] = torch.from_numpy(numpy.asarray(turned).copy())
        expected[f"image.{k}"] = torch.from_numpy(image)
        expected[f"pixels.{k}"] = made["pixel_values"].float().contiguous()
        all_pixels.append(made["pixel_values"].float())
        grids.append(tuple(int(n) for n in made["image_grid_thw"][0][1:]))
        (folder / "preprocessor_config.json").write_text(json.dumps(dict(
            image_processor_type="Qwen2VLImageProcessor" + "Fast" * (recipe["spelling"] == "new"), size=limits, resample=3, **settings), indent=1) + "\n")

    ids, types = ids_and_types(recipe, grids, merge, generator)
    grid = torch.tensor([[1, rows, columns] for rows, columns in grids], dtype=torch.long)
    pixels = torch.cat(all_pixels) if all_pixels else None
    if grids:
        expected["grid"] = grid[:, 1:].contiguous()
        for k in range(len(grids)):
            features = model.model.visual(all_pixels[k], grid_thw=grid[k:k + 1])
            expected[f"vision.{k}"] = features.pooler_output
            for d, stacked in enumerate(getattr(features, "deepstack_features", None) or []):
                expected[f"deepstack.{k}.{d}"] = stacked
        expected["positions"] = model.model.get_rope_index(ids, types, image_grid_thw=grid)[0][:, 0].contiguous()
    else:
        expected["positions"] = torch.arange(ids.shape[1]).expand(3, -1).contiguous()
    expected["prompt"] = ids[0].clone()

    distance, hooks = watch_routers(model)
    margin = write_steps(expected, recipe, model, ids, types, pixels, grid, hooks)
    if margin == 0:
        return 0
    save_file({key: value.contiguous() for key, value in expected.items()}, folder / "expected.safetensors")
    size = sum(file.stat().st_size for file in folder.iterdir())
    error = float((expected["logits_bf16"] - expected["logits"]).abs().max() / expected["logits"].abs().max())
    print(f"{name}: prompt {expected['prompt'].numel()}, grids {grids}, least margin {margin:.4f}, "
          f"bf16 error {error:.4f}, {size // 1024} KiB")
    # In bf16 a row that is this near another expert may go to that one.
    return 0 if distance[0] < 6e-3 or hooks and error > 0.1 else margin


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--out", type=pathlib.Path, default=pathlib.Path(__file__).parent / "models")
    parser.add_argument("--only", nargs="+", choices=MODELS, default=[*MODELS])
    options = parser.parse_args()
    torch.set_num_threads(2)
    if int(PIL.__version__.split(".")[0]) > 12:
        raise SystemExit("Pillow 13 resizes in another order than the models were trained with: take 12")
    print(f"torch {torch.__version__}, transformers {transformers.__version__}, Pillow {PIL.__version__}, seed {options.seed}")
    for k, (name, recipe) in enumerate(MODELS.items()):
        seed = options.seed * 1000 + k
        # Two tokens that tie would make a greedy choice a matter of rounding.
        while name in options.only and make(name, recipe, seed, options.out) < 1e-2:
            seed += 100
        for adapter, settings in ADAPTERS.get(name, {}).items() if name in options.only else ():
            while make_adapter(name, recipe, adapter, settings, seed, options.out) < 1e-2:
                seed += 100


if __name__ == "__main__":
    main()
