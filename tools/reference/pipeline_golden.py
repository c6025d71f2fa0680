"""What diffusers draws, as the tensors of contract.md's `--trace`.

    python3 tools/reference/pipeline_golden.py --models test/golden/models --out test/golden/pipelines

`run_case` is the reference for one command line; `compare.py` and `full_size.py` use it too. Each file's metadata holds
the case, the scheduler config that was in force, and the library versions. Where diffusers leaves room:
- picture i of a batch is the picture made alone with seed + i;
- prompts longer than a chunk are encoded chunk by chunk, the shorter of the pair padded with empty chunks;
- clip skip takes the same hidden state of both prompts, then the final norm.
"""

from __future__ import annotations

import argparse
import json
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from unittest.mock import patch

import diffusers
import torch
import transformers
from diffusers import StableDiffusionImg2ImgPipeline, StableDiffusionInpaintPipeline, StableDiffusionPipeline
from PIL import Image, ImageDraw
from safetensors.torch import save_file

MADE_WITH = {"diffusers": diffusers.__version__, "transformers": transformers.__version__, "torch": torch.__version__}
PIPELINES = {
    "text": StableDiffusionPipeline,
    "image": StableDiffusionImg2ImgPipeline,
    "inpaint": StableDiffusionInpaintPipeline,
}
LONG = (
    "a lighthouse at sunset, oil painting, highly detailed, dramatic lighting, golden sky over the dark sea, boats in "
    "the harbor, people walking on the beach, stone tower with a bright light, clouds and rain near the mountain, "
    "a quiet fishing village with wooden houses, ancient ruins on the island, birds in the morning light, "
    "cinematic wide angle, masterpiece, best quality, sharp, realistic, watercolor style, beautiful landscape"
)


@dataclass
class Case:
    """One command line; None means that the option is not given."""

    model: str
    prompt: str = "a lighthouse at sunset, oil painting"
    negative: str = ""
    mode: str = "text"
    steps: int = 6
    cfg: float = 7.5
    seed: int = 7
    width: int = 64
    height: int = 64
    count: int = 1
    strength: float = 0.75
    eta: float = 0.0
    clip_skip: int | None = None
    scheduler: str | None = None
    options: dict = field(default_factory=dict)
    layout: str = "plain"
    init_size: tuple[int, int] | None = None
    syntax: str = "plain"


def load(folder: Path, case: Case):
    """The pipeline of this case in float32, its scheduler replaced when the case names one."""
    variant = "fp16" if case.layout == "fp16-variant" else None
    kind = PIPELINES[case.mode]
    more = {} if kind is StableDiffusionPipeline else {"requires_safety_checker": False}
    pipe = kind.from_pretrained(
        folder, torch_dtype=torch.float32, safety_checker=None, feature_extractor=None, image_encoder=None, variant=variant, **more
    )
    pipe.set_progress_bar_config(disable=True)
    # the pipelines change steps_offset and clip_sample of a config when they are made; here it is used as written
    own = type(pipe.scheduler)
    written = own.load_config(folder / "scheduler")
    pipe.scheduler = (getattr(diffusers, case.scheduler) if case.scheduler else own).from_config(written, **case.options)
    return pipe


def chunk_ids(tokenizer, prompt: str) -> list[list[int]]:
    """Token ids in chunks of the tokenizer's length, each with its own start, end and padding."""
    length = tokenizer.model_max_length
    ids = tokenizer(prompt, add_special_tokens=False).input_ids
    parts = [ids[at : at + length - 2] for at in range(0, len(ids), length - 2)] or [[]]
    framed = [[tokenizer.bos_token_id, *part, tokenizer.eos_token_id] for part in parts]
    return [chunk + [tokenizer.pad_token_id] * (length - len(chunk)) for chunk in framed]


def encode(pipe, chunks: list[list[int]], clip_skip: int | None) -> torch.Tensor:
    """Each chunk alone through the text encoder, joined along the tokens: [1, chunks * length, dim]."""
    states = []
    for chunk in chunks:
        out = pipe.text_encoder(torch.tensor([chunk]), output_hidden_states=True)
        state = out.last_hidden_state
        if clip_skip is not None:
            # A1111's count: 1 is the last layer
            state = getattr(pipe.text_encoder, "text_model", pipe.text_encoder).final_layer_norm(out.hidden_states[-clip_skip])
        states.append(state)
    return torch.cat(states, dim=1)


