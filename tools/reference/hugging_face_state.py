"""Goes on with a training that aquatint left, as diffusers' train_text_to_image.py does, and leaves a state to come back with.

    aquatint train text-to-image -m MODEL -d DATA -o scratch --steps 3 --hf-state ...
    python3 tools/reference/hugging_face_state.py --run scratch --steps 2
    aquatint train text-to-image ... --from-state scratch/huggingface/checkpoint-5

The script's own save and load hooks, optimiser and scheduler, through accelerate; loss on latents of the data folder.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import numpy as np
import torch
from accelerate import Accelerator
from diffusers import AutoencoderKL, DDPMScheduler, UNet2DConditionModel
from diffusers.optimization import get_scheduler
from PIL import Image, ImageOps
from safetensors.torch import load_file
from transformers import CLIPTextModel, CLIPTokenizer


def parts(model: Path):
    def load(kind, name):
        found = kind.from_pretrained(model, subfolder=name)
        return found.float() if isinstance(found, torch.nn.Module) else found

    return (
        load(UNet2DConditionModel, "unet"),
        load(AutoencoderKL, "vae").requires_grad_(False),
        load(CLIPTextModel, "text_encoder").requires_grad_(False),
        load(CLIPTokenizer, "tokenizer"),
        load(DDPMScheduler, "scheduler"),
    )


def hooks(accelerator: Accelerator) -> None:
    def save(models, weights, folder):
        for model in models:
            model.save_pretrained(Path(folder) / "unet")
            weights.pop()

    def load(models, folder):
        for _ in range(len(models)):
            model = models.pop()
            found = UNet2DConditionModel.from_pretrained(folder, subfolder="unet")
            model.register_to_config(**found.config)
            model.load_state_dict(found.state_dict())

    accelerator.register_save_state_pre_hook(save)
    accelerator.register_load_state_pre_hook(load)


def batch(folder: Path, size: int, vae, tokenizer, text):
    lines = [json.loads(line) for line in (folder / "metadata.jsonl").read_text().splitlines()]
    pictures = [ImageOps.fit(Image.open(folder / line["file_name"]).convert("RGB"), (size, size)) for line in lines]
    pixels = torch.tensor(np.stack([np.asarray(p) for p in pictures])).permute(0, 3, 1, 2).float() / 127.5 - 1
    ids = tokenizer([line["text"] for line in lines], padding="max_length", truncation=True, return_tensors="pt").input_ids
    return vae.encode(pixels).latent_dist.sample() * vae.config.scaling_factor, text(ids)[0]


def check(folder: Path, unet, optimizer) -> None:
    """Every weight and both moments lie where the file of weights says they do."""
    state = optimizer.state_dict()["state"]
    stored = load_file(folder / "unet" / "diffusion_pytorch_model.safetensors")
    for i, (name, parameter) in enumerate(unet.named_parameters()):
        assert torch.equal(parameter.detach(), stored[name]), name
        assert state[i]["exp_avg"].shape == parameter.shape and state[i]["exp_avg_sq"].shape == parameter.shape, name


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--run", type=Path, required=True)
    parser.add_argument("--steps", type=int, default=2)
    parser.add_argument("--size", type=int, default=64)
    args = parser.parse_args()
    folder = args.run / "huggingface"
    latest = max(folder.glob("checkpoint-*"), key=lambda p: int(p.name.split("-")[1]))
    unet, vae, text, tokenizer, noise_scheduler = parts(args.run / "model")
    accelerator = Accelerator(cpu=True)
    hooks(accelerator)
    optimizer = torch.optim.AdamW(unet.parameters(), lr=1e-3, weight_decay=0.01)
    schedule = get_scheduler("constant", optimizer)
    unet, optimizer, schedule = accelerator.prepare(unet, optimizer, schedule)
    accelerator.load_state(latest)
    check(latest, unet, optimizer)
    step = int(latest.name.split("-")[1])
    print("loaded", latest, "state step", float(optimizer.state_dict()["state"][0]["step"]), "rate", schedule.get_last_lr())
    z, context = batch(folder / "train", args.size, vae, tokenizer, text)
    for _ in range(args.steps):
        noise, t = torch.randn_like(z), torch.randint(0, 1000, (len(z),))
        loss = torch.nn.functional.mse_loss(unet(noise_scheduler.add_noise(z, noise, t), t, context).sample, noise)
        accelerator.backward(loss)
        accelerator.clip_grad_norm_(unet.parameters(), 1.0)
        optimizer.step()
        schedule.step()
        optimizer.zero_grad()
        step += 1
        print("step", step, "loss", float(loss))
    accelerator.save_state(folder / f"checkpoint-{step}")
    print("left", sorted(p.name for p in (folder / f"checkpoint-{step}").iterdir()))


if __name__ == "__main__":
    main()
