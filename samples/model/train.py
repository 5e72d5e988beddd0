#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Train the sample model: a small Qwen3-VL that reads lines of print.

    train.py draw  DATA HEIGHTxWIDTHxLINES PAGES [--seed N]     pages to train on, 4096 a file
    train.py train RUN DATA [--steps N] [--shapes ...]          go on from RUN/last.pt where there is one
    train.py held-back FOLDER COUNT                             pages of a font and of words never trained on

Needs torch, tokenizers, safetensors, numpy and Pillow; transformers is needed by nothing here (check.py
compares with it); export.py makes the model folder. The network is Qwen3-VL's to the letter, written for whole batches of equal pages on a
processor with bf16 matrix units: weights are kept in fp32, and every step computes with their bf16 copies.

Two teachers help it find the letters, and are left behind when it is exported. A head on the page's tokens
names the characters that lie in each; and one head of attention in two layers of the decoder is told which
token of the page the next character lies in: we drew the page, so we know.
"""

import argparse
import concurrent.futures
import math
import pathlib
import time

import numpy
import torch
import torch.nn.functional as F
from PIL import Image

import render
import tokens

PATCH, MERGE, SIDE = 8, 2, 16                       # SIDE: of the table of positions
V = dict(depth=4, hidden=192, heads=3, inter=512, deepstack=[1])
T = dict(layers=4, hidden=192, heads=4, kv=2, dim=64, inter=384, vocab=320, sections=[12, 10, 10], theta=10000.0)
GUIDED = (1, 2)                                     # decoder layers whose first head is told where to look
# Where heads of the tower look at first, by rows and columns of patches from where they are: rotary positions
# and the biases of q and k alone make a head attend to a neighbour. Learning that there are any takes long.
NEIGHBOURS = [[(0, -1), (0, 1), (1, 0)], [(0, -1), (0, 1), (-1, 0)], [(0, -2), (0, 2)], [(0, -3), (0, 3)]]
CLASSES = 128                                       # of characters in a page's token; 0: none
FILE = 4096

tokenizer = tokens.make()
EOS = tokenizer.token_to_id("<|im_end|>")
BEFORE = tokenizer.encode(tokens.BEFORE).ids
AFTER = tokenizer.encode(tokens.AFTER).ids


# The network. Parameters by the names of a Qwen3-VL folder, except that the six equal channels of a grey
# page are one here.

def shapes():
    h, i, m = V["hidden"], V["inter"], V["hidden"] * MERGE ** 2
    s = {"visual.patch_embed.proj.weight": (h, PATCH * PATCH), "visual.patch_embed.proj.bias": (h,),
         "visual.pos_embed.weight": (SIDE * SIDE, h)}
    for k in range(V["depth"]):
        b = f"visual.blocks.{k}."
        for name, out, into in ("attn.qkv", 3 * h, h), ("attn.proj", h, h), ("mlp.linear_fc1", i, h), ("mlp.linear_fc2", h, i):
            s |= {b + name + ".weight": (out, into), b + name + ".bias": (out,)}
        for name in "norm1", "norm2":
            s |= {b + name + ".weight": (h,), b + name + ".bias": (h,)}
    for b, norm in [("visual.merger.", h)] + [(f"visual.deepstack_merger_list.{k}.", m) for k in range(len(V["deepstack"]))]:
        s |= {b + "norm.weight": (norm,), b + "norm.bias": (norm,), b + "linear_fc1.weight": (m, m), b + "linear_fc1.bias": (m,),
              b + "linear_fc2.weight": (T["hidden"], m), b + "linear_fc2.bias": (T["hidden"],)}
    h, i, q, kv = T["hidden"], T["inter"], T["heads"] * T["dim"], T["kv"] * T["dim"]
    s["language_model.embed_tokens.weight"] = (T["vocab"], h)
    for k in range(T["layers"]):
        b = f"language_model.layers.{k}."
        for name, out, into in (("self_attn.q_proj", q, h), ("self_attn.k_proj", kv, h), ("self_attn.v_proj", kv, h),
                                ("self_attn.o_proj", h, q), ("mlp.gate_proj", i, h), ("mlp.up_proj", i, h),
                                ("mlp.down_proj", h, i)):
            s[b + name + ".weight"] = (out, into)
        s |= {b + "input_layernorm.weight": (h,), b + "post_attention_layernorm.weight": (h,),
              b + "self_attn.q_norm.weight": (T["dim"],), b + "self_attn.k_norm.weight": (T["dim"],)}
    s["language_model.norm.weight"] = (h,)
    s["teacher.weight"] = (render.SLOTS * CLASSES, h)
    return s


def initial(seed):
    g = torch.Generator().manual_seed(seed)
    params = {}
    for name, shape in shapes().items():
        if len(shape) == 1:
            p = torch.ones(shape) if "norm" in name and name.endswith("weight") else torch.zeros(shape)
        elif "embed_tokens" in name or "pos_embed" in name:
            p = torch.randn(shape, generator=g) * .02
        else:
            into_stream = name.split(".")[-2] in ("proj", "linear_fc2", "o_proj", "down_proj") and "patch" not in name
            p = torch.randn(shape, generator=g) * (.3 if into_stream and "merger" not in name else 1) / shape[1] ** .5
        params[name] = p
    for k, offsets in enumerate(NEIGHBOURS):
        bias = params[f"visual.blocks.{k}.attn.qkv.bias"].view(3, V["heads"], 2, 2, -1)  # q k v, head, half, axis, frequency
        for head, offset in enumerate(offsets):
            for axis, steps in enumerate(offset):
                for f in range(4):
                    angle = steps / 10000 ** (f / bias.shape[-1])
                    bias[0, head, :, axis, f] = torch.tensor([5.5, 0])
                    bias[1, head, :, axis, f] = torch.tensor([5.5 * math.cos(angle), -5.5 * math.sin(angle)])
    return params


class Plan:
    """What depends on the size of the page alone."""

    def __init__(self, height, width):
        self.rows, self.columns = height // render.TOKEN, width // render.TOKEN
        r, c = torch.meshgrid(torch.arange(self.rows * MERGE), torch.arange(self.columns * MERGE), indexing="ij")
        order = lambda x: x.view(self.rows, MERGE, self.columns, MERGE).transpose(1, 2).reshape(-1)
        r, c = order(r), order(c)
        angle = 1 / 10000 ** (torch.arange(0, V["hidden"] // V["heads"] // 2, 2) / (V["hidden"] // V["heads"] // 2))
        angle = torch.cat([r[:, None] * angle, c[:, None] * angle], -1)
        self.vision = angle.cos().bfloat16(), angle.sin().bfloat16()
        # The table of positions, stretched over the page.
        self.table = torch.zeros(len(r), SIDE * SIDE)
        y, x = r * ((SIDE - 1) / max(self.rows * MERGE - 1, 1)), c * ((SIDE - 1) / max(self.columns * MERGE - 1, 1))
        for dy in 0, 1:
            for dx in 0, 1:
                iy, ix = y.floor().long() + dy, x.floor().long() + dx
                weight = (1 - (y - iy).abs()) * (1 - (x - ix).abs())
                at = iy.clamp(max=SIDE - 1) * SIDE + ix.clamp(max=SIDE - 1)
                self.table[torch.arange(len(r)), at] += weight
        self.table = self.table.bfloat16()

    def patches(self, pages):
        """float pages [n][height][width] 0..255 to bf16 [n][patches][64] in merge order."""
        n = len(pages)
        x = (pages / 127.5 - 1).view(n, self.rows, MERGE, PATCH, self.columns, MERGE, PATCH)
        return x.permute(0, 1, 4, 2, 5, 3, 6).reshape(n, -1, PATCH * PATCH).bfloat16()

    def text(self, count):
        """cos and sin for BEFORE, the page, AFTER and count tokens."""
        first, page = len(BEFORE), self.rows * self.columns
        behind = first + max(self.rows, self.columns) + torch.arange(len(AFTER) + count)
        at = torch.arange(page)
        image = torch.stack([torch.zeros_like(at), at // self.columns, at % self.columns]) + first
        position = torch.cat([torch.arange(first).expand(3, -1), image, behind.expand(3, -1)], 1)
        angle = position[..., None] / T["theta"] ** (torch.arange(0, T["dim"], 2) / T["dim"])
        mixed = angle[0].clone()
        for axis in 1, 2:
            mixed[:, axis:T["sections"][axis] * 3:3] = angle[axis][:, axis:T["sections"][axis] * 3:3]
        return mixed.cos().bfloat16(), mixed.sin().bfloat16()


def turn(x, rope):
    cos, sin = rope
    a, b = x.chunk(2, -1)
    return torch.cat([a * cos - b * sin, b * cos + a * sin], -1)


def attend(q, k, v, mask=0):
    """Spelled out: for pages this small it is twice as fast as the library's flash attention, backward."""
    return ((q * q.shape[-1] ** -.5) @ k.transpose(-2, -1) + mask).softmax(-1) @ v


