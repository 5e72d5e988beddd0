#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Make the golden images: what the reference processors and Pillow make of odd pictures.

    tests/golden/make-images.py [--seed N] [--out FOLDER]

Needs torch (CPU), torchvision, transformers, safetensors and Pillow before 13, as make-models.py does.

resized.safetensors: pages of noise that both sides make from a formula, so that only results are stored.

    seed       I64 [1]
    cases      I64 [cases][5]           width, height, patch, least and most pixels; merge is 2
    torch.K    U8  [height][width][3]   resized by the processor that works on tensors
    fits       I64 [sizes][7]           width, height, factor, least and most pixels, and the size it is
                                        brought to; 0 x 0: refused

pictures/NAME.png, .jpg and beside each NAME.ppm: upright by its EXIF block, on white where it is
transparent, and in RGB, as Pillow and the models' own utilities do it.
"""

import argparse
import pathlib
import random

import numpy
import PIL
import torch
from PIL import Image, ImageOps
from safetensors.torch import save_file
from transformers.models.qwen2_vl.image_processing_qwen2_vl import Qwen2VLImageProcessor, smart_resize

# Enlarged to the least size, one pixel wide or high, at the ratio that is just let through, one
# token wide, both ways at once, left as they are.
SIZES = [(1, 1), (5, 7), (1, 200), (200, 1), (399, 2), (17, 1), (1500, 9), (16, 16), (16, 48),
         (15, 60), (31, 33), (97, 61), (300, 301)]
PATCH, MERGE, LEAST, MOST = 8, 2, 400, 1024

# The processors' real limits: Qwen2.5-VL and Qwen3-VL.
LIMITS = [(28, 56 * 56, 28 * 28 * 16384), (32, 256 * 256, 4096 * 4096), (28, 56 * 56, 28 * 28 * 1280)]


def noise(width, height, seed):
    """test-golden-images.c has the same."""
    y, x, c = numpy.meshgrid(numpy.arange(height, dtype=numpy.uint32), numpy.arange(width, dtype=numpy.uint32),
                             numpy.arange(3, dtype=numpy.uint32), indexing="ij")
    h = (x * numpy.uint32(73856093)) ^ (y * numpy.uint32(19349663)) ^ (c * numpy.uint32(83492791)) ^ numpy.uint32(seed)
    h = (h ^ (h >> numpy.uint32(13))) * numpy.uint32(1540483477)
    return (((h >> numpy.uint32(15)) & 127) + (x * 5 + y * 3 + c * 40) % 129).astype(numpy.uint8)


def levels(values, grid, settings):
    """Patches back to the picture they were cut from: its pixels, exactly."""
    rows, columns = (int(n) for n in grid[0][1:])
    p, m = settings["patch_size"], settings["merge_size"]
    v = values.reshape(rows // m, columns // m, m, m, 3, 2, p, p)[:, :, :, :, :, 0]
    image = v.permute(0, 2, 5, 1, 3, 6, 4).reshape(rows * p, columns * p, 3).double() * 127.5 + 127.5
    assert float((image - image.round()).abs().max()) < 1e-2
    return image.round().to(torch.uint8).contiguous()


def resized(seed, out):
    settings = dict(patch_size=PATCH, merge_size=MERGE, temporal_patch_size=2, image_mean=[0.5] * 3, image_std=[0.5] * 3,
                    size=dict(shortest_edge=LEAST, longest_edge=MOST))
    made = dict(seed=torch.tensor([seed]),
                cases=torch.tensor([[w, h, PATCH, LEAST, MOST] for w, h in SIZES]))
    for k, (width, height) in enumerate(SIZES):
        page = noise(width, height, seed)
        of = Qwen2VLImageProcessor(**settings)(torch.from_numpy(page).permute(2, 0, 1), return_tensors="pt")
        made[f"torch.{k}"] = levels(of["pixel_values"], of["image_grid_thw"], settings)
    made["fits"] = torch.tensor(fits(random.Random(seed)))
    save_file(made, out / "resized.safetensors")
    (out / "resized.safetensors").chmod(0o644)


def fits(numbers):
    sizes = [(w, h) for w in (1, 2, 13, 14, 15, 42, 56, 201) for h in (1, 14, 16, 70, 200, 201, 2800, 2801)]
    sizes += [(int(10 ** numbers.uniform(0, 4.3)), int(10 ** numbers.uniform(0, 4.3))) for _ in range(120)]
    table = []
    for width, height in sizes:
        for factor, least, most in LIMITS:
            try:
                high, wide = smart_resize(height, width, factor, least, most)
            except ValueError:
                high, wide = 0, 0
            table.append([width, height, factor, least, most, wide, high])
    return table


def pictures(seed, out):
    folder = out / "pictures"
    folder.mkdir(exist_ok=True)
    for old in folder.iterdir():
        old.unlink()
    colour = Image.fromarray(noise(33, 20, seed))
    grey, alpha = colour.convert("L"), Image.fromarray(noise(33, 20, seed + 1)[:, :, 0])
    palette = colour.quantize(16)
    smooth = Image.fromarray(noise(5, 4, seed)).resize((33, 20), Image.Resampling.BICUBIC)  # JPEG keeps this

    def put(name, image, **options):
        image.save(folder / name, **options)
        back = ImageOps.exif_transpose(Image.open(folder / name))
        if back.has_transparency_data:
            back = back.convert("RGBA")
            white = Image.new("RGB", back.size, "white")
            white.paste(back, mask=back.getchannel("A"))
            back = white
        back.convert("RGB").save((folder / name).with_suffix(".ppm"))

    def turned(n):
        exif = Image.Exif()
        exif[0x0112] = n
        return exif

    put("rgb.png", colour)
    put("grey.png", grey)
    put("one-bit.png", grey.convert("1"))
    put("grey-alpha.png", Image.merge("LA", (grey, alpha)))
    put("rgb-alpha.png", Image.merge("RGBA", (*colour.split(), alpha)))
    put("palette.png", palette)
    put("palette-transparent.png", palette, transparency=3)
    put("palette-alpha.png", palette, transparency=bytes(range(0, 256, 16)))
    put("rgb-transparent.png", colour, transparency=colour.getpixel((4, 4)))
    put("turned-6.png", colour, exif=turned(6))
    put("grey-jpeg.jpg", smooth.convert("L"), quality=95)
    put("wide-jpeg.jpg", smooth.resize((60, 1)), quality=95)
    for n in range(1, 9):
        put(f"turned-{n}-jpeg.jpg", smooth, quality=95, subsampling=n % 3, exif=turned(n))


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--out", type=pathlib.Path, default=pathlib.Path(__file__).parent / "images")
    options = parser.parse_args()
    if int(PIL.__version__.split(".")[0]) > 12:
        raise SystemExit("Pillow 13 resizes in another order than the models were trained with: take 12")
    options.out.mkdir(parents=True, exist_ok=True)
    seed = options.seed & 0x7fffffff
    resized(seed, options.out)
    pictures(seed, options.out)
    size = sum(file.stat().st_size for file in options.out.rglob("*") if file.is_file())
    print(f"images: {len(SIZES)} resized, seed {seed}, {size // 1024} KiB")


if __name__ == "__main__":
    main()
