"""T2I-Adapters and IP-Adapters over the small models, as diffusers applies them.

    python3 tools/reference/guides_golden.py --models test/golden/models --out test/golden/guides

Adapters of random weights in diffusers' folders and in their authors' keys, picture encoders, and `CASE.safetensors`:
the latents of a run under them.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import diffusers
import torch
import transformers
from diffusers import (
    MultiAdapter,
    StableDiffusionAdapterPipeline,
    StableDiffusionPipeline,
    StableDiffusionXLAdapterPipeline,
    StableDiffusionXLPipeline,
    T2IAdapter,
    UNet2DConditionModel,
)
from PIL import Image, ImageDraw
from safetensors.torch import load_file, save_file
from transformers import CLIPImageProcessor, CLIPVisionConfig, CLIPVisionModelWithProjection

MADE_WITH = {"diffusers": diffusers.__version__, "torch": torch.__version__, "transformers": transformers.__version__}
PROMPT = "a lighthouse at sunset, oil painting"
SEED, STEPS, CFG = 9, 4, 4.0


def picture(width: int, height: int, turn: int) -> Image.Image:
    made = Image.new("RGB", (width, height), (10 * turn, 30, 60))
    draw = ImageDraw.Draw(made)
    draw.ellipse((width // 5, height // 4, width // 2 + 5 * turn, height * 3 // 4), fill=(240, 200, 40))
    draw.line((3, 5 + turn, width - 4, height - 9), fill=(255, 255, 255), width=2)
    return made


def fill(named, seed: int, gain=0.9) -> None:
    """Random weights that pass through half precision."""
    generator = torch.Generator().manual_seed(seed)
    for name, p in named:
        fan = p[0].numel() if p.dim() > 1 else 1
        if "norm" in name and name.endswith("weight"):
            p.data = 1 + 0.1 * torch.randn(p.shape, generator=generator)
        elif p.dim() > 1:
            p.data = torch.randn(p.shape, generator=generator) * (gain / fan**0.5)
        else:
            p.data = 0.05 * torch.randn(p.shape, generator=generator)
        p.data = p.data.half().float()


def adapter(kind: str, channels, in_channels: int, seed: int) -> T2IAdapter:
    factor = 16 if kind == "full_adapter_xl" else 8
    made = T2IAdapter(in_channels=in_channels, channels=list(channels), num_res_blocks=2, downscale_factor=factor, adapter_type=kind)
    fill(made.named_parameters(), seed, gain=0.5)
    return made.eval()


def authors_keys(state: dict, light: bool) -> dict:
    """TencentARC's names: blocks counted through, light ones level by level."""
    out = {}
    for key, value in state.items():
        name = key.removeprefix("adapter.")
        parts = name.split(".")
        if parts[0] == "body" and light:
            name = name.replace(".resnets.", ".body.")
        elif parts[0] == "body" and parts[2] == "resnets":
            name = ".".join(["body", str(2 * int(parts[1]) + int(parts[3])), *parts[4:]])
        elif parts[0] == "body":
            name = ".".join(["body", str(2 * int(parts[1])), *parts[2:]])
        out[name] = value
    return out


def encoder(seed: int) -> CLIPVisionModelWithProjection:
    config = CLIPVisionConfig(hidden_size=32, intermediate_size=48, num_hidden_layers=3, num_attention_heads=4, image_size=28, patch_size=7, projection_dim=24, hidden_act="gelu")
    made = CLIPVisionModelWithProjection(config)
    fill(made.named_parameters(), seed)
    return made.eval()


