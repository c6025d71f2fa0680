"""Where the U-Net looks for each token, by an attention processor over diffusers that keeps its probabilities.

    python3 tools/reference/attention_golden.py --models test/golden/models --out test/golden/attention

Maps of cross-attention, averaged over heads and layers at the latents' size (bilinear, pixel centres at halves) and over
steps, for the tokens of the prompt; begin, end and padding are left out. One file per case, its metadata tells the case.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import diffusers
import torch
import torch.nn.functional as F
import transformers
from diffusers import StableDiffusionPipeline, StableDiffusionXLPipeline
from diffusers.models.attention_processor import AttnProcessor
from safetensors.torch import save_file

MADE_WITH = {"diffusers": diffusers.__version__, "transformers": transformers.__version__, "torch": torch.__version__}
CASES = {
    "sd1": {"model": "sd1-tiny", "prompt": "a red lighthouse at sunset", "steps": 3, "cfg": 5.0, "seed": 11, "width": 64, "height": 64},
    "odd": {"model": "sd1-odd", "prompt": "a fox, running", "steps": 2, "cfg": 1.0, "seed": 3, "width": 72, "height": 88},
    "sdxl": {"model": "sdxl-tiny", "prompt": "old harbour", "steps": 2, "cfg": 4.0, "seed": 4, "width": 64, "height": 96},
}


class Keep(AttnProcessor):
    """The plain processor, which also notes the probabilities of cross-attention for the last row: the prompt's."""

    def __init__(self, log: list[torch.Tensor]):
        super().__init__()
        self.log = log

    def __call__(self, attn, hidden_states, encoder_hidden_states=None, **kwargs):
        if encoder_hidden_states is not None:
            query = attn.head_to_batch_dim(attn.to_q(hidden_states))
            key = attn.head_to_batch_dim(attn.to_k(encoder_hidden_states))
            scores = attn.get_attention_scores(query, key)  # (b heads) s t
            self.log.append(scores.unflatten(0, (-1, attn.heads)).mean(1)[-1])
        return super().__call__(attn, hidden_states, encoder_hidden_states, **kwargs)


def load(folder: Path):
    kind = StableDiffusionXLPipeline if folder.name.startswith("sdxl") else StableDiffusionPipeline
    more = {} if kind is StableDiffusionXLPipeline else {"safety_checker": None, "feature_extractor": None}
    pipe = kind.from_pretrained(folder, torch_dtype=torch.float32, **more)
    pipe.set_progress_bar_config(disable=True)
    pipe.scheduler = type(pipe.scheduler).from_config(type(pipe.scheduler).load_config(folder / "scheduler"))
    return pipe


def enlarge(layer: torch.Tensor, height: int, width: int) -> torch.Tensor:
    """s t -> t height width"""
    h, w = height, width
    while h * w > layer.shape[0]:
        h, w = -(-h // 2), -(-w // 2)
    grid = layer.T.reshape(1, -1, h, w)
    return F.interpolate(grid, size=(height, width), mode="bilinear", align_corners=False)[0]


@torch.no_grad()
def run(models: Path, case: dict) -> dict[str, torch.Tensor]:
    pipe = load(models / case["model"])
    log: list[torch.Tensor] = []
    pipe.unet.set_attn_processor(Keep(log))
    height, width = case["height"] // pipe.vae_scale_factor, case["width"] // pipe.vae_scale_factor
    pipe(
        case["prompt"],
        num_inference_steps=case["steps"],
        guidance_scale=case["cfg"],
        generator=torch.Generator().manual_seed(case["seed"]),
        width=case["width"],
        height=case["height"],
        output_type="latent",
    )
    maps = torch.stack([enlarge(layer, height, width) for layer in log]).mean(0)
    used = len(pipe.tokenizer(case["prompt"], add_special_tokens=False).input_ids)
    return {"maps": maps[1 : 1 + used].contiguous()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--models", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    args = parser.parse_args()
    args.out.mkdir(parents=True, exist_ok=True)
    for name, case in CASES.items():
        made = run(args.models, case)
        about = {"case": json.dumps(case), "made_with": json.dumps(MADE_WITH)}
        save_file(made, args.out / f"{name}.safetensors", metadata=about)
        print(name, tuple(made["maps"].shape))


if __name__ == "__main__":
    main()
