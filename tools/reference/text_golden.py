"""Golden files of src/text: ids of transformers' CLIPTokenizer, schedules, weights and chunks of A1111 and ComfyUI.

    python3 tools/reference/text_golden.py test/golden/text --bpe bpe_simple_vocab_16e6.txt.gz \
        --forge stable-diffusion-webui-forge --comfy ComfyUI [--seed 1] [--bpe-count 300] [--prompt-count 200]

`--bpe` is OpenAI's merges file, `--forge` and `--comfy` are checkouts; of both only the functions that read prompts
are run (they need `lark`). The prompts are this script's own.
"""

import argparse
import ast
import collections
import importlib.metadata
import json
import math
import pathlib
import random
import re
import subprocess
import tempfile
import unicodedata

import lark
import torch
import transformers
from transformers import CLIPTokenizer

transformers.logging.set_verbosity_error()

parser = argparse.ArgumentParser()
parser.add_argument("out")
parser.add_argument("--bpe", required=True)
parser.add_argument("--forge", required=True)
parser.add_argument("--comfy", required=True)
parser.add_argument("--seed", type=int, default=1)
parser.add_argument("--bpe-count", type=int, default=300)
parser.add_argument("--prompt-count", type=int, default=200)
options = parser.parse_args()
rng = random.Random(options.seed)
out = pathlib.Path(options.out)
out.mkdir(parents=True, exist_ok=True)

BEGIN, END = "<|startoftext|>", "<|endoftext|>"


def revision(checkout):
    git = subprocess.run(["git", "-C", checkout, "log", "-1", "--format=%h %cs"], capture_output=True, text=True)
    return git.stdout.strip()


versions = {name: importlib.metadata.version(name) for name in ("transformers", "tokenizers", "lark")}
versions["stable-diffusion-webui-forge"] = revision(options.forge)
versions["ComfyUI"] = revision(options.comfy)


def write(name, **content):
    """One top-level entry a line, lists of rows one row a line."""

    def line(value):
        return json.dumps(value, separators=(",", ":"))

    def block(value):
        return "[\n" + ",\n".join(map(line, value)) + "\n]" if isinstance(value, list) else line(value)

    entries = {"made by": "tools/reference/text_golden.py", "versions": versions, **content}
    body = ",\n".join(f"{line(key)}: {block(value)}" for key, value in entries.items())
    (out / name).write_text("{\n" + body + "\n}\n")


# --- tokenizers ---------------------------------------------------------------------------------------------------

folder = pathlib.Path(tempfile.mkdtemp())


def clip_vocabulary():
    import gzip

    lines = gzip.open(options.bpe).read().decode("utf-8").split("\n")[1 : 49152 - 256 - 2 + 1]
    printable = [b for b in range(256) if 32 < b < 127 or 160 < b and b != 173]
    alphabet = [chr(b) for b in printable] + [chr(256 + i) for i in range(256 - len(printable))]
    symbols = alphabet + [c + "</w>" for c in alphabet] + [line.replace(" ", "") for line in lines] + [BEGIN, END]
    return {s: i for i, s in enumerate(symbols)}, lines


def described(content, normalized=True, **more):
    base = {"content": content, "lstrip": False, "normalized": normalized, "rstrip": False, "single_word": False}
    return {**base, **more}


def tokenizer(name, vocab, merges, config, special):
    path = folder / name
    path.mkdir()
    (path / "vocab.json").write_text(json.dumps(vocab))
    (path / "merges.txt").write_text("\n".join(["#version: 0.2", *merges]) + "\n")
    (path / "tokenizer_config.json").write_text(json.dumps(config))
    if special is not None:
        (path / "special_tokens_map.json").write_text(json.dumps(special))
    return CLIPTokenizer.from_pretrained(path)


vocab, merges = clip_vocabulary()
sd1_special = {"bos_token": described(BEGIN), "eos_token": described(END), "unk_token": described(END), "pad_token": END}
sd2_special = {**sd1_special, "pad_token": "!"}
sd1 = tokenizer("sd1", vocab, merges, {"model_max_length": 77}, sd1_special)
sd2 = tokenizer("sd2", vocab, merges, {"model_max_length": 77}, sd2_special)