def ip_adapter(unet: UNet2DConditionModel, kind: str, seed: int) -> dict[str, torch.Tensor]:
    """An IP-Adapter's file for this U-Net."""
    context = unet.config.cross_attention_dim
    state = {}
    if kind == "linear":
        shapes = {"proj.weight": (4 * context, 24), "proj.bias": (4 * context,), "norm.weight": (context,), "norm.bias": (context,)}
    elif kind == "full":
        shapes = {"proj.0.weight": (32, 32), "proj.0.bias": (32,), "proj.2.weight": (context, 32), "proj.2.bias": (context,), "proj.3.weight": (context,), "proj.3.bias": (context,)}
    else:
        width, inner = 40, 64
        shapes = {"latents": (1, 5, width), "proj_in.weight": (width, 32), "proj_in.bias": (width,), "proj_out.weight": (context, width), "proj_out.bias": (context,), "norm_out.weight": (context,), "norm_out.bias": (context,)}
        for i in range(4):
            layer = f"layers.{i}"
            for n in ("norm1", "norm2"):
                shapes |= {f"{layer}.0.{n}.weight": (width,), f"{layer}.0.{n}.bias": (width,)}
            shapes |= {f"{layer}.0.to_q.weight": (inner, width), f"{layer}.0.to_kv.weight": (2 * inner, width), f"{layer}.0.to_out.weight": (width, inner)}
            shapes |= {f"{layer}.1.0.weight": (width,), f"{layer}.1.0.bias": (width,), f"{layer}.1.1.weight": (4 * width, width), f"{layer}.1.3.weight": (width, 4 * width)}
    norms = ("norm", "proj.3", ".1.0.")
    generator = torch.Generator().manual_seed(seed)
    for key, shape in shapes.items():
        value = torch.randn(shape, generator=generator)
        if any(n in key for n in norms) and key.endswith("weight"):
            value = 1 + 0.1 * value
        else:
            value = value * (0.9 / shape[-1] ** 0.5 if len(shape) > 1 else 0.05)
        state[f"image_proj.{key}"] = value.half()
    number = 1
    for name in unet.attn_processors:
        if "attn2" not in name:
            continue
        attention = unet.get_submodule(name.removesuffix(".processor"))
        for part in ("k", "v"):
            shape = attention.to_k.weight.shape
            state[f"ip_adapter.{number}.to_{part}_ip.weight"] = (torch.randn(shape, generator=generator) / shape[1] ** 0.5).half()
        number += 2
    return state


def settled(pipe, models: Path, name: str):
    pipe.set_progress_bar_config(disable=True)
    own = type(pipe.scheduler)
    pipe.scheduler = own.from_config(own.load_config(models / name / "scheduler"))
    return pipe


def folder(kind, models: Path, name: str, **more):
    extra = {} if name.startswith("sdxl") else {"safety_checker": None, "feature_extractor": None}
    return settled(kind.from_pretrained(models / name, torch_dtype=torch.float32, **extra | more), models, name)


