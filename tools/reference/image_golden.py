"""Golden data of the image room: Pillow's resampling and blurs, diffusers' conversions, files with
metadata as A1111 (piexif), ComfyUI and plain Pillow write them, and A1111's infotext reading.

    python3 tools/reference/image_golden.py test/golden/image
"""

import base64
import hashlib
import io
import json
import re
import sys
import zlib
from pathlib import Path

import diffusers
import numpy as np
import piexif
import piexif.helper
import PIL
import torch
from diffusers.image_processor import VaeImageProcessor
from diffusers.utils import load_image
from PIL import Image, ImageFilter, PngImagePlugin

rng = np.random.default_rng(20240607)
filters = {name.lower(): Image.Resampling[name] for name in ["NEAREST", "BOX", "BILINEAR", "HAMMING", "BICUBIC", "LANCZOS"]}
versions = {"Pillow": PIL.__version__, "diffusers": diffusers.__version__, "torch": torch.__version__, "piexif": piexif.VERSION}


def picture(width, height, channels):
    """Noise, hard edges or waves, in turn."""
    kind = rng.integers(0, 3)
    if kind == 0:
        values = rng.integers(0, 256, (height, width, channels))
    elif kind == 1:
        values = rng.integers(0, 2, (height, width, channels)) * 255
    else:
        x, y = np.arange(width)[None, :, None], np.arange(height)[:, None, None]
        values = np.sin(x / rng.uniform(1, 9) + y / rng.uniform(1, 9) + np.arange(channels)) * 127 + 128
    values = values.astype(np.uint8)
    return Image.fromarray(values[..., 0] if channels == 1 else values)


def packed(image):
    data = base64.b64encode(image.tobytes()).decode()
    return {"width": image.width, "height": image.height, "channels": len(image.getbands()), "data": data}


def operations():
    cases = []

    def add(op, source, args, result):
        cases.append({"op": op, "args": args, "source": packed(source), "result": packed(result)})

    sides = [((9, 31), (30, 12)), ((31, 20), (7, 9)), ((5, 6), (17, 23)), ((30, 40), (6, 21)), ((24, 24), (24, 11)), ((28, 13), (9, 13))]
    for name, method in filters.items():
        for i, (size, target) in enumerate(sides):
            source = picture(*size, [3, 1, 4, 3, 3, 1][i])
            add("resize", source, [*target, name], source.resize(target, method))
    for name in ["bicubic", "lanczos"]:
        source = picture(20, 18, 3)
        box = [2.5, 3.25, 17.75, 18]
        add("resize", source, [11, 29, name, box], source.resize((11, 29), filters[name], box=tuple(box)))
    processor = VaeImageProcessor(vae_scale_factor=1)
    for mode in ["default", "crop", "fill"]:
        for size, target in [((20, 9), (16, 16)), ((9, 20), (16, 16)), ((12, 12), (24, 10)), ((15, 14), (10, 21))]:
            source = picture(*size, 3)
            result = processor.resize(source, target[1], target[0], resize_mode=mode)
            add("fit", source, [*target, "stretch" if mode == "default" else mode], result)
    for radius in [0, 0.4, 1, 2.5, 7, 30]:
        source = picture(19, 14, 1 if radius == 1 else 3)
        add("gaussianBlur", source, [radius], source.filter(ImageFilter.GaussianBlur(radius)))
        add("boxBlur", source, [radius], source.filter(ImageFilter.BoxBlur(radius)))
    for pixels in [0, 1, 4]:
        source = picture(17, 12, 1)
        add("dilate", source, [pixels], source.filter(ImageFilter.MaxFilter(2 * pixels + 1)))
        add("erode", source, [pixels], source.filter(ImageFilter.MinFilter(2 * pixels + 1)))
    for channels in [3, 4]:
        source = picture(16, 16, channels)
        add("toGrey", source, [], source.convert("L"))
        add("toRgb", source, [], source.convert("RGB"))
    over, under, mask = picture(12, 10, 3), picture(12, 10, 3), picture(12, 10, 1)
    cases.append({"op": "composite", "args": [], "source": packed(over), "more": [packed(under), packed(mask)], "result": packed(Image.composite(over, under, mask))})
    return cases