# --- awkward prompts ----------------------------------------------------------------------------------------------

WORDS = (
    "a photo of the lighthouse's we'll don't I'VE they're he'd I'm CAT's Straße Σίσυφος ΟΔΟΣ İstanbul ıI ﬁ Ǆ café "
    "cafe\u0301 naïve 東京 日本語テスト 한국어 각 عربى العربية ไทยกำ हिन्दी עברית русский Ёлка 12345 3.14 1,000 ½ Ⅷ ٣٤ x² <b> </b> "
    "&amp; &lt;a&gt; <|startoftext|> <|endoftext|> <|EndOfText|> <|startof text|> http://a.b/c?d=e#f 🙂 👩‍👩‍👧 🏳️‍🌈 👍🏽 "
    "\ufe0f \u200d ... !!! ?! -- __ _a_ a_b (x:1.3) [y] {z|w} \\ / ' '' 's 'S ’s `` ~ @ # $ % ^ & * + = | \" : ; , . "
    "𐳺\u0308 ཱི \u1ac1\u0300 𲎰 Ꟊ \u0897 𖵧 1️⃣ ﷽ ᄀ\u1161\u11a8 \u0345ᾳ Ω K Å ẞ ŉ"
).split(" ")
SPACES = [" "] * 12 + ["  ", "\t", "\n", "\r\n", "\u00a0", "\u2003", "\u3000", "\u200b", "\ufeff", "\x85", "\x0b"]
SPACES += ["\x1c", "\u2028", "\u180e", "\u202f", "", "", ""]


def character():
    k = rng.random()
    if k < 0.3:
        return chr(rng.randrange(32, 127))
    if k < 0.5:
        return chr(rng.randrange(0, 0x300))
    if k < 0.7:
        return chr(rng.randrange(0x300, 0x2FFF))
    while True:
        c = rng.randrange(0, 0x20000 if k < 0.9 else 0x110000)
        if not 0xD800 <= c < 0xE000:
            return chr(c)


def word():
    k = rng.random()
    if k < 0.6:
        return rng.choice(WORDS)
    if k < 0.7:
        return rng.choice(WORDS).upper()
    if k < 0.8:
        return "".join(character() for _ in range(rng.randrange(1, 6)))
    if k < 0.9:
        return "".join(rng.choice("abcdefghijklmnopqrstuvwxyz") for _ in range(rng.randrange(1, 14)))
    if k < 0.95:
        return unicodedata.normalize(rng.choice(["NFD", "NFKD", "NFC"]), rng.choice(WORDS))
    return rng.choice(WORDS) * rng.randrange(1, 5)


def awkward(i):
    if i == 0:
        return ""
    if i % 97 == 0:
        return "".join(rng.choice("abcé") for _ in range(rng.randrange(60, 400)))
    return "".join(word() + rng.choice(SPACES) for _ in range(rng.randrange(0, 12)))


def ids(tokenizer, text):
    return tokenizer(text, add_special_tokens=False).input_ids


def bpe_rows():
    for i in range(options.bpe_count):
        text = awkward(i)
        yield [text, ids(sd1, text), *([ids(sd2, text)] if "!" in text or "<" in text else [])]


write("bpe.json", rows=list(bpe_rows()))


