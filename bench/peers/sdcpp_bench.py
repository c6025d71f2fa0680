"""stable-diffusion.cpp as a peer of `aquatint bench`; run by it, and by hand with the same arguments.

    sdcpp_bench.py probe                     versions as JSON, or an error
    sdcpp_bench.py serve MODEL PROMPT        answers lines on stdin: "step SIZE BATCH", "decode SIZE"
    sdcpp_bench.py draw MODEL PROMPT --size 512 --steps 4 --out picture.png

Needs `pip install stable-diffusion-cpp-python`, which compiles it for this machine. MODEL is a single file.
"""

from __future__ import annotations

import argparse
import json
import os
import queue
import sys
import threading
import time
from importlib.metadata import version

VERSIONS = {"stable-diffusion-cpp-python": version("stable-diffusion-cpp-python")}
if sys.argv[1:] == ["probe"]:
    print(json.dumps({"versions": VERSIONS}))
    sys.exit()

from stable_diffusion_cpp import StableDiffusion

# by itself it takes half of the processors
THREADS = os.cpu_count() or 1


def load(model: str) -> StableDiffusion:
    return StableDiffusion(model_path=model, vae_decode_only=True, n_threads=THREADS, verbose=False)


def generate(sd: StableDiffusion, prompt: str, size: int, steps: int, cfg: float, progress=None) -> list:
    return sd.generate_image(
        prompt=prompt,
        width=size,
        height=size,
        sample_steps=steps,
        cfg_scale=cfg,
        sample_method="ddim_trailing",
        seed=7,
        progress_callback=progress,
    )


class Walk:
    """A long guided generation that goes on by one step when asked."""

    def __init__(self, sd: StableDiffusion, prompt: str, size: int):
        self.turns: queue.Queue[None] = queue.Queue()
        self.done: queue.Queue[None] = queue.Queue()
        work = lambda: generate(sd, prompt, size, 500, 7.5, self.progress)
        threading.Thread(target=work, daemon=True).start()

    def progress(self, step: int, steps: int, seconds: float) -> None:
        if step > 0:
            self.done.put(None)
        self.turns.get()

    def step(self) -> None:
        self.turns.put(None)
        self.done.get()


class Resident:
    """One generation at a time: a decode and a walk have a model of their own."""

    def __init__(self, model: str, prompt: str):
        self.model, self.prompt = model, prompt
        self.walks: dict[int, Walk] = {}
        self.decoder: StableDiffusion | None = None

    def step(self, size: int) -> float:
        start = time.perf_counter()
        if size not in self.walks:
            self.walks[size] = Walk(load(self.model), self.prompt, size)
        self.walks[size].step()
        return time.perf_counter() - start

    def decode(self, size: int) -> float:
        self.decoder = self.decoder or load(self.model)
        marks = [0.0]
        generate(self.decoder, self.prompt, size, 1, 1, lambda *_: marks.append(time.perf_counter()))
        return time.perf_counter() - marks[-1]


def answer(value: dict) -> None:
    print(json.dumps(value), flush=True)


def serve(model: str, prompt: str) -> None:
    resident = Resident(model, prompt)
    answer({"versions": VERSIONS})
    for line in sys.stdin:
        what, size, *batch = line.split()
        if batch and batch[0] != "1":
            # it draws pictures of a batch one after the other
            answer({"seconds": None})
            continue
        answer({"seconds": resident.step(int(size)) if what == "step" else resident.decode(int(size))})
    # a walk that waits for its turn would wait forever
    os._exit(0)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("action", choices=["probe", "serve", "draw"])
    parser.add_argument("model", nargs="?")
    parser.add_argument("prompt", nargs="?")
    parser.add_argument("--size", type=int, default=512)
    parser.add_argument("--steps", type=int, default=4)
    parser.add_argument("--cfg", type=float, default=7.5)
    parser.add_argument("--out", default="sdcpp.png")
    args = parser.parse_args()
    if args.action == "serve":
        return serve(args.model, args.prompt)
    generate(load(args.model), args.prompt, args.size, args.steps, args.cfg)[0].save(args.out)


if __name__ == "__main__":
    main()