def f32(values):
    return base64.b64encode(np.ascontiguousarray(values, "<f4").tobytes()).decode()


def planes():
    """VaeImageProcessor both ways, mask binarisation and torch's nearest."""
    processor = VaeImageProcessor(vae_scale_factor=1)
    ties = (np.arange(0, 256) + 0.5) / 255 * 2 - 1
    decoded = np.concatenate([ties, rng.normal(0, 0.7, 3 * 8 * 40 - 256)]).astype(np.float32).reshape(1, 3, 8, 40)
    image = processor.postprocess(torch.from_numpy(decoded), output_type="pil")[0]
    source = picture(16, 16, 3)
    masker = VaeImageProcessor(vae_scale_factor=1, do_normalize=False, do_binarize=True, do_convert_grayscale=True)
    mask = masker.preprocess(source)
    nearest = []
    for size, target in [((16, 24), (2, 3)), ((9, 14), (4, 5)), ((5, 7), (11, 13))]:
        x = rng.normal(size=(1, 2, *size)).astype(np.float32)
        y = torch.nn.functional.interpolate(torch.from_numpy(x), size=target).numpy()
        nearest.append({"from": size, "to": target, "x": f32(x), "y": f32(y)})
    return {
        "decoded": f32(decoded),
        "picture": packed(image),
        "source": packed(source),
        "encoded": f32(processor.preprocess(source).numpy()),
        "mask": f32(mask.numpy()),
        "nearest": nearest,
    }


def infotext_parts(text):
    """A1111's reading, after modules/infotext_utils.py: prompt, negative prompt, and the pairs found."""
    pair = re.compile(r'\s*(\w[\w \-/]+):\s*("(?:\\.|[^\\"])+"|[^,]*)(?:,|$)')
    lines = text.strip().split("\n")
    found = pair.findall(lines[-1])
    if len(found) >= 3:
        lines.pop()
    else:
        found = []
    sides, now = {"prompt": "", "negative": ""}, "prompt"
    for line in (line.strip() for line in lines):
        if line.startswith("Negative prompt:"):
            now, line = "negative", line[len("Negative prompt:") :].strip()
        sides[now] += line if sides[now] == "" else "\n" + line
    fields = {}
    for key, value in found:
        if value == "":
            continue
        if value[0] == '"' and value[-1] == '"':
            try:
                value = json.loads(value)
            except ValueError:
                pass
        fields[key] = value
    return {"prompt": sides["prompt"], "negativePrompt": sides["negative"], "fields": list(fields.items())}


infotexts = [
    "a cat\nNegative prompt: dog\nSteps: 20, Sampler: Euler a, Schedule type: Karras, CFG scale: 7, Seed: 1, Size: 512x512, Model hash: 6ce0161689, Model: v1-5, Version: v1.10.1",
    "a cat, 4k",
    "Steps: 20, Sampler: Euler a, CFG scale: 7.5, Seed: 4294967295",
    "only two\nSteps: 20, Sampler: Euler",
    'x\nSteps: 4, Sampler: LCM, Lora hashes: "a: 0123456789ab, b: c0ffee", TI: "say \\"hi\\", x", Broken: "open, Empty: , Seed: 3, Size: 64x32',
    "  spaced  \n\n  lines\n Negative prompt:  bad \n worse \nSteps: 1,Sampler:DDIM,  Seed : 5, CFG scale:7",
    "é 猫 😀\nNegative prompt: ∅\nSteps: 9, Überschrift: ja, キー: 値, Seed: 2, A: 1, -x: 2, ab-c/d e: 3",
    "p\nNegative prompt: a\nNegative prompt: b\nSteps: 1, Steps: 2, Sampler: x, Seed: 3",
    "\x1f\x85 odd space \u3000\nSteps: 1,\u00a0Sampler: x,\u2003Seed: 3",
    "q\nSteps: 20, CFG scale: 7.000000, Guidance: 3.500000, Eta: 0.000000, Seed: 42, Size: 512x512, Model: m.safetensors, RNG: cuda, Sampler: euler_a karras, Version: stable-diffusion.cpp",
]


