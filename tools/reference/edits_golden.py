"""Sums of what torch makes of two and three models, and singular values: test/golden/convert/edits.json.

python3 tools/reference/edits_golden.py [--out test/golden/convert]
The other models are the first one's numbers, turned by one and by two places in each tensor.
"""

import argparse
import hashlib
import json
import re
from pathlib import Path

import numpy
import torch
from safetensors.torch import load_file

MODELS = {"sd1-tiny": 0.3, "sdxl-tiny": 0.7}


def tensors(folder):
    out = {}
    for part in ["unet", "vae", "text_encoder", "text_encoder_2"]:
        for path in sorted((folder / part).glob("*.safetensors")):
            for key, value in load_file(path).items():
                out[f"{part}.{key}"] = value
    return out


def turned(all_tensors, places):
    return {k: torch.roll(v.flatten(), places).reshape(v.shape) if v.is_floating_point() else v for k, v in all_tensors.items()}


def block_of(key, levels, layers):
    """The block's number by diffusers' names, counted as LDM counts: input 0 is the first convolution."""
    if not key.startswith("unet."):
        return None
    inputs = levels * (layers + 1)
    key = key[len("unet."):]
    if re.match(r"conv_in|time_embedding", key):
        return 0
    if re.match(r"conv_out|conv_norm_out", key):
        return 2 * inputs
    if key.startswith("mid_block"):
        return inputs
    hit = re.match(r"(down|up)_blocks\.(\d+)\.(resnets|attentions|downsamplers|upsamplers)\.(\d+)", key)
    if not hit:
        return None
    way, level, kind, n = hit[1], int(hit[2]), hit[3], int(hit[4])
    if way == "down":
        return 1 + level * (layers + 1) + (layers if kind == "downsamplers" else n)
    return inputs + 1 + level * (layers + 1) + (layers if kind == "upsamplers" else n)


def checksum(merged):
    total = hashlib.sha256()
    for key in sorted(merged):
        total.update(key.encode())
        total.update(merged[key].contiguous().numpy().tobytes())
    return total.hexdigest()


def merges(folder, weight):
    a = tensors(folder)
    b, c = turned(a, 1), turned(a, 2)
    config = json.loads((folder / "unet/config.json").read_text())
    levels, layers = len(config["block_out_channels"]), config["layers_per_block"]
    count = 2 * levels * (layers + 1) + 1
    blocks = [round((i * 7 % 11) / 10, 1) for i in range(count)]
    alpha = lambda key: weight if block_of(key, levels, layers) is None else blocks[block_of(key, levels, layers)]
    # in single precision, rounded once to the stored type
    mix = lambda f: {k: f(k, a[k].float(), b[k].float(), c[k].float()).to(v.dtype) if v.is_floating_point() else v for k, v in a.items()}
    weighted = mix(lambda _, x, y, z: (1 - weight) * x + weight * y)
    added = mix(lambda _, x, y, z: x + weight * (y - z))
    by_block = mix(lambda k, x, y, z: (1 - alpha(k)) * x + alpha(k) * y)
    return {
        "weight": weight,
        "blocks": blocks,
        "sums": {"weighted": checksum(weighted), "difference": checksum(added), "blocks": checksum(by_block)},
    }


def matrix(rows, columns, kind):
    """Numbers both sides can make without a generator in common."""
    i, j = numpy.meshgrid(numpy.arange(rows), numpy.arange(columns), indexing="ij")
    flat = numpy.sin(i * 12.9898 + j * 78.233 + i * j * 0.37)
    if kind == "falling":
        return sum(numpy.outer(numpy.sin(numpy.arange(rows) * (1.1 + k)), numpy.cos(numpy.arange(columns) * (0.7 + k))) * 0.5**k for k in range(20))
    return flat


def singular_values():
    cases = []
    for rows, columns, kind, rank in [(48, 96, "flat", 8), (96, 48, "flat", 16), (64, 576, "falling", 12), (32, 32, "flat", 32), (40, 24, "falling", 24)]:
        m = torch.from_numpy(matrix(rows, columns, kind).astype(numpy.float32))
        values = torch.linalg.svd(m.double(), full_matrices=False).S
        left = values[rank:].square().sum().sqrt().item()
        cases.append({"rows": rows, "columns": columns, "kind": kind, "rank": rank, "values": values[:rank].tolist(), "left": left})
    return cases


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--out", type=Path, default=Path("test/golden/convert"))
    parser.add_argument("--models", type=Path, default=Path("test/golden/models"))
    args = parser.parse_args()
    made = {
        "made_with": f"torch {torch.__version__.split('+')[0]}",
        "merges": {name: merges(args.models / name, weight) for name, weight in MODELS.items()},
        "svd": singular_values(),
    }
    (args.out / "edits.json").write_text(json.dumps(made, indent=1) + "\n")


if __name__ == "__main__":
    main()
