"""What diffusers makes of small single-file checkpoints: names, byte ranges and configs, without the bytes.

    python3 tools/reference/single_file_goldens.py test/golden/weights

Each golden holds the LDM keys with dtype and shape, and for every tensor of every component which LDM tensor
(and from which row on) diffusers takes it from. diffusers' own readers convert the file; the origin of a
tensor is found by its bytes, all of which are random. With --full FOLDER the checkpoints are written too.
"""
import argparse
import gzip
import hashlib
import json
import os

import diffusers
import torch
import transformers
from diffusers.loaders.single_file_utils import (
    convert_ldm_clip_checkpoint, convert_ldm_unet_checkpoint, convert_ldm_vae_checkpoint, convert_open_clip_checkpoint)
from safetensors.torch import save_file

from single_file import bare_clip, controlnet_to_ldm, ldm_state, small_configs, small_pipeline

NAMES = {torch.float32: "F32", torch.float16: "F16", torch.bfloat16: "BF16", torch.int64: "I64", torch.int32: "I32"}
UNET_KEYS = ["in_channels", "out_channels", "block_out_channels", "down_block_types", "up_block_types", "mid_block_type",
             "layers_per_block", "cross_attention_dim", "attention_head_dim", "use_linear_projection",
             "transformer_layers_per_block", "addition_embed_type", "addition_time_embed_dim",
             "projection_class_embeddings_input_dim", "norm_num_groups", "flip_sin_to_cos", "freq_shift"]
VAE_KEYS = ["in_channels", "out_channels", "block_out_channels", "down_block_types", "up_block_types",
            "layers_per_block", "latent_channels", "norm_num_groups", "mid_block_add_attention"]
TEXT_KEYS = ["hidden_size", "intermediate_size", "num_hidden_layers", "num_attention_heads", "vocab_size",
             "max_position_embeddings", "hidden_act"]


def digest(t):
    return hashlib.sha256(t.contiguous().view(torch.uint8).numpy().tobytes() if t.ndim else bytes(t.item().__repr__(), "ascii")).hexdigest()


def origins(state):
    """Bytes -> (key, first row, transposed) for whole tensors, thirds of fused ones, and transposes."""
    table = {}
    for key, t in state.items():
        if t.ndim == 0:
            continue
        table[digest(t)] = [key, 0, False]
        if "in_proj_" in key:
            d = t.shape[0] // 3
            for i in range(3):
                table[digest(t[i * d:(i + 1) * d])] = [key, i * d, False]
        if key.endswith("text_projection"):
            table[digest(t.T)] = [key, 0, True]
    return table


def randomise(pipe):
    for part in (pipe.unet, pipe.vae, pipe.text_encoder, pipe.text_encoder_2):
        if part is not None:
            with torch.no_grad():
                for p in part.parameters():
                    p.copy_(torch.randn_like(p) * 0.1)


def converted(pipe, state, family):
    """Component -> state dict by diffusers' readers, text keys with `text_model.` before them."""
    parts = {"unet": convert_ldm_unet_checkpoint(dict(state), pipe.unet.config),
             "vae": convert_ldm_vae_checkpoint(dict(state), pipe.vae.config)}
    full = lambda d: {k if k.startswith("text_projection") else f"text_model.{k}": v for k, v in bare_clip(d).items()}
    if family in ("sd1", "sdxl"):
        parts["text_encoder"] = full(convert_ldm_clip_checkpoint(dict(state)))
    if family == "sd2":
        ours = set(full(pipe.text_encoder.state_dict()))
        got = full(convert_open_clip_checkpoint(pipe.text_encoder, dict(state), "cond_stage_model.model."))
        parts["text_encoder"] = {k: v for k, v in got.items() if k in ours}  # its ignore list knows layer 23 only
    if family.startswith("sdxl"):
        prefix = f"conditioner.embedders.{1 if family == 'sdxl' else 0}.model."
        parts["text_encoder_2"] = full(convert_open_clip_checkpoint(pipe.text_encoder_2, dict(state), prefix))
    return parts