def small_tokenizers():
    """Vocabularies of a few hundred tokens with special tokens of every kind."""
    from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, trainers

    corpus = [" ".join(rng.choice(WORDS) for _ in range(8)) for _ in range(200)]
    cases = [
        # name, bytes left out, begin, end, config, special_tokens_map
        ("plain", False, BEGIN, END, {"model_max_length": 40}, None),
        ("sd2", False, BEGIN, END, {"model_max_length": 77}, sd2_special),
        ("few bytes", True, BEGIN, END, {"model_max_length": 16, "pad_token": "<pad>"}, None),
        (
            "other marks",
            True,
            "<s>",
            "</s>",
            {
                "bos_token": "<s>",
                "eos_token": "</s>",
                "unk_token": "<unk>",
                "pad_token": "!",
                "added_tokens_decoder": {
                    "0": {**described("!", False), "special": True},
                    "7": {**described("</s>", True, lstrip=True), "special": True},
                    "8": {**described("<s>", False, rstrip=True), "special": True},
                    "900": {**described("Cat Toy", True, single_word=True), "special": False},
                },
            },
            None,
        ),
    ]
    for name, few, begin, end, config, special in cases:
        trained = Tokenizer(models.BPE(end_of_word_suffix="</w>"))
        trained.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
        trained.normalizer = normalizers.Lowercase()
        alphabet = list("abcdefghijklmnop,.!") if few else pre_tokenizers.ByteLevel.alphabet()
        limit = {"limit_alphabet": 30} if few else {}
        trainer = trainers.BpeTrainer(
            vocab_size=400 if few else 600, end_of_word_suffix="</w>", initial_alphabet=alphabet, show_progress=False, **limit
        )
        trained.train_from_iterator(corpus, trainer)
        model = json.loads(trained.to_str())["model"]
        symbols = [s for s in model["vocab"]] + [s for s in (begin, end, "<unk>") if s not in model["vocab"]]
        vocab = {s: i for i, s in enumerate(symbols)}
        merges = [" ".join(pair) for pair in model["merges"]]
        t = tokenizer("small-" + name.replace(" ", "-"), vocab, merges, config, special)
        texts = [awkward(i + 1) + rng.choice(["", end, begin.upper(), " cat\ntoy ", "!", "<pad>"]) for i in range(30)]
        yield {
            "name": name,
            "vocab": vocab,
            "merges": merges,
            "config": config,
            "specialTokens": special,
            "marks": [t.bos_token_id, t.eos_token_id, t.pad_token_id, config.get("model_max_length", 77)],
            "rows": [[text, ids(t, text)] for text in texts],
        }


write("small.json", tokenizers=list(small_tokenizers()))

# --- prompt syntax ------------------------------------------------------------------------------------------------


def extract(path, names, scope):
    """Runs the named definitions of a source file, and nothing else of it."""
    tree = ast.parse(pathlib.Path(path).read_text())

    def wanted(node):
        targets = [t.id for t in getattr(node, "targets", []) if isinstance(t, ast.Name)]
        return getattr(node, "name", None) in names or any(t in names for t in targets)

    body = []
    for node in tree.body:
        if not wanted(node):
            continue
        if isinstance(node, ast.ClassDef) and names.get(node.name):
            node.bases = []
            node.body = [m for m in node.body if getattr(m, "name", None) in names[node.name]]
        body.append(node)
    module = ast.Module(body=body, type_ignores=[])
    exec(compile(ast.fix_missing_locations(module), str(path), "exec"), scope)
    return scope


scope = {"re": re, "lark": lark, "namedtuple": collections.namedtuple, "annotations": None}
wanted = "schedule_parser get_learned_conditioning_prompt_schedules re_AND re_weight SdConditioning "
wanted += "get_multicond_prompt_list re_attention re_break parse_prompt_attention"
source = pathlib.Path(options.forge) / "modules/prompt_parser.py"
forge = extract(source, dict.fromkeys(wanted.split()), scope)

PIECES = ["a", "b c", " d ", "e, f", "\\(x\\)", "cat", " ", "red, blue", "in the sky", "BREAK", "\n"]


def nested(depth):
    k = rng.random()
    if depth <= 0 or k < 0.35:
        return rng.choice(PIECES)
    if k < 0.5:
        return nested(depth - 1) + nested(depth - 1)
    if k < 0.62:
        return "(" + nested(depth - 1) + rng.choice(["", ":1.3", ": 0.7 ", ":.5", ":" + nested(depth - 1)]) + ")"
    if k < 0.68:
        return "[" + nested(depth - 1) + "]"
    if k < 0.86:
        when = rng.choice(["3", "0.5", " .25 ", "1.0", "12", "0", "-1", "1.5", "7 ", "x", "15", "1e1"])
        return "[" + rng.choice(["", nested(depth - 1) + ":", ":"]) + nested(depth - 1) + ":" + when + "]"
    return "[" + "|".join(rng.choice([nested(depth - 1), nested(depth - 1), ""]) for _ in range(rng.randrange(2, 5))) + "]"


