"""Small Stable Diffusion models with random weights, as diffusers folders.

    python3 tools/reference/models.py --list
    python3 tools/reference/models.py --out test/golden/models sd1-tiny sd2-tiny
    python3 tools/reference/models.py --out scratch sd1-tiny --layout sharded

Every tensor is drawn from a generator seeded by the model's name and the tensor's
key, so a model is the same wherever it is made. The scales are chosen so that
activations stay near one and the picture reacts to prompt, timestep and noise;
nothing is left at zero.
"""

from __future__ import annotations

import argparse
import json
import math
import shutil
import zlib
from pathlib import Path

import torch
from diffusers import AutoencoderKL, UNet2DConditionModel
from safetensors.torch import save_file
from tiny_tokenizer import write_tokenizer
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTextModelWithProjection

from model_specs import MODELS

WEIGHT_NAMES = {"unet": "diffusion_pytorch_model", "vae": "diffusion_pytorch_model"}
LAYOUTS = ("plain", "fp32", "fp16-variant", "sharded", "old-attention", "prefixless", "position-ids", "tokenizer-json", "single-file")


def gain(key: str, shape: torch.Size) -> float:
    """Standard deviation of a weight times the root of its fan-in."""
    if any(name in key for name in ("to_q.", "to_k.", "q_proj.", "k_proj.")):
        return 1.6
    if "attn2.to_v." in key:
        return 2.0
    if any(name in key for name in ("conv2.", "proj_out.", "ff.net.2.", "fc2.", "to_out.0.", "out_proj.")):
        return 0.8
    if key.startswith("conv_out."):
        return 0.9
    return 1.2


def random_tensor(seed_name: str, key: str, like: torch.Tensor) -> torch.Tensor:
    """The tensor of this key; one-dimensional weights are norms, 'embedding' tables are not divided by fan-in."""
    generator = torch.Generator().manual_seed(zlib.crc32(f"{seed_name}/{key}".encode()))
    noise = torch.randn(like.shape, generator=generator)
    if key.endswith("bias"):
        return noise.mul_(0.1)
    if like.ndim == 1:
        return noise.mul_(0.15).add_(1)
    if "token_embedding" in key or "position_embedding" in key:
        return noise.mul_(1.0 if "token" in key else 0.4)
    fan_in = like[0].numel()
    return noise.mul_(gain(key, like.shape) / math.sqrt(fan_in))


def randomise(module: torch.nn.Module, seed_name: str) -> torch.nn.Module:
    """Fills every parameter, in half precision values so that fp16 files hold them exactly."""
    state = module.state_dict()
    for key, tensor in state.items():
        if tensor.is_floating_point():
            tensor.copy_(random_tensor(seed_name, key, tensor).half())
    return module.eval()


def text_config(spec: dict, vocab: dict[str, int]) -> CLIPTextConfig:
    """SD 1.x folders say eos_token_id 2 whatever the vocabulary; a spec without `eos` keeps that."""
    ids = {"bos_token_id": 0, "eos_token_id": 2, "pad_token_id": 1}
    if spec.get("true_ids"):
        ids = {"bos_token_id": vocab["<|startoftext|>"], "eos_token_id": vocab["<|endoftext|>"], "pad_token_id": 0}
    fields = {key: value for key, value in spec.items() if key not in ("true_ids", "projection")}
    return CLIPTextConfig(vocab_size=len(vocab), **ids, **fields)


def write_component(folder: Path, module, name: str, layout: str) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    config = module.config.to_dict() if name.startswith("text") else dict(module.config)
    config = {key: value for key, value in config.items() if not (name.startswith("text") and key in ("id2label", "label2id"))}
    if name.startswith("text"):
        config["architectures"] = [type(module).__name__]
    else:
        config["_class_name"] = type(module).__name__
    (folder / "config.json").write_text(json.dumps(config, indent=2, sort_keys=True, default=list) + "\n")
    write_weights(folder, stored_state(module, name, layout), WEIGHT_NAMES.get(name, "model"), layout)


def stored_state(module, name: str, layout: str) -> dict[str, torch.Tensor]:
    """The state dict under the key names and in the precision that a layout stores."""
    dtype = torch.float32 if layout == "fp32" else torch.float16
    state = {key: tensor.to(dtype) for key, tensor in module.state_dict().items() if tensor.is_floating_point()}
    if name.startswith("text"):
        bare = {key.removeprefix("text_model."): tensor for key, tensor in state.items()}
        if layout == "prefixless" and "text_projection.weight" not in bare:
            return bare
        state = {key if key.startswith("text_projection") else f"text_model.{key}": t for key, t in bare.items()}
        if layout == "position-ids":
            positions = module.config.max_position_embeddings
            state["text_model.embeddings.position_ids"] = torch.arange(positions).unsqueeze(0)
    if name == "vae" and layout == "old-attention":
        state = {old_attention_key(key): tensor for key, tensor in state.items()}
    return state


def old_attention_key(key: str) -> str:
    """diffusers before 0.18 called the VAE's attention parts query, key, value and proj_attn."""
    for new, old in (("to_q", "query"), ("to_k", "key"), ("to_v", "value"), ("to_out.0", "proj_attn")):
        key = key.replace(f"attentions.0.{new}.", f"attentions.0.{old}.")
    return key


