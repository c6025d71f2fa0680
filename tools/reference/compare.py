"""aquatint against diffusers, command line against pipeline.

    python3 tools/reference/compare.py --seed 1 --count 50
    python3 tools/reference/compare.py --count 20 --scheduler EulerDiscreteScheduler --mode image --keep scratch
    python3 tools/reference/compare.py --cases cases.json --command "node dist/cli/main.js"

Each case makes a model folder, draws with diffusers in float32, runs the command with --json --trace, and compares
ids, timesteps, noise, embeddings, latents, the VAE's output and the file that was written. Exit code 1 when a case differs.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import shlex
import shutil
import subprocess
import sys
import tempfile
import time
import warnings
from dataclasses import asdict
from pathlib import Path
from random import Random

import numpy as np
import torch
from diffusers.utils import logging as diffusers_logging
from PIL import Image
from safetensors.torch import load_file
from transformers.utils import logging as transformers_logging

from compare_cases import random_case
from models import make_model, write_index, write_scheduler
from model_specs import MODELS
from pipeline_golden import Case, load, pictures, run_case, scheduler_json, shaken_unet

# ids and timesteps exactly; the rest within what docs/correctness.md promises
LIMITS = {"text": 2e-4, "noise": 5e-6, "timesteps": 1e-3, "latents": 1e-3, "image": 0.5, "file": 0.5}


def relative_max(found: torch.Tensor, wanted: torch.Tensor) -> float:
    """Largest difference over the reference's root mean square."""
    return ((found - wanted).abs().max() / wanted.square().mean().sqrt().clamp_min(1e-12)).item()


def relative_l2(found: torch.Tensor, wanted: torch.Tensor) -> float:
    return ((found - wanted).norm() / wanted.norm().clamp_min(1e-12)).item()


def levels(found: torch.Tensor, wanted: torch.Tensor) -> float:
    """Mean difference in 255ths."""
    return ((found.clamp(-1, 1) - wanted.clamp(-1, 1)).abs().mean() * 127.5).item()


class Bench:
    """Model folders made once per (model, layout), and one working folder per case."""

    def __init__(self, root: Path, bpe: Path | None) -> None:
        self.root = root
        self.bpe = bpe
        self.made: dict[tuple[str, str], Path] = {}

    def base(self, model: str, layout: str) -> Path:
        key = (model, layout)
        if key not in self.made:
            self.made[key] = make_model(model, self.root / "models" / f"{model}-{layout}", layout, bpe=self.bpe)
        return self.made[key]

    def folder(self, case: Case, number: int) -> Path:
        """The case's folder: components are links to the shared ones, the scheduler is its own file."""
        base = self.base(case.model, case.layout)
        if case.layout == "single-file":
            return base
        folder = self.root / f"case-{number}" / "model"
        folder.mkdir(parents=True)
        for part in base.iterdir():
            if part.is_dir() and part.name != "scheduler":
                (folder / part.name).symlink_to(part.resolve())
        write_scheduler(folder, scheduler_config(base, case, number))
        scheduler = json.loads((folder / "scheduler" / "scheduler_config.json").read_text())["_class_name"]
        write_index(folder, MODELS[case.model], scheduler)
        return folder


def scheduler_config(base: Path, case: Case, number: int) -> dict:
    """Every second file is as diffusers saves it, with every key; the others are as hand-written ones, with few."""
    own = json.loads((base / "scheduler" / "scheduler_config.json").read_text())
    if not case.scheduler:
        return own
    if number % 2:
        return {**own, **case.options, "_class_name": case.scheduler}
    return scheduler_json(load(base, case))


def command_line(case: Case, folder: Path, work: Path) -> list[str]:
    out = work / ("out" if case.count > 1 else "out.png")
    model = folder.with_suffix(".safetensors") if case.layout == "single-file" else folder
    words = ["generate", case.prompt, "-m", str(model), "--steps", str(case.steps), "--cfg", str(case.cfg)]
    words += ["--seed", str(case.seed), "-W", str(case.width), "-H", str(case.height), "--prompt-syntax", case.syntax]
    words += ["--json", "--trace", str(work / "trace.safetensors"), "-o", str(out)]
    optional = {"-n": case.negative, "--eta": case.eta, "--clip-skip": case.clip_skip}
    words += [word for name, value in optional.items() if value for word in (name, str(value))]
    if case.count > 1:
        words += ["--count", str(case.count)]
    if case.mode != "text":
        start, mask = pictures(case)
        start.save(work / "init.png")
        words += ["--init", str(work / "init.png"), "--strength", str(case.strength)]
        if case.mode == "inpaint":
            mask.save(work / "mask.png")
            words += ["--mask", str(work / "mask.png")]
    return words


