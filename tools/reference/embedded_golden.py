"""Pictures of the model that comes with the package, as diffusers' StableDiffusionPipeline draws them.

python3 tools/reference/embedded_golden.py [--model assets/embedded] [--out test/golden/embedded]
"""

import argparse
import json
import os

import diffusers
import torch

CASES = [
    {"prompt": "a red lighthouse by the sea at night, flat style", "seed": 7},
    {"prompt": "drei grüne Bäume in den Bergen, Pastell", "negative": "snow", "seed": 20, "steps": 7, "cfg": 6.5},
    {"prompt": "", "seed": 3, "steps": 5, "width": 96, "height": 160},
]


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", default="assets/embedded")
    parser.add_argument("--out", default="test/golden/embedded")
    args = parser.parse_args()
    pipe = diffusers.StableDiffusionPipeline.from_pretrained(args.model)
    pipe.set_progress_bar_config(disable=True)
    with open(f"{args.model}/model_index.json") as f:
        defaults = json.load(f)["_aquatint"]
    os.makedirs(args.out, exist_ok=True)
    for n, case in enumerate(CASES):
        made = pipe(
            case["prompt"],
            negative_prompt=case.get("negative", ""),
            num_inference_steps=case.get("steps", defaults["steps"]),
            guidance_scale=case.get("cfg", defaults["cfg"]),
            width=case.get("width"),
            height=case.get("height"),
            generator=torch.Generator().manual_seed(case["seed"]),
        )
        made.images[0].save(f"{args.out}/{n}.png", optimize=True)
    source = f"diffusers {diffusers.__version__}, torch {torch.__version__}, StableDiffusionPipeline"
    with open(f"{args.out}/cases.json", "w") as f:
        json.dump({"source": source, "cases": CASES}, f, indent=2, ensure_ascii=False)
        f.write("\n")


if __name__ == "__main__":
    main()
