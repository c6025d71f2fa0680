"""Small upscalers of the ESRGAN family with random weights, in the layouts files come in, and what they make of a picture.

    python3 tools/reference/upscaler_golden.py --out test/golden/upscalers

The networks are written here from the papers (Wang et al. 2018 and 2021); key names are those of ESRGAN's and BasicSR's
files.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageDraw
from PIL import __version__ as pillow
from safetensors.torch import save_file
from torch import nn
from torch.nn import functional as F

MADE_WITH = {"torch": torch.__version__, "pillow": pillow}


def leaky(x: torch.Tensor) -> torch.Tensor:
    return F.leaky_relu(x, 0.2)


class Dense(nn.Module):
    def __init__(self, width: int, growth: int):
        super().__init__()
        for i in range(5):
            setattr(self, f"conv{i + 1}", nn.Conv2d(width + i * growth, growth if i < 4 else width, 3, padding=1))

    def forward(self, x):
        seen = [x]
        for i in range(4):
            seen.append(leaky(getattr(self, f"conv{i + 1}")(torch.cat(seen, 1))))
        return x + 0.2 * self.conv5(torch.cat(seen, 1))


class Block(nn.Module):
    def __init__(self, width: int, growth: int):
        super().__init__()
        self.rdb1, self.rdb2, self.rdb3 = (Dense(width, growth) for _ in range(3))

    def forward(self, x):
        return x + 0.2 * self.rdb3(self.rdb2(self.rdb1(x)))


class Rrdb(nn.Module):
    def __init__(self, width=8, growth=4, blocks=2, doublings=2, fold=1):
        super().__init__()
        self.fold, self.doublings = fold, doublings
        self.conv_first = nn.Conv2d(3 * fold**2, width, 3, padding=1)
        self.body = nn.Sequential(*(Block(width, growth) for _ in range(blocks)))
        self.conv_body = nn.Conv2d(width, width, 3, padding=1)
        for i in range(doublings):
            setattr(self, f"conv_up{i + 1}", nn.Conv2d(width, width, 3, padding=1))
        self.conv_hr = nn.Conv2d(width, width, 3, padding=1)
        self.conv_last = nn.Conv2d(width, 3, 3, padding=1)

    def forward(self, x):
        first = self.conv_first(F.pixel_unshuffle(x, self.fold) if self.fold > 1 else x)
        h = first + self.conv_body(self.body(first))
        for i in range(self.doublings):
            h = leaky(getattr(self, f"conv_up{i + 1}")(F.interpolate(h, scale_factor=2, mode="nearest")))
        return self.conv_last(leaky(self.conv_hr(h)))


class Compact(nn.Module):
    def __init__(self, width=8, layers=3, factor=4):
        super().__init__()
        parts = [nn.Conv2d(3, width, 3, padding=1), nn.PReLU(width)]
        for _ in range(layers):
            parts += [nn.Conv2d(width, width, 3, padding=1), nn.PReLU(width)]
        self.body = nn.ModuleList([*parts, nn.Conv2d(width, 3 * factor**2, 3, padding=1)])
        self.factor = factor

    def forward(self, x):
        h = x
        for part in self.body:
            h = part(h)
        return F.pixel_shuffle(h, self.factor) + F.interpolate(x, scale_factor=self.factor, mode="nearest")


def first_layout(state: dict, doublings: int) -> dict:
    """ESRGAN's Sequential: convolution, trunk, doublings, two convolutions."""
    blocks = 1 + max(int(k.split(".")[1]) for k in state if k.startswith("body."))
    out = {}
    for key, value in state.items():
        head, *rest = key.split(".")
        leaf = rest[-1]
        if head == "body":
            i, rdb, conv, _ = rest
            out[f"model.1.sub.{i}.{rdb.upper()}.{conv}.0.{leaf}"] = value
            continue
        place = {"conv_first": "0", "conv_body": f"1.sub.{blocks}", "conv_hr": 2 + 3 * doublings, "conv_last": 4 + 3 * doublings}
        place |= {f"conv_up{i}": 3 * i for i in range(1, doublings + 1)}
        out[f"model.{place[head]}.{leaf}"] = value
    return out


