"""Whole pictures of small single-file checkpoints of every kind, by diffusers' pipelines.

    python3 tools/reference/single_file_pictures.py test/golden/single-files --tokenizer clip-tokenizer [--only NAME] [--seed 9]

`--tokenizer` is a folder with CLIP's own tokenizer. The weights are a formula of the tensor's key in the file, so that
`test/single-files.test.ts` writes the same checkpoints. Kept are keys, shapes, what was asked, latents, and the picture
in blocks of 4x4.
"""
import argparse
import gzip
import inspect
import json
import math
import os
import zlib

import diffusers
import numpy as np
import torch
import transformers
from diffusers import (
    ControlNetModel, DDIMScheduler, EulerAncestralDiscreteScheduler, EulerDiscreteScheduler, LatentConsistencyModelPipeline, LCMScheduler,
    StableDiffusionControlNetPipeline, StableDiffusionInpaintPipeline, StableDiffusionInstructPix2PixPipeline,
    StableDiffusionPipeline, StableDiffusionXLControlNetPipeline, StableDiffusionXLImg2ImgPipeline, StableDiffusionXLPipeline)
from diffusers.loaders.single_file_utils import convert_ldm_clip_checkpoint, convert_ldm_vae_checkpoint, convert_open_clip_checkpoint
from PIL import Image
from transformers import CLIPTokenizer

from single_file import bare_clip, controlnet_to_ldm, ldm_state, per_level, small_pipeline, unet_to_ldm

