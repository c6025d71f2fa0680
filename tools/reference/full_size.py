"""Full-size Stable Diffusion layouts with random weights in half precision, for benchmarks and whole-picture checks.

    python3 tools/reference/full_size.py make sd15 --out SCRATCH          # SCRATCH/sd15/ and SCRATCH/sd15.safetensors
    python3 tools/reference/full_size.py make sd21 --out SCRATCH
    python3 tools/reference/full_size.py draw sd15 --out SCRATCH --steps 20 --scheduler DDIMScheduler

`make` writes a diffusers folder tensor by tensor (never more than one in memory) and the same as one file in
LDM keys. The tokenizer's merges come from OpenAI's bpe_simple_vocab_16e6.txt.gz (`--bpe`, it is inside the
open_clip_torch package). `draw` runs diffusers in float32 and writes the trace beside the model.
"""

from __future__ import annotations

import argparse
import json
import struct
import time
from pathlib import Path

import torch
from diffusers import AutoencoderKL, UNet2DConditionModel
from model_specs import SD1_SCHEDULER, SD2_SCHEDULER
from models import random_tensor, write_scheduler
from tiny_tokenizer import write_clip_tokenizer
from transformers import CLIPTextConfig, CLIPTextModel

CROSS = ["CrossAttnDownBlock2D"] * 3 + ["DownBlock2D"]
CROSS_UP = ["UpBlock2D"] + ["CrossAttnUpBlock2D"] * 3
UNET = {
    "_class_name": "UNet2DConditionModel",
    "_diffusers_version": "0.6.0",
    "act_fn": "silu",
    "attention_head_dim": 8,
    "block_out_channels": [320, 640, 1280, 1280],
    "center_input_sample": False,
    "cross_attention_dim": 768,
    "down_block_types": CROSS,
    "downsample_padding": 1,
    "flip_sin_to_cos": True,
    "freq_shift": 0,
    "in_channels": 4,
    "layers_per_block": 2,
    "mid_block_scale_factor": 1,
    "norm_eps": 1e-05,
    "norm_num_groups": 32,
    "out_channels": 4,
    "sample_size": 64,
    "up_block_types": CROSS_UP,
}
UNET_21 = {
    **UNET,
    "_diffusers_version": "0.10.0.dev0",
    "attention_head_dim": [5, 10, 20, 20],
    "cross_attention_dim": 1024,
    "dual_cross_attention": False,
    "num_class_embeds": None,
    "only_cross_attention": False,
    "sample_size": 96,
    "upcast_attention": True,
    "use_linear_projection": True,
}
VAE = {
    "_class_name": "AutoencoderKL",
    "_diffusers_version": "0.6.0",
    "act_fn": "silu",
    "block_out_channels": [128, 256, 512, 512],
    "down_block_types": ["DownEncoderBlock2D"] * 4,
    "in_channels": 3,
    "latent_channels": 4,
    "layers_per_block": 2,
    "norm_num_groups": 32,
    "out_channels": 3,
    "sample_size": 512,
    "up_block_types": ["UpDecoderBlock2D"] * 4,
}
TEXT = {
    "architectures": ["CLIPTextModel"],
    "attention_dropout": 0.0,
    "bos_token_id": 0,
    "dropout": 0.0,
    "eos_token_id": 2,
    "hidden_act": "quick_gelu",
    "hidden_size": 768,
    "initializer_factor": 1.0,
    "initializer_range": 0.02,
    "intermediate_size": 3072,
    "layer_norm_eps": 1e-05,
    "max_position_embeddings": 77,
    "model_type": "clip_text_model",
    "num_attention_heads": 12,
    "num_hidden_layers": 12,
    "pad_token_id": 1,
    "projection_dim": 768,
    "vocab_size": 49408,
}
TEXT_21 = {
    **TEXT,
    "hidden_act": "gelu",
    "hidden_size": 1024,
    "intermediate_size": 4096,
    "num_attention_heads": 16,
    "num_hidden_layers": 23,
    "projection_dim": 512,
}
LAYOUTS = {
    "sd15": {"unet": UNET, "vae": VAE, "text_encoder": TEXT, "scheduler": SD1_SCHEDULER, "pad": "<|endoftext|>", "family": "sd1"},
    "sd21": {"unet": UNET_21, "vae": {**VAE, "sample_size": 768}, "text_encoder": TEXT_21, "scheduler": SD2_SCHEDULER, "pad": "!", "family": "sd2"},
}
PROMPT = "a lighthouse at sunset, oil painting"


