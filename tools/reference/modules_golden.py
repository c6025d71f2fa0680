"""Inputs and outputs of each network of the committed small models, computed by diffusers in float32.

    python3 tools/reference/modules_golden.py --models test/golden/models --out test/golden/models

One file per model, NAME.safetensors:
  text.ids, text.hidden.I (before the final norm), text.last, text.pooled [, text2.*, text2.embeds]
  unet.N.x, unet.N.t, unet.N.context [, unet.N.pooled, unet.N.time_ids] -> unet.N.out
  vae.image -> vae.moments (mean, then log variance, unclamped); vae.latents (unscaled) -> vae.decoded
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import diffusers
import torch
import transformers
from diffusers import AutoencoderKL, UNet2DConditionModel
from safetensors.torch import save_file
from transformers import CLIPTextModel, CLIPTextModelWithProjection, CLIPTokenizer

PROMPTS = ["a lighthouse at sunset, oil painting", ""]
COMMITTED = ["sd1-tiny", "sd1-odd", "sd2-tiny", "sd1-inpaint", "sdxl-tiny"]
# height, width, timesteps: odd sizes of latents must halve and double back exactly
UNET_CASES = [(8, 8, [981.0, 1.0]), (12, 10, [333.25, 500.0])]


def randn(generator: torch.Generator, *shape: int) -> torch.Tensor:
    return torch.randn(shape, generator=generator)


def text_tensors(folder: Path, part: str, tokens: str, prefix: str) -> dict[str, torch.Tensor]:
    projected = part == "text_encoder_2"
    kind = CLIPTextModelWithProjection if projected else CLIPTextModel
    model = kind.from_pretrained(folder / part, dtype=torch.float32)
    tokenizer = CLIPTokenizer.from_pretrained(folder / tokens)
    ids = tokenizer(PROMPTS, padding="max_length", max_length=tokenizer.model_max_length, return_tensors="pt").input_ids
    out = model(ids, output_hidden_states=True)
    found = {f"{prefix}.ids": ids, f"{prefix}.last": out.last_hidden_state}
    found |= {f"{prefix}.hidden.{index}": state for index, state in enumerate(out.hidden_states)}
    return found | ({f"{prefix}.embeds": out.text_embeds} if projected else {f"{prefix}.pooled": out.pooler_output})


def unet_tensors(folder: Path, generator: torch.Generator, tokens: int) -> dict[str, torch.Tensor]:
    unet = UNet2DConditionModel.from_pretrained(folder / "unet", torch_dtype=torch.float32)
    factor = 2 ** (len(unet.config.block_out_channels) - 1)
    found: dict[str, torch.Tensor] = {}
    for number, (height, width, times) in enumerate(UNET_CASES):
        inputs = {
            "x": randn(generator, 2, unet.config.in_channels, height, width),
            "t": torch.tensor(times),
            "context": randn(generator, 2, tokens, unet.config.cross_attention_dim),
        }
        added = None
        if unet.config.addition_embed_type == "text_time":
            inputs["pooled"] = randn(generator, 2, unet.config.projection_class_embeddings_input_dim - 6 * unet.config.addition_time_embed_dim)
            inputs["time_ids"] = torch.tensor([[64.0, 64, 0, 0, 64, 64]] * 2)
            added = {"text_embeds": inputs["pooled"], "time_ids": inputs["time_ids"]}
        out = unet(inputs["x"], inputs["t"], inputs["context"], added_cond_kwargs=added).sample
        found |= {f"unet.{number}.{name}": tensor for name, tensor in inputs.items()} | {f"unet.{number}.out": out}
        assert factor <= 8
    return found


def vae_tensors(folder: Path, generator: torch.Generator) -> dict[str, torch.Tensor]:
    vae = AutoencoderKL.from_pretrained(folder / "vae", torch_dtype=torch.float32)
    image = randn(generator, 1, 3, 48, 40).clamp(-1, 1)
    latents = randn(generator, 1, vae.config.latent_channels, 6, 5) * 3
    return {
        "vae.image": image,
        "vae.moments": vae.encode(image).latent_dist.parameters,
        "vae.latents": latents,
        "vae.decoded": vae.decode(latents).sample,
    }


@torch.no_grad()
def module_tensors(folder: Path) -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(20260101)
    found = text_tensors(folder, "text_encoder", "tokenizer", "text")
    if (folder / "text_encoder_2").exists():
        found |= text_tensors(folder, "text_encoder_2", "tokenizer_2", "text2")
    found |= unet_tensors(folder, generator, found["text.ids"].shape[1])
    return found | vae_tensors(folder, generator)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("names", nargs="*", default=COMMITTED)
    parser.add_argument("--models", type=Path, default=Path("test/golden/models"))
    parser.add_argument("--out", type=Path, default=Path("test/golden/models"))
    args = parser.parse_args()
    versions = {"diffusers": diffusers.__version__, "transformers": transformers.__version__, "torch": torch.__version__}
    # one entry, so that the file is the same byte for byte each time
    made_with = {"made_with": json.dumps(versions, sort_keys=True)}
    for name in args.names:
        tensors = module_tensors(args.models / name)
        path = args.out / f"{name}.safetensors"
        save_file({key: tensor.contiguous() for key, tensor in tensors.items()}, path, metadata=made_with)
        print(f"{path}  {path.stat().st_size / 1024:.0f} KiB")
        for key, tensor in tensors.items():
            if key.split(".")[-1] in ("out", "last", "moments", "decoded", "embeds"):
                print(f"  {key}: mean {tensor.mean():.3f} std {tensor.std():.3f} largest {tensor.abs().max():.2f}")


if __name__ == "__main__":
    main()