FIXED = [
    "", " ", "a [unbalanced", "((a][:b:c [d:3]", "a [{b|d{:.5] c", "[fe|]male", "[fe|||]male", "a[b:[c:d:2]:1]e",
    "a | b [c:d:3]", "back\\", "a\\\n[b:c:3]", "(((x", "x)))", "\\\\(a)", "(a:1.2.3)", "(a:-0.5) (b:+2)", "a BREAK b",
    "(a BREAK b:1.2)", "aBREAKb BREAK", "BREAK", "BREAKBREAK BREAK", "[a:b:0.5] [c:d:.5]", "16:9", "a cat:1.2  ", "[ x : 3 ]",
]  # fmt: skip


def schedule_rows():
    texts = FIXED + [nested(rng.randrange(1, 5))[:120] for _ in range(options.prompt_count)]
    for i, text in enumerate(texts):
        steps = rng.choice([1, 4, 10, 20])
        hires = rng.choice([None, None, None, 5, 10])
        entries = forge["get_learned_conditioning_prompt_schedules"]([text], steps, hires)[0]
        try:
            runs = forge["parse_prompt_attention"](text)
        except ValueError:
            runs = None
        yield [text, steps, hires, entries, runs]


def and_rows():
    for text in ["a AND b", "a :1.2 AND b:-.5 AND c: 2.", " x  AND\ty \n", "ANDROID AND_ AND", "a:1:2", "16:9", "AND", "b: 1e3",
                 "é AND ü:3", "_AND AND é", "x :  .5  ", "a::5", "a:+3", "(a:1.2)", "<lora:x:1> AND b:0"]:  # fmt: skip
        indexes, flat, _ = forge["get_multicond_prompt_list"]([text])
        yield [text, [[flat[i], weight] for i, weight in indexes[0]]]


write("a1111.json", rows=list(schedule_rows()), splits=list(and_rows()))

# --- chunks -------------------------------------------------------------------------------------------------------

engine_scope = {
    "namedtuple": collections.namedtuple,
    "math": math,
    "torch": torch,
    "opts": type("Opts", (), {"emphasis": "Original"}),
    "parsing": type("Parsing", (), {"parse_prompt_attention": staticmethod(lambda t, _=None: forge["parse_prompt_attention"](t))}),
}
extract(
    pathlib.Path(options.forge) / "backend/text_processing/classic_engine.py",
    {
        "PromptChunkFix": None,
        "PromptChunk": None,
        "ClassicTextProcessingEngine": {"empty_chunk", "tokenize", "tokenize_line", "process_texts", "process_tokens"},
    },
    engine_scope,
)


class Emphasis:
    name = "Original"

    def after_transformers(self):
        pass


class Words:
    """Textual-inversion words, found by their ids as A1111's database does."""

    def __init__(self, tokenizer, words):
        self.entries = sorted(((ids(tokenizer, w), w, n) for w, n in words.items()), key=lambda e: -len(e[0]))

    def find_embedding_at_position(self, tokens, at):
        for word_ids, name, count in self.entries:
            if tokens[at : at + len(word_ids)] == word_ids:
                return type("Embedding", (), {"vectors": count, "name": name}), len(word_ids)
        return None, None


