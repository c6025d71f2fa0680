"""Write a Stable Diffusion pipeline as one checkpoint in the original (LDM) key layout.

    from single_file import to_single_file
    to_single_file(pipe_or_folder, "model.safetensors", family="sd1", dtype=None)

families: sd1, sd2, sdxl, sdxl-refiner. Inpainting and instruct models are their family with more
input channels. Checked against diffusers' own readers by `python3 tools/reference/single_file.py --check`.
Library versions are printed by the check: diffusers 0.42.1, transformers 5.23, torch 2.13, safetensors 0.8.
"""
import argparse
import os
import re

import torch
from safetensors.torch import load_file, save_file

RESNET = {
    "norm1": "in_layers.0", "conv1": "in_layers.2", "time_emb_proj": "emb_layers.1",
    "norm2": "out_layers.0", "conv2": "out_layers.3", "conv_shortcut": "skip_connection",
}
UNET_FIXED = {
    "time_embedding.linear_1": "time_embed.0", "time_embedding.cond_proj": "time_embed.cond_proj", "time_embedding.linear_2": "time_embed.2",
    "conv_in": "input_blocks.0.0", "conv_norm_out": "out.0", "conv_out": "out.2",
    "add_embedding.linear_1": "label_emb.0.0", "add_embedding.linear_2": "label_emb.0.2",
    "class_embedding.linear_1": "label_emb.0.0", "class_embedding.linear_2": "label_emb.0.2",
}
OPENCLIP_LAYER = {
    "layer_norm1": "ln_1", "layer_norm2": "ln_2", "mlp.fc1": "mlp.c_fc", "mlp.fc2": "mlp.c_proj",
    "self_attn.out_proj": "attn.out_proj",
}
DTYPES = {"fp32": torch.float32, "fp16": torch.float16, "bf16": torch.bfloat16, "fp64": torch.float64}


def state_of(part):
    """State dict of a module, or of a component's folder (one safetensors file)."""
    if not isinstance(part, str):
        return {k: v.detach().clone() for k, v in part.state_dict().items()}
    names = sorted(f for f in os.listdir(part) if f.endswith(".safetensors"))
    assert len(names) == 1, f"{part}: one safetensors file expected, found {names}"
    return load_file(os.path.join(part, names[0]))


def per_level(value, levels):
    return [value] * levels if isinstance(value, int) else list(value)


def unet_blocks(layers):
    """Prefix table diffusers block -> LDM block of a U-Net with `layers` residual blocks per level."""
    table, n, last = {}, 1, len(layers) - 1
    for i, count in enumerate(layers):
        for j in range(count):
            table[f"down_blocks.{i}.resnets.{j}"] = f"input_blocks.{n}.0"
            table[f"down_blocks.{i}.attentions.{j}"] = f"input_blocks.{n}.1"
            n += 1
        if i < last:
            table[f"down_blocks.{i}.downsamplers.0.conv"] = f"input_blocks.{n}.0.op"
            n += 1
    table.update({
        "mid_block.resnets.0": "middle_block.0", "mid_block.attentions.0": "middle_block.1",
        "mid_block.resnets.1": "middle_block.2",
    })
    n = 0
    for i, count in enumerate(reversed(layers)):
        for j in range(count + 1):
            table[f"up_blocks.{i}.resnets.{j}"] = f"output_blocks.{n}.0"
            table[f"up_blocks.{i}.attentions.{j}"] = f"output_blocks.{n}.1"
            if j == count and i < last:
                table[f"up_blocks.{i}.upsamplers.0.conv"] = (n, f"output_blocks.{n}")
            n += 1
    return table