def compare_files(answer: dict, wanted: dict[str, torch.Tensor], case: Case) -> tuple[float, list[str]]:
    """The written pictures against the reference rounded to bytes, and what --json says of them."""
    wrong: list[str] = []
    images = answer.get("images", [])
    if [image.get("seed") for image in images] != [case.seed + index for index in range(case.count)]:
        wrong.append(f"seeds in --json: {[image.get('seed') for image in images]}")
    worst = 0.0
    for image, reference in zip(images, wanted["image"]):
        data = Path(image["path"]).read_bytes()
        if hashlib.sha256(data).hexdigest() != image.get("sha256"):
            wrong.append("sha256 in --json is not the file's")
        pixels = np.asarray(Image.open(image["path"]).convert("RGB"), dtype=np.float64)
        target = ((reference / 2 + 0.5).clamp(0, 1).permute(1, 2, 0).double().numpy() * 255).round()
        if pixels.shape != target.shape:
            return float("inf"), [*wrong, f"picture {pixels.shape}, wanted {target.shape}"]
        worst = max(worst, float(np.abs(pixels - target).mean()))
    return worst, wrong


def compare_traces(found: dict[str, torch.Tensor], wanted: dict[str, torch.Tensor]) -> tuple[dict[str, float], list[str]]:
    wrong = [f"trace has no {key}" for key in wanted if key not in found]
    wrong += [f"trace has {key}, reference none" for key in found if key.startswith("text.") and key not in wanted]
    for key in wanted.keys() & found.keys():
        if found[key].shape != wanted[key].shape:
            wrong.append(f"{key} is {list(found[key].shape)}, wanted {list(wanted[key].shape)}")
    if wrong:
        return {}, wrong
    if not torch.equal(found["text.ids"].long(), wanted["text.ids"]):
        wrong.append("text.ids differ")
    errors = {
        "text": max(relative_max(found[key], wanted[key]) for key in wanted if key in ("text.cond", "text.uncond")),
        "noise": (found["noise"] - wanted["noise"]).abs().max().item(),
        "timesteps": (found["timesteps"].double() - wanted["timesteps"].double()).abs().max().item(),
        "latents": relative_l2(found["latents"], wanted["latents"]),
        "image": levels(found["image"], wanted["image"]),
    }
    return errors, wrong


def run_command(command: list[str], words: list[str], work: Path) -> tuple[dict | None, str]:
    done = subprocess.run([*command, *words], capture_output=True, text=True, timeout=600)
    (work / "stderr.txt").write_text(done.stderr)
    (work / "stdout.txt").write_text(done.stdout)
    if done.returncode != 0:
        return None, f"exit {done.returncode}: {(done.stdout or done.stderr).strip()[:400]}"
    try:
        return json.loads(done.stdout), ""
    except json.JSONDecodeError:
        return None, f"stdout is not one JSON object: {done.stdout[:200]!r}"


def growth(folder: Path, case: Case, wanted: dict[str, torch.Tensor]) -> float:
    """How many times differences of float32's size in the first noise and the U-Net's output grow until the last latents."""
    pipe = load(folder, case)
    with shaken_unet(pipe, 1e-6):
        shaken = run_case(folder, case, pipe, shake=2e-7)
    return relative_l2(shaken["latents"], wanted["latents"]) / 1e-6