torch.set_grad_enabled(False)
SIDE, VOCAB = 64, 49408
BETAS = dict(beta_start=0.00085, beta_end=0.012, beta_schedule="scaled_linear", num_train_timesteps=1000)
DDIM = dict(BETAS, clip_sample=False, set_alpha_to_one=False, steps_offset=1)
CROSS, PLAIN, XL = "CrossAttnDownBlock2D", "DownBlock2D", [64, 64, 128]
TWO = dict(block_out_channels=[32, 64], down=[CROSS, PLAIN], layers=1)
TWO_SD2 = dict(block_out_channels=[64, 128], down=[CROSS, PLAIN], layers=1, linear=True, heads=[1, 2])
SDXL = dict(block_out_channels=XL, down=[PLAIN, CROSS, CROSS], layers=1, linear=True, heads=[1, 1, 2], depth=[1, 1, 2])
REFINER = dict(block_out_channels=[64, 64, 64, 128], down=[PLAIN, CROSS, CROSS, PLAIN], layers=1, linear=True, heads=[1, 1, 1, 2], depth=2)
NEGATIVE = {"negative": "blurry, low quality"}
CASES = [
    # file, family, configuration, what is asked, scheduler where it is not the single file's own
    ("sd-v1", "sd1", dict(TWO, layers=2), dict(steps=3, cfg=5, **NEGATIVE), None),
    ("sd-v1-inpainting", "sd1", dict(TWO, in_channels=9), dict(steps=4, cfg=4, strength=0.8), None),
    ("instruct-pix2pix", "sd1", dict(TWO, in_channels=8), dict(steps=3, cfg=5, imageCfg=1.4), None),
    ("lcm-model", "sd1", dict(TWO, time_cond_proj_dim=256), dict(steps=3, cfg=6), LCMScheduler(**DDIM | {"set_alpha_to_one": True})),
    ("bk-sdm-base", "sd1", dict(TWO, down=[CROSS, CROSS]), dict(steps=3, cfg=5), None),
    ("bk-sdm-tiny", "sd1", dict(TWO, mid=None, down=[CROSS, CROSS]), dict(steps=3, cfg=5), None),
    ("sd-v2", "sd2", dict(TWO_SD2, layers=2), dict(steps=3, cfg=5), None),
    ("sd-v2-inpainting", "sd2", dict(TWO_SD2, in_channels=9), dict(steps=4, cfg=4, strength=0.8), None),
    ("sd_turbo", "sd2", TWO_SD2, {}, EulerAncestralDiscreteScheduler(timestep_spacing="trailing", **BETAS)),
    ("sd_xl_base", "sdxl", dict(SDXL, layers=2), dict(steps=3, cfg=5), None),
    ("sd_xl_base_negative", "sdxl", SDXL, dict(steps=3, cfg=5, **NEGATIVE), None),
    ("sd_xl_turbo", "sdxl", SDXL, {}, EulerAncestralDiscreteScheduler(timestep_spacing="trailing", **BETAS)),
    ("sdxl_lightning_4step", "sdxl", SDXL, {}, EulerDiscreteScheduler(timestep_spacing="trailing", **BETAS)),
    ("hyper-sdxl-8steps", "sdxl", SDXL, {}, DDIMScheduler(timestep_spacing="trailing", **DDIM)),
    ("ssd-1b", "sdxl", dict(SDXL, layers=2, mid="UNetMidBlock2D", depth=[1, 2, 4],
                            reverse_transformer_layers_per_block=[[4, 4, 5], [2, 1, 1], 1]), dict(steps=3, cfg=5), None),
    ("segmind-vega", "sdxl", dict(SDXL, layers=2, depth=[1, 1, 2], mid="UNetMidBlock2D",
                                  reverse_transformer_layers_per_block=[[2, 2, 2], [1, 1, 1], 1]), dict(steps=3, cfg=5), None),
    ("koala-700m", "sdxl", dict(SDXL, mid=None, depth=[1, 2, 5]), dict(steps=3, cfg=5), None),
    ("sd-v1-controlled", "sd1", dict(TWO, layers=2, vae_levels=4), dict(steps=3, cfg=5, control=0.9), None),
    ("sd-v2-controlled", "sd2", dict(TWO_SD2, layers=2, vae_levels=4), dict(steps=3, cfg=5, control=0.8), None),
    ("sd_xl_base-controlled", "sdxl", dict(SDXL, layers=2, vae_levels=4), dict(steps=3, cfg=5, control=0.7), None),
    ("sd_xl_base_refined", "sdxl", SDXL, dict(steps=5, cfg=4, refiner="sd_xl_refiner", at=0.6), None),
    ("sd_xl_refiner", "sdxl-refiner", REFINER, None, None),
]
PRESETS = {"sd_turbo": (1, 0.0), "sd_xl_turbo": (1, 0.0), "sdxl_lightning_4step": (4, 0.0), "hyper-sdxl-8steps": (8, 0.0)}


def formula(key, shape):
    """Numbers of a tensor: norms near 1, small biases, matrices of unit gain."""
    count = math.prod(shape)
    h = (np.arange(count, dtype=np.uint64) * 0x9E3779B1 + zlib.crc32(key.encode())) & 0xFFFFFFFF
    for shift, factor in ((15, 0x85EBCA6B), (13, 0xC2B2AE35)):
        h ^= h >> np.uint64(shift)
        h = (h * np.uint64(factor)) & np.uint64(0xFFFFFFFF)
    h ^= h >> np.uint64(16)
    norm = len(shape) == 1 and key.endswith("weight")
    spread = 0.3 if norm else 0.2 if key.endswith("bias") else 3.4 / math.sqrt(max(1, math.prod(shape[1:])) if "embedding" not in key else 16)
    values = (h.astype(np.float64) / 2**32 - 0.5) * spread + (1 if norm else 0)
    return torch.from_numpy(values.astype(np.float32).reshape(shape))


def text_state(module, got):
    """A reader's text keys under the module's names."""
    bare = bare_clip(got)
    return {k: bare[k.removeprefix("text_model.")] for k in module.state_dict()}


