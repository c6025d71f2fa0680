"""diffusers as a peer of `aquatint bench`; run by it, and by hand with the same arguments.

    diffusers_bench.py probe                                     versions as JSON, or an error
    diffusers_bench.py serve MODEL PROMPT --dtype float32        answers lines on stdin: "step SIZE BATCH", "decode SIZE"
    diffusers_bench.py draw MODEL PROMPT --dtype float32 --size 512 --steps 4 --out picture.png

MODEL is a diffusers folder, or a single file with a folder of the same name beside it for its configs.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from pathlib import Path

import diffusers
import torch
import transformers
from diffusers import DDIMScheduler, StableDiffusionPipeline

VERSIONS = {"diffusers": diffusers.__version__, "torch": torch.__version__, "transformers": transformers.__version__}


def load(model: str, dtype: str) -> StableDiffusionPipeline:
    diffusers.utils.logging.disable_progress_bar()
    transformers.utils.logging.disable_progress_bar()
    options = {"torch_dtype": getattr(torch, dtype), "safety_checker": None, "local_files_only": True}
    path = Path(model)
    if path.is_dir():
        pipe = StableDiffusionPipeline.from_pretrained(path, **options)
    else:
        pipe = StableDiffusionPipeline.from_single_file(model, config=str(path.with_suffix("")), **options)
    pipe.scheduler = DDIMScheduler.from_config(pipe.scheduler.config)
    pipe.set_progress_bar_config(disable=True)
    return pipe


class Walk:
    """A long guided generation of one size, step by step: the body of the pipeline's denoising loop."""

    def __init__(self, pipe: StableDiffusionPipeline, prompt: str, size: int, batch: int):
        self.pipe = pipe
        cond, uncond = pipe.encode_prompt(prompt, "cpu", batch, True)
        self.context = torch.cat([uncond, cond])
        pipe.scheduler.set_timesteps(500)
        self.times = iter(pipe.scheduler.timesteps)
        shape = (batch, pipe.unet.config.in_channels, size // pipe.vae_scale_factor, size // pipe.vae_scale_factor)
        self.x = torch.randn(shape, generator=torch.Generator().manual_seed(7), dtype=pipe.unet.dtype)

    def step(self) -> None:
        scheduler, t = self.pipe.scheduler, next(self.times)
        rows = scheduler.scale_model_input(torch.cat([self.x] * 2), t)
        uncond, cond = self.pipe.unet(rows, t, encoder_hidden_states=self.context, return_dict=False)[0].chunk(2)
        self.x = scheduler.step(uncond + 7.5 * (cond - uncond), t, self.x, return_dict=False)[0]

    def decode(self) -> None:
        image = self.pipe.vae.decode(self.x / self.pipe.vae.config.scaling_factor, return_dict=False)[0]
        self.pipe.image_processor.postprocess(image.detach(), output_type="pil")


def answer(value: dict) -> None:
    print(json.dumps(value), flush=True)


@torch.no_grad()
def serve(model: str, prompt: str, dtype: str) -> None:
    pipe = load(model, dtype)
    walks: dict[tuple[int, int], Walk] = {}
    answer({"versions": VERSIONS})
    for line in sys.stdin:
        what, size, *batch = line.split()
        start = time.perf_counter()
        key = (int(size), int(batch[0]) if batch else 1)
        walk = walks[key] = walks.get(key) or Walk(pipe, prompt, *key)
        walk.step() if what == "step" else walk.decode()
        answer({"seconds": time.perf_counter() - start})


def draw(args: argparse.Namespace) -> None:
    pipe = load(args.model, args.dtype)
    generator = torch.Generator().manual_seed(7)
    image = pipe(args.prompt, num_inference_steps=args.steps, guidance_scale=args.cfg, width=args.size, height=args.size, generator=generator).images[0]
    image.save(args.out)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("action", choices=["probe", "serve", "draw"])
    parser.add_argument("model", nargs="?")
    parser.add_argument("prompt", nargs="?")
    parser.add_argument("--dtype", default="float32", choices=["float32", "bfloat16", "float16"])
    parser.add_argument("--size", type=int, default=512)
    parser.add_argument("--steps", type=int, default=4)
    parser.add_argument("--cfg", type=float, default=7.5)
    parser.add_argument("--out", default="diffusers.png")
    args = parser.parse_args()
    if args.action == "probe":
        return answer({"versions": VERSIONS})
    if args.action == "serve":
        return serve(args.model, args.prompt, args.dtype)
    draw(args)


if __name__ == "__main__":
    main()