def unet_to_ldm(state, layers):
    """diffusers U-Net keys -> LDM keys without prefix; layers: residual blocks of each level."""
    blocks, out = unet_blocks(layers), {}
    for key, value in state.items():
        hit = re.match(r"((?:down|up)_blocks\.\d+\.\w+\.\d+(?:\.conv(?=\.))?|mid_block\.\w+\.\d+)\.(.*)$", key)
        if hit is None:
            stem, leaf = key.rsplit(".", 1)
            out[f"{UNET_FIXED[stem]}.{leaf}"] = value
            continue
        stem, rest = hit.groups()
        to = blocks[stem]
        if isinstance(to, tuple):  # the upsampler comes after the attention, where there is one
            level = stem.split(".")[1]
            has_attention = any(k.startswith(f"up_blocks.{level}.attentions.") for k in state)
            to = f"{to[1]}.{2 if has_attention else 1}.conv"
        if ".resnets." in stem:
            name, leaf = rest.rsplit(".", 1)
            rest = f"{RESNET[name]}.{leaf}"
        out[f"{to}.{rest}"] = value
    return out


def controlnet_to_ldm(state, layers):
    """diffusers ControlNet keys -> LDM keys under `control_model.`; layers: residual blocks of each level."""
    out = unet_to_ldm({k: v for k, v in state.items() if not k.startswith("controlnet_")}, layers)
    for key, value in state.items():
        stem, leaf = key.rsplit(".", 1)
        if stem.startswith("controlnet_down_blocks."):
            out[f"zero_convs.{stem.split('.')[1]}.0.{leaf}"] = value
        elif stem == "controlnet_mid_block":
            out[f"middle_block_out.0.{leaf}"] = value
        elif stem.startswith("controlnet_cond_embedding."):
            part = stem.removeprefix("controlnet_cond_embedding.")
            last = 2 * sum(1 for k in state if re.match(r"controlnet_cond_embedding\.blocks\.\d+\.weight", k)) + 2
            n = {"conv_in": 0, "conv_out": last}.get(part)
            out[f"input_hint_block.{2 * int(part.split('.')[1]) + 2 if n is None else n}.{leaf}"] = value
    return {f"control_model.{k}": v for k, v in out.items()}


def vae_to_ldm(state):
    """diffusers AutoencoderKL keys -> LDM keys without prefix; attention as 1x1 convolutions."""
    levels = 1 + max(int(k.split(".")[2]) for k in state if k.startswith("decoder.up_blocks."))
    attention = {"group_norm": "norm", "to_q": "q", "to_k": "k", "to_v": "v", "to_out.0": "proj_out",
                 "query": "q", "key": "k", "value": "v", "proj_attn": "proj_out"}
    out = {}
    for key, value in state.items():
        stem, leaf = key.rsplit(".", 1)
        stem = stem.replace("conv_norm_out", "norm_out").replace("conv_shortcut", "nin_shortcut")
        stem = re.sub(r"down_blocks\.(\d+)\.resnets\.(\d+)", r"down.\1.block.\2", stem)
        stem = re.sub(r"down_blocks\.(\d+)\.downsamplers\.0", r"down.\1.downsample", stem)
        stem = re.sub(r"up_blocks\.(\d+)\.resnets\.(\d+)",
                      lambda m: f"up.{levels - 1 - int(m[1])}.block.{m[2]}", stem)
        stem = re.sub(r"up_blocks\.(\d+)\.upsamplers\.0", lambda m: f"up.{levels - 1 - int(m[1])}.upsample", stem)
        stem = re.sub(r"mid_block\.resnets\.(\d+)", lambda m: f"mid.block_{int(m[1]) + 1}", stem)
        hit = re.match(r"(.*)mid_block\.attentions\.0\.(.+)$", stem)
        if hit:
            name = attention[hit[2]]
            stem = f"{hit[1]}mid.attn_1.{name}"
            if leaf == "weight" and name != "norm" and value.ndim == 2:
                value = value[:, :, None, None]
        out[f"{stem}.{leaf}"] = value
    return out


def bare_clip(state):
    """CLIP text keys without the `text_model.` prefix and position ids, whichever transformers wrote them."""
    state = {k.removeprefix("text_model."): v for k, v in state.items()}
    return {k: v for k, v in state.items() if not k.endswith("position_ids")}


def clip_to_ldm(state, prefix=True):
    out = {("text_model." if prefix and not k.startswith("text_projection") else "") + k: v
           for k, v in bare_clip(state).items() if not k.startswith("text_projection")}
    return out


