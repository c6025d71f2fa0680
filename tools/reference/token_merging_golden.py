"""Latents of small models with merged tokens, by tomesd (Bolya & Hoffman's own code) in diffusers.

    pip install tomesd==0.1.3
    python3 tools/reference/token_merging_golden.py [--models test/golden/models] [--out test/golden/token-merging.safetensors]

Receivers are fixed (`use_rand=False`), as AUTOMATIC1111 sets it.
"""

import argparse
import json
from importlib.metadata import version

import diffusers
import tomesd
import torch
from diffusers import StableDiffusionPipeline
from safetensors.torch import save_file

CASES = [
    {"model": "sd1-tiny", "share": 0.5, "width": 96, "height": 64, "seed": 5},
    {"model": "sd1-tiny", "share": 0.3, "width": 64, "height": 80, "seed": 6},
    {"model": "sd1-odd", "share": 0.75, "width": 64, "height": 64, "seed": 7, "level": 2},
]


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--models", default="test/golden/models")
    parser.add_argument("--out", default="test/golden/token-merging.safetensors")
    args = parser.parse_args()
    tensors = {}
    for n, case in enumerate(CASES):
        pipe = StableDiffusionPipeline.from_pretrained(f"{args.models}/{case['model']}", torch_dtype=torch.float32, safety_checker=None)
        pipe.set_progress_bar_config(disable=True)
        # the pipeline has changed the config as it was loaded
        with open(f"{args.models}/{case['model']}/scheduler/scheduler_config.json") as f:
            pipe.scheduler = type(pipe.scheduler).from_config(json.load(f))
        tomesd.apply_patch(pipe, ratio=case["share"], use_rand=False, max_downsample=case.get("level", 1))
        tensors[f"latents.{n}"] = pipe(
            "a fox in the snow",
            num_inference_steps=4,
            guidance_scale=6,
            width=case["width"],
            height=case["height"],
            generator=torch.Generator().manual_seed(case["seed"]),
            output_type="latent",
        ).images.contiguous()
    source = f"tomesd {version('tomesd')}, diffusers {diffusers.__version__}, torch {torch.__version__}"
    save_file(tensors, args.out, {"about": json.dumps({"source": source, "cases": CASES})})


if __name__ == "__main__":
    main()