def load(family, config, tokenizer):
    """Networks with the formula's numbers, and keys and shapes of their checkpoint."""
    pipe = small_pipeline(family, dict(config, vocab=VOCAB))
    state = {k: formula(k, tuple(v.shape)) for k, v in ldm_state(pipe, family, extras=False).items()}
    layers = per_level(pipe.unet.config.layers_per_block, len(pipe.unet.config.block_out_channels))
    names = unet_to_ldm({k: k for k in pipe.unet.state_dict()}, layers)
    pipe.unet.load_state_dict({d: state[f"model.diffusion_model.{k}"] for k, d in names.items()})
    pipe.vae.load_state_dict(convert_ldm_vae_checkpoint(dict(state), pipe.vae.config))
    pipe.vae.register_to_config(scaling_factor=0.13025 if family.startswith("sdxl") else 0.18215)
    if family in ("sd1", "sdxl"):
        pipe.text_encoder.load_state_dict(text_state(pipe.text_encoder, convert_ldm_clip_checkpoint(dict(state))))
    for part, prefix in {"sd2": [("text_encoder", "cond_stage_model.model.")],
                         "sdxl": [("text_encoder_2", "conditioner.embedders.1.model.")],
                         "sdxl-refiner": [("text_encoder_2", "conditioner.embedders.0.model.")]}.get(family, []):
        module = getattr(pipe, part)
        module.load_state_dict(text_state(module, convert_open_clip_checkpoint(module, dict(state), prefix)))
    for part in (pipe.unet, pipe.vae, pipe.text_encoder, pipe.text_encoder_2):
        part is None or part.eval()
    pipe.tokenizer = CLIPTokenizer.from_pretrained(tokenizer, **({"pad_token": "!"} if family == "sd2" else {}))
    pipe.tokenizer_2 = CLIPTokenizer.from_pretrained(tokenizer, pad_token="!")
    return pipe, {k: list(v.shape) for k, v in state.items()}


def controlnet(unet):
    """A ControlNet beside this U-Net with the formula's numbers, and keys and shapes of its file."""
    wanted = set(inspect.signature(ControlNetModel.__init__).parameters)
    net = ControlNetModel(**{k: v for k, v in unet.config.items() if k in wanted and not k.startswith("_")})
    layers = per_level(net.config.layers_per_block, len(net.config.block_out_channels))
    names = controlnet_to_ldm({k: k for k in net.state_dict()}, layers)
    shapes = {k: list(v.shape) for k, v in net.state_dict().items()}
    net.load_state_dict({d: formula(k, tuple(shapes[d])) for k, d in names.items()})
    return net.eval(), {k: shapes[d] for k, d in names.items()}


def pipeline(kind, parts, scheduler, family, **more):
    common = dict(vae=parts.vae, unet=parts.unet, scheduler=scheduler, **more)
    if family == "sdxl":
        return kind(text_encoder=parts.text_encoder, text_encoder_2=parts.text_encoder_2, tokenizer=parts.tokenizer,
                    tokenizer_2=parts.tokenizer_2, force_zeros_for_empty_prompt=True, add_watermarker=False, **common)
    if family == "sdxl-refiner":
        return kind(text_encoder=None, text_encoder_2=parts.text_encoder_2, tokenizer=None, tokenizer_2=parts.tokenizer_2,
                    requires_aesthetics_score=True, force_zeros_for_empty_prompt=False, add_watermarker=False, **common)
    return kind(text_encoder=parts.text_encoder, tokenizer=parts.tokenizer, safety_checker=None, feature_extractor=None,
                requires_safety_checker=False, **common)


def pictures():
    y, x = np.mgrid[:SIDE, :SIDE]
    picture = np.stack([x * 4, y * 4, (x * y) % 256], 2).astype(np.uint8)
    mask = np.where((x >= 16) & (x < 48) & (y >= 8), 255, 0).astype(np.uint8)
    return Image.fromarray(picture), Image.fromarray(mask)


