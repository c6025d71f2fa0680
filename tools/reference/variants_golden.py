"""Kinds of U-Net that differ from a small SD 1.x one by a tensor: instruct-pix2pix, latent consistency.

    python3 tools/reference/variants_golden.py --models test/golden/models --out test/golden/variants

`CASE.safetensors` holds the tensors that take others' place (`unet.`), and diffusers' latents.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import diffusers
import torch
import transformers
from diffusers import (
    DDIMScheduler,
    LatentConsistencyModelPipeline,
    LCMScheduler,
    StableDiffusionInstructPix2PixPipeline,
    StableDiffusionPipeline,
    UNet2DConditionModel,
)
from PIL import Image, ImageDraw
from safetensors.torch import save_file

MADE_WITH = {"diffusers": diffusers.__version__, "torch": torch.__version__, "transformers": transformers.__version__}
PROMPT, SEED, MODEL = "a lighthouse at sunset, oil painting", 9, "sd1-tiny"
BETAS = {"beta_start": 0.00085, "beta_end": 0.012, "beta_schedule": "scaled_linear"}


def picture() -> Image.Image:
    made = Image.new("RGB", (64, 64), (10, 30, 60))
    draw = ImageDraw.Draw(made)
    draw.ellipse((12, 16, 40, 48), fill=(240, 200, 40))
    draw.line((3, 6, 60, 55), fill=(255, 255, 255), width=2)
    return made


def variant(models: Path, changes: dict, extra: dict[str, torch.Tensor]) -> UNet2DConditionModel:
    base = UNet2DConditionModel.from_pretrained(models / MODEL / "unet", torch_dtype=torch.float32)
    config = {k: v for k, v in dict(base.config).items() if not k.startswith("_")} | changes
    made = UNet2DConditionModel(**config)
    state = base.state_dict() | {k: v.float() for k, v in extra.items()}
    made.load_state_dict(state, strict=True)
    return made.eval()


@torch.no_grad()
def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--models", type=Path, default=Path("test/golden/models"))
    parser.add_argument("--out", type=Path, default=Path("test/golden/variants"))
    args = parser.parse_args()
    args.out.mkdir(parents=True, exist_ok=True)
    picture().save(args.out / "picture.png", optimize=True)
    base = StableDiffusionPipeline.from_pretrained(args.models / MODEL, torch_dtype=torch.float32, safety_checker=None, feature_extractor=None)
    parts = {"vae": base.vae, "text_encoder": base.text_encoder, "tokenizer": base.tokenizer, "safety_checker": None, "feature_extractor": None, "requires_safety_checker": False}
    random = torch.Generator().manual_seed(3)
    width = base.unet.config.block_out_channels[0]

    def save(case, changes, extra, scheduler, latents, **more):
        about = {"model": MODEL, "prompt": PROMPT, "seed": SEED, "unet": changes, "scheduler": dict(scheduler.config) | {"_class_name": type(scheduler).__name__}, "made_with": MADE_WITH, **more}
        about["scheduler"].pop("_use_default_values", None)
        tensors = {f"unet.{k}": v for k, v in extra.items()} | {"latents": latents.contiguous()}
        save_file(tensors, args.out / f"{case}.safetensors", metadata={"about": json.dumps(about)})
        print(case, float(latents.std()))

    for case, guidance, dim, cfg, steps in (("lcm", 12, 12, 8.5, 4), ("lcm-two", 12, 12, 1.5, 2)):
        extra = {"time_embedding.cond_proj.weight": (torch.randn(width, dim, generator=random) / dim**0.5).half()}
        changes = {"time_cond_proj_dim": guidance}
        scheduler = LCMScheduler(**BETAS, original_inference_steps=50, steps_offset=1, timestep_scaling=10.0)
        pipe = LatentConsistencyModelPipeline(unet=variant(args.models, changes, extra), scheduler=scheduler, **parts)
        pipe.set_progress_bar_config(disable=True)
        # the noise is the first draw, the steps' noise goes on
        latents = pipe(PROMPT, num_inference_steps=steps, guidance_scale=cfg, generator=torch.Generator().manual_seed(SEED), output_type="latent", width=64, height=64).images
        save(case, changes, extra, scheduler, latents, steps=steps, cfg=cfg)

    conv = base.unet.conv_in.weight
    for case, cfg, image_cfg in (("instruct", 7.5, 1.5), ("instruct-strong", 4.0, 2.5)):
        more = torch.randn(conv.shape[0], 4, 3, 3, generator=random) * 0.15
        extra = {"conv_in.weight": torch.cat([conv, more], 1).half()}
        changes = {"in_channels": 8}
        scheduler = DDIMScheduler(**BETAS, clip_sample=False, set_alpha_to_one=False, steps_offset=1)
        pipe = StableDiffusionInstructPix2PixPipeline(unet=variant(args.models, changes, extra), scheduler=scheduler, **parts)
        pipe.set_progress_bar_config(disable=True)
        latents = pipe(PROMPT, image=picture(), num_inference_steps=4, guidance_scale=cfg, image_guidance_scale=image_cfg, generator=torch.Generator().manual_seed(SEED), output_type="latent").images
        save(case, changes, extra, scheduler, latents, steps=4, cfg=cfg, imageCfg=image_cfg, init="picture.png")


if __name__ == "__main__":
    main()
