"""What diffusers makes of LoRA files that aquatint wrote: the U-Net's answer and the text encoder's states with each.

    python3 tools/reference/lora_golden.py --model test/golden/models/sd1-odd --out test/golden/train/lora

Every .safetensors file in the folder whose name begins with `lora` is loaded by `load_lora_weights` and answered.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import diffusers
import peft
import torch
from diffusers import StableDiffusionPipeline
from safetensors.torch import save_file


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--model", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    args = parser.parse_args()
    pipe = StableDiffusionPipeline.from_pretrained(args.model, torch_dtype=torch.float32)
    torch.manual_seed(7)
    tokens, width = pipe.text_encoder.config.max_position_embeddings, pipe.text_encoder.config.hidden_size
    given = {"x": torch.randn(2, 4, 8, 12), "timestep": torch.tensor([17.0, 801.0]), "context": torch.randn(2, tokens, width)}
    ids = torch.randint(0, pipe.text_encoder.config.vocab_size, (1, tokens))
    tensors = {**given, "ids": ids.float()}
    with torch.no_grad():
        for path in [None, *sorted(args.out.glob("lora*.safetensors"))]:
            name = "plain" if path is None else path.stem
            if path is not None:
                pipe.load_lora_weights(path.parent, weight_name=path.name)
            tensors[f"{name} out"] = pipe.unet(given["x"], given["timestep"], given["context"]).sample
            tensors[f"{name} hidden"] = pipe.text_encoder(ids).last_hidden_state
            if path is not None:
                pipe.unload_lora_weights()
    versions = {"torch": torch.__version__, "diffusers": diffusers.__version__, "peft": peft.__version__}
    save_file({k: v.contiguous() for k, v in tensors.items()}, args.out / "answers.safetensors", metadata={"versions": json.dumps(versions)})


if __name__ == "__main__":
    main()
