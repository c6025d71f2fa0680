"""A refiner of random weights that walks the rest of a small SDXL model's way, as diffusers hands over.

    python3 tools/reference/refiner_golden.py --models test/golden/models --out test/golden/refiner

Only the refiner's U-Net and indexes are written: text encoder, tokenizer and VAE are the base model's second ones.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import diffusers
import torch
import transformers
from diffusers import (
    EulerDiscreteScheduler,
    HeunDiscreteScheduler,
    StableDiffusionXLImg2ImgPipeline,
    StableDiffusionXLPipeline,
    UNet2DConditionModel,
)
from safetensors.torch import save_file

MADE_WITH = {"diffusers": diffusers.__version__, "torch": torch.__version__, "transformers": transformers.__version__}
PROMPT = "a lighthouse at sunset, oil painting"
SEED, CFG = 9, 4.0
SCHEDULERS = {"euler": EulerDiscreteScheduler, "heun": HeunDiscreteScheduler}
MODEL = "sdxl-tiny"


def refiner_unet(base: StableDiffusionXLPipeline) -> UNet2DConditionModel:
    text = base.text_encoder_2.config
    config = dict(base.unet.config) | {
        "cross_attention_dim": text.hidden_size,
        "projection_class_embeddings_input_dim": text.projection_dim + 5 * base.unet.config.addition_time_embed_dim,
    }
    made = UNet2DConditionModel(**{k: v for k, v in config.items() if not k.startswith("_")})
    generator = torch.Generator().manual_seed(77)
    for name, p in made.named_parameters():
        fan = p[0].numel() if p.dim() > 1 else 1
        if "norm" in name and name.endswith("weight"):
            p.data = 1 + 0.1 * torch.randn(p.shape, generator=generator)
        elif p.dim() > 1:
            p.data = torch.randn(p.shape, generator=generator) * (0.9 / fan**0.5)
        else:
            p.data = 0.05 * torch.randn(p.shape, generator=generator)
        p.data = p.data.half().float()
    return made.eval()


@torch.no_grad()
def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--models", type=Path, default=Path("test/golden/models"))
    parser.add_argument("--out", type=Path, default=Path("test/golden/refiner"))
    args = parser.parse_args()
    args.out.mkdir(parents=True, exist_ok=True)
    base = StableDiffusionXLPipeline.from_pretrained(args.models / MODEL, torch_dtype=torch.float32)
    unet = refiner_unet(base)
    unet.half().save_pretrained(args.out / "unet")
    unet.float()
    index = {
        "_class_name": "StableDiffusionXLImg2ImgPipeline",
        "force_zeros_for_empty_prompt": False,
        "requires_aesthetics_score": True,
        "scheduler": ["diffusers", "EulerDiscreteScheduler"],
        "text_encoder": [None, None],
        "text_encoder_2": ["transformers", "CLIPTextModelWithProjection"],
        "tokenizer": [None, None],
        "tokenizer_2": ["transformers", "CLIPTokenizer"],
        "unet": ["diffusers", "UNet2DConditionModel"],
        "vae": ["diffusers", "AutoencoderKL"],
    }
    (args.out / "model_index.json").write_text(json.dumps(index, indent=2) + "\n")
    for name, kind in SCHEDULERS.items():
        scheduler = kind(beta_start=0.00085, beta_end=0.012, beta_schedule="scaled_linear", timestep_spacing="leading", steps_offset=1)
        scheduler.save_pretrained(args.out / f"scheduler-{name}")
        for at, steps in ((0.6, 5), (0.8, 10)) if name == "euler" else ((0.6, 5),):
            base.scheduler = kind.from_config(scheduler.config)
            base.set_progress_bar_config(disable=True)
            refiner = StableDiffusionXLImg2ImgPipeline(
                vae=base.vae,
                text_encoder=None,
                text_encoder_2=base.text_encoder_2,
                tokenizer=None,
                tokenizer_2=base.tokenizer_2,
                unet=unet,
                scheduler=kind.from_config(scheduler.config),
                requires_aesthetics_score=True,
                force_zeros_for_empty_prompt=False,
            )
            refiner.set_progress_bar_config(disable=True)
            noise = torch.randn(1, 4, 8, 8, generator=torch.Generator().manual_seed(SEED))
            first = base(PROMPT, latents=noise, num_inference_steps=steps, guidance_scale=CFG, denoising_end=at, output_type="latent", width=64, height=64).images
            last = refiner(PROMPT, image=first, num_inference_steps=steps, guidance_scale=CFG, denoising_start=at, output_type="latent").images
            about = {"model": MODEL, "prompt": PROMPT, "seed": SEED, "steps": steps, "cfg": CFG, "at": at, "scheduler": name, "made_with": MADE_WITH}
            case = f"{name}-{steps}"
            save_file({"first": first.contiguous(), "latents": last.contiguous()}, args.out / f"{case}.safetensors", metadata={"about": json.dumps(about)})
            print(case, float(first.std()), float(last.std()))


if __name__ == "__main__":
    main()