def openclip_to_ldm(state, extra_layer=False):
    """CLIP text keys -> OpenCLIP keys; extra_layer adds the last layer that SD 2.x files hold and do not use."""
    state, out = bare_clip(state), {}
    fixed = {"embeddings.token_embedding.weight": "token_embedding.weight",
             "embeddings.position_embedding.weight": "positional_embedding",
             "final_layer_norm.weight": "ln_final.weight", "final_layer_norm.bias": "ln_final.bias"}
    layers = 1 + max(int(k.split(".")[2]) for k in state if k.startswith("encoder.layers."))
    if extra_layer:
        for k in [k for k in state if k.startswith(f"encoder.layers.{layers - 1}.")]:
            state[k.replace(f"layers.{layers - 1}.", f"layers.{layers}.")] = torch.randn_like(state[k].float()).to(state[k].dtype)
    for key, value in state.items():
        if key in fixed:
            out[fixed[key]] = value
        elif key == "text_projection.weight":
            out["text_projection"] = value.T.contiguous()
        else:
            n, stem, leaf = re.match(r"encoder\.layers\.(\d+)\.(.+)\.(weight|bias)$", key).groups()
            to = f"transformer.resblocks.{n}"
            if stem in OPENCLIP_LAYER:
                out[f"{to}.{OPENCLIP_LAYER[stem]}.{leaf}"] = value
            elif stem == "self_attn.q_proj":
                parts = [state[f"encoder.layers.{n}.self_attn.{p}_proj.{leaf}"] for p in "qkv"]
                out[f"{to}.attn.in_proj_{leaf}"] = torch.cat(parts, 0)
    width = state["final_layer_norm.weight"].shape[0]
    out.setdefault("text_projection", torch.randn(width, width))
    out["logit_scale"] = torch.tensor(4.6052)
    return out


def leftovers():
    """What training leaves in such files: the schedule's tables and a step counter."""
    betas = torch.linspace(0.00085**0.5, 0.012**0.5, 1000) ** 2
    return {"betas": betas, "alphas_cumprod": torch.cumprod(1 - betas, 0), "model_ema.decay": torch.tensor(0.9999),
            "model_ema.num_updates": torch.tensor(1, dtype=torch.int32)}


def ldm_state(pipe_or_folder, family, extras=True):
    """All tensors of one pipeline under LDM keys, on the CPU."""
    import json

    if isinstance(pipe_or_folder, (str, os.PathLike)):
        root = str(pipe_or_folder)
        part = lambda name: os.path.join(root, name)
        with open(os.path.join(root, "unet", "config.json")) as f:
            config = json.load(f)
    else:
        part = lambda name: getattr(pipe_or_folder, name)
        config = pipe_or_folder.unet.config
    layers = per_level(config["layers_per_block"], len(config["block_out_channels"]))
    parts = {"model.diffusion_model.": unet_to_ldm(state_of(part("unet")), layers),
             "first_stage_model.": vae_to_ldm(state_of(part("vae")))}
    if family == "sd1":
        parts["cond_stage_model.transformer."] = clip_to_ldm(state_of(part("text_encoder")))
    elif family == "sd2":
        parts["cond_stage_model.model."] = openclip_to_ldm(state_of(part("text_encoder")), extra_layer=True)
    elif family == "sdxl":
        parts["conditioner.embedders.0.transformer."] = clip_to_ldm(state_of(part("text_encoder")))
        parts["conditioner.embedders.1.model."] = openclip_to_ldm(state_of(part("text_encoder_2")))
    elif family == "sdxl-refiner":
        parts["conditioner.embedders.0.model."] = openclip_to_ldm(state_of(part("text_encoder_2")))
    else:
        raise ValueError(f"family {family}: one of sd1, sd2, sdxl, sdxl-refiner")
    out = {prefix + k: v for prefix, tensors in parts.items() for k, v in tensors.items()}
    if extras:
        out.update(leftovers())
        if family == "sd1":
            out["cond_stage_model.transformer.text_model.embeddings.position_ids"] = torch.arange(77)[None]
    return out


