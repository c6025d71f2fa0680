"""OpenVINO as a peer of `aquatint bench`; run by it, and by hand with the same arguments.

    openvino_bench.py probe                               versions as JSON, or an error
    openvino_bench.py serve MODEL PROMPT --dtype int8     answers lines on stdin: "step SIZE BATCH", "decode SIZE"
    openvino_bench.py draw MODEL PROMPT --dtype int8 --size 512 --steps 4 --out picture.png

Needs `pip install torch diffusers transformers openvino nncf`. The networks are converted from diffusers once, for
int8 quantised by NNCF on random latents, and kept under the user's cache folder: a run that counts finds them there.
"""

from __future__ import annotations

import argparse
import contextlib
import hashlib
import json
import os
import sys
import time
from importlib.metadata import version
from pathlib import Path

VERSIONS = {name: version(name) for name in ("openvino", "nncf")}
if sys.argv[1:] == ["probe"]:
    # the imports below take longer than a probe should
    print(json.dumps({"versions": VERSIONS}))
    sys.exit()

import diffusers
import nncf
import numpy as np
import openvino as ov
import torch
import transformers
from diffusers import DDIMScheduler, StableDiffusionPipeline

CALIBRATION = 6


def folder_of(model: str, dtype: str) -> Path:
    stat = os.stat(model)
    key = hashlib.sha256(f"{model} {stat.st_size} {stat.st_mtime} {VERSIONS} {dtype}".encode()).hexdigest()[:16]
    home = Path(os.environ.get("AQUATINT_PEERS", Path.home() / ".cache" / "aquatint-peers"))
    return home / f"openvino-{key}"


def diffusers_pipeline(model: str) -> StableDiffusionPipeline:
    diffusers.utils.logging.disable_progress_bar()
    transformers.utils.logging.disable_progress_bar()
    options = {"torch_dtype": torch.float32, "safety_checker": None, "local_files_only": True}
    path = Path(model)
    if path.is_dir():
        return StableDiffusionPipeline.from_pretrained(path, **options)
    return StableDiffusionPipeline.from_single_file(model, config=str(path.with_suffix("")), **options)


class Predict(torch.nn.Module):
    """A U-Net with plain tensors in and out."""

    def __init__(self, unet: torch.nn.Module):
        super().__init__()
        self.unet = unet

    def forward(self, x: torch.Tensor, t: torch.Tensor, context: torch.Tensor) -> torch.Tensor:
        return self.unet(x, t, encoder_hidden_states=context, return_dict=False)[0]


class Decode(torch.nn.Module):
    """A VAE's way from scaled latents to the picture."""

    def __init__(self, vae: torch.nn.Module):
        super().__init__()
        self.vae = vae

    def forward(self, z: torch.Tensor) -> torch.Tensor:
        return self.vae.decode(z / self.vae.config.scaling_factor, return_dict=False)[0]


def convert(module: torch.nn.Module, examples: tuple[torch.Tensor, ...], shapes: list[list[int]]) -> ov.Model:
    return ov.convert_model(module.eval(), example_input=examples, input=[ov.PartialShape(s) for s in shapes])


@torch.no_grad()
def make(model: str, dtype: str, folder: Path) -> None:
    """Converts the networks and writes them with what the loop needs to know."""
    pipe = diffusers_pipeline(model)
    channels, width = pipe.unet.config.in_channels, pipe.unet.config.cross_attention_dim
    generator = torch.Generator().manual_seed(1)
    sample = lambda t: (torch.randn(2, channels, 32, 32, generator=generator), torch.tensor([t]), torch.randn(2, 77, width, generator=generator))
    unet = convert(Predict(pipe.unet), sample(500), [[-1, channels, -1, -1], [1], [-1, 77, width]])
    if dtype == "int8":
        rows = [tuple(v.numpy() for v in sample(int(t))) for t in np.linspace(20, 980, CALIBRATION)]
        unet = nncf.quantize(unet, nncf.Dataset(rows), subset_size=CALIBRATION, model_type=nncf.ModelType.TRANSFORMER)
    latents = pipe.vae.config.latent_channels
    vae = convert(Decode(pipe.vae), (torch.randn(1, latents, 32, 32),), [[1, latents, -1, -1]])
    text = convert(pipe.text_encoder, (torch.zeros(2, 77, dtype=torch.long),), [[-1, 77]])
    folder.mkdir(parents=True, exist_ok=True)
    for name, network in {"unet": unet, "vae": vae, "text": text}.items():
        ov.save_model(network, folder / f"{name}.xml", compress_to_fp16=False)
    pipe.tokenizer.save_pretrained(folder / "tokenizer")
    pipe.scheduler.save_pretrained(folder / "scheduler")
    about = {"channels": latents, "factor": pipe.vae_scale_factor}
    (folder / "about.json").write_text(json.dumps(about))


