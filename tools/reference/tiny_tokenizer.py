"""Small byte-pair vocabularies for CLIPTokenizer, trained on the word list below.

The layout is that of the tokenizers published with Stable Diffusion: 256 byte
symbols, the same with `</w>`, one symbol per merge, then the two special tokens
(first instead of last for the "specials_first" kind, so that the ids differ).
"""

from __future__ import annotations

import gzip
import json
from collections import Counter
from pathlib import Path

WORDS = (
    "a an the of at in on and with under over by near red blue green golden white dark bright old small large "
    "lighthouse sunset sunrise castle house forest river mountain sea ocean boat ship cat dog fox owl horse bird "
    "robot city street garden flower tree stone tower bridge moon stars night morning evening winter summer rain "
    "snow storm cloud sky light shadow portrait painting photograph drawing watercolor oil pencil sketch style "
    "detailed highly sharp blurry ugly low quality best masterpiece realistic dramatic lighting cinematic wide "
    "angle close up beautiful landscape quiet village market people walking child woman man king queen knight "
    "dragon ancient ruins desert island beach waves harbor fishing train station paper glass wooden iron copper"
).split()


def byte_symbols() -> dict[int, str]:
    """GPT-2's printable stand-in for every byte."""
    printable = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    table = {byte: chr(byte) for byte in printable}
    spare = 0
    for byte in range(256):
        if byte not in table:
            table[byte] = chr(256 + spare)
            spare += 1
    return table


def train_merges(words: list[str], count: int) -> list[tuple[str, str]]:
    """Plain byte-pair training; ties go to the alphabetically first pair, so the result is fixed."""
    spelled = [[*word[:-1], word[-1] + "</w>"] for word in words]
    merges: list[tuple[str, str]] = []
    while len(merges) < count:
        pairs = Counter(pair for word in spelled for pair in zip(word, word[1:]))
        if not pairs:
            break
        best = min(pairs, key=lambda pair: (-pairs[pair], pair))
        merges.append(best)
        spelled = [merge_word(word, best) for word in spelled]
    return merges


def merge_word(word: list[str], pair: tuple[str, str]) -> list[str]:
    merged: list[str] = []
    for symbol in word:
        if merged and (merged[-1], symbol) == pair:
            merged[-1] += symbol
        else:
            merged.append(symbol)
    return merged


def vocabulary(merge_count: int, specials_first: bool = False, ascii_only: bool = False) -> tuple[dict[str, int], list]:
    """The id of every symbol, and the merges in order of rank."""
    table = byte_symbols()
    order = [byte for byte in sorted(table, key=lambda byte: (not table[byte].isascii(), ord(table[byte])))]
    letters = [table[byte] for byte in order if not ascii_only or (table[byte].isascii())]
    merges = train_merges(WORDS, merge_count)
    symbols = letters + [letter + "</w>" for letter in letters]
    symbols += [a + b for a, b in merges if a + b not in symbols]
    specials = ["<|startoftext|>", "<|endoftext|>"]
    symbols = specials + symbols if specials_first else symbols + specials
    return {symbol: index for index, symbol in enumerate(symbols)}, merges


def write_tokenizer(folder: Path, spec: dict, bpe: Path | None = None) -> dict[str, int]:
    """Writes the four files that published model folders have; returns the vocabulary. `bpe` is for "clip" only."""
    if spec.get("clip"):
        if bpe is None:
            raise ValueError("this model has CLIP's own vocabulary: name bpe_simple_vocab_16e6.txt.gz with --bpe")
        return write_clip_tokenizer(folder, bpe, spec["pad"])
    vocab, merges = vocabulary(spec["merges"], spec.get("specials_first", False), spec.get("ascii_only", False))
    write_tokenizer_files(folder, vocab, [f"{a} {b}" for a, b in merges], spec["pad"], spec["max_length"])
    return vocab


def write_tokenizer_files(folder: Path, vocab: dict[str, int], merges: list[str], pad: str, max_length: int) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "vocab.json").write_text(json.dumps(vocab, ensure_ascii=False, separators=(",", ":")), encoding="utf-8")
    (folder / "merges.txt").write_text("\n".join(["#version: 0.2", *merges]) + "\n", encoding="utf-8")

    def special(text: str, **more: object) -> dict:
        return {**more, "content": text, "lstrip": False, "normalized": True, "rstrip": False, "single_word": False}

    start, end = "<|startoftext|>", "<|endoftext|>"
    config = {
        "add_prefix_space": False,
        "bos_token": special(start, __type="AddedToken"),
        "do_lower_case": True,
        "eos_token": special(end, __type="AddedToken"),
        "errors": "replace",
        "model_max_length": max_length,
        "pad_token": end,
        "tokenizer_class": "CLIPTokenizer",
        "unk_token": special(end, __type="AddedToken"),
    }
    # SD 2.x folders name the real padding token in special_tokens_map.json only
    specials = {"bos_token": special(start), "eos_token": special(end), "pad_token": pad, "unk_token": special(end)}
    (folder / "tokenizer_config.json").write_text(json.dumps(config, indent=2) + "\n")
    (folder / "special_tokens_map.json").write_text(json.dumps(specials, indent=2) + "\n")


def write_clip_tokenizer(folder: Path, bpe: Path, pad: str) -> dict[str, int]:
    """vocab.json and merges.txt of the published models, derived from OpenAI's merges alone."""
    lines = gzip.decompress(bpe.read_bytes()).decode("utf-8").split("\n")
    merges = lines[1 : 49152 - 256 - 2 + 1]
    letters = sorted(byte_symbols().values(), key=lambda symbol: (not symbol.isascii(), ord(symbol)))
    symbols = [*letters, *(letter + "</w>" for letter in letters), *("".join(merge.split()) for merge in merges)]
    symbols += ["<|startoftext|>", "<|endoftext|>"]
    vocab = {symbol: index for index, symbol in enumerate(symbols)}
    write_tokenizer_files(folder, vocab, merges, pad, 77)
    return vocab
