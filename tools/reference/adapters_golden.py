"""LoRA and its kin over the small models, as diffusers and PEFT apply them.

    python3 tools/reference/adapters_golden.py --models test/golden/models --out test/golden/adapters

Each case is a folder of adapter files in some dialect and `trace.safetensors`: prompt embeddings, noise and latents of a
run with those files in force. What diffusers loads is loaded by diffusers. LoHa and LoKr come from PEFT's own modules,
DoRA in kohya's keys and whole differences from the formulas of LyCORIS written out here, all merged into the weights.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import diffusers
import peft
import torch
import transformers
from diffusers import StableDiffusionPipeline, StableDiffusionXLPipeline
from peft import LoHaConfig, LoKrConfig, LoraConfig, get_peft_model
from peft.tuners.tuners_utils import BaseTunerLayer
from peft.utils import get_peft_model_state_dict
from safetensors.torch import save_file

MADE_WITH = {
    "diffusers": diffusers.__version__,
    "peft": peft.__version__,
    "torch": torch.__version__,
    "transformers": transformers.__version__,
}
PROMPT = "a lighthouse at sunset, oil painting"
SEED, STEPS, CFG = 5, 4, 4.0
ATTENTION = ["to_q", "to_k", "to_v", "to_out.0", "ff.net.0.proj", "ff.net.2", "proj_in", "proj_out"]
CONVOLUTIONS = ["conv1", "conv2", "conv_in", "downsamplers.0.conv", "upsamplers.0.conv", "time_emb_proj"]
TEXT = ["q_proj", "k_proj", "v_proj", "out_proj", "fc1", "fc2"]


def load(models: Path, name: str):
    kind = StableDiffusionXLPipeline if name.startswith("sdxl") else StableDiffusionPipeline
    more = {} if kind is StableDiffusionXLPipeline else {"safety_checker": None, "feature_extractor": None}
    pipe = kind.from_pretrained(models / name, torch_dtype=torch.float32, **more)
    pipe.set_progress_bar_config(disable=True)
    own = type(pipe.scheduler)
    pipe.scheduler = own.from_config(own.load_config(models / name / "scheduler"))
    return pipe


@torch.no_grad()
def draw(pipe, on_call=None) -> dict[str, torch.Tensor]:
    """Prompt embeddings, noise and latents; `on_call(i)` runs before denoiser call i."""
    side = 64
    encoded = pipe.encode_prompt(PROMPT, device="cpu", num_images_per_prompt=1, do_classifier_free_guidance=True)
    noise = torch.randn(1, 4, side // 8, side // 8, generator=torch.Generator().manual_seed(SEED))
    calls = []
    forward = pipe.unet.forward

    def call(*args, **kwargs):
        if on_call:
            on_call(len(calls))
        calls.append(1)
        return forward(*args, **kwargs)

    pipe.unet.forward = call
    size = {"width": side, "height": side}
    run = {"num_inference_steps": STEPS, "guidance_scale": CFG, "output_type": "latent", "latents": noise, **size}
    latents = pipe(PROMPT, **run).images
    pipe.unet.forward = forward
    return {"text.cond": encoded[0], "noise": noise, "latents": latents}


def weights(model, scale: float = 0.4, seed: int = 0) -> None:
    """Fills what an adapter of PEFT has with numbers that matter."""
    generator = torch.Generator().manual_seed(seed)
    for name, p in model.named_parameters():
        if any(part in name for part in ("lora_A", "lora_B", "hada_", "lokr_")):
            # down: like a layer's own start; up and factors: far from zero
            fan = p[0].numel() if p.dim() > 1 else 1
            p.data = torch.randn(p.shape, generator=generator) * (scale / fan**0.5)
        elif "magnitude" in name:
            p.data = p.data * (1 + 0.3 * torch.randn(p.shape, generator=generator))


def strengths(pipe, **by_part: dict[str, float]) -> None:
    """What `set_adapters` does inside; that function itself fails for U-Nets whose layers_per_block is a list."""
    for part, weights in by_part.items():
        for module in getattr(pipe, part).modules():
            if isinstance(module, BaseTunerLayer):
                module.set_adapter([name for name in weights if name in module.lora_A])
                for name, weight in weights.items():
                    module.set_scale(name, weight)


def kohya(name: str, prefix: str) -> str:
    return f"{prefix}_{name.replace('.', '_')}"


def state_of(model) -> dict[str, torch.Tensor]:
    return {k.removeprefix("base_model.model."): v.detach().clone() for k, v in get_peft_model_state_dict(model).items()}


def kohya_lora(state: dict[str, torch.Tensor], prefix: str, alpha: float | None, dtype=torch.float32) -> dict[str, torch.Tensor]:
    out = {}
    for key, value in state.items():
        name, part = key.rsplit(".lora_", 1)
        part = {"A.weight": "lora_down.weight", "B.weight": "lora_up.weight"}[part]
        out[f"{kohya(name, prefix)}.{part}"] = value.to(dtype)
        if alpha is not None:
            out[f"{kohya(name, prefix)}.alpha"] = torch.tensor(alpha).to(dtype)
    return out


def lora_of(model, targets: list[str], rank: int, seed: int, **more) -> dict[str, torch.Tensor]:
    """State of a LoRA over a copy of the module: the module itself stays as it is."""
    from copy import deepcopy

    made = get_peft_model(deepcopy(model), LoraConfig(r=rank, lora_alpha=rank, target_modules=targets, **more))
    weights(made, seed=seed)
    return state_of(made)


class Case:
    def __init__(self, args, name: str, model: str = "sd1-tiny"):
        self.folder = args.out / name
        self.folder.mkdir(parents=True, exist_ok=True)
        self.model = model
        self.pipe = load(args.models, model)
        self.files: list[dict] = []

    def file(self, name: str, tensors: dict[str, torch.Tensor], weight=1.0, metadata=None, **more) -> Path:
        path = self.folder / f"{name}.safetensors"
        save_file({k: v.contiguous() for k, v in tensors.items()}, path, metadata=metadata)
        self.files.append({"file": path.name, "weight": weight, **more})
        return path

    def done(self, trace: dict[str, torch.Tensor], base: dict[str, torch.Tensor] | None = None) -> None:
        about = {"model": self.model, "prompt": PROMPT, "seed": SEED, "steps": STEPS, "cfg": CFG, "files": self.files, "made_with": MADE_WITH}
        save_file({k: v.contiguous() for k, v in trace.items()}, self.folder / "trace.safetensors", metadata={"about": json.dumps(about)})
        size = sum(f.stat().st_size for f in self.folder.iterdir()) / 1024
        apart = "" if base is None else f", {(trace['latents'] - base['latents']).norm() / base['latents'].norm():.2f} from the plain model"
        print(f"{self.folder.name}  {size:.0f} KiB{apart}")


def merged(weight: torch.nn.Parameter, change: torch.Tensor) -> None:
    weight.data += change.reshape(weight.shape)


def cases(args) -> None:
    base = {name: draw(load(args.models, name)) for name in ("sd1-tiny", "sd2-tiny", "sdxl-tiny")}
    wanted = lambda name: not args.names or name in args.names

    if wanted("kohya"):
        # attention, feed-forward, convolutions (LoCon) and text encoder, alpha half the rank, in half precision
        c = Case(args, "kohya")
        unet = lora_of(c.pipe.unet, ATTENTION + CONVOLUTIONS, 2, 1)
        text = lora_of(c.pipe.text_encoder, TEXT, 2, 2)
        text = {f"text_model.{k}" if not k.startswith("text_model.") else k: v for k, v in text.items()}
        file = c.file("style", kohya_lora(unet, "lora_unet", 1.0, torch.float16) | kohya_lora(text, "lora_te", 1.0, torch.float16), 0.8)
        c.pipe.load_lora_weights(file, adapter_name="a")
        strengths(c.pipe, unet={"a": 0.8}, text_encoder={"a": 0.8})
        c.done(draw(c.pipe), base["sd1-tiny"])

    if wanted("peft-dora"):
        # as diffusers saves it: PEFT's keys, alpha in the metadata, DoRA on matrices and convolutions
        c = Case(args, "peft-dora", "sd2-tiny")
        c.pipe.unet.add_adapter(LoraConfig(r=2, lora_alpha=3, target_modules=["to_q", "to_k", "ff.net.0.proj", "conv1"], use_dora=True))
        weights(c.pipe.unet, seed=3)
        from diffusers.training_utils import _collate_lora_metadata
        from diffusers.utils import convert_state_dict_to_diffusers

        unet = convert_state_dict_to_diffusers(get_peft_model_state_dict(c.pipe.unet))
        StableDiffusionPipeline.save_lora_weights(c.folder, unet_lora_layers=unet, **_collate_lora_metadata({"unet": c.pipe.unet}))
        c.files.append({"file": "pytorch_lora_weights.safetensors", "weight": 0.7})
        c.pipe = load(args.models, "sd2-tiny")
        c.pipe.load_lora_weights(c.folder, adapter_name="a")
        strengths(c.pipe, unet={"a": 0.7})
        c.done(draw(c.pipe), base["sd2-tiny"])

    if wanted("two"):
        # two files in two dialects: diffusers' old attention processors and PEFT's keys; text and U-Net weights apart
        c = Case(args, "two")
        unet = lora_of(c.pipe.unet, ["to_q", "to_k", "to_v", "to_out.0"], 2, 4)
        old = {}
        for key, value in unet.items():
            name, part = key.rsplit(".lora_", 1)
            stem, leaf = name.rsplit(".attn", 1)
            number, leaf = leaf.split(".", 1)
            leaf = {"to_out.0": "to_out"}.get(leaf, leaf)
            old[f"unet.{stem}.attn{number}.processor.{leaf}_lora.{'down' if part[0] == 'A' else 'up'}.weight"] = value
        one = c.file("old", old, 0.5)
        both = {f"unet.{k}": v for k, v in lora_of(c.pipe.unet, ["to_q", "proj_in"], 3, 5).items()}
        both |= {f"text_encoder.{k}": v for k, v in lora_of(c.pipe.text_encoder, ["q_proj", "fc2"], 3, 6).items()}
        two = c.file("new", both, 1.0, text=0.6, unet=-0.9)
        c.pipe.load_lora_weights(one, adapter_name="a")
        c.pipe.load_lora_weights(two, adapter_name="b")
        strengths(c.pipe, unet={"a": 0.5, "b": -0.9}, text_encoder={"b": 0.6})
        c.done(draw(c.pipe), base["sd1-tiny"])

    if wanted("sdxl-sgm"):
        # kohya's SDXL files: SGM's block numbers, two text encoders
        c = Case(args, "sdxl-sgm", "sdxl-tiny")
        unet = lora_of(c.pipe.unet, ATTENTION, 2, 7)
        sgm = {}
        for key, value in unet.items():
            name = sgm_name(key, c.pipe.unet.config.layers_per_block)
            sgm[name] = value
        tensors = kohya_lora(sgm, "lora_unet", 2.0)
        for i, encoder in ((1, c.pipe.text_encoder), (2, c.pipe.text_encoder_2)):
            state = {f"text_model.{k.removeprefix('text_model.')}": v for k, v in lora_of(encoder, TEXT, 2, 7 + i).items()}
            tensors |= kohya_lora(state, f"lora_te{i}", 1.0)
        file = c.file("xl", tensors, 0.9)
        c.pipe.load_lora_weights(file, adapter_name="a")
        strengths(c.pipe, unet={"a": 0.9}, text_encoder={"a": 0.9}, text_encoder_2={"a": 0.9})
        c.done(draw(c.pipe), base["sdxl-tiny"])

    if wanted("scheduled"):
        c = Case(args, "scheduled")
        unet = {f"unet.{k}": v for k, v in lora_of(c.pipe.unet, ["to_q", "to_v", "conv2"], 2, 10).items()}
        file = c.file("late", unet, [[0, 0], [0, 0.5], [1.2, 0.5], [0.4, 1]])
        c.pipe.load_lora_weights(file, adapter_name="a")
        at = [0.0, 0.0, 0.0, 1.04, 0.72]  # PNDM calls the net once more than it has steps
        c.done(draw(c.pipe, lambda i: strengths(c.pipe, unet={"a": at[i]})), base["sd1-tiny"])

    for name, config, seed in (
        ("loha", LoHaConfig(r=2, alpha=1, target_modules=["to_q", "to_v", "ff.net.2", "conv1", "conv_shortcut"]), 11),
        ("loha-tucker", LoHaConfig(r=2, alpha=2, target_modules=["to_k", "conv1", "conv2"], use_effective_conv2d=True), 12),
        ("lokr", LoKrConfig(r=2, alpha=1, target_modules=["to_q", "to_v", "ff.net.2", "conv1"], decompose_factor=4), 13),
        ("lokr-both", LoKrConfig(r=2, alpha=3, target_modules=["to_q", "ff.net.0.proj", "conv2"], decompose_both=True, decompose_factor=8), 14),
        ("lokr-tucker", LoKrConfig(r=2, alpha=2, target_modules=["to_k", "conv1"], use_effective_conv2d=True, decompose_factor=2), 15),
    ):
        if not wanted(name):
            continue
        c = Case(args, name)
        made = get_peft_model(c.pipe.unet, config)
        # whole factors of every module at once drive the net to where it doubts its last bits
        weights(made, 0.6 if name == "lokr-both" else 1.2, seed)
        out = {}
        state = state_of(made)
        for key, value in state.items():
            module, part = key.rsplit(".", 1)
            if part == "lokr_w1" and f"{module}.lokr_w2" in state:
                # LyCORIS gives whole factors no scale, PEFT does
                value = value * (config.alpha / config.r)
            out[f"{kohya(module, 'lora_unet')}.{part}"] = value
            out[f"{kohya(module, 'lora_unet')}.alpha"] = torch.tensor(float(config.alpha))
        c.file(name, out)
        c.pipe.unet = made.merge_and_unload()
        c.done(draw(c.pipe), base["sd1-tiny"])

    if wanted("dora-kohya"):
        # LyCORIS' two forms: lengths of inputs, whose multiplier scales the whole change, and lengths of outputs
        c = Case(args, "dora-kohya")
        state = kohya_lora(lora_of(c.pipe.unet, ["to_q", "ff.net.2", "conv1"], 2, 16), "lora_unet", 1.0)
        modules = dict(c.pipe.unet.named_modules())
        by_name = {kohya(name, "lora_unet"): module for name, module in modules.items()}
        generator = torch.Generator().manual_seed(17)
        weight = 0.6
        for name in sorted({k.split(".")[0] for k in state}):
            w = by_name[name].weight
            down, up = state[f"{name}.lora_down.weight"], state[f"{name}.lora_up.weight"]
            change = (up.flatten(1) @ down.flatten(1) * (1.0 / 2)).reshape(w.shape)
            dims = [1] * (w.dim() - 2)
            if "to_q" in name:
                norm = (w + weight * change).flatten(1).norm(dim=1).reshape(-1, 1, *dims)
                lengths = w.data.flatten(1).norm(dim=1).reshape(-1, 1, *dims) * (1 + 0.3 * torch.randn(norm.shape, generator=generator))
                merged(w, (lengths / norm) * (w.data + weight * change) - w.data)
            else:
                norm = (w + change).transpose(0, 1).flatten(1).norm(dim=1).reshape(1, -1, *dims)
                lengths = w.data.transpose(0, 1).flatten(1).norm(dim=1).reshape(1, -1, *dims) * (1 + 0.3 * torch.randn(norm.shape, generator=generator))
                merged(w, weight * ((lengths / norm) * (w.data + change) - w.data))
            state[f"{name}.dora_scale"] = lengths.detach()
        c.file("dora", {k: v.detach() for k, v in state.items()}, weight)
        c.done(draw(c.pipe), base["sd1-tiny"])

    if wanted("locon-tucker-and-differences"):
        # LyCORIS: a core between down and up, and whole differences of weights, biases and norms
        c = Case(args, "locon-tucker-and-differences")
        generator = torch.Generator().manual_seed(18)
        rand = lambda *shape: torch.randn(*shape, generator=generator) * 0.3
        state = {}
        for name, module in c.pipe.unet.named_modules():
            if name.endswith("conv1"):
                o, i = module.weight.shape[:2]
                up, mid, down = rand(o, 2, 1, 1), rand(2, 2, 3, 3), rand(2, i, 1, 1)
                key = kohya(name, "lora_unet")
                state |= {f"{key}.lora_up.weight": up, f"{key}.lora_mid.weight": mid, f"{key}.lora_down.weight": down, f"{key}.alpha": torch.tensor(1.5)}
                merged(module.weight, torch.einsum("onxy,nmkl,mixy->oikl", up, mid, down) * (1.5 / 2))
            elif name.endswith("attn1.to_q"):
                state[f"diffusion_model.{name}.diff"] = rand(*module.weight.shape)
                merged(module.weight, state[f"diffusion_model.{name}.diff"])
            elif name.endswith("ff.net.2"):
                state[f"{kohya(name, 'lora_unet')}.diff_b"] = rand(*module.bias.shape)
                merged(module.bias, state[f"{kohya(name, 'lora_unet')}.diff_b"])
            elif name.endswith("norm1") and isinstance(module, torch.nn.LayerNorm):
                key = kohya(name, "lora_unet")
                state |= {f"{key}.w_norm": rand(*module.weight.shape), f"{key}.b_norm": rand(*module.bias.shape)}
                merged(module.weight, state[f"{key}.w_norm"])
                merged(module.bias, state[f"{key}.b_norm"])
        state["lora_unet_no_such_module.alpha"] = torch.tensor(1.0)
        c.file("parts", state)
        c.done(draw(c.pipe), base["sd1-tiny"])


def sgm_name(key: str, layers: int) -> str:
    """A U-Net key of diffusers in SGM's numbering; the U-Net has attention in its second level and after."""
    parts = key.split(".")
    if parts[0] == "down_blocks":
        return ".".join(["input_blocks", str(1 + int(parts[1]) * (layers + 1) + int(parts[3])), "1", *parts[4:]])
    if parts[0] == "up_blocks":
        return ".".join(["output_blocks", str(int(parts[1]) * (layers + 1) + int(parts[3])), "1", *parts[4:]])
    return ".".join(["middle_block", "1", *parts[3:]])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("names", nargs="*")
    parser.add_argument("--models", type=Path, default=Path("test/golden/models"))
    parser.add_argument("--out", type=Path, default=Path("test/golden/adapters"))
    cases(parser.parse_args())


if __name__ == "__main__":
    main()
