"""The order in which PyTorch counts a U-Net's parameters, which optimiser states are numbered by.

    python3 tools/reference/parameter_order.py --models test/golden/models/sd1-odd test/golden/models/sdxl-tiny --out test/golden/train/parameter-order.json
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import diffusers
from diffusers import UNet2DConditionModel


def names(model: Path) -> list[str]:
    config = UNet2DConditionModel.load_config(model, subfolder="unet")
    return [name for name, _ in UNet2DConditionModel.from_config(config).named_parameters()]


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--models", type=Path, nargs="+", required=True)
    parser.add_argument("--out", type=Path, required=True)
    args = parser.parse_args()
    orders = {model.name: names(model) for model in args.models}
    args.out.write_text(json.dumps({"diffusers": diffusers.__version__, "orders": orders}, indent=1) + "\n")


if __name__ == "__main__":
    main()
