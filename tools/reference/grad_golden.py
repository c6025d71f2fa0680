"""Gradients of whole small networks, computed by PyTorch in float32.

    python3 tools/reference/grad_golden.py --models test/golden/models --out test/golden/train

The loss of an output y is mean(y * cos(0.37 i)) + mean(y^2) / 2, with i the flat position. Inputs are those of
modules_golden.py. For every parameter gradients.json holds the norm of its gradient and its dot product with
cos(0.7 i + 1); a few whole gradients are kept as numbers. The VAE's loss is on its reconstruction, without sampling.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import diffusers
import torch
import transformers
from diffusers import AutoencoderKL, UNet2DConditionModel
from safetensors.torch import load_file
from transformers import CLIPTextModel

MODELS = ["sd1-odd", "sdxl-tiny"]
WHOLE = {"unet": ["conv_in.weight", "conv_out.bias"], "vae": ["encoder.conv_in.weight"], "text": ["final_layer_norm.weight"]}


def positions(like: torch.Tensor) -> torch.Tensor:
    return torch.arange(like.numel(), dtype=torch.float64)


def loss_of(y: torch.Tensor) -> torch.Tensor:
    weight = (0.37 * positions(y)).cos().float().reshape(y.shape)
    return (y * weight).mean() + (y * y).mean() / 2


def summary(model: torch.nn.Module, loss: torch.Tensor, whole: list[str]) -> dict:
    model.zero_grad()
    loss.backward()
    out: dict = {"loss": loss.item(), "parameters": {}, "whole": {}}
    for name, parameter in model.named_parameters():
        if parameter.grad is None:
            continue
        grad = parameter.grad.double().flatten()
        dot = torch.dot(grad, (0.7 * positions(grad) + 1).cos())
        out["parameters"][name] = [float(f"{grad.norm().item():.6e}"), float(f"{dot.item():.6e}")]
        if any(name.endswith(w) for w in whole):
            out["whole"][name] = [float(f"{v:.6e}") for v in grad.tolist()]
    return out


def unet(folder: Path, golden: dict[str, torch.Tensor]) -> dict:
    model = UNet2DConditionModel.from_pretrained(folder / "unet", torch_dtype=torch.float32)
    added = None
    if model.config.addition_embed_type == "text_time":
        added = {"text_embeds": golden["unet.0.pooled"], "time_ids": golden["unet.0.time_ids"]}
    y = model(golden["unet.0.x"], golden["unet.0.t"], golden["unet.0.context"], added_cond_kwargs=added).sample
    return summary(model, loss_of(y), WHOLE["unet"])


def vae(folder: Path, golden: dict[str, torch.Tensor]) -> dict:
    model = AutoencoderKL.from_pretrained(folder / "vae", torch_dtype=torch.float32)
    y = model.decode(model.encode(golden["vae.image"]).latent_dist.mean).sample
    return summary(model, loss_of(y), WHOLE["vae"])


def text(folder: Path, golden: dict[str, torch.Tensor]) -> dict:
    model = CLIPTextModel.from_pretrained(folder / "text_encoder", dtype=torch.float32)
    return summary(model, loss_of(model(golden["text.ids"]).last_hidden_state), WHOLE["text"])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--models", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    args = parser.parse_args()
    versions = {"torch": torch.__version__, "diffusers": diffusers.__version__, "transformers": transformers.__version__}
    found: dict = {"versions": versions}
    for name in MODELS:
        golden = load_file(args.models / f"{name}.safetensors")
        folder = args.models / name
        found[name] = {"unet": unet(folder, golden), "vae": vae(folder, golden), "text": text(folder, golden)}
    args.out.mkdir(parents=True, exist_ok=True)
    (args.out / "gradients.json").write_text(json.dumps(found, separators=(",", ":")) + "\n")


if __name__ == "__main__":
    main()