def text_tensors(pipe, case: Case) -> dict[str, torch.Tensor]:
    positive = chunk_ids(pipe.tokenizer, case.prompt)
    guided = case.cfg > 1 and pipe.unet.config.time_cond_proj_dim is None
    negative = chunk_ids(pipe.tokenizer, case.negative) if guided else []
    empty = chunk_ids(pipe.tokenizer, "")
    longest = max(len(positive), len(negative))
    positive += empty * (longest - len(positive))
    found = {"text.ids": torch.tensor(positive), "text.cond": encode(pipe, positive, case.clip_skip)}
    if guided:
        found["text.uncond"] = encode(pipe, negative + empty * (longest - len(negative)), case.clip_skip)
    return found


@contextmanager
def recorded_noise(mode: str, log: list[torch.Tensor], shake: float = 0.0):
    """Keeps what the pipeline itself draws; the VAE's and the scheduler's draws are made in other modules."""
    generator = torch.Generator().manual_seed(1)
    module = __import__(PIPELINES[mode].__module__, fromlist=["randn_tensor"])
    original = module.randn_tensor

    def draw(*args, **kwargs):
        log.append(original(*args, **kwargs))
        return log[-1] * (1 + shake * torch.randn(log[-1].shape, generator=generator)) if shake else log[-1]

    with patch.object(module, "randn_tensor", draw):
        yield


@contextmanager
def recorded_times(pipe, log: list[float]):
    """The timestep of each call of the U-Net."""
    forward = pipe.unet.forward

    def call(sample, timestep, *args, **kwargs):
        log.append(float(timestep))
        return forward(sample, timestep, *args, **kwargs)

    with patch.object(pipe.unet, "forward", call):
        yield