def to_single_file(pipe_or_folder, out_path, family="sd1", dtype=None, extras=True):
    """Write `pipe_or_folder` (a diffusers pipeline or its saved folder) to `out_path` in LDM keys.

    dtype: None keeps each tensor's, else a torch dtype or fp32/fp16/bf16/fp64 for the float tensors.
    extras: add the training leftovers that published files carry. For sd2 one unused last text layer
    and a text projection are added with random values, as the published files have them.
    """
    dtype = DTYPES[dtype] if isinstance(dtype, str) else dtype
    tensors = ldm_state(pipe_or_folder, family, extras)
    cast = lambda v: v.to(dtype) if dtype is not None and v.is_floating_point() else v
    save_file({k: cast(v).contiguous().clone() for k, v in tensors.items()}, str(out_path), metadata={"format": "pt"})
    return out_path


def check():
    """Every layout goes through diffusers' own readers and comes back byte for byte."""
    import diffusers
    import transformers
    from diffusers.loaders.single_file_utils import (
        convert_ldm_unet_checkpoint, convert_ldm_vae_checkpoint, convert_open_clip_checkpoint)

    print("diffusers", diffusers.__version__, "transformers", transformers.__version__, "torch", torch.__version__)
    torch.manual_seed(0)
    for name, family, config in small_configs():
        pipe = small_pipeline(family, config)
        state = ldm_state(pipe, family)
        unet = convert_ldm_unet_checkpoint(dict(state), pipe.unet.config)
        same(f"{name} unet", unet, pipe.unet.state_dict())
        same(f"{name} vae", convert_ldm_vae_checkpoint(dict(state), pipe.vae.config), pipe.vae.state_dict())
        encoder = getattr(pipe, "text_encoder_2", None) or pipe.text_encoder
        prefix = {"sd2": "cond_stage_model.model.", "sdxl": "conditioner.embedders.1.model.",
                  "sdxl-refiner": "conditioner.embedders.0.model."}.get(family)
        if prefix:
            got = convert_open_clip_checkpoint(encoder, dict(state), prefix)
            got = bare_clip(got)
            same(f"{name} text", got, {k: v for k, v in bare_clip(encoder.state_dict()).items()}, family == "sd2")
    print("all equal")


def same(what, got, want, more_allowed=False):
    missing = sorted(set(want) - set(got))
    extra = [] if more_allowed else sorted(set(got) - set(want))
    assert not missing and not extra, f"{what}: missing {missing[:5]} extra {extra[:5]}"
    for k, v in want.items():
        assert torch.equal(got[k].reshape(v.shape), v), f"{what}: {k} differs"
    print("ok", what, len(want))


def small_configs():
    """(name, family, overrides) of small models that cover the layouts met in the wild, and odd ones."""
    two = dict(block_out_channels=[32, 64], down=["CrossAttnDownBlock2D", "DownBlock2D"])
    return [
        ("sd1", "sd1", dict(two, layers=2)),
        ("sd1-inpaint", "sd1", dict(two, layers=2, in_channels=9)),
        ("sd1-one-layer", "sd1", dict(two, layers=1)),
        ("sd1-three-layers", "sd1", dict(two, layers=3)),
        ("sd1-four-levels", "sd1", dict(block_out_channels=[32, 32, 64, 64], layers=2,
                                        down=["CrossAttnDownBlock2D"] * 3 + ["DownBlock2D"])),
        ("sd1-five-levels", "sd1", dict(block_out_channels=[32, 32, 64, 64, 64], layers=1,
                                        down=["DownBlock2D", "CrossAttnDownBlock2D", "DownBlock2D",
                                              "CrossAttnDownBlock2D", "CrossAttnDownBlock2D"])),
        ("sd1-one-level", "sd1", dict(block_out_channels=[32], layers=2, down=["CrossAttnDownBlock2D"])),
        ("sd1-mid-only", "sd1", dict(block_out_channels=[32, 64], layers=1, down=["DownBlock2D"] * 2, vae_levels=4)),
        ("sd1-no-mid", "sd1", dict(two, layers=1, mid=None, vae_layers=1)),
        ("sd1-deep", "sd1", dict(block_out_channels=[32, 64], layers=1, depth=[2, 3], linear=True, vae_levels=1,
                                 down=["CrossAttnDownBlock2D"] * 2)),
        ("sd2", "sd2", dict(block_out_channels=[64, 128], layers=2, linear=True, heads=[1, 2],
                            down=["CrossAttnDownBlock2D", "DownBlock2D"])),
        ("sd2-inpaint", "sd2", dict(block_out_channels=[64, 128], layers=1, linear=True, heads=[1, 2], in_channels=9,
                                    down=["CrossAttnDownBlock2D", "DownBlock2D"])),
        ("sdxl", "sdxl", dict(block_out_channels=[64, 64, 128], layers=2, linear=True, heads=[1, 1, 2],
                              depth=[1, 1, 2], down=["DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D"])),
        ("sdxl-refiner", "sdxl-refiner", dict(block_out_channels=[64, 64, 64, 128], layers=2, linear=True,
                                              heads=[1, 1, 1, 2], depth=2,
                                              down=["DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D",
                                                    "DownBlock2D"])),
    ]


