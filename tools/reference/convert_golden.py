"""Golden files of `aquatint convert`: what torch.save writes, what torch casts to, and which LDM keys folders become.

    python3 tools/reference/convert_golden.py test/golden/convert

- `zip-PROTOCOL.pt`, `legacy-PROTOCOL.pt`: one state dict of every dtype, strided and shared tensors and a Parameter,
  in every protocol torch.save can write; `nested.ckpt` as a trainer saves it; `state.safetensors` the same tensors.
- `refused.pth`: a whole module, which names its classes.
- `casts.safetensors`: float32 and float64 numbers, and what torch makes of them as half and bfloat16.
- `ldm.json`: per model of test/golden/models and part, the count and digest of its tensors under LDM keys.
"""
import argparse
import hashlib
import json
from pathlib import Path

import diffusers
import safetensors
import torch
from safetensors.torch import save_file

from single_file import ldm_state

FAMILIES = {"sd1-tiny": "sd1", "sd1-odd": "sd1", "sd1-inpaint": "sd1", "sd2-tiny": "sd2", "sdxl-tiny": "sdxl"}
PREFIXES = ["model.diffusion_model.", "first_stage_model.", "cond_stage_model.", "conditioner."]
VERSIONS = {"torch": torch.__version__, "diffusers": diffusers.__version__, "safetensors": safetensors.__version__}


def state():
    torch.manual_seed(0)
    base = torch.randn(6, 8)
    return {
        "contiguous": torch.randn(3, 4),
        "half": torch.randn(5).half(),
        "bfloat16": torch.randn(2, 3).bfloat16(),
        "double": torch.randn(3).double(),
        "long": torch.arange(5),
        "int": torch.arange(3, dtype=torch.int32),
        "short": torch.arange(3, dtype=torch.int16),
        "char": torch.arange(-3, 3, dtype=torch.int8),
        "byte": torch.arange(4, dtype=torch.uint8),
        "bool": torch.tensor([True, False]),
        "scalar": torch.tensor(3.5),
        "empty": torch.zeros(0, 3),
        "shared": base,
        "transposed": base.t(),
        "slice": base[1:4, 2:7:2],
        "expanded": torch.randn(4, 1).expand(4, 5),
        "channels.last": torch.randn(2, 3, 4, 4).to(memory_format=torch.channels_last),
        "parameter": torch.nn.Parameter(torch.randn(2, 2)),
    }


def pickles(out):
    tensors = state()
    for protocol in (2, 3, 4, 5):
        torch.save(tensors, out / f"zip-{protocol}.pt", pickle_protocol=protocol)
        torch.save(tensors, out / f"legacy-{protocol}.pt", pickle_protocol=protocol, _use_new_zipfile_serialization=False)
    trainer = {"state_dict": tensors, "global_step": 7, "optimizer_states": [{"lr": 0.1, "betas": (0.9, 0.999)}], "name": "é"}
    torch.save(trainer, out / "nested.ckpt")
    plain = {k: v.detach().contiguous().clone() for k, v in tensors.items()}
    save_file(plain, out / "state.safetensors", metadata=VERSIONS)
    torch.save(torch.nn.Linear(2, 2), out / "refused.pth")


def casts(out):
    generator = torch.Generator().manual_seed(1)
    bits = torch.randint(-(2**31), 2**31, (3000,), generator=generator).to(torch.int32)
    halves = torch.arange(0, 65536, 37, dtype=torch.int32).to(torch.int16).view(torch.float16).float()
    halves = halves[~halves.isnan()]
    ties = torch.cat([halves.view(torch.int32) + d for d in (0, 4095, 4096, 4097)])
    special = torch.tensor([0.0, -0.0, 65504.0, 65519.9, 65520.0, -65520.0, 2**-24, 2**-25, 3e38, 3.4e38, float("inf")])
    floats = torch.cat([bits.view(torch.float32), ties.view(torch.float32), special])
    floats = floats[~floats.isnan()]
    double = torch.randn(500, generator=generator, dtype=torch.float64) * 1e-5
    save_file(
        {"f32": floats, "f32.f16": floats.half(), "f32.bf16": floats.bfloat16(), "f64": double,
         "f64.f32": double.float(), "f64.f16": double.half(), "f64.bf16": double.bfloat16(),
         "f16.bf16": halves.half().bfloat16(), "f16": halves.half(), "f16.f32": halves},
        out / "casts.safetensors", metadata=VERSIONS)


def digest(tensors):
    sums = hashlib.sha256()
    for key in sorted(tensors):
        t = tensors[key].contiguous()
        sums.update(f"{key} {list(t.shape)}\n".encode())
        sums.update(t.view(torch.int16 if t.element_size() == 2 else torch.int32).numpy().tobytes())
    return {"tensors": len(tensors), "sha256": sums.hexdigest()}


def layouts(out, models):
    found = {}
    for name, family in FAMILIES.items():
        state = ldm_state(str(models / name), family, extras=False)
        # OpenCLIP's unused ends are random numbers of the script's own
        state = {k: v for k, v in state.items() if not k.endswith("logit_scale")}
        if family == "sd2":
            layers = max(int(k.split(".")[4]) for k in state if ".resblocks." in k)
            state = {k: v for k, v in state.items() if f".resblocks.{layers}." not in k and not k.endswith("text_projection")}
        parts = {p: {k: v for k, v in state.items() if k.startswith(p)} for p in PREFIXES}
        found[name] = {p: digest(part) for p, part in parts.items() if part}
    (out / "ldm.json").write_text(json.dumps({"versions": VERSIONS, "models": found}, indent=1) + "\n")


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("out", type=Path, help="folder to write to")
    parser.add_argument("--models", type=Path, default=Path("test/golden/models"))
    args = parser.parse_args()
    args.out.mkdir(parents=True, exist_ok=True)
    pickles(args.out)
    casts(args.out)
    layouts(args.out, args.models)


if __name__ == "__main__":
    main()
