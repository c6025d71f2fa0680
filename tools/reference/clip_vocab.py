"""Packs OpenAI CLIP's merges into assets/clip-vocab.bin.gz.

    python3 tools/reference/clip_vocab.py bpe_simple_vocab_16e6.txt.gz assets/clip-vocab.bin.gz

The first file is in OpenAI's CLIP repository and in the PyPI package open_clip_torch (MIT licence). The result
holds the left ids of the 48,894 merges that CLIP keeps, then their right ids, as 16-bit little-endian numbers.
All else follows from them (src/text/bundled.ts).
"""

import gzip
import struct
import sys

source, target = sys.argv[1:3]
lines = gzip.open(source).read().decode("utf-8").split("\n")[1 : 49152 - 256 - 2 + 1]

printable = [b for b in range(256) if 32 < b < 127 or 160 < b and b != 173]
alphabet = [chr(b) for b in printable] + [chr(256 + i) for i in range(256 - len(printable))]
ids = {symbol: i for i, symbol in enumerate(alphabet + [c + "</w>" for c in alphabet])}

left, right = [], []
for line in lines:
    a, b = line.split(" ")
    left.append(ids[a])
    right.append(ids[b])
    ids[a + b] = len(ids)
assert len(ids) == 49406

columns = struct.pack(f"<{2 * len(left)}H", *left, *right)
with open(target, "wb") as out:
    with gzip.GzipFile(filename="", mode="wb", fileobj=out, compresslevel=9, mtime=0) as packed:
        packed.write(columns)
