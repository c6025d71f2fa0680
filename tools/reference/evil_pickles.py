"""Malicious pickles by Python's own pickler, read by `convert` under strace: nothing may be executed.

    npm run build && python3 tools/reference/evil_pickles.py [--keep FOLDER]

Makes 54 files (six protocols, three forms, three payloads; each would touch a canary file when it is unpickled), proves
with Python that each of them does, and then has aquatint read them all in one process under
`strace -f -e trace=execve,execveat,connect`. Passes when every file is refused with exit code 2's blame, no program was
started and no connection made but those of the same process reading nothing at all, and no canary is there.
"""

from __future__ import annotations

import argparse
import collections
import io
import pickle
import re
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
RUNNER = """
import { readdirSync } from "node:fs"
import { join } from "node:path"
const [, dist, folder] = process.argv
const { convert } = await import(dist)
const files = readdirSync(folder).filter((f) => f.endsWith(".ckpt")).sort()
for (const file of files) {
  const what = await convert(join(folder, file), join(folder, "out.safetensors")).then(
    () => "converted",
    (e) => `${e.code} ${e.blame}`,
  )
  console.log(`${file} ${what}`)
}
"""


class Payload:
    def __init__(self, kind: str, canary: Path):
        self.kind, self.canary = kind, canary

    def __reduce__(self):
        import builtins
        import os

        command = f"touch {self.canary}"
        if self.kind == "system":
            return os.system, (command,)
        if self.kind == "popen":
            return subprocess.getoutput, (command,)
        return builtins.eval, (f"open({str(self.canary)!r}, 'w').close()",)


def bare(value, protocol: int) -> bytes:
    return pickle.dumps(value, protocol=protocol)


def torch_zip(value, protocol: int) -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as archive:
        archive.writestr("archive/data.pkl", pickle.dumps(value, protocol=protocol))
        archive.writestr("archive/byteorder", "little")
        archive.writestr("archive/version", "3\n")
    return out.getvalue()


def torch_legacy(value, protocol: int) -> bytes:
    head = [0x1950A86A20F9469CFC6C, 1001, {"protocol_version": 1001, "little_endian": True, "type_sizes": {"short": 2, "int": 4, "long": 4}}]
    return b"".join(pickle.dumps(part, protocol=protocol) for part in [*head, value, []])


def python_reads(path: Path, form: str) -> None:
    """Unpickles as torch.load without weights_only would."""
    data = path.read_bytes()
    if form == "zip":
        data = zipfile.ZipFile(io.BytesIO(data)).read("archive/data.pkl")
    stream = io.BytesIO(data)
    for _ in range(4 if form == "legacy" else 1):
        pickle.load(stream)


def programs(trace: str) -> collections.Counter:
    calls = re.findall(r"\b(execve|execveat|connect)\(([^)]*)\)\s*=\s*(-?\d+)", trace)
    return collections.Counter(f"{name} {args.split(',')[0]}" for name, args, result in calls if name == "connect" or result == "0")


def traced(folder: Path) -> tuple[str, collections.Counter]:
    log = folder / "strace.log"
    dist = (ROOT / "dist/index.js").as_uri()
    command = ["strace", "-f", "-o", str(log), "-e", "trace=execve,execveat,connect", "node", "--input-type=module", "-e", RUNNER, "--", dist, str(folder)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        sys.exit(f"the runner ended with {done.returncode}: {done.stderr[-2000:]}")
    return done.stdout, programs(log.read_text())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--keep", type=Path)
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        folder = args.keep or Path(temporary) / "evil"
        empty = Path(temporary) / "empty"
        for made in (folder, empty):
            made.mkdir(parents=True, exist_ok=True)
        canary = folder / "canary"
        count = 0
        for form, write in {"bare": bare, "zip": torch_zip, "legacy": torch_legacy}.items():
            for protocol in range(6):
                for kind in ("system", "popen", "eval"):
                    state = collections.OrderedDict(weight=Payload(kind, canary))
                    path = folder / f"{form}-{protocol}-{kind}.ckpt"
                    path.write_bytes(write(state, protocol))
                    python_reads(path, form)
                    if not canary.exists():
                        sys.exit(f"{path.name} does nothing even in Python")
                    canary.unlink()
                    count += 1
        _, nothing = traced(empty)
        told, started = traced(folder)
        lines = told.strip().splitlines()
        refused = [line for line in lines if line.endswith(" caller")]
        print(f"{count} files, each of which runs its payload in Python")
        print(f"refused: {len(refused)}; codes: {dict(collections.Counter(line.split()[1] for line in lines))}")
        print(f"programs and connections beyond those of an empty folder: {dict(started - nothing) or 'none'}")
        print(f"canary: {'TOUCHED' if canary.exists() else 'untouched'}")
        if len(refused) != count or started - nothing or canary.exists():
            sys.exit("FAILED")


if __name__ == "__main__":
    main()