def second_layout(state: dict) -> dict:
    names = {"conv_body": "trunk_conv", "conv_hr": "HRconv", "conv_up1": "upconv1", "conv_up2": "upconv2"}
    out = {}
    for key, value in state.items():
        head, *rest = key.split(".")
        if head == "body":
            key = ".".join(["RRDB_trunk", rest[0], rest[1].upper(), *rest[2:]])
        else:
            key = ".".join([names.get(head, head), *rest])
        out[key] = value
    return out


def tame(net: nn.Module, seed: int) -> nn.Module:
    generator = torch.Generator().manual_seed(seed)
    for p in net.parameters():
        fan = p[0].numel() if p.dim() > 1 else 1
        p.data = torch.randn(p.shape, generator=generator) * (0.8 / fan**0.5 if p.dim() > 1 else 0.1)
    if isinstance(net, Rrdb):
        # in the middle of the range, so that clamping hides nothing
        net.conv_last.bias.data += 0.5
        net.conv_last.weight.data *= 2
    return net.eval()


@torch.no_grad()
def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, default=Path("test/golden/upscalers"))
    args = parser.parse_args()
    args.out.mkdir(parents=True, exist_ok=True)
    picture = Image.new("RGB", (23, 18), (40, 70, 120))
    draw = ImageDraw.Draw(picture)
    draw.ellipse((4, 3, 15, 14), fill=(240, 200, 40))
    draw.line((0, 17, 22, 2), fill=(255, 255, 255))
    picture.save(args.out / "picture.png", optimize=True)
    x = torch.from_numpy(np.asarray(picture, np.float32) / 255).permute(2, 0, 1)[None]
    nets = {
        "new-x4.safetensors": (tame(Rrdb(), 1), lambda s: s),
        "first-x4.pth": (tame(Rrdb(), 2), lambda s: first_layout(s, 2)),
        "first-x2.safetensors": (tame(Rrdb(doublings=1), 3), lambda s: first_layout(s, 1)),
        "second-x4.safetensors": (tame(Rrdb(blocks=1), 4), second_layout),
        "real-x2.pth": (tame(Rrdb(fold=2), 5), lambda s: {"params": {k: v * 0 for k, v in s.items()}, "params_ema": s}),
        "compact-x4.safetensors": (tame(Compact(), 6), lambda s: s),
        "compact-x2.pth": (tame(Compact(factor=2, layers=1), 7), lambda s: {"params": s}),
    }
    factors = {}
    for name, (net, layout) in nets.items():
        fold = getattr(net, "fold", 1)
        pads = (0, -x.shape[3] % fold, 0, -x.shape[2] % fold)
        made = net(F.pad(x, pads, mode="replicate"))
        factor = made.shape[3] // (x.shape[3] + pads[1])
        made = made[..., : x.shape[2] * factor, : x.shape[3] * factor]
        state = layout(net.state_dict())
        if name.endswith(".pth"):
            torch.save(state, args.out / name, _use_new_zipfile_serialization=name != "compact-x2.pth")
        else:
            save_file({k: v.contiguous() for k, v in state.items()}, args.out / name)
        stem = name.split(".")[0]
        values = (made[0].clamp(0, 1).permute(1, 2, 0).numpy() * 255).round().astype(np.uint8)
        Image.fromarray(values).save(args.out / f"{stem}.out.png", optimize=True)
        factors[name] = factor
        print(name, factor, float(made.std()), values.mean())
    (args.out / "factors.json").write_text(json.dumps({"made_with": MADE_WITH, "factors": factors}) + "\n")


if __name__ == "__main__":
    main()
