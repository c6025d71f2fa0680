"""Diffusion losses with their gradients, by torch's autograd and the formulas of diffusers' and kohya's training scripts.

    python3 tools/reference/losses_golden.py --out test/golden/train/losses
"""

from __future__ import annotations

import argparse
import itertools
import json
from pathlib import Path

import diffusers
import torch
from diffusers import DDPMScheduler
from diffusers.training_utils import compute_snr
from safetensors.torch import save_file

SHAPE = (3, 4, 6, 5)
TIMES = [3, 420, 987]


def weights(rule: str, prediction: str, snr: torch.Tensor) -> torch.Tensor:
    """train_text_to_image.py's min-SNR with gamma 5; kohya's debiased estimation."""
    if rule == "none":
        return torch.ones_like(snr)
    if rule == "min-snr":
        base = torch.stack([snr, 5.0 * torch.ones_like(snr)], dim=1).min(dim=1)[0]
        return base / (snr + 1) if prediction == "v_prediction" else base / snr
    clipped = torch.minimum(snr, torch.full_like(snr, 1000.0))
    return 1 / (clipped + 1) if prediction == "v_prediction" else 1 / torch.sqrt(clipped)


def case(prediction: str, rule: str, loss: str, masked: bool, given: dict[str, torch.Tensor]) -> tuple[torch.Tensor, torch.Tensor]:
    scheduler = DDPMScheduler(beta_start=0.00085, beta_end=0.012, beta_schedule="scaled_linear", prediction_type="v_prediction")
    t = torch.tensor(TIMES)
    z, e, w = given["latents"], given["noise"], given["w"].clone().requires_grad_()
    if prediction == "flow":
        u = (t / 1000).view(-1, 1, 1, 1)
        x, target = (1 - u) * z + u * e, e - z
    else:
        x = scheduler.add_noise(z, e, t)
        target = e if prediction == "epsilon" else scheduler.get_velocity(z, e, t)
    predicted = torch.tanh(x * w)
    if loss == "l2":
        error = torch.nn.functional.mse_loss(predicted, target, reduction="none")
    else:
        error = 2 * 0.1 * (torch.sqrt((predicted - target) ** 2 + 0.1**2) - 0.1)
    if masked:
        error = error * given["region"]
    rows = error.mean(dim=(1, 2, 3))
    if prediction != "flow":
        rows = rows * weights(rule, prediction, compute_snr(scheduler, t))
    value = rows.mean()
    value.backward()
    return value.detach(), w.grad


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--out", type=Path, required=True)
    out = parser.parse_args().out
    out.mkdir(parents=True, exist_ok=True)
    torch.manual_seed(11)
    given = {"latents": torch.randn(SHAPE), "noise": torch.randn(SHAPE), "w": torch.randn(SHAPE[1:]), "region": torch.rand(SHAPE[0], 1, *SHAPE[2:])}
    tensors = dict(given)
    for prediction, rule, loss, masked in itertools.product(
        ("epsilon", "v_prediction", "flow"), ("none", "min-snr", "debiased"), ("l2", "huber"), (False, True)
    ):
        if prediction == "flow" and rule != "none":
            continue
        name = f"{prediction} {rule} {loss} {'masked' if masked else 'whole'}"
        tensors[f"{name} loss"], tensors[f"{name} gradient"] = case(prediction, rule, loss, masked, given)
    versions = {"torch": torch.__version__, "diffusers": diffusers.__version__}
    save_file(tensors, out / "losses.safetensors", metadata={"versions": json.dumps(versions), "times": json.dumps(TIMES)})


if __name__ == "__main__":
    main()