def pictures(case: Case) -> tuple[Image.Image, Image.Image]:
    """A start picture and a mask whose sizes and contents follow from the case alone."""
    width, height = case.init_size or (case.width, case.height)
    start = Image.new("RGB", (width, height))
    start.putdata([(x * 255 // width, y * 255 // height, (x * 7 + y * 3) % 256) for y in range(height) for x in range(width)])
    draw = ImageDraw.Draw(start)
    draw.ellipse((width // 5, height // 4, width // 2, height * 3 // 4), fill=(240, 200, 40))
    draw.rectangle((width // 2, height // 2, width - 5, height - 9), fill=(20, 60, 160))
    mask = Image.new("L", (width, height))
    ImageDraw.Draw(mask).ellipse((width // 4, height // 8, width - 3, height * 5 // 8), fill=255)
    ImageDraw.Draw(mask).rectangle((2, height * 3 // 4, width // 3, height - 4), fill=130)
    return start, mask


def picture_inputs(pipe, case: Case) -> dict:
    if case.mode == "text":
        return {"width": case.width, "height": case.height}
    start, mask = pictures(case)
    if case.mode == "image":
        # image to image has no size of its own: the picture is brought to the size asked for, as for inpainting
        return {"image": pipe.image_processor.resize(start, case.height, case.width), "strength": case.strength}
    return {"image": start, "mask_image": mask, "strength": case.strength, "width": case.width, "height": case.height}


@contextmanager
def shaken_unet(pipe, relative: float):
    """Multiplies every output of the U-Net by 1 + relative * normal: how far do such differences grow?"""
    forward = pipe.unet.forward
    generator = torch.Generator().manual_seed(0)

    def call(*args, **kwargs):
        (out,) = forward(*args, **{**kwargs, "return_dict": False})
        return (out * (1 + relative * torch.randn(out.shape, generator=generator)),)

    with patch.object(pipe.unet, "forward", call):
        yield


@torch.no_grad()
def run_case(folder: Path, case: Case, pipe=None, shake: float = 0.0) -> dict[str, torch.Tensor]:
    """The trace of a case; `shake` is a relative disturbance of the first noise."""
    pipe = pipe or load(folder, case)
    trace = text_tensors(pipe, case)
    noise, times, latents = [], [], []
    for index in range(case.count):
        times.clear()
        drawn: list[torch.Tensor] = []
        with recorded_noise(case.mode, drawn, shake), recorded_times(pipe, times):
            latents.append(
                pipe(
                    prompt_embeds=trace["text.cond"],
                    negative_prompt_embeds=trace.get("text.uncond"),
                    num_inference_steps=case.steps,
                    guidance_scale=case.cfg,
                    eta=case.eta,
                    generator=torch.Generator().manual_seed(case.seed + index),
                    output_type="latent",
                    **picture_inputs(pipe, case),
                ).images
            )
        noise.append(drawn[0])
    trace |= {"noise": torch.cat(noise), "timesteps": torch.tensor(times), "latents": torch.cat(latents)}
    decoded = [pipe.vae.decode(latent / pipe.vae.config.scaling_factor).sample for latent in latents]
    return trace | {"image": torch.cat(decoded)}


def save_trace(path: Path, trace: dict[str, torch.Tensor], case: Case, scheduler: dict | None = None) -> None:
    about = {"case": asdict(case), "scheduler": scheduler or {}, "made_with": MADE_WITH}
    tensors = {key: tensor.contiguous() for key, tensor in trace.items()}
    save_file(tensors, path, metadata={"about": json.dumps(about, sort_keys=True)})


def scheduler_json(pipe) -> dict:
    return json.loads(pipe.scheduler.to_json_string())


COMMITTED: dict[str, Case] = {
    "sd1-pndm": Case("sd1-tiny", negative="blurry, low quality"),
    "sd1-euler-a": Case("sd1-tiny", scheduler="EulerAncestralDiscreteScheduler", width=96, height=80, seed=11),
    "sd1-dpmpp-2m-karras": Case("sd1-tiny", scheduler="DPMSolverMultistepScheduler", options={"use_karras_sigmas": True}, clip_skip=2),
    "sd1-heun": Case("sd1-tiny", scheduler="HeunDiscreteScheduler", steps=4, cfg=1.0),
    "sd1-ddim-batch": Case("sd1-tiny", scheduler="DDIMScheduler", count=3, seed=4294967295 - 2, steps=4),
    "sd1-long": Case("sd1-tiny", prompt=LONG, negative="blurry", scheduler="DDIMScheduler", steps=3),
    "sd1-image": Case("sd1-tiny", mode="image", scheduler="EulerAncestralDiscreteScheduler", strength=0.6, width=72, height=56),
    "sd1-inpaint-ordinary": Case("sd1-tiny", mode="inpaint", scheduler="DDIMScheduler", eta=0.5, strength=0.8),
    "sd1-inpaint-nine": Case("sd1-inpaint", mode="inpaint", strength=1.0, scheduler="EulerAncestralDiscreteScheduler"),
    "sd1-odd-unipc": Case("sd1-odd", scheduler="UniPCMultistepScheduler", width=72, height=88),
    "sd1-odd-long": Case("sd1-odd", prompt="a red cat and a blue dog in the snow near the old stone bridge", negative=LONG, steps=3),
    "sd2-v": Case("sd2-tiny", prompt="a robot in the city at night!", negative="ugly"),
    "sd2-zsnr": Case("sd2-tiny", scheduler="DDIMScheduler", options={"rescale_betas_zero_snr": True, "timestep_spacing": "trailing"}),
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("names", nargs="*", default=list(COMMITTED))
    parser.add_argument("--models", type=Path, default=Path("test/golden/models"))
    parser.add_argument("--out", type=Path, default=Path("test/golden/pipelines"))
    args = parser.parse_args()
    args.out.mkdir(parents=True, exist_ok=True)
    for name in args.names:
        case = COMMITTED[name]
        pipe = load(args.models / case.model, case)
        trace = run_case(args.models / case.model, case, pipe)
        path = args.out / f"{name}.safetensors"
        save_trace(path, trace, case, scheduler_json(pipe))
        if case.mode != "text":
            start, mask = pictures(case)
            start.save(args.out / f"{name}.init.png", optimize=True)
            if case.mode == "inpaint":
                mask.save(args.out / f"{name}.mask.png", optimize=True)
        print(f"{path}  {path.stat().st_size / 1024:.0f} KiB, latents std {trace['latents'].std():.2f}, image std {trace['image'].std():.2f}")


if __name__ == "__main__":
    main()