def check(bench: Bench, case: Case, number: int, command: list[str]) -> dict:
    """One case: {"verdict": "same" | "DIFFERS" | "ill-conditioned" | "refused by diffusers", ...}."""
    work = bench.root / f"case-{number}"
    work.mkdir(parents=True, exist_ok=True)
    (work / "case.json").write_text(json.dumps(asdict(case), indent=2))
    try:
        folder = bench.folder(case, number)
        plain = Case(**{**asdict(case), "scheduler": None, "options": {}})
        wanted = run_case(folder, plain)
    except Exception as problem:
        return {"verdict": "refused by diffusers", "why": f"{type(problem).__name__}: {problem}"[:200]}
    if not all(tensor.isfinite().all() for tensor in wanted.values() if tensor.is_floating_point()):
        return {"verdict": "refused by diffusers", "why": "not finite"}
    words = command_line(case, folder, work)
    (work / "command.txt").write_text(shlex.join([*command, *words]) + "\n")
    start = time.time()
    answer, problem = run_command(command, words, work)
    if answer is None:
        return {"verdict": "DIFFERS", "wrong": [problem]}
    errors, wrong = compare_traces(load_file(work / "trace.safetensors"), wanted)
    if not wrong:
        errors["file"], more = compare_files(answer, wanted, case)
        wrong += more
    wrong += [f"{key} {value:.3g} > {LIMITS[key]}" for key, value in errors.items() if not value <= LIMITS[key]]
    verdict = "DIFFERS" if wrong else "same"
    if wrong and all(problem.startswith(("latents", "image", "file")) for problem in wrong):
        times = growth(folder, plain, wanted)
        wrong.append(f"differences of 1e-6 grow {times:.1f} times in this case")
        verdict = "ill-conditioned" if times > 100 else verdict
    return {"verdict": verdict, "wrong": wrong, "errors": errors, "seconds": time.time() - start}


def describe(case: Case) -> str:
    parts = [case.model, case.layout, case.mode, case.scheduler or "own", f"{case.width}x{case.height}", f"steps {case.steps}", f"cfg {case.cfg}"]
    parts += [f"{key} {value}" for key, value in case.options.items()]
    parts += [f"x{case.count}"] * (case.count > 1) + [f"skip {case.clip_skip}"] * bool(case.clip_skip)
    parts += [f"strength {case.strength}"] * (case.mode != "text") + [f"eta {case.eta}"] * bool(case.eta)
    return " | ".join(parts)


def cases_of(args: argparse.Namespace) -> list[Case]:
    if args.cases:
        return [Case(**fields) for fields in json.loads(args.cases.read_text())]
    rng = Random(args.seed)
    return [random_case(rng, args.scheduler, args.mode, args.model) for _ in range(args.count)]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--count", type=int, default=20)
    parser.add_argument("--scheduler")
    parser.add_argument("--mode", choices=["text", "image", "inpaint"])
    parser.add_argument("--model", choices=list(MODELS))
    parser.add_argument("--cases", type=Path, help="a JSON list of cases instead of random ones")
    parser.add_argument("--command", default="npm run -s aquatint --")
    parser.add_argument("--bpe", type=Path, help="bpe_simple_vocab_16e6.txt.gz (in open_clip_torch), for single files")
    parser.add_argument("--keep", type=Path, help="working folder, kept; differing cases can be run again from it")
    parser.add_argument("--report", type=Path, help="writes every result as JSON lines")
    args = parser.parse_args()
    warnings.filterwarnings("ignore")
    diffusers_logging.set_verbosity_error()
    diffusers_logging.disable_progress_bar()
    transformers_logging.set_verbosity_error()
    transformers_logging.disable_progress_bar()
    root = args.keep or Path(tempfile.mkdtemp(prefix="aquatint-compare-"))
    root.mkdir(parents=True, exist_ok=True)
    totals, worst = {"same": 0, "DIFFERS": 0, "ill-conditioned": 0, "refused by diffusers": 0}, dict.fromkeys(LIMITS, 0.0)
    bench = Bench(root.resolve(), args.bpe)
    for number, case in enumerate(cases_of(args)):
        result = check(bench, case, number, shlex.split(args.command))
        totals[result["verdict"]] += 1
        for key, value in result.get("errors", {}).items() if result["verdict"] == "same" else ():
            worst[key] = max(worst[key], value)
        detail = "; ".join(result.get("wrong", [])) or result.get("why", "")
        print(f"{number:4d} {result['verdict']}: {describe(case)}{' -> ' + detail if detail else ''}", flush=True)
        if args.report:
            with args.report.open("a") as file:
                file.write(json.dumps({"case": asdict(case), **result}, default=str) + "\n")
        if result["verdict"] in ("same", "refused by diffusers"):
            shutil.rmtree(bench.root / f"case-{number}", ignore_errors=True)
    print(f"{totals}; largest errors {({key: float(f'{value:.3g}') for key, value in worst.items()})}; {root}")
    sys.exit(1 if totals["DIFFERS"] else 0)


if __name__ == "__main__":
    main()