def small_unet(family, c):
    from diffusers import UNet2DConditionModel

    down = c["down"]
    extra = {}
    if family.startswith("sdxl"):
        pooled, ids = 64, 6 if family == "sdxl" else 5
        extra = dict(addition_embed_type="text_time", addition_time_embed_dim=32,
                     projection_class_embeddings_input_dim=pooled + 32 * ids)
    if "mid" in c:
        extra["mid_block_type"] = c["mid"]
    for name in ("time_cond_proj_dim", "reverse_transformer_layers_per_block"):
        if name in c:
            extra[name] = c[name]
    context = {"sd1": 64, "sd2": 64, "sdxl": 128, "sdxl-refiner": 64}[family]
    return UNet2DConditionModel(
        sample_size=8, in_channels=c.get("in_channels", 4), out_channels=4, layers_per_block=c["layers"],
        block_out_channels=c["block_out_channels"], down_block_types=down,
        up_block_types=[d.replace("Down", "Up") for d in reversed(down)], cross_attention_dim=context,
        attention_head_dim=c.get("heads", 8), use_linear_projection=c.get("linear", False),
        transformer_layers_per_block=c.get("depth", 1), **extra)


def small_text(projection, layers=2, act="quick_gelu", vocab=1000):
    from transformers import CLIPTextConfig, CLIPTextModel, CLIPTextModelWithProjection

    config = CLIPTextConfig(hidden_size=64, intermediate_size=128, num_hidden_layers=layers, num_attention_heads=1,
                            vocab_size=vocab, max_position_embeddings=77, hidden_act=act, projection_dim=64)
    return (CLIPTextModelWithProjection if projection else CLIPTextModel)(config)


def small_pipeline(family, c):
    """A bag of random-weight components, as the pipelines name them."""
    from types import SimpleNamespace

    from diffusers import AutoencoderKL

    levels = c.get("vae_levels", 3)
    vae = AutoencoderKL(block_out_channels=([32] * (levels - 1) + [64]), layers_per_block=c.get("vae_layers", 2),
                        down_block_types=["DownEncoderBlock2D"] * levels, up_block_types=["UpDecoderBlock2D"] * levels,
                        latent_channels=4)
    pipe = SimpleNamespace(unet=small_unet(family, c), vae=vae, text_encoder=None, text_encoder_2=None)
    if family in ("sd1", "sd2", "sdxl"):
        pipe.text_encoder = small_text(False, act="gelu" if family == "sd2" else "quick_gelu", vocab=c.get("vocab", 1000))
    if family.startswith("sdxl"):
        pipe.text_encoder_2 = small_text(True, act="gelu", vocab=c.get("vocab", 1000))
    return pipe


if __name__ == "__main__":
    args = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    args.add_argument("--check", action="store_true", help="verify against diffusers' own readers")
    args.add_argument("--folder", help="diffusers folder to convert")
    args.add_argument("--out", help="file to write")
    args.add_argument("--family", default="sd1")
    args.add_argument("--dtype", default=None)
    a = args.parse_args()
    check() if a.check else to_single_file(a.folder, a.out, a.family, a.dtype)