def write_weights(folder: Path, state: dict[str, torch.Tensor], stem: str, layout: str) -> None:
    state = {key: tensor.contiguous() for key, tensor in state.items()}
    if layout == "sharded":
        return write_shards(folder, state, stem)
    suffix = ".fp16" if layout == "fp16-variant" else ""
    save_file(state, folder / f"{stem}{suffix}.safetensors", metadata={"format": "pt"})


def write_shards(folder: Path, state: dict[str, torch.Tensor], stem: str, count: int = 3) -> None:
    keys = sorted(state)
    parts = [keys[index::count] for index in range(count)]
    index: dict[str, str] = {}
    for number, part in enumerate(parts, 1):
        file = f"{stem}-{number:05d}-of-{count:05d}.safetensors"
        save_file({key: state[key] for key in part}, folder / file, metadata={"format": "pt"})
        index.update({key: file for key in part})
    size = sum(tensor.numel() * tensor.element_size() for tensor in state.values())
    content = {"metadata": {"total_size": size}, "weight_map": index}
    (folder / f"{stem}.safetensors.index.json").write_text(json.dumps(content, indent=2) + "\n")


def make_model(name: str, folder: Path, layout: str = "plain", scheduler: dict | None = None, spec: dict | None = None, bpe: Path | None = None) -> Path:
    """Writes model `name` into `folder`; a scheduler config given here replaces the model's own."""
    spec = spec or MODELS[name]
    if folder.exists():
        shutil.rmtree(folder)
    vocab = write_tokenizer(folder / "tokenizer", spec["tokenizer"], bpe)
    parts = {"text_encoder": build_text(spec["text"], vocab)}
    if "text_2" in spec:
        write_tokenizer(folder / "tokenizer_2", spec["tokenizer_2"], bpe)
        parts["text_encoder_2"] = build_text(spec["text_2"], vocab)
    parts["unet"] = UNet2DConditionModel(**spec["unet"])
    parts["vae"] = AutoencoderKL(**spec["vae"])
    for part, module in parts.items():
        write_component(folder / part, randomise(module, f"{spec.get('seed', name)}/{part}"), part, layout)
    if layout == "tokenizer-json":
        only_tokenizer_json(folder / "tokenizer")
    write_scheduler(folder, scheduler or spec["scheduler"])
    write_index(folder, spec, (scheduler or spec["scheduler"])["_class_name"])
    if layout == "single-file":
        write_single_file(folder, spec)
    return folder


def write_single_file(folder: Path, spec: dict) -> None:
    """The same weights beside the folder, in LDM keys; a v-prediction net needs the .yaml of the same stem to say so."""
    from single_file import to_single_file

    to_single_file(str(folder), str(folder.with_suffix(".safetensors")), family=spec["single_file"])
    if spec["scheduler"].get("prediction_type") == "v_prediction":
        folder.with_suffix(".yaml").write_text('model:\n  params:\n    parameterization: "v"\n')


def build_text(spec: dict, vocab: dict[str, int]) -> torch.nn.Module:
    kind = CLIPTextModelWithProjection if spec.get("projection") else CLIPTextModel
    return kind(text_config(spec, vocab))


def write_scheduler(folder: Path, config: dict) -> None:
    (folder / "scheduler").mkdir(parents=True, exist_ok=True)
    path = folder / "scheduler" / "scheduler_config.json"
    path.write_text(json.dumps(config, indent=2, sort_keys=True) + "\n")


def write_index(folder: Path, spec: dict, scheduler_class: str) -> None:
    index: dict[str, object] = {"_class_name": spec.get("pipeline", "StableDiffusionPipeline"), "_diffusers_version": "0.42.1"}
    for part in ("tokenizer", "tokenizer_2"):
        if (folder / part).exists():
            index[part] = ["transformers", "CLIPTokenizer"]
    index["text_encoder"] = ["transformers", "CLIPTextModel"]
    if "text_2" in spec:
        index["text_encoder_2"] = ["transformers", "CLIPTextModelWithProjection"]
        index["force_zeros_for_empty_prompt"] = spec.get("force_zeros", True)
    else:
        index |= {"feature_extractor": [None, None], "safety_checker": [None, None], "requires_safety_checker": False}
    index |= {"unet": ["diffusers", "UNet2DConditionModel"], "vae": ["diffusers", "AutoencoderKL"]}
    index["scheduler"] = ["diffusers", scheduler_class]
    (folder / "model_index.json").write_text(json.dumps(index, indent=2, sort_keys=True) + "\n")


def only_tokenizer_json(folder: Path) -> None:
    """What transformers 5 saves: tokenizer.json and tokenizer_config.json, no vocab.json."""
    from transformers import CLIPTokenizer

    tokenizer = CLIPTokenizer.from_pretrained(folder)
    shutil.rmtree(folder)
    tokenizer.save_pretrained(folder)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("names", nargs="*", help="models to make; all of them when none is named")
    parser.add_argument("--out", type=Path, default=Path("."))
    parser.add_argument("--layout", choices=LAYOUTS, default="plain")
    parser.add_argument("--bpe", type=Path, help="bpe_simple_vocab_16e6.txt.gz, for the models that become single files")
    parser.add_argument("--list", action="store_true")
    args = parser.parse_args()
    if args.list:
        return print("\n".join(MODELS))
    for name in args.names or [name for name in MODELS if args.bpe or not MODELS[name]["tokenizer"].get("clip")]:
        folder = make_model(name, args.out / name, args.layout, bpe=args.bpe)
        size = sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
        print(f"{folder}  {size / 1024:.0f} KiB")


if __name__ == "__main__":
    main()