def linear(p, name, x):
    return F.linear(x, p[name + ".weight"], p.get(name + ".bias"))


def layer_norm(p, name, x):
    return F.layer_norm(x, x.shape[-1:], p[name + ".weight"], p[name + ".bias"], 1e-6)


def rms_norm(p, name, x):
    return F.rms_norm(x, x.shape[-1:], p[name + ".weight"], 1e-6)


def merge(p, name, x, norm_last):
    n, count, h = x.shape
    if not norm_last:
        x = layer_norm(p, name + "norm", x)
    x = x.reshape(n, count // MERGE ** 2, h * MERGE ** 2)
    if norm_last:
        x = layer_norm(p, name + "norm", x)
    return linear(p, name + "linear_fc2", F.gelu(linear(p, name + "linear_fc1", x)))


def see(p, plan, patches):
    x = linear(p, "visual.patch_embed.proj", patches) + plan.table @ p["visual.pos_embed.weight"]
    n, count, h = x.shape
    stacked = []
    for k in range(V["depth"]):
        b = f"visual.blocks.{k}."
        qkv = linear(p, b + "attn.qkv", layer_norm(p, b + "norm1", x)).view(n, count, 3, V["heads"], -1).permute(2, 0, 3, 1, 4)
        y = attend(turn(qkv[0], plan.vision), turn(qkv[1], plan.vision), qkv[2])
        x = x + linear(p, b + "attn.proj", y.transpose(1, 2).reshape(n, count, h))
        y = F.gelu(linear(p, b + "mlp.linear_fc1", layer_norm(p, b + "norm2", x)), approximate="tanh")
        x = x + linear(p, b + "mlp.linear_fc2", y)
        if k in V["deepstack"]:
            stacked.append(merge(p, f"visual.deepstack_merger_list.{len(stacked)}.", x, True))
    return merge(p, "visual.merger.", x, False), stacked


def say(p, plan, image, stacked, ids):
    """Logits for what follows AFTER and each of ids, and the guided heads' scores over the page."""
    n, table = len(ids), p["language_model.embed_tokens.weight"]
    first, page, start = len(BEFORE), image.shape[1], len(BEFORE) + image.shape[1] + len(AFTER) - 1
    embed = lambda x: F.embedding(torch.tensor(x), table).expand(n, -1, -1)
    x = torch.cat([embed(BEFORE), image, embed(AFTER), F.embedding(ids, table)], 1)
    rope, length, scores = plan.text(ids.shape[1]), x.shape[1], []
    mask = torch.full((length, length), -1e9, dtype=x.dtype).triu(1)
    for k in range(T["layers"]):
        b = f"language_model.layers.{k}."
        y = rms_norm(p, b + "input_layernorm", x)
        q, key, value = (linear(p, b + f"self_attn.{name}_proj", y).view(n, length, -1, T["dim"]) for name in "qkv")
        q = turn(rms_norm(p, b + "self_attn.q_norm", q).transpose(1, 2), rope)
        key = turn(rms_norm(p, b + "self_attn.k_norm", key).transpose(1, 2), rope)
        if k in GUIDED:
            scores.append(q[:, 0, start:] @ key[:, 0, first:first + page].transpose(1, 2) * T["dim"] ** -.5)
        more = T["heads"] // T["kv"]
        y = attend(q, key.repeat_interleave(more, 1), value.transpose(1, 2).repeat_interleave(more, 1), mask)
        x = x + linear(p, b + "self_attn.o_proj", y.transpose(1, 2).reshape(n, length, -1))
        y = rms_norm(p, b + "post_attention_layernorm", x)
        x = x + linear(p, b + "mlp.down_proj", F.silu(linear(p, b + "mlp.gate_proj", y)) * linear(p, b + "mlp.up_proj", y))
        if k < len(stacked):
            x = torch.cat([x[:, :first], x[:, first:first + page] + stacked[k], x[:, first + page:]], 1)
    return F.linear(rms_norm(p, "language_model.norm", x[:, start:]), table), scores


def losses(p, plan, patches, ids, where, slots, alone):
    """ids and where: [n][length], -1 behind the end; slots: [n][page's tokens][SLOTS]. Alone: the tower is."""
    image, stacked = see(p, plan, patches)
    named = linear(p, "teacher", image).view(-1, CLASSES).float()
    name = F.cross_entropy(named, slots.flatten())
    if alone:
        return name * 0, name, name * 0
    logits, scores = say(p, plan, image, stacked, ids[:, :-1].clamp(min=0))
    read = F.cross_entropy(logits.float().flatten(0, 1), ids.flatten(), ignore_index=-1)
    guide = sum(F.cross_entropy(s.float().flatten(0, 1), where.flatten(), ignore_index=-1) for s in scores) / len(scores)
    return read, name, guide


@torch.no_grad()
def transcribe(p, plan, patches, most):
    image, stacked = see(p, plan, patches)
    ids = torch.zeros(len(patches), 0, dtype=torch.long)
    for _ in range(most):
        ids = torch.cat([ids, say(p, plan, image, stacked, ids)[0][:, -1].argmax(-1, keepdim=True)], 1)
        if (ids == EOS).any(1).all():
            break
    return [tokenizer.decode([i for i in row[:(row + [EOS]).index(EOS)]]) for row in ids.tolist()]


def distance(a, b):
    row = list(range(len(b) + 1))
    for i, x in enumerate(a, 1):
        last, row[0] = row[0], i
        for j, y in enumerate(b, 1):
            last, row[j] = row[j], min(row[j] + 1, row[j - 1] + 1, last + (x != y))
    return row[-1]


# Pages.

def draw(folder, shape, pages, seed):
    height, width, lines = map(int, shape.split("x"))
    folder.mkdir(parents=True, exist_ok=True)
    length = lines * width // 5
    for part in range(pages // FILE):
        words = render.Words(f"{seed} {shape} {part}")
        ink = numpy.zeros((FILE, height, width), numpy.uint8)
        ids, where = numpy.full((FILE, length), -1, numpy.int16), numpy.full((FILE, length), -1, numpy.int16)
        slots = numpy.zeros((FILE, height * width // render.TOKEN ** 2, render.SLOTS), numpy.uint8)
        k = 0
        while k < FILE:
            ink[k], texts, places = render.page(words, height, width, lines)
            at, slots[k] = render.targets(texts, places, height, width)
            encoding = tokenizer.encode("\n".join(texts))
            row = encoding.ids + [EOS]
            if len(row) > length:
                continue
            ids[k, :len(row)] = row
            where[k, :len(row)] = [at[begin] for begin, _ in encoding.offsets] + [at[-1]]
            k += 1
        numpy.savez(folder / f"new-{shape}-{seed}-{part}.npz", ink=ink, ids=ids, where=where, slots=slots)
        (folder / f"new-{shape}-{seed}-{part}.npz").rename(folder / f"{shape}-{seed}-{part:04}.npz")


class Pages:
    """Batches of one shape from whatever has been drawn so far."""

    def __init__(self, folder, shape, seed):
        self.folder, self.shape, self.order = folder, shape, numpy.random.default_rng(seed)
        self.plan, self.uses, self.open, self.left = Plan(*map(int, shape.split("x")[:2])), {}, None, []

    def batch(self, size):
        if len(self.left) < size:
            # The file that served least, the newest of those.
            files = sorted(self.folder.glob(f"{self.shape}-*.npz"), reverse=True)
            file = min(files, key=lambda f: self.uses.get(f.name, 0))
            self.uses[file.name] = self.uses.get(file.name, 0) + 1
            self.open = {k: v for k, v in numpy.load(file).items()}
            self.left = self.order.permutation(len(self.open["ids"]))
        take, self.left = numpy.sort(self.left[:size]), self.left[size:]
        ink, ids, where, slots = (self.open[k][take] for k in ("ink", "ids", "where", "slots"))
        longest = int((ids >= 0).sum(1).max())
        pages = torch.from_numpy(render.degrade(ink, self.order))
        return [self.plan.patches(pages)] + [torch.from_numpy(x.astype(numpy.int64)) for x in
                                             (ids[:, :longest], where[:, :longest], slots)]


def held_back_pages(shape, count, seed):
    height, width, lines = map(int, shape.split("x"))
    words = render.Words(seed, held_back=True)
    drawn = [render.page(words, height, width, lines, held_back=True) for _ in range(count)]
    pages = render.degrade(numpy.stack([ink for ink, _, _ in drawn]), numpy.random.default_rng(7))
    return pages, ["\n".join(texts) for _, texts, _ in drawn]


def write_held_back(folder, shapes, count):
    """What the tests read: a PGM a page, and a list of names and texts."""
    (folder / "held-back").mkdir(parents=True, exist_ok=True)
    rows = []
    for shape in shapes:
        for page, text in zip(*held_back_pages(shape, count, "to be read")):
            rows.append(f"{len(rows):02}.pgm\t" + text.replace("\n", "\\n") + "\n")
            header = b"P5\n%d %d\n255\n" % page.shape[::-1]
            (folder / "held-back" / rows[-1].split("\t")[0]).write_bytes(header + page.astype(numpy.uint8).tobytes())
    (folder / "held-back" / "texts.tsv").write_text("".join(rows))


def half(params):
    return {name: p.detach().bfloat16().requires_grad_() for name, p in params.items()}


def read_held_back(folder):
    """[(name, pixels, text)] as write_held_back left them."""
    rows = [row.split("\t") for row in (folder / "held-back" / "texts.tsv").read_text().splitlines()]
    return [(name, numpy.asarray(Image.open(folder / "held-back" / name), numpy.float32), text.replace("\\n", "\n"))
            for name, text in rows]


def error_rate(params, pages):
    wrong, letters, shown = 0, 0, []
    for size in sorted({pixels.shape for _, pixels, _ in pages}):
        plan, group = Plan(*size), [page for page in pages if page[1].shape == size]
        read = transcribe(half(params), plan, plan.patches(torch.from_numpy(numpy.stack([x for _, x, _ in group]))), 100)
        wrong += sum(distance(got, text) for got, (_, _, text) in zip(read, group))
        letters += sum(len(text) for _, _, text in group)
        shown += [f"{text!r} read {got!r}" for got, (_, _, text) in zip(read, group)][:2]
    return wrong / letters, "; ".join(shown)


def train(run, folder, options):
    run.mkdir(parents=True, exist_ok=True)
    torch.set_num_threads(1)
    # Each thread computes with one core: shares of a batch need not wait for each other within a step.
    pool = concurrent.futures.ThreadPoolExecutor(options.threads, initializer=lambda: torch.set_num_threads(1))
    params, step, spent = initial(options.seed), 0, 0.0
    wide = [n for n, p in params.items() if p.dim() == 2 and not any(x in n for x in ("embed", "teacher"))]
    wide.sort(key=lambda n: -params[n].numel())
    rest = [n for n in params if n not in wide]
    optimisers = [torch.optim.Muon([params[n] for n in wide[k::options.threads]], weight_decay=.02, adjust_lr_fn="match_rms_adamw")
                  for k in range(options.threads)]
    optimisers.append(torch.optim.AdamW([params[n] for n in rest], betas=(.9, .98), weight_decay=0))
    if (run / "last.pt").exists():
        last = torch.load(run / "last.pt")
        for name in params:
            params[name].copy_(last["params"][name])
        for optimiser, state in zip(optimisers, last["optimisers"]):
            optimiser.load_state_dict(state)
        step, spent = last["step"], last["spent"]
    sources = [Pages(folder, shape, options.seed + step) for shape in options.shapes]
    held_back = read_held_back(pathlib.Path(__file__).parent)
    weights = numpy.array(options.weights or [1] * len(sources), float)
    choose, log, began, seen, saved = numpy.random.default_rng(step), (run / "log.txt").open("a"), time.time(), [], time.time()

    def report(text):
        print(text, file=log, flush=True)
        print(text, flush=True)

    def share(work, source, pages):
        found = losses(work, source.plan, *pages, step < options.alone)
        loss = found[0] + options.teach * (3 * found[1] + found[2])
        return torch.autograd.grad(loss, list(work.values()), allow_unused=True), [float(x.detach()) for x in found]

    def advance(optimiser):
        optimiser.param_groups[0]["lr"] = rate
        optimiser.step()

    done = 0.0
    while done < 1:
        done = min(1, max((step + 1) / options.steps, (time.time() - began) / 60 / options.minutes))
        rate = options.rate * min(1, (step + 1) / 100, (1 - done) / options.decay + 1e-3)
        source = sources[choose.choice(len(sources), p=weights / weights.sum())]
        work = half(params)
        jobs = [pool.submit(share, work, source, source.batch(options.batch // options.shares)) for _ in range(options.shares)]
        results = [job.result() for job in jobs]
        for n, *grads in zip(params, *(grads for grads, _ in results)):
            params[n].grad = None if grads[0] is None else sum(g.float() for g in grads) / options.shares
        norm = torch.nn.utils.clip_grad_norm_([params[n] for n in rest], 1.0)
        list(pool.map(advance, optimisers))
        step += 1
        seen.append(numpy.mean([found for _, found in results], 0))
        if step % 25 == 0:
            read, name, guide = numpy.mean(seen, 0)
            report(f"{step} {spent + time.time() - began:.0f}s rate {rate:.5f} read {read:.3f} name {name:.3f} "
                   f"guide {guide:.3f} norm {float(norm):.2f}")
            seen = []
        if time.time() - saved > 150 or done == 1:
            torch.save(dict(params=params, optimisers=[o.state_dict() for o in optimisers], step=step,
                            spent=spent + time.time() - began), run / "new.pt")
            (run / "new.pt").rename(run / "last.pt")
            saved = time.time()
        if step % options.look == 0 or done == 1:
            rate, shown = error_rate(params, held_back)
            report(f"{step} held back: error rate {rate:.4f}  {shown}")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("verb", choices=["draw", "train", "held-back"])
    parser.add_argument("paths", nargs="+")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--steps", type=int, default=6000)
    parser.add_argument("--minutes", type=float, default=1e9, help="end after so long, if not after --steps")
    parser.add_argument("--batch", type=int, default=32)
    parser.add_argument("--shares", type=int, default=4, help="of a batch, for the threads to take")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--rate", type=float, default=2e-3)
    parser.add_argument("--decay", type=float, default=.4, help="the share of the training in which the rate falls to 0")
    parser.add_argument("--teach", type=float, default=1.0, help="weight of the two teachers")
    parser.add_argument("--alone", type=int, default=300, help="steps in which the tower learns without the decoder")
    parser.add_argument("--look", type=int, default=250, help="read the held-back pages after so many steps")
    parser.add_argument("--shapes", nargs="+", default=["32x256x1"])
    parser.add_argument("--weights", nargs="+", type=float)
    options = parser.parse_args()
    path = pathlib.Path(options.paths[0])
    if options.verb == "draw":
        draw(path, options.paths[1], int(options.paths[2]), options.seed)
    elif options.verb == "held-back":
        write_held_back(path, options.shapes, int(options.paths[1]))
    else:
        train(path, pathlib.Path(options.paths[1]), options)


if __name__ == "__main__":
    main()
