"""Conditionings of awkward prompts, by AUTOMATIC1111's own parser, chunks and emphasis over the small models.

    python3 tools/reference/a1111_golden.py test/golden/text --webui stable-diffusion-webui [--count 0] [--seed 1]

`--webui` is a checkout of AUTOMATIC1111/stable-diffusion-webui 1.10; of it `modules/prompt_parser.py`,
`modules/sd_emphasis.py` and `modules/sd_hijack_clip.py` are run (they need `lark`), the text encoders are transformers'.
What stands beside them in the web UI (`shared.opts`, the embedding database, the patched embedding table) is put in
their place here. `--count` adds random prompts. Kept are a few sums over every conditioning, the same ones that
`test/a1111.test.ts` makes.
"""

import argparse
import hashlib
import importlib.metadata
import json
import pathlib
import random
import sys
import types

import numpy as np
import torch
import transformers
from transformers import CLIPTextModel, CLIPTextModelWithProjection, CLIPTokenizer

parser = argparse.ArgumentParser()
parser.add_argument("out")
parser.add_argument("--webui", required=True)
parser.add_argument("--models", default="test/golden/models")
parser.add_argument("--count", type=int, default=0)
parser.add_argument("--seed", type=int, default=1)
options = parser.parse_args()
torch.set_grad_enabled(False)
transformers.logging.set_verbosity_error()


class Options:
    emphasis = "Original"
    comma_padding_backtrack = 20
    use_old_emphasis_implementation = False
    textual_inversion_add_hashes_to_infotext = False
    CLIP_stop_at_last_layers = 1
    sdxl_clip_l_skip = False


opts = Options()


def stand_in(name, **members):
    module = types.ModuleType(f"modules.{name}")
    vars(module).update(members)
    sys.modules[f"modules.{name}"] = module
    return module


# another package of the name must not come in between
package = types.ModuleType("modules")
package.__path__ = [str(pathlib.Path(options.webui) / "modules")]
sys.modules["modules"] = package
package.shared = stand_in("shared", opts=opts)
package.devices = stand_in("devices", device="cpu", torch_npu_set_device=lambda: None)
package.sd_hijack = stand_in("sd_hijack", StableDiffusionModelHijack=object)
from modules import prompt_parser, sd_hijack_clip  # noqa: E402

# --- text encoders --------------------------------------------------------------------------------------------------


class Database:
    """Textual inversions, found by their ids, the longest first."""

    def __init__(self, encoder, words):
        self.entries = sorted(
            ((encoder.tokenize([word])[0], word, vectors) for word, vectors in words.items()), key=lambda e: -len(e[0])
        )

    def find_embedding_at_position(self, tokens, at):
        for ids, name, vectors in self.entries:
            if tokens[at : at + len(ids)] == ids:
                return types.SimpleNamespace(vectors=len(vectors), name=name, vec=vectors), len(ids)
        return None, None


class Encoder(sd_hijack_clip.FrozenCLIPEmbedderWithCustomWordsBase):
    """One CLIP of a folder between the web UI's chunks and its emphasis."""

    def __init__(self, folder, number, layer, words):
        hijack = types.SimpleNamespace(fixes=None, extra_generation_params={})
        end = "" if number == 1 else f"_{number}"
        pooled = (folder / f"text_encoder{end}/config.json").read_text().find("WithProjection") > 0
        super().__init__(types.SimpleNamespace(return_pooled=pooled), hijack)
        kind = CLIPTextModelWithProjection if pooled else CLIPTextModel
        self.clip = kind.from_pretrained(folder / f"text_encoder{end}").float().eval()
        self.words = CLIPTokenizer.from_pretrained(folder / f"tokenizer{end}")
        self.layer, self.pooled = layer, pooled
        self.id_start, self.id_end = self.words.bos_token_id, self.words.eos_token_id
        self.id_pad = self.words.pad_token_id
        self.comma_token = self.words.get_vocab().get(",</w>")
        hijack.embedding_db = Database(self, words)
        table = next(m for n, m in self.clip.named_modules() if n.endswith("token_embedding"))
        table.register_forward_hook(self.with_vectors)

    def with_vectors(self, _, __, embedded):
        fixes, self.hijack.fixes = self.hijack.fixes, None
        rows = []
        for row, places in zip(embedded, fixes):
            for offset, embedding in places:
                count = min(row.shape[0] - offset - 1, len(embedding.vec))
                row = torch.cat([row[: offset + 1], embedding.vec[:count], row[offset + 1 + count :]])
            rows.append(row)
        return torch.stack(rows)

    def tokenize(self, texts):
        return self.words(texts, truncation=False, add_special_tokens=False)["input_ids"]

    def encode_with_transformers(self, tokens):
        out = self.clip(input_ids=tokens, output_hidden_states=True)
        if self.layer == "penultimate":
            z = out.hidden_states[-2]
        else:
            skip = opts.CLIP_stop_at_last_layers
            norm = next(m for n, m in self.clip.named_modules() if n.endswith("final_layer_norm"))
            z = norm(out.hidden_states[-skip])
        if self.pooled:
            z.pooled = out.text_embeds
        return z


