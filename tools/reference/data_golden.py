"""Small archives in the forms that data sets are kept in: tar as Python writes it, Parquet as pyarrow does.

    python3 tools/reference/data_golden.py --out test/golden/train/data
"""

from __future__ import annotations

import argparse
import io
import json
import tarfile
from pathlib import Path

import PIL
import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image

COLOURS = ["red", "green", "blue", "yellow", "black"]
LONG = "a-folder-with-a-long-name/" * 6


def picture(n: int, kind: str = "PNG") -> bytes:
    out = io.BytesIO()
    Image.new("RGB", (8 + 4 * n, 12), COLOURS[n]).save(out, kind)
    return out.getvalue()


def write_tar(path: Path, form: int) -> None:
    with tarfile.open(path, "w", format=form) as tar:
        for n, colour in enumerate(COLOURS):
            key = f"{LONG if n == 2 else 'set/'}{n:04d}"
            caption = f"a {colour} card".encode()
            files = {"jpg" if n == 1 else "png": picture(n, "JPEG" if n == 1 else "PNG")}
            files |= {"json": json.dumps({"caption": caption.decode(), "size": n}).encode()} if n == 3 else {"txt": caption}
            for ending, body in files.items():
                info = tarfile.TarInfo(f"{key}.{ending}")
                info.size = len(body)
                tar.addfile(info, io.BytesIO(body))
        link = tarfile.TarInfo("set/9999.png")
        link.type, link.linkname = tarfile.SYMTYPE, "/etc/passwd"
        tar.addfile(link)


def write_parquet(path: Path, compression: str, struct: bool) -> None:
    images = [picture(n) for n in range(5)]
    column = pa.array([{"bytes": b, "path": f"{n}.png"} for n, b in enumerate(images)]) if struct else pa.array(images)
    table = pa.table({"image": column, "text": pa.array([f"a {c} card" for c in COLOURS])})
    pq.write_table(table, path, compression=compression, row_group_size=2)


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--out", type=Path, required=True)
    out = parser.parse_args().out
    out.mkdir(parents=True, exist_ok=True)
    write_tar(out / "pax.tar", tarfile.PAX_FORMAT)
    write_tar(out / "gnu.tar", tarfile.GNU_FORMAT)
    write_parquet(out / "snappy.parquet", "snappy", True)
    write_parquet(out / "gzip.parquet", "gzip", False)
    (out / "versions.json").write_text(json.dumps({"pyarrow": pa.__version__, "pillow": PIL.__version__}) + "\n")


if __name__ == "__main__":
    main()