def shapes(part: str, config: dict) -> dict[str, torch.Tensor]:
    """The state dict of one network without storage."""
    fields = {key: value for key, value in config.items() if not key.startswith("_")}
    with torch.device("meta"):
        if part == "text_encoder":
            state = CLIPTextModel(CLIPTextConfig(**fields)).state_dict()
            return {f"text_model.{key.removeprefix('text_model.')}": tensor for key, tensor in state.items()}
        return (UNet2DConditionModel if part == "unet" else AutoencoderKL)(**fields).state_dict()


def write_streamed(path: Path, seed_name: str, state: dict[str, torch.Tensor]) -> None:
    """A safetensors file of half-precision random tensors, drawn while it is written."""
    header: dict[str, object] = {"__metadata__": {"format": "pt"}}
    offset = 0
    for key, tensor in state.items():
        end = offset + 2 * tensor.numel()
        header[key] = {"dtype": "F16", "shape": list(tensor.shape), "data_offsets": [offset, end]}
        offset = end
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    with path.open("wb") as file:
        file.write(struct.pack("<Q", len(text)) + text)
        for key, tensor in state.items():
            file.write(random_tensor(seed_name, key, tensor).half().numpy().tobytes())


def make(name: str, out: Path, bpe: Path) -> None:
    from single_file import to_single_file

    layout, folder = LAYOUTS[name], out / name
    write_clip_tokenizer(folder / "tokenizer", bpe, layout["pad"])
    write_scheduler(folder, layout["scheduler"])
    index = {
        "_class_name": "StableDiffusionPipeline",
        "_diffusers_version": "0.6.0",
        "feature_extractor": [None, None],
        "requires_safety_checker": False,
        "safety_checker": [None, None],
        "scheduler": ["diffusers", layout["scheduler"]["_class_name"]],
        "text_encoder": ["transformers", "CLIPTextModel"],
        "tokenizer": ["transformers", "CLIPTokenizer"],
        "unet": ["diffusers", "UNet2DConditionModel"],
        "vae": ["diffusers", "AutoencoderKL"],
    }
    (folder / "model_index.json").write_text(json.dumps(index, indent=2) + "\n")
    for part in ("text_encoder", "vae", "unet"):
        (folder / part).mkdir(exist_ok=True)
        (folder / part / "config.json").write_text(json.dumps(layout[part], indent=2) + "\n")
        stem = "model" if part == "text_encoder" else "diffusion_pytorch_model"
        write_streamed(folder / part / f"{stem}.safetensors", f"{name}/{part}", shapes(part, layout[part]))
    to_single_file(str(folder), str(out / f"{name}.safetensors"), family=layout["family"])


def draw(name: str, out: Path, steps: int, scheduler: str | None, size: int, seed: int, cfg: float) -> None:
    from pipeline_golden import Case, run_case, save_trace

    case = Case(model=name, prompt=PROMPT, steps=steps, cfg=cfg, seed=seed, width=size, height=size, scheduler=scheduler)
    start = time.time()
    trace = run_case(out / name, case)
    path = out / f"{name}-{scheduler or 'own'}-{size}-{steps}steps-seed{seed}.trace.safetensors"
    save_trace(path, trace, case)
    print(f"{path}: {time.time() - start:.1f} s, latents std {trace['latents'].std():.2f}, image std {trace['image'].std():.2f}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("action", choices=["make", "draw"])
    parser.add_argument("name", choices=list(LAYOUTS))
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--bpe", type=Path, default=Path("bpe_simple_vocab_16e6.txt.gz"))
    parser.add_argument("--steps", type=int, default=20)
    parser.add_argument("--scheduler", help="a diffusers class, from the model's own config; default: the model's own")
    parser.add_argument("--size", type=int, default=512)
    parser.add_argument("--seed", type=int, default=7)
    parser.add_argument("--cfg", type=float, default=7.5)
    args = parser.parse_args()
    args.out.mkdir(parents=True, exist_ok=True)
    if args.action == "make":
        return make(args.name, args.out, args.bpe)
    draw(args.name, args.out, args.steps, args.scheduler, args.size, args.seed, args.cfg)


if __name__ == "__main__":
    main()