def forge_chunks(t, text, words):
    engine = engine_scope["ClassicTextProcessingEngine"]()
    engine.tokenizer, engine.chunk_length = t, t.model_max_length - 2
    engine.id_start, engine.id_end, engine.id_pad = t.bos_token_id, t.eos_token_id, t.pad_token_id
    engine.comma_token = t.get_vocab().get(",</w>")
    engine.embeddings = Words(t, words)
    engine.emphasis = Emphasis()
    kept = []

    def encode(tokens):
        kept.extend(tokens.tolist())
        return torch.zeros(1)

    engine.encode_with_transformers = encode
    result = []
    first = dict(zip(words, starts(t, words)))
    for chunk in engine.tokenize_line(text)[0]:
        kept.clear()
        engine.process_tokens([chunk.tokens], [chunk.multipliers])
        row = list(kept[0])
        for offset, embedding in chunk.fixes:
            if any(chunk.tokens[offset + 1 : offset + 1 + embedding.vectors]):
                return None  # moved to the next chunk by a comma: A1111 then leaves the vectors behind
            for i in range(embedding.vectors):
                row[offset + 1 + i] = first[embedding.name] + i
        result.append([row, chunk.multipliers])
    return result


def starts(t, words):
    at = max(t.get_vocab().values()) + 1
    for count in words.values():
        yield at
        at += count


comfy_scope = {"re": re, "logging": __import__("logging")}
extract(
    pathlib.Path(options.comfy) / "comfy/sd1_clip.py",
    {
        "parse_parentheses": None,
        "token_weights": None,
        "escape_important": None,
        "unescape_important": None,
        "SDTokenizer": {"tokenize_with_weights", "_try_get_embedding"},
    },
    comfy_scope,
)


class Vectors(list):
    @property
    def shape(self):
        return (len(self), 1)


def comfy_chunks(t, text, words):
    c = comfy_scope["SDTokenizer"]()
    c.tokenizer, c.max_length, c.min_length, c.min_padding = t, t.model_max_length, None, None
    c.tokens_start, c.start_token, c.end_token, c.pad_token = 1, t.bos_token_id, t.eos_token_id, t.pad_token_id
    c.tokenizer_adds_end_token = c.pad_to_max_length = True
    c.max_word_length, c.embedding_identifier, c.embedding_directory = 8, "embedding:", "."
    c.embedding_size = c.embedding_key = None
    first = dict(zip(words, starts(t, words)))
    comfy_scope["load_embed"] = lambda name, *_: (
        Vectors(range(first[name], first[name] + words[name])) if name in words else None
    )
    return [[[t for t, _ in chunk], [w for _, w in chunk]] for chunk in c.tokenize_with_weights(text)]


def long_prompt():
    parts = []
    for _ in range(rng.randrange(1, 40)):
        k = rng.random()
        part = " ".join(rng.choice(["castle", "misty", "of", "red", "lighthouse", "1920s", "hyperrealistic"]) for _ in range(rng.randrange(1, 6)))
        if k < 0.2:
            part = "(" + part + rng.choice(["", ":1.3", ":0.5"]) + ")"
        elif k < 0.25:
            part = "((" + part + "))"
        elif k < 0.3:
            part = "[" + part + "]"
        elif k < 0.36:
            part += " BREAK "
        elif k < 0.42:
            part += rng.choice([" zebrastyle", " zebrastyle two", " embedding:zebrastyle ", " embedding:zebrastyle, "])
        elif k < 0.44:
            part += rng.choice([" <|endoftext|>", "!", " wow!"])
        parts.append(part)
    return "".join(p + rng.choice([", ", ",", " ", " "]) for p in parts)


def chunk_rows():
    small = tokenizer("short", vocab, merges, {"model_max_length": 20}, sd2_special)
    named = {"sd1": sd1, "sd2": sd2, "sd2, 20 long": small}
    words = {"zebrastyle": 3, "zebrastyle two": 2}
    for i in range(max(12, options.prompt_count // 8)):
        text = "" if i == 0 else long_prompt()
        name = list(named)[i % 3]
        t = named[name]
        rows = {"a1111": forge_chunks(t, text, words), "comfy": comfy_chunks(t, text, words)}
        if rows["a1111"]:
            yield [text, name, rows]


write("chunks.json", words={"zebrastyle": 3, "zebrastyle two": 2}, rows=list(chunk_rows()))