class Model:
    """`model.get_learned_conditioning` of the web UI."""

    def __init__(self, name, words):
        folder = pathlib.Path(options.models) / name
        xl = (folder / "text_encoder_2").exists()
        self.encoders = [Encoder(folder, i, "penultimate" if xl else "last", words) for i in ((1, 2) if xl else (1,))]
        self.dim = self.encoders[0].clip.config.hidden_size

    def get_learned_conditioning(self, texts):
        outs = [encoder(list(texts)) for encoder in self.encoders]
        if len(outs) == 1:
            return outs[0]
        return {"crossattn": torch.cat([outs[0], outs[1][0]], 2), "vector": outs[1][1]}


def vectors(name, word, count):
    """Any numbers, the same on both sides: a formula of the word's length and the place."""
    dims = {"sd1-tiny": 32, "sd2-tiny": 32}
    at = np.arange(count * dims[name], dtype=np.float64)
    return torch.tensor(np.sin(at * 0.37 + len(word)).astype(np.float32)).reshape(count, dims[name])


# --- prompts --------------------------------------------------------------------------------------------------------

LIST = ", ".join("a small red castle near the quiet village and the old stone tower".split() * 7)
RUN = " ".join("large white lighthouse over a dark sea with storm clouds".split() * 12)
WORDS = "lighthouse cat, dog fox red blue (owl:1.3) castle [tower] river, sea of stone 3d über 日本 &amp; it's".split()
GRAMMAR = [
    "", " ", "a lighthouse at sunset", "a (lighthouse) at sunset", "a ((lighthouse)) at sunset", "a (lighthouse:1.5) at [sunset]",
    "(a (red:1.2) [blue] ((castle:0.7))) near the sea", "a \\(literal\\) castle (of [stone\\]:1.3)", "back\\\\slash (owl\\:1.2)",
    "(unclosed castle, (twice", "closed) too ] often)", "[[[faint]]] tower", "(zero:0) weight",
    "(negative:-0.5) weight", "(:1.3) (castle: 1.4 ) (castle :1.4)", "a castle BREAK a red boat", "BREAK", "a BREAK BREAK b",
    "(a castle BREAK a boat:1.2)", "aBREAKb", "a castle # with a comment\nand a boat", "line one\nline (two:1.2)\n\tline three",
    "(a)(b)(c:1.2)[d]", "a: b: (c: d)", "(castle:1.3", "UPPER Case (WORDS:1.2)", "(日本:1.2) über (naïve:0.8)", "cat:1.2",
    "((((((((deep))))))))", "[(castle:1.2)]", "(castle:+1.2)", "(castle:.5)", "(castle:2.)", "a|b (c|d:1.2)", "{a|b} (c:1.1)",
    "((red), (blue:1.4), [green])", "(very (nested (weights:1.5):0.5):1.5) here",
]  # fmt: skip
SCHEDULED = [
    "a [castle:boat:0.5] at sunset", "a [castle:boat:4]", "[castle:0.3] and sea", "[castle::0.3] and sea", "[castle::5] (sea:1.3)",
    "a [(castle:1.4):(boat:0.6):0.5] at sunset", "(a [castle:boat:0.5]:1.3)", "[a|b]", "a [red|(blue:1.5)|green] castle (sea:0.8)",
    "[fe|]male (owl:1.2)", "[a:[b:c:0.7]:0.3] (d:1.2)", "[a|[b|c]] (d:1.2)", "[a:b:0] c", "[a:b:1.0] c", "[a:b:1] c", "[a:b:25] c",
    "[a:b:-1] c", "[a:b:c] (d:1.2)", "[a:b: .5 ] c", "[:boat:0.5]", "[castle::0.5][boat:0.5]", "a [b:3", "a | b [c:d:3]",
    f"[short:{RUN}:0.5] (end:1.3)", f"[{RUN}|short] (end:0.7)", "[a AND b:c:0.5]", "[a:b:1e1] c", "[a:b:1.5] (c:1.2)", "[a:b:12] (c:1.2)",
]  # fmt: skip
COMPOSED = [
    "a castle AND a boat", "a castle :1.2 AND a (boat:1.3) :0.7", "a cat AND a dog :-0.5", f"short AND {RUN}", f"({RUN}:1.1) AND (short:1.3) :0.4",
    "[a:b:0.5] AND [c|d] (e:1.2)", "ANDROID AND a castle", "a AND", f"{LIST} AND x AND (y:2)",
]  # fmt: skip
LONG = [
    RUN, LIST, f"({RUN}:1.2)", f"({LIST}:0.8), (tail:1.4)", f"{RUN}, {LIST}", f"{LIST} BREAK {RUN}",
    " ".join(["castle"] * 70) + ", a small (red:1.3) boat on the sea, with a tower", ", ".join(["x"] * 90),
    " ".join(["castle"] * 54) + ", " + " ".join(["boat"] * 40), " ".join(["castle"] * 55) + ", " + " ".join(["boat"] * 40),
    " ".join(["castle"] * 75), " ".join(["castle"] * 75) + ",", " ".join(["castle"] * 74) + ", boat", "(" + " ".join(["owl"] * 150) + ":1.1)",
]  # fmt: skip
NAMED = [
    "a star at sunset", "(star:1.4) and [hill dog]", "hill dog hill", "star, star star", "a <star> hill dogs",
    " ".join(["castle"] * 60) + ", a star and hill dog and more words over there by the old river with a boat",
    " ".join(["castle"] * 73) + " star boat", " ".join(["castle"] * 62) + ", (star:1.3) " + " ".join(["boat"] * 20),
    "[star:hill dog:0.5] (castle:1.2)",
]  # fmt: skip
TABLE = {"star": 3, "hill dog": 2, "hill": 1}