def pick(config, keys):
    config = config.to_dict() if hasattr(config, "to_dict") else dict(config)
    return {k: config[k] for k in keys}


def golden(name, family, config, full):
    torch.manual_seed(len(name))
    pipe = small_pipeline(family, config)
    randomise(pipe)
    state = {k: v.half() if v.is_floating_point() and v.ndim else v for k, v in ldm_state(pipe, family).items()}
    table = origins(state)
    want = {part: {k: [*table[digest(v)], list(v.shape)] for k, v in tensors.items() if not k.endswith("position_ids")}
            for part, tensors in converted(pipe, state, family).items()}
    configs = {"unet": pick(pipe.unet.config, UNET_KEYS), "vae": pick(pipe.vae.config, VAE_KEYS)}
    for part in ("text_encoder", "text_encoder_2"):
        if getattr(pipe, part) is not None:
            configs[part] = pick(getattr(pipe, part).config, TEXT_KEYS)
    if full:
        save_file({k: v.contiguous() for k, v in state.items()}, os.path.join(full, f"{name}.safetensors"))
    ldm = {k: [NAMES[v.dtype], list(v.shape)] for k, v in state.items()}
    return {"family": family, "ldm": ldm, "want": want, "configs": configs, "made_with": {
        "diffusers": diffusers.__version__, "transformers": transformers.__version__, "torch": torch.__version__}}


def controlnets():
    """Small ControlNets under both key sets, with the config diffusers has for them."""
    from diffusers import ControlNetModel
    from diffusers.loaders.single_file_utils import convert_controlnet_checkpoint

    cross, plain = "CrossAttnDownBlock2D", "DownBlock2D"
    xl = dict(addition_embed_type="text_time", addition_time_embed_dim=256, projection_class_embeddings_input_dim=1600)
    kinds = [("sd1", [32, 64], [cross, plain], 8, {}), ("sd2", [64, 64, 128], [plain, cross, cross], [1, 1, 2], {}),
             ("sdxl", [64, 128], [plain, cross], [1, 2], xl)]
    for family, widths, down, heads, extra in kinds:
        net = ControlNetModel(block_out_channels=widths, down_block_types=down, layers_per_block=1, cross_attention_dim=48,
                              attention_head_dim=heads, use_linear_projection=family != "sd1",
                              conditioning_embedding_out_channels=[16, 32, 48, 96], transformer_layers_per_block=2, **extra)
        state = {k: torch.randn_like(v) for k, v in net.state_dict().items()}
        ldm = controlnet_to_ldm(state, [1] * len(widths))
        back = convert_controlnet_checkpoint(dict(ldm), net.config)  # leaves the label embedding out
        assert all(torch.equal(state[k], v) for k, v in back.items())
        assert {k.split(".")[0] for k in set(state) - set(back)} <= {"add_embedding"}
        names = {id(v): k for k, v in ldm.items()}
        keys = [k for k in UNET_KEYS if k not in ("out_channels", "up_block_types")]
        yield {"family": family, "ldm": {k: list(v.shape) for k, v in ldm.items()},
               "want": {k: names[id(v)] for k, v in state.items()},
               "config": pick(net.config, [*keys, "conditioning_channels", "conditioning_embedding_out_channels"])}


def write(out, name, content):
    text = json.dumps(content, separators=(",", ":"))
    with gzip.GzipFile(os.path.join(out, name), "wb", mtime=0) as f:
        f.write(text.encode())
    print(name, len(text))


def main():
    args = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    args.add_argument("out")
    args.add_argument("--full", help="also write the checkpoints here")
    a = args.parse_args()
    os.makedirs(a.out, exist_ok=True)
    for name, family, config in small_configs():
        write(a.out, f"{name}.json.gz", golden(name, family, config, a.full))
    torch.manual_seed(0)
    write(a.out, "controlnets.gz", list(controlnets()))


if __name__ == "__main__":
    main()
