"""The PyTorch side of train.mjs: one AdamW step with clipping and a moving average per line of input."""

from __future__ import annotations

import copy
import json
import sys
import time

import torch
from diffusers import AutoencoderKL, UNet2DConditionModel

torch.set_num_threads(2)
last = torch.channels_last
config = {key: value for key, value in json.loads(sys.argv[2]).items() if not key.startswith("_")}
if sys.argv[1] == "unet":
    model = UNet2DConditionModel(**config).to(memory_format=last)
    x, target = (torch.randn(64, 4, 16, 16).contiguous(memory_format=last) for _ in range(2))
    times, context = torch.randint(0, 1000, (64,)), torch.randn(64, 40, 128)

    def made() -> torch.Tensor:
        return model(x, times, context).sample
else:
    model = AutoencoderKL(**config).to(memory_format=last)
    x, target = (torch.randn(8, 3, 128, 128).contiguous(memory_format=last) for _ in range(2))

    def made() -> torch.Tensor:
        return model.decode(model.encode(x).latent_dist.mean.contiguous(memory_format=last)).sample


optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3, betas=(0.9, 0.99))
average = copy.deepcopy(model)
for _ in sys.stdin:
    began, cpu = time.perf_counter(), time.process_time()
    loss = ((made() - target) ** 2).mean()
    optimizer.zero_grad(set_to_none=True)
    loss.backward()
    torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
    optimizer.step()
    with torch.no_grad():
        torch._foreach_lerp_(list(average.parameters()), list(model.parameters()), 0.01)
    print(json.dumps({"seconds": time.perf_counter() - began, "cpu": time.process_time() - cpu}), flush=True)
