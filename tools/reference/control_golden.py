"""ControlNets over the small models, as diffusers applies them.

    python3 tools/reference/control_golden.py --models test/golden/models --out test/golden/control

`MODEL-netN` are ControlNets of random weights, `hintN.png` their condition pictures, `CASE.safetensors` the latents of a
run under them.
"""

from __future__ import annotations

import argparse
import inspect
import json
from pathlib import Path

import diffusers
import torch
import transformers
from diffusers import (
    ControlNetModel,
    StableDiffusionControlNetPipeline,
    StableDiffusionXLControlNetPipeline,
)
from PIL import Image, ImageDraw
from safetensors.torch import save_file

MADE_WITH = {"diffusers": diffusers.__version__, "torch": torch.__version__, "transformers": transformers.__version__}
PROMPT = "a lighthouse at sunset, oil painting"
SEED, STEPS, CFG = 9, 4, 4.0


def picture(width: int, height: int, turn: int) -> Image.Image:
    made = Image.new("RGB", (width, height), (10 * turn, 30, 60))
    draw = ImageDraw.Draw(made)
    draw.ellipse((width // 5, height // 4, width // 2 + 5 * turn, height * 3 // 4), fill=(240, 200, 40))
    draw.line((3, 5 + turn, width - 4, height - 9), fill=(255, 255, 255), width=2)
    return made


def controlnet(unet, seed: int) -> ControlNetModel:
    """A ControlNet beside this U-Net whose zero convolutions are not zero."""
    torch.manual_seed(seed)
    wanted = set(inspect.signature(ControlNetModel.__init__).parameters)
    config = {k: v for k, v in unet.config.items() if k in wanted and not k.startswith("_")}
    made = ControlNetModel(**config | {"conditioning_embedding_out_channels": (4, 8, 8, 16)})
    generator = torch.Generator().manual_seed(seed)
    for name, p in made.named_parameters():
        fan = p[0].numel() if p.dim() > 1 else 1
        if name.endswith("norm.weight") or "norm" in name and name.endswith("weight"):
            p.data = 1 + 0.1 * torch.randn(p.shape, generator=generator)
        elif p.dim() > 1:
            p.data = torch.randn(p.shape, generator=generator) * (0.9 / fan**0.5)
        else:
            p.data = 0.05 * torch.randn(p.shape, generator=generator)
    return made.eval()


def load(models: Path, name: str, nets):
    kind = StableDiffusionXLControlNetPipeline if name.startswith("sdxl") else StableDiffusionControlNetPipeline
    more = {} if kind is StableDiffusionXLControlNetPipeline else {"safety_checker": None, "feature_extractor": None}
    pipe = kind.from_pretrained(models / name, controlnet=nets, torch_dtype=torch.float32, **more)
    pipe.set_progress_bar_config(disable=True)
    own = type(pipe.scheduler)
    pipe.scheduler = own.from_config(own.load_config(models / name / "scheduler"))
    return pipe


@torch.no_grad()
def draw(pipe, images, side=64, **more) -> dict[str, torch.Tensor]:
    noise = torch.randn(1, 4, side // 8, side // 8, generator=torch.Generator().manual_seed(SEED))
    run = {"num_inference_steps": STEPS, "guidance_scale": CFG, "output_type": "latent", "latents": noise, "width": side, "height": side}
    return {"noise": noise, "latents": pipe(PROMPT, image=images, **run, **more).images}


def unet_of(models: Path, name: str):
    return diffusers.UNet2DConditionModel.from_pretrained(models / name / "unet")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("names", nargs="*")
    parser.add_argument("--models", type=Path, default=Path("test/golden/models"))
    parser.add_argument("--out", type=Path, default=Path("test/golden/control"))
    args = parser.parse_args()
    args.out.mkdir(parents=True, exist_ok=True)
    # name: model, settings of each ControlNet
    cases = {
        "sd1-one": ("sd1-tiny", [{"weight": 0.8}]),
        "sd1-part": ("sd1-tiny", [{"weight": 1.0, "start": 0.2, "end": 0.7}]),
        "sd1-guess": ("sd1-tiny", [{"weight": 0.9, "guess": True}]),
        "sd1-two": ("sd1-tiny", [{"weight": 0.7}, {"weight": -0.6, "start": 0.3}]),
        "sdxl-one": ("sdxl-tiny", [{"weight": 0.8, "end": 0.8}]),
    }
    for turn in (1, 2):
        picture(64 + 16 * (turn - 1), 64, turn).save(args.out / f"hint{turn}.png", optimize=True)
    nets = {}
    for model, seeds in (("sd1-tiny", (1, 2)), ("sdxl-tiny", (4,))):
        for seed in seeds:
            net = controlnet(unet_of(args.models, model), seed).half().float()
            folder = args.out / f"{model}-net{seed}"
            net.half().save_pretrained(folder)
            net.float()
            nets.setdefault(model, []).append((folder.name, net))
    for name, (model, settings) in cases.items():
        if args.names and name not in args.names:
            continue
        used = nets[model][: len(settings)]
        one = len(settings) == 1
        pipe = load(args.models, model, used[0][1] if one else [net for _, net in used])
        images = [Image.open(args.out / f"hint{i + 1}.png") for i in range(len(settings))]
        many = lambda key, default: settings[0].get(key, default) if one else [s.get(key, default) for s in settings]
        trace = draw(
            pipe,
            images[0] if one else images,
            controlnet_conditioning_scale=many("weight", 1.0),
            control_guidance_start=many("start", 0.0),
            control_guidance_end=many("end", 1.0),
            guess_mode=settings[0].get("guess", False),
        )
        about = {
            "model": model,
            "prompt": PROMPT,
            "seed": SEED,
            "steps": STEPS,
            "cfg": CFG,
            "controls": [{"model": used[i][0], "image": f"hint{i + 1}.png", **s} for i, s in enumerate(settings)],
            "made_with": MADE_WITH,
        }
        save_file({k: v.contiguous() for k, v in trace.items()}, args.out / f"{name}.safetensors", metadata={"about": json.dumps(about)})
        print(name, float(trace["latents"].std()))


if __name__ == "__main__":
    main()
