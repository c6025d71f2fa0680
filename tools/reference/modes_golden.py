"""What the ways of drawing give that A1111's users know: inpainting of a part, fills, second passes, variations.

    python3 tools/reference/modes_golden.py --models test/golden/models --out test/golden/modes

The networks and samplers are diffusers'; where diffusers has no such mode, the formulas are those of A1111's
modules/masking.py, processing.py and rng.py, written anew here.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import diffusers
import numpy as np
import torch
import transformers
from diffusers import StableDiffusionImg2ImgPipeline, StableDiffusionInpaintPipeline, StableDiffusionPipeline
from diffusers.image_processor import VaeImageProcessor
from PIL import Image, ImageDraw, ImageFilter, ImageOps
from PIL import __version__ as pillow
from safetensors.torch import save_file

MADE_WITH = {"diffusers": diffusers.__version__, "transformers": transformers.__version__, "torch": torch.__version__, "pillow": pillow}
PROMPT = "a lighthouse at sunset, oil painting"


def scene(width: int, height: int) -> Image.Image:
    made = Image.new("RGB", (width, height), (40, 70, 120))
    draw = ImageDraw.Draw(made)
    draw.rectangle((0, height * 2 // 3, width, height), fill=(30, 110, 60))
    draw.ellipse((width // 6, height // 5, width // 2, height * 3 // 5), fill=(240, 200, 40))
    draw.line((3, height - 5, width - 4, 6), fill=(255, 255, 255), width=2)
    return made


def hole(width: int, height: int, box: tuple[int, int, int, int]) -> Image.Image:
    made = Image.new("L", (width, height), 0)
    ImageDraw.Draw(made).ellipse(box, fill=255)
    return made


def soften(mask: Image.Image, sigma: float) -> Image.Image:
    """A Gaussian over 2 int(2.5 sigma + 0.5) + 1 pixels, mirrored edges, rounded after each axis."""
    half = int(2.5 * sigma + 0.5)
    taps = np.exp(-(np.arange(-half, half + 1) ** 2) / (2 * sigma**2))
    taps /= taps.sum()
    values = np.asarray(mask, np.float64)
    for axis in (1, 0):
        pad = [(0, 0), (0, 0)]
        pad[axis] = (half, half)
        padded = np.pad(values, pad, mode="reflect")
        values = np.round(sum(t * np.take(padded, range(i, i + values.shape[axis]), axis) for i, t in enumerate(taps)))
    return Image.fromarray(values.clip(0, 255).astype(np.uint8))


def fill(picture: Image.Image, mask: Image.Image) -> Image.Image:
    """Colours around the hole, ever less blurred, laid on each other."""
    made = Image.new("RGBA", picture.size)
    rest = Image.new("RGBa", picture.size)
    rest.paste(picture.convert("RGBA").convert("RGBa"), mask=ImageOps.invert(mask))
    for radius, times in ((256, 1), (64, 1), (16, 2), (4, 4), (2, 2), (0, 1)):
        blurred = rest.filter(ImageFilter.GaussianBlur(radius)).convert("RGBA")
        for _ in range(times):
            made.alpha_composite(blurred)
    return made.convert("RGB")


def load(kind, models: Path, name: str):
    more = {} if kind is StableDiffusionPipeline else {"requires_safety_checker": False}
    pipe = kind.from_pretrained(models / name, torch_dtype=torch.float32, safety_checker=None, feature_extractor=None, image_encoder=None, **more)
    pipe.set_progress_bar_config(disable=True)
    own = type(pipe.scheduler)
    pipe.scheduler = own.from_config(own.load_config(models / name / "scheduler"))
    return pipe


def write(out: Path, name: str, tensors: dict, about: dict, pictures: dict | None = None) -> None:
    about = {**about, "made_with": MADE_WITH}
    save_file({k: v.contiguous() for k, v in tensors.items()}, out / f"{name}.safetensors", metadata={"about": json.dumps(about)})
    for key, picture in (pictures or {}).items():
        picture.save(out / f"{name}.{key}.png", optimize=True)
    print(name, {k: tuple(v.shape) for k, v in tensors.items()})


def inpainted(pipe, ask: dict, picture: Image.Image, mask: Image.Image) -> tuple[torch.Tensor, Image.Image]:
    """One inpainting with A1111's fills, as diffusers draws it; its latents and its picture."""
    seen = {}
    filling = ask.get("fill", "original")
    shape = (1, 4, ask["height"] // 8, ask["width"] // 8)
    encode, preprocess = pipe._encode_vae_image, pipe.image_processor.preprocess
    pad = ask.get("padding")
    crop = pipe.mask_processor.get_crop_region(mask, ask["width"], ask["height"], pad=pad) if pad is not None else None
    mode = "default" if pad is None else "fill"
    sized = pipe.mask_processor.resize(mask.crop(crop) if crop else mask, ask["height"], ask["width"], resize_mode=mode).convert("L")
    small = (torch.from_numpy(np.asarray(sized, np.float32) / 255)[None, None] >= 0.5).float()
    small = torch.nn.functional.interpolate(small, size=shape[-2:])

    def prepared(image, **how):
        if filling == "original":
            return preprocess(image, **how)
        cut = image.crop(how["crops_coords"]) if how.get("crops_coords") else image
        cut = pipe.image_processor.resize(cut, how["height"], how["width"], resize_mode=how["resize_mode"])
        return preprocess(fill(cut, sized), height=how["height"], width=how["width"])

    def encoded(image, generator):
        found = encode(image, generator)
        if "first" not in seen and filling.startswith("latent"):
            fresh = torch.randn(shape, generator=torch.Generator().manual_seed(ask["seed"])) if filling == "latent-noise" else 0
            found = found * (1 - small) + fresh * small
        seen["first"] = True
        return found

    def decoded(z, **how):
        seen["latents"] = z * pipe.vae.config.scaling_factor
        return vae_decode(z, **how)

    vae_decode = pipe.vae.decode
    pipe._encode_vae_image, pipe.image_processor.preprocess, pipe.vae.decode = encoded, prepared, decoded
    try:
        made = pipe(
            ask["prompt"],
            image=picture,
            mask_image=mask,
            width=ask["width"],
            height=ask["height"],
            strength=ask["strength"],
            num_inference_steps=ask["steps"],
            guidance_scale=ask["cfg"],
            padding_mask_crop=pad,
            generator=torch.Generator().manual_seed(ask["seed"]),
        ).images[0]
    finally:
        pipe._encode_vae_image, pipe.image_processor.preprocess, pipe.vae.decode = encode, preprocess, vae_decode
    return seen["latents"], made


@torch.no_grad()
def inpainting(models: Path, out: Path) -> None:
    base = {"prompt": PROMPT, "model": "sd1-tiny", "seed": 11, "steps": 5, "cfg": 4.0, "strength": 0.8, "width": 64, "height": 64}
    cases = {
        "masked": ({"padding": 8}, (96, 80), (50, 10, 80, 30)),
        "masked-edge": ({"padding": 32, "width": 96, "height": 64}, (120, 100), (90, 70, 119, 99)),
        "masked-blur": ({"padding": 4, "blur": 3, "fill": "fill"}, (96, 80), (30, 30, 50, 60)),
        "masked-nine": ({"padding": 8, "model": "sd1-inpaint", "fill": "fill"}, (96, 80), (50, 10, 80, 30)),
        "whole-fill": ({"fill": "fill", "blur": 2}, (64, 64), (16, 20, 44, 60)),
        "whole-noise": ({"fill": "latent-noise"}, (64, 64), (16, 20, 44, 60)),
        "whole-nothing": ({"fill": "latent-nothing", "blur": 4}, (64, 64), (16, 20, 44, 60)),
    }
    pipes = {}
    for name, (more, size, box) in cases.items():
        ask = {**base, **more}
        pipe = pipes.get(ask["model"]) or load(StableDiffusionInpaintPipeline, models, ask["model"])
        pipes[ask["model"]] = pipe
        picture, mask = scene(*size), hole(*size, box)
        soft = soften(mask, ask["blur"]) if "blur" in ask else mask
        latents, made = inpainted(pipe, ask, picture, soft)
        if "padding" not in ask and "blur" in ask:
            shown = Image.fromarray((np.asarray(soft, np.float32) * 2).clip(0, 255).astype(np.uint8))
            made = VaeImageProcessor().apply_overlay(shown, picture, made)
        write(out, f"inpaint-{name}", {"latents": latents}, {"ask": ask}, {"init": picture, "mask": mask, "out": made})


def pictures(out: Path) -> None:
    """The picture arithmetic alone."""
    rng = np.random.default_rng(5)
    picture = Image.fromarray(rng.integers(0, 256, (33, 41, 3), dtype=np.uint8))
    mask = soften(hole(41, 33, (12, 8, 33, 26)), 2.5)
    drawn = Image.fromarray(rng.integers(0, 256, (33, 41, 3), dtype=np.uint8))
    over = VaeImageProcessor().apply_overlay(mask, picture, drawn)
    made = {"picture": picture, "drawn": drawn, "mask": hole(41, 33, (12, 8, 33, 26)), "soft": mask, "over": over, "filled": fill(picture, mask)}
    for key, value in made.items():
        value.save(out / f"picture.{key}.png", optimize=True)
    boxes = []
    for _ in range(40):
        w, h, pad, width, height = (int(rng.integers(a, b)) for a, b in ((20, 90), (20, 90), (0, 20), (1, 9), (1, 9)))
        x, y = sorted(rng.integers(0, w, 2).tolist()), sorted(rng.integers(0, h, 2).tolist())
        spot = Image.new("L", (w, h), 0)
        ImageDraw.Draw(spot).rectangle((x[0], y[0], x[1], y[1]), fill=1)
        region = VaeImageProcessor.get_crop_region(spot, width * 8, height * 8, pad=pad)
        boxes.append({"size": [w, h], "spot": [x[0], y[0], x[1] + 1, y[1] + 1], "pad": pad, "drawn": [width * 8, height * 8], "region": [int(n) for n in region]})
    (out / "regions.json").write_text(json.dumps({"made_with": MADE_WITH, "boxes": boxes}) + "\n")


@torch.no_grad()
def drawn(pipe, ask: dict, noise: torch.Tensor) -> torch.Tensor:
    run = {"num_inference_steps": ask["steps"], "guidance_scale": ask["cfg"], "output_type": "latent"}
    return pipe(ask["prompt"], latents=noise, width=ask["width"], height=ask["height"], **run).images


@torch.no_grad()
def hires(models: Path, out: Path) -> None:
    """A first pass, its latents enlarged by torch, and a second pass over the last steps of a longer schedule."""
    base = {"prompt": PROMPT, "model": "sd1-tiny", "seed": 5, "steps": 4, "cfg": 4.0, "width": 64, "height": 64}
    cases = {
        "latent": {"scale": 1.5, "strength": 0.6, "mode": "bilinear", "upscaler": "latent"},
        "nearest-exact": {"scale": 1.5, "strength": 0.8, "steps": 3, "mode": "nearest-exact", "upscaler": "Latent (nearest-exact)"},
        "cover": {"size": [96, 64], "grown": [96, 96], "strength": 0.5, "steps": 2, "mode": "bicubic-aa", "upscaler": "latent-bicubic-antialiased", "prompt": "a fox", "cfg": 2.5},
        "lanczos": {"scale": 1.5, "strength": 0.7, "upscaler": "Lanczos"},
    }
    first = load(StableDiffusionPipeline, models, "sd1-tiny")
    again = load(StableDiffusionImg2ImgPipeline, models, "sd1-tiny")
    for name, more in cases.items():
        generator = torch.Generator().manual_seed(base["seed"])
        z = drawn(first, base, torch.randn(1, 4, 8, 8, generator=generator))
        size = more.get("size") or [int(base[k] * more["scale"]) for k in ("width", "height")]
        grown = more.get("grown", size)
        generator = torch.Generator().manual_seed(base["seed"])
        noise = torch.randn(1, 4, size[1] // 8, size[0] // 8, generator=generator)
        if "mode" in more:
            mode, aa = more["mode"].removesuffix("-aa"), more["mode"].endswith("-aa")
            large = torch.nn.functional.interpolate(z, size=(grown[1] // 8, grown[0] // 8), mode=mode, antialias=aa)
            cut = [(g - s) // 8 for g, s in zip(grown, size)]
            large = large[:, :, cut[1] // 2 : large.shape[2] - (cut[1] + 1) // 2, cut[0] // 2 : large.shape[3] - (cut[0] + 1) // 2]
        else:
            picture = first.image_processor.postprocess(first.vae.decode(z / first.vae.config.scaling_factor).sample, output_type="pil")[0]
            seen = again.image_processor.preprocess(picture.resize(size, Image.LANCZOS))
            large = again.vae.encode(seen).latent_dist.sample(generator) * again.vae.config.scaling_factor
        steps, strength = more.get("steps", base["steps"]), more["strength"]
        total = int(steps / min(strength, 0.999))
        fresh = torch.Generator().manual_seed(base["seed"])
        result = again(
            more.get("prompt", base["prompt"]),
            image=large,
            strength=min(1, (steps + 0.5) / total),
            num_inference_steps=total,
            guidance_scale=more.get("cfg", base["cfg"]),
            generator=fresh,
            output_type="latent",
        ).images
        write(out, f"hires-{name}", {"first": z, "noise": noise, "latents": result}, {"ask": base, "hires": more})


def interpolations(models: Path, out: Path) -> None:
    generator = torch.Generator().manual_seed(2)
    x = torch.randn(1, 3, 7, 5, generator=generator)
    tensors = {"x": x[0]}
    for mode in ("nearest", "nearest-exact", "bilinear", "bicubic", "bilinear-aa", "bicubic-aa"):
        for size in ((10, 8), (14, 10), (7, 13), (4, 3)):
            plain, aa = mode.removesuffix("-aa"), mode.endswith("-aa")
            tensors[f"{mode} {size[0]}x{size[1]}"] = torch.nn.functional.interpolate(x, size=size, mode=plain, antialias=aa)[0]
    write(out, "interpolations", tensors, {})


def slerp(share: float, low: torch.Tensor, high: torch.Tensor) -> torch.Tensor:
    """A1111's modules/rng.py: along the height."""
    unit = [t / torch.norm(t, dim=1, keepdim=True) for t in (low, high)]
    dot = (unit[0] * unit[1]).sum(1)
    if dot.mean() > 0.9995:
        return low * share + high * (1 - share)
    angle = torch.acos(dot)
    a, b = (torch.sin(s * angle) / torch.sin(angle) for s in (1 - share, share))
    return a.unsqueeze(1) * low + b.unsqueeze(1) * high


def variations(models: Path, out: Path) -> None:
    """The noise a picture begins from, leaning to another seed's or taken from another size."""
    rand = lambda seed, shape: torch.randn(shape, generator=torch.Generator().manual_seed(seed))
    tensors, asks = {}, []
    for i, (shape, strength, source) in enumerate(
        [((4, 8, 8), 0.3, None), ((4, 6, 9), 1.0, None), ((4, 8, 12), 0.0, (6, 8)), ((4, 6, 6), 0.2, (8, 10)), ((4, 8, 6), 0.5, (5, 9))]
    ):
        seed, other = 3 + i, 40 + i
        size = (4, *source) if source else shape
        noise = rand(seed, size)
        if strength:
            noise = slerp(strength, noise, rand(other, size))
        if source:
            frame = rand(seed, shape)
            dy, dx = (shape[1] - size[1]) // 2, (shape[2] - size[2]) // 2
            w = size[2] if dx >= 0 else size[2] + 2 * dx
            h = size[1] if dy >= 0 else size[1] + 2 * dy
            ty, tx, fy, fx = max(dy, 0), max(dx, 0), max(-dy, 0), max(-dx, 0)
            frame[:, ty : ty + h, tx : tx + w] = noise[:, fy : fy + h, fx : fx + w]
            noise = frame
        tensors[str(i)] = noise
        asks.append({"seed": seed, "shape": list(shape), "variation": {"seed": other, "strength": strength, "from": source}})
    same = rand(7, (4, 8, 8))
    tensors["near"] = slerp(0.25, same, same * 1.5)
    write(out, "variations", tensors, {"asks": asks})


def wrap(net: torch.nn.Module, x: bool, y: bool) -> None:
    """Convolutions that read beyond an edge what lies at the other, along the axes asked for."""
    for conv in (m for m in net.modules() if isinstance(m, torch.nn.Conv2d)):
        if x and y:
            conv.padding_mode = "circular"
            continue
        sides = (conv.padding[1], conv.padding[1], 0, 0), (0, 0, conv.padding[0], conv.padding[0])

        def forward(values, weight, bias, conv=conv, sides=sides):
            for asked, pads in zip((x, y), sides):
                values = torch.nn.functional.pad(values, pads, mode="circular" if asked else "constant")
            return torch.nn.functional.conv2d(values, weight, bias, conv.stride, 0, conv.dilation, conv.groups)

        conv._conv_forward = forward


@torch.no_grad()
def tilings(models: Path, out: Path) -> None:
    ask = {"prompt": PROMPT, "model": "sd1-tiny", "seed": 8, "steps": 3, "cfg": 4.0, "width": 72, "height": 48}
    for name, x, y in (("both", True, True), ("x", True, False)):
        pipe = load(StableDiffusionPipeline, models, "sd1-tiny")
        wrap(pipe.unet, x, y)
        wrap(pipe.vae, x, y)
        noise = torch.randn(1, 4, 6, 9, generator=torch.Generator().manual_seed(ask["seed"]))
        z = drawn(pipe, ask, noise)
        image = pipe.vae.decode(z / pipe.vae.config.scaling_factor).sample
        moments = pipe.vae.encode(image.clamp(-1, 1)).latent_dist.mean
        half = {"image": image.half(), "mean": moments}
        write(out, f"tiling-{name}", {"latents": z, **half}, {"ask": ask, "tiling": name})


PARTS = {
    "pictures": lambda models, out: pictures(out),
    "inpainting": inpainting,
    "hires": hires,
    "interpolations": interpolations,
    "variations": variations,
    "tilings": tilings,
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("parts", nargs="*", help=f"of {', '.join(PARTS)}; default: all")
    parser.add_argument("--models", type=Path, default=Path("test/golden/models"))
    parser.add_argument("--out", type=Path, default=Path("test/golden/modes"))
    args = parser.parse_args()
    args.out.mkdir(parents=True, exist_ok=True)
    for name in args.parts or PARTS:
        PARTS[name](args.models, args.out)


if __name__ == "__main__":
    main()