def random_prompt(rng):
    def piece(depth):
        k = rng.random()
        if depth == 0 or k < 0.45:
            return " ".join(rng.choice(WORDS) for _ in range(rng.randrange(1, 6)))
        if k < 0.6:
            return f"({piece(depth - 1)}{rng.choice(['', ':1.3', ':0.6', ': 1.1 ', ':-0.2'])})"
        if k < 0.7:
            return f"[{piece(depth - 1)}]"
        if k < 0.8:
            return f"[{piece(depth - 1)}:{piece(depth - 1)}:{rng.choice(['0.5', '3', '.25', '7', '1.0'])}]"
        if k < 0.85:
            return "[" + "|".join(piece(depth - 1) for _ in range(rng.randrange(2, 4))) + "]"
        return piece(depth - 1) + rng.choice([", ", " BREAK ", " ", " AND ", "\n", " \\( "]) + piece(depth - 1)

    return ", ".join(piece(3) for _ in range(rng.randrange(1, 12)))


def cases():
    rng = random.Random(options.seed)
    modes = ["Original", "No norm", "Ignore", "None"]
    for i, text in enumerate(GRAMMAR):
        yield {"model": ["sd1-tiny", "sd2-tiny", "sdxl-tiny"][i % 3], "prompt": text}
    for mode in modes[1:]:
        for model in ("sd1-tiny", "sdxl-tiny"):
            yield {"model": model, "prompt": "a (lighthouse:1.5) BREAK at [sunset] \\(x\\)", "emphasis": mode}
    for i, text in enumerate(SCHEDULED):
        hires = {"hires": 6} if i % 4 == 3 else {}
        yield {"model": ["sd1-tiny", "sd2-tiny", "sdxl-tiny"][i % 3], "prompt": text, "steps": 10, **hires}
    for i, text in enumerate(COMPOSED + LONG):
        yield {"model": ["sd2-tiny", "sd1-tiny", "sdxl-tiny"][i % 3], "prompt": text, "steps": 10}
    for i, text in enumerate(NAMED):
        yield {"model": ["sd1-tiny", "sd2-tiny"][i % 2], "prompt": text, "steps": 6, "words": TABLE}
    yield {"model": "sd1-tiny", "prompt": "a (lighthouse:1.5)", "clipSkip": 2}
    for _ in range(options.count):
        yield {
            "model": rng.choice(["sd1-tiny", "sd2-tiny", "sdxl-tiny"]),
            "prompt": random_prompt(rng),
            "steps": rng.choice([1, 4, 9]),
            **rng.choice([{}, {}, {"hires": 5}]),
            **rng.choice([{}, {}, {}, {"emphasis": rng.choice(modes)}]),
        }


