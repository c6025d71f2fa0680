"""A small AutoencoderTiny with random weights, and what it makes of latents and of a picture.

    python3 tools/reference/tiny_vae_golden.py --out test/golden/tiny-vae
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import diffusers
import torch
from diffusers import AutoencoderTiny
from safetensors.torch import save_file


@torch.no_grad()
def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, default=Path("test/golden/tiny-vae"))
    args = parser.parse_args()
    torch.manual_seed(6)
    widths = (8, 8, 8, 8)
    vae = AutoencoderTiny(encoder_block_out_channels=widths, decoder_block_out_channels=widths, num_encoder_blocks=(1, 1, 2, 1), num_decoder_blocks=(2, 1, 1, 1))
    for p in vae.parameters():
        fan = p[0].numel() if p.dim() > 1 else 1
        p.copy_(torch.randn(p.shape) * (1.2 / fan**0.5 if p.dim() > 1 else 0.1))
    vae.save_pretrained(args.out)
    # the same weights in one file without a config, as the original release names them
    original = {}
    for key, value in vae.state_dict().items():
        side, _, number, rest = key.split(".", 3)
        original[f"{side}.{int(number) + (side == 'decoder')}.{rest}"] = value.contiguous()
    save_file(original, args.out / "taesd.safetensors")
    latents, image = torch.randn(1, 4, 6, 5) * 2, torch.rand(1, 3, 48, 40) * 2 - 1
    golden = {"latents": latents, "decoded": vae.decode(latents).sample, "image": image, "encoded": vae.encode(image).latents}
    about = {"diffusers": diffusers.__version__, "torch": torch.__version__}
    save_file({k: v.contiguous() for k, v in golden.items()}, args.out / "golden.safetensors", metadata={"made_with": json.dumps(about)})
    print({k: (tuple(v.shape), round(float(v.std()), 2)) for k, v in golden.items()})


if __name__ == "__main__":
    main()
