"""Textual inversions in every form, as diffusers reads them.

    python3 tools/reference/embedding_golden.py --models test/golden/models --out test/golden/embeddings

`FORM.safetensors` are the files, `prompts.safetensors` the prompt embeddings made with them.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import diffusers
import torch
import transformers
from diffusers import StableDiffusionPipeline, StableDiffusionXLPipeline
from safetensors.torch import save_file

MADE_WITH = {"diffusers": diffusers.__version__, "torch": torch.__version__, "transformers": transformers.__version__}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--models", type=Path, default=Path("test/golden/models"))
    parser.add_argument("--out", type=Path, default=Path("test/golden/embeddings"))
    args = parser.parse_args()
    args.out.mkdir(parents=True, exist_ok=True)
    generator = torch.Generator().manual_seed(3)
    rand = lambda *shape: torch.randn(*shape, generator=generator) * 0.5
    pipe = StableDiffusionPipeline.from_pretrained(args.models / "sd1-tiny", torch_dtype=torch.float32, safety_checker=None)
    size = pipe.text_encoder.config.hidden_size
    forms = {
        "webui": {"emb_params": rand(3, size).half()},
        "single": {"<cat>": rand(size)},
        "several": {"<dog>": rand(2, size)},
        "from-pt": {"string_to_param.*": rand(2, size)},
    }
    prompts, about = {}, []
    for name, tensors in forms.items():
        save_file(tensors, args.out / f"{name}.safetensors")
        key, value = next(iter(tensors.items()))
        word = key if key.startswith("<") else name
        pipe.load_textual_inversion({word: value.float()} if key.startswith("string") or key == "emb_params" else tensors, token=word)
        text = f"a photo of {word}, oil painting"
        # diffusers spells a word of several vectors out
        spelled = pipe.maybe_convert_prompt(text, pipe.tokenizer)
        ids = pipe.tokenizer(spelled, padding="max_length", max_length=77, truncation=True, return_tensors="pt").input_ids
        with torch.no_grad():
            prompts[name] = pipe.text_encoder(ids).last_hidden_state
        about.append({"name": name, "model": "sd1-tiny", "prompt": text})
    xl = StableDiffusionXLPipeline.from_pretrained(args.models / "sdxl-tiny", torch_dtype=torch.float32)
    pair = {"clip_l": rand(2, xl.text_encoder.config.hidden_size), "clip_g": rand(2, xl.text_encoder_2.config.hidden_size)}
    save_file(pair, args.out / "pair.safetensors")
    xl.load_textual_inversion({"pair": pair["clip_l"]}, token="pair", text_encoder=xl.text_encoder, tokenizer=xl.tokenizer)
    xl.load_textual_inversion({"pair": pair["clip_g"]}, token="pair", text_encoder=xl.text_encoder_2, tokenizer=xl.tokenizer_2)
    with torch.no_grad():
        found = xl.encode_prompt("a photo of pair, oil painting", device="cpu", do_classifier_free_guidance=False)
    prompts["pair"], prompts["pair.pooled"] = found[0], found[2]
    about.append({"name": "pair", "model": "sdxl-tiny", "prompt": "a photo of pair, oil painting"})
    save_file(
        {k: v.contiguous() for k, v in prompts.items()},
        args.out / "prompts.safetensors",
        metadata={"about": json.dumps({"cases": about, "made_with": MADE_WITH})},
    )
    print({k: tuple(v.shape) for k, v in prompts.items()})


if __name__ == "__main__":
    main()