def sums(tensor):
    """Length, root mean square, and twelve sums with cosines of different speed."""
    v = tensor.double().flatten().numpy()
    at = np.arange(v.size)
    parts = [float((v * np.cos(0.1 * (k + 1) * at + k)).sum() / np.sqrt(v.size)) for k in range(12)]
    return [tensor.shape[0], *(float(f"{x:.8g}") for x in (np.sqrt((v * v).mean()), *parts))]


models = {}


def model_of(name, words):
    key = (name, tuple(words))
    if key not in models:
        models[key] = Model(name, {word: vectors(name, word, count) for word, count in words.items()})
    return models[key]


def conditioning(case):
    model = model_of(case["model"], case.get("words", {}))
    opts.emphasis, opts.CLIP_stop_at_last_layers = case.get("emphasis", "Original"), case.get("clipSkip", 1)
    steps, hires = case.get("steps", 1), case.get("hires")
    # comments go before anything else (the web UI's own script does it)
    import re

    text = re.sub(r"(^|\n)#[^\n]*(\n|$)", "\n", case["prompt"])
    text = re.sub(r"#[^\n]*(\n|$)", "\n", text)
    prompts = prompt_parser.SdConditioning([text], width=64, height=64)
    made = prompt_parser.get_multicond_learned_conditioning(model, prompts, steps, hires, False)
    rows = {}
    for call in range(hires or steps):
        (weights,), stacked = prompt_parser.reconstruct_multicond_batch(made, call)
        context = stacked["crossattn"] if isinstance(stacked, dict) else stacked
        row = [[weight, *sums(context[i])] for i, weight in weights]
        if isinstance(stacked, dict):
            row = [[*r, *sums(stacked["vector"][i][None])] for r, (i, _) in zip(row, weights)]
        rows.setdefault(json.dumps(row), []).append(call)
    return [[calls, json.loads(row)] for row, calls in rows.items()]


def main():
    made = [{**case, "calls": conditioning(case)} for case in cases()]
    files = ["prompt_parser.py", "sd_emphasis.py", "sd_hijack_clip.py"]
    code = [(pathlib.Path(options.webui) / "modules" / name).read_bytes() for name in files]
    about = {
        "made by": "tools/reference/a1111_golden.py",
        "versions": {name: importlib.metadata.version(name) for name in ("transformers", "torch", "lark")},
        "webui": {name: hashlib.sha256(text).hexdigest()[:12] for name, text in zip(files, code)},
    }
    lines = ",\n".join(json.dumps(row, separators=(",", ":"), ensure_ascii=False) for row in made)
    out = pathlib.Path(options.out) / "a1111-conditioning.json"
    out.parent.mkdir(parents=True, exist_ok=True)
    out.write_text(json.dumps(about)[:-1] + ', "rows": [\n' + lines + "\n]}\n")
    print(len(made), "prompts,", sum(len(row["calls"]) for row in made), "conditionings")


main()