@torch.no_grad()
def draw(pipe, side=64, **more) -> dict[str, torch.Tensor]:
    noise = torch.randn(1, 4, side // 8, side // 8, generator=torch.Generator().manual_seed(SEED))
    run = {"num_inference_steps": STEPS, "guidance_scale": CFG, "output_type": "latent", "latents": noise, "width": side, "height": side}
    return {"latents": pipe(PROMPT, **run, **more).images}


def unet_of(models: Path, name: str):
    return UNet2DConditionModel.from_pretrained(models / name / "unet")


class Golden:
    def __init__(self, models: Path, out: Path, names):
        self.models, self.out, self.names = models, out, names

    def save(self, case: str, model: str, controls, make, side=64) -> None:
        if self.names and case not in self.names:
            return
        trace = make()
        about = {"model": model, "prompt": PROMPT, "seed": SEED, "steps": STEPS, "cfg": CFG, "side": side, "controls": controls, "made_with": MADE_WITH}
        save_file({k: v.contiguous() for k, v in trace.items()}, self.out / f"{case}.safetensors", metadata={"about": json.dumps(about)})
        print(case, float(trace["latents"].std()))

    def t2i(self, case: str, model: str, made, side=64, keys="folder", known=()) -> None:
        """`made`: adapters with their settings."""
        controls, images = [], []
        for i, (net, setting) in enumerate(made):
            grey = net.config.in_channels == 1
            name = f"{case}-{i}" if keys == "folder" else f"{case}-{i}.safetensors"
            if i < len(known):
                name = known[i]
            elif keys == "folder":
                net.half().save_pretrained(self.out / name)
                net.float()
            else:
                state = {k: v.half().contiguous() for k, v in net.state_dict().items()}
                light = net.config.adapter_type == "light_adapter"
                save_file(authors_keys(state, light), self.out / name)
            hint = Image.open(self.out / f"picture{i + 1}.png")
            images.append(hint.convert("L") if grey else hint)
            controls.append({"model": name, "image": f"picture{i + 1}.png", **setting})

        def make():
            one = len(made) == 1
            kind = StableDiffusionXLAdapterPipeline if model.startswith("sdxl") else StableDiffusionAdapterPipeline
            pipe = folder(kind, self.models, model, adapter=made[0][0] if one else MultiAdapter([net for net, _ in made]))
            scales = [s.get("weight", 1.0) for _, s in made]
            more = {"adapter_conditioning_factor": made[0][1].get("end", 1.0)} if model.startswith("sdxl") else {}
            return draw(pipe, side, image=images[0] if one else images, adapter_conditioning_scale=scales[0] if one else scales, **more)

        self.save(case, model, controls, make, side)

    def ip(self, case: str, model: str, kinds, settings, known=()) -> None:
        files, controls, images = [], [], []
        for i, kind in enumerate(kinds):
            name = known[i] if known else f"{case}-{i}.safetensors"
            if not known:
                save_file(ip_adapter(unet_of(self.models, model), kind, 20), self.out / name)
            files.append(name)
            images.append(Image.open(self.out / f"picture{i + 1}.png").convert("RGB"))
            controls.append({"model": name, "image": f"picture{i + 1}.png", **settings[i]})

        def make():
            kind = StableDiffusionXLPipeline if model.startswith("sdxl") else StableDiffusionPipeline
            eye = CLIPVisionModelWithProjection.from_pretrained(self.out / "image_encoder", dtype=torch.float32)
            size = eye.config.image_size
            pipe = folder(kind, self.models, model, image_encoder=eye)
            pipe.register_modules(feature_extractor=CLIPImageProcessor(size={"shortest_edge": size}, crop_size={"height": size, "width": size}))
            states = [load_file(self.out / name) for name in files]
            part = lambda state, prefix: {k.removeprefix(prefix): v.float() for k, v in state.items() if k.startswith(prefix)}
            nested = [{p: part(state, f"{p}.") for p in ("image_proj", "ip_adapter")} for state in states]
            pipe.load_ip_adapter(nested, subfolder=[""] * len(files), weight_name=[""] * len(files), image_encoder_folder=None)
            pipe.set_ip_adapter_scale([s.get("weight", 1.0) for s in settings])
            return draw(pipe, ip_adapter_image=images)

        self.save(case, model, controls, make)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("names", nargs="*")
    parser.add_argument("--models", type=Path, default=Path("test/golden/models"))
    parser.add_argument("--out", type=Path, default=Path("test/golden/guides"))
    args = parser.parse_args()
    args.out.mkdir(parents=True, exist_ok=True)
    for turn, (width, height) in ((1, (64, 64)), (2, (80, 56))):
        picture(width, height, turn).save(args.out / f"picture{turn}.png", optimize=True)
    encoder(7).half().save_pretrained(args.out / "image_encoder")
    golden = Golden(args.models, args.out, args.names)
    widths = {name: unet_of(args.models, name).config.block_out_channels for name in ("sd1-tiny", "sdxl-tiny")}
    sd1, xl = widths["sd1-tiny"], widths["sdxl-tiny"]
    golden.t2i("t2i-full", "sd1-tiny", [(adapter("full_adapter", sd1, 3, 1), {"weight": 0.8})])
    golden.t2i("t2i-full-grey", "sd1-tiny", [(adapter("full_adapter", sd1, 1, 2), {})], keys="authors")
    golden.t2i("t2i-light", "sd1-tiny", [(adapter("light_adapter", sd1[:-1], 3, 3), {"weight": 1.1})], keys="authors")
    golden.t2i("t2i-two", "sd1-tiny", [(adapter("full_adapter", sd1, 3, 1), {"weight": 0.5}), (adapter("full_adapter", sd1, 3, 5), {"weight": 0.7})], known=["t2i-full-0"])
    golden.t2i("t2i-xl", "sdxl-tiny", [(adapter("full_adapter_xl", [*xl, xl[-1]], 3, 6), {"weight": 0.9, "end": 0.8})], side=64)
    golden.ip("ip-linear", "sd1-tiny", ["linear"], [{"weight": 0.7}])
    golden.ip("ip-plus", "sd1-tiny", ["resampler"], [{"weight": 0.9}])
    golden.ip("ip-full", "sd1-tiny", ["full"], [{}])
    golden.ip("ip-two", "sd1-tiny", ["linear", "resampler"], [{"weight": 0.5}, {"weight": 0.6}], known=["ip-linear-0.safetensors", "ip-plus-0.safetensors"])
    golden.ip("ip-xl", "sdxl-tiny", ["resampler"], [{"weight": 0.8}])


if __name__ == "__main__":
    main()