def save(image, kind, **options):
    out = io.BytesIO()
    image.save(out, kind, **options)
    return out.getvalue()


def png_info(texts):
    info = PngImagePlugin.PngInfo()
    for key, text, compressed in texts:
        info.add_text(key, text, zip=compressed)
    return info


def files(folder):
    """Small pictures and what a reader should find in them."""
    texts = ["plain cat\nSteps: 1, Sampler: x, Seed: 2", "caf\u00e9\nSteps: 1, Sampler: x, Seed: 2", "\u732b \U0001f600\nSteps: 1, Sampler: x, Seed: 2"]
    found = {}

    def put(name, data, **expected):
        (folder / name).write_bytes(data)
        image = load_image(str(folder / name))
        found[name] = {**expected, "width": image.width, "height": image.height, "rgb": hashlib.sha256(image.tobytes()).hexdigest()}

    for i, text in enumerate(texts):
        put(f"a1111-{i}.png", save(picture(11, 7, 3), "PNG", pnginfo=png_info([("parameters", text, False)])), parameters=text)
        put(f"ztxt-{i}.png", save(picture(5, 6, 4), "PNG", pnginfo=png_info([("parameters", text, True)])), parameters=text)
        exif = piexif.dump({"Exif": {piexif.ExifIFD.UserComment: piexif.helper.UserComment.dump(text, encoding="unicode")}})
        for kind in ["JPEG", "WEBP"]:
            out = io.BytesIO()
            piexif.insert(exif, save(picture(12, 9, 3), kind, quality=80), out)
            put(f"a1111-{i}.{kind.lower()}", out.getvalue(), parameters=text)
    graph = {"3": {"class_type": "KSampler", "inputs": {"seed": 5, "text": "\u732b"}}}
    prompt, workflow = json.dumps(graph), json.dumps({"nodes": []})
    put("comfy.png", save(picture(8, 8, 3), "PNG", pnginfo=png_info([("prompt", prompt, False), ("workflow", workflow, False)])), prompt=prompt, workflow=workflow)
    exif = Image.Exif()
    exif[0x0110], exif[0x010F] = f"prompt:{prompt}", f"workflow:{workflow}"
    put("comfy.webp", save(picture(8, 8, 3), "WEBP", exif=exif), prompt=prompt, workflow=workflow)
    put("invoke.png", save(picture(8, 8, 3), "PNG", pnginfo=png_info([("invokeai_metadata", '{"seed": 1}', False)])), texts={"invokeai_metadata": '{"seed": 1}'})
    raw = b"parameters\0" + texts[2].encode()
    chunk = len(raw).to_bytes(4, "big") + b"tEXt" + raw + zlib.crc32(b"tEXt" + raw).to_bytes(4, "big")
    plain = save(picture(6, 6, 3), "PNG")
    put("sdcpp.png", plain[:33] + chunk + plain[33:], parameters=texts[2])
    for orientation in range(1, 9):
        exif = Image.Exif()
        exif[0x0112] = orientation
        put(f"turn-{orientation}.jpeg", save(picture(9, 5, 3), "JPEG", exif=exif, quality=70))
    put("cmyk.jpeg", save(picture(9, 8, 4).convert("RGB").convert("CMYK"), "JPEG", quality=70))
    put("palette.png", save(picture(9, 8, 3).quantize(13), "PNG"))
    put("bilevel.png", save(picture(13, 8, 1).convert("1"), "PNG"))
    put("grey-alpha.png", save(picture(9, 8, 4).convert("LA"), "PNG"))
    put("lossless.webp", save(picture(9, 8, 4), "WEBP", lossless=True, exact=True))
    return found


def main():
    folder = Path(sys.argv[1])
    folder.mkdir(parents=True, exist_ok=True)
    for name, value in [
        ("operations", operations()),
        ("planes", planes()),
        ("infotext", [{"text": t, **infotext_parts(t)} for t in infotexts]),
        ("files", files(folder)),
    ]:
        (folder / f"{name}.json").write_text(json.dumps({"made_with": versions, "data": value}, ensure_ascii=True))


if __name__ == "__main__":
    main()