class Networks:
    """The converted networks, compiled when first used."""

    def __init__(self, model: str, dtype: str):
        folder = folder_of(model, dtype)
        if not (folder / "about.json").exists():
            # stdout is for answers, and NNCF shows its progress there
            with contextlib.redirect_stdout(sys.stderr):
                make(model, dtype, folder)
        self.folder, self.about = folder, json.loads((folder / "about.json").read_text())
        self.core, self.compiled = ov.Core(), {}

    def run(self, name: str, *inputs: np.ndarray) -> np.ndarray:
        if name not in self.compiled:
            self.compiled[name] = self.core.compile_model(self.folder / f"{name}.xml", "CPU")
        return self.compiled[name](list(inputs))[0]

    def context(self, prompts: list[str]) -> np.ndarray:
        tokenizer = transformers.CLIPTokenizer.from_pretrained(self.folder / "tokenizer")
        ids = tokenizer(prompts, padding="max_length", max_length=77, truncation=True, return_tensors="np").input_ids
        return self.run("text", ids.astype(np.int64))


class Walk:
    """A generation of one size, step by step; guidance above 1 takes two rows a picture."""

    def __init__(self, networks: Networks, prompt: str, size: int, steps: int, batch: int = 1, cfg: float = 7.5):
        self.networks, self.cfg = networks, cfg
        self.context = networks.context([""] * (batch if cfg > 1 else 0) + [prompt] * batch)
        self.scheduler = DDIMScheduler.from_pretrained(networks.folder / "scheduler")
        self.scheduler.set_timesteps(steps)
        self.times = iter(self.scheduler.timesteps)
        side = size // networks.about["factor"]
        self.x = torch.randn((batch, networks.about["channels"], side, side), generator=torch.Generator().manual_seed(7))

    def step(self) -> None:
        t = next(self.times)
        rows = torch.cat([self.x] * (2 if self.cfg > 1 else 1)).numpy()
        out = torch.from_numpy(self.networks.run("unet", rows, np.array([int(t)], np.int64), self.context))
        uncond, cond = out.chunk(2) if self.cfg > 1 else (out, out)
        self.x = self.scheduler.step(uncond + self.cfg * (cond - uncond), t, self.x, return_dict=False)[0]

    def decode(self) -> "diffusers.image_processor.PILImageInput":
        image = torch.from_numpy(self.networks.run("vae", self.x.numpy()))
        return diffusers.image_processor.VaeImageProcessor().postprocess(image, output_type="pil")[0]


def answer(value: dict) -> None:
    print(json.dumps(value), flush=True)


@torch.no_grad()
def serve(model: str, prompt: str, dtype: str) -> None:
    networks = Networks(model, dtype)
    walks: dict[tuple[int, int], Walk] = {}
    answer({"versions": VERSIONS})
    for line in sys.stdin:
        what, size, *batch = line.split()
        start = time.perf_counter()
        key = (int(size), int(batch[0]) if batch else 1)
        if key not in walks:
            walks[key] = Walk(networks, prompt, key[0], 500, key[1])
        walk = walks[key]
        walk.step() if what == "step" else walk.decode()
        answer({"seconds": time.perf_counter() - start})


@torch.no_grad()
def draw(args: argparse.Namespace) -> None:
    walk = Walk(Networks(args.model, args.dtype), args.prompt, args.size, args.steps, cfg=args.cfg)
    for _ in range(args.steps):
        walk.step()
    walk.decode().save(args.out)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("action", choices=["probe", "serve", "draw"])
    parser.add_argument("model", nargs="?")
    parser.add_argument("prompt", nargs="?")
    parser.add_argument("--dtype", default="fp32", choices=["fp32", "int8"])
    parser.add_argument("--size", type=int, default=512)
    parser.add_argument("--steps", type=int, default=4)
    parser.add_argument("--cfg", type=float, default=7.5)
    parser.add_argument("--out", default="openvino.png")
    args = parser.parse_args()
    if args.action == "serve":
        return serve(args.model, args.prompt, args.dtype)
    draw(args)


if __name__ == "__main__":
    main()