def draw(name, family, config, ask, scheduler, parts, refiner, seed, control=None):
    scheduler = scheduler or DDIMScheduler(**DDIM)
    steps, cfg = PRESETS.get(name, (ask.get("steps"), ask.get("cfg")))
    call = dict(prompt="a lighthouse at sunset, oil painting", num_inference_steps=steps, guidance_scale=cfg,
                generator=torch.Generator().manual_seed(seed), output_type="latent", width=SIDE, height=SIDE)
    if "negative" in ask:
        call["negative_prompt"] = ask["negative"]
    picture, mask = pictures()
    channels = parts.unet.config.in_channels
    kind = StableDiffusionXLPipeline if family == "sdxl" else StableDiffusionPipeline
    if channels == 9:
        kind, call = StableDiffusionInpaintPipeline, dict(call, image=picture, mask_image=mask, strength=ask["strength"])
    if channels == 8:
        kind = StableDiffusionInstructPix2PixPipeline
        call = {k: v for k, v in call.items() if k not in ("width", "height")}
        call |= dict(image=picture, image_guidance_scale=ask["imageCfg"])
    if "time_cond_proj_dim" in config:
        kind = LatentConsistencyModelPipeline
    more = {}
    if control:
        kind = StableDiffusionXLControlNetPipeline if family == "sdxl" else StableDiffusionControlNetPipeline
        more, call = dict(controlnet=control), dict(call, image=picture, controlnet_conditioning_scale=ask["control"])
    pipe = pipeline(kind, parts, scheduler, family, **more)
    pipe.set_progress_bar_config(disable=True)
    if refiner:
        call["denoising_end"] = ask["at"]
    latents = pipe(**call).images
    vae = parts.vae
    if refiner:
        finer = pipeline(StableDiffusionXLImg2ImgPipeline, refiner, DDIMScheduler(**DDIM), "sdxl-refiner")
        finer.set_progress_bar_config(disable=True)
        latents = finer(prompt=call["prompt"], image=latents, num_inference_steps=steps, guidance_scale=cfg, denoising_start=ask["at"],
                        generator=torch.Generator().manual_seed(seed), output_type="latent").images
        vae = refiner.vae
    image = vae.decode(latents / vae.config.scaling_factor).sample
    return latents, torch.nn.functional.avg_pool2d(image, 4)


def numbers(tensor):
    return [float(f"{x:.8g}") for x in tensor.flatten().tolist()]


def main():
    args = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    args.add_argument("out")
    args.add_argument("--tokenizer", required=True)
    args.add_argument("--only")
    args.add_argument("--seed", type=int, default=9)
    a = args.parse_args()
    os.makedirs(a.out, exist_ok=True)
    kept, refiner = [], load("sdxl-refiner", REFINER, a.tokenizer)
    for name, family, config, ask, scheduler in CASES:
        if a.only and a.only not in name:
            continue
        try:
            parts, tensors = refiner if family == "sdxl-refiner" else load(family, config, a.tokenizer)
            made = {"file": name, "family": family, "tensors": tensors}
            if ask is not None:
                control, shapes = controlnet(parts.unet) if "control" in ask else (None, None)
                made |= {"control": shapes} if control else {}
                latents, image = draw(name, family, config, ask, scheduler, parts, refiner[0] if "refiner" in ask else None, a.seed, control)
                made |= {"ask": ask, "seed": a.seed, "latents": numbers(latents), "image": numbers(image)}
            kept.append(made)
            print(name, len(tensors), "tensors", *((float(latents.std()), float(image.std())) if ask is not None else ()), flush=True)
        except Exception as error:
            print(name, "FAILED", type(error).__name__, str(error)[:400], flush=True)
    about = {"diffusers": diffusers.__version__, "transformers": transformers.__version__, "torch": torch.__version__}
    with gzip.GzipFile(os.path.join(a.out, "pictures.json.gz"), "wb", mtime=0) as f:
        f.write(json.dumps({"made with": about, "cases": kept}, separators=(",", ":")).encode())


if __name__ == "__main__":
    main()
