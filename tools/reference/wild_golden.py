"""Schedules of wild prompts (brackets left open, colons and bars anywhere) by AUTOMATIC1111's own parser.

    pip install lark==1.1.2
    python3 tools/reference/wild_golden.py test/golden/text --webui stable-diffusion-webui [--seed 11] [--count 300]

`--webui` is a checkout of AUTOMATIC1111/stable-diffusion-webui 1.10, of which `modules/prompt_parser.py` is run, with the
lark that its requirements name. That lark keeps equal readings in sets, so on some wild prompts Python's hash seed decides:
A1111 itself then reads one prompt otherwise after a restart. Kept are prompts that three hash seeds read alike and that
change on the way, those with the most signs; `--keep 0` keeps all, and beside each the readings of all seeds, for a sweep (`WILD_GOLDEN=file npx vitest run src/text`).
"""

import argparse
import importlib.metadata
import json
import os
import pathlib
import random
import re
import subprocess
import sys

parser = argparse.ArgumentParser()
parser.add_argument("out")
parser.add_argument("--webui", required=True)
parser.add_argument("--seed", type=int, default=11)
parser.add_argument("--count", type=int, default=300)
parser.add_argument("--keep", type=int, default=20)
parser.add_argument("--once", action="store_true", help="print the readings of this process's hash seed")
options = parser.parse_args()
rng = random.Random(options.seed)
SIGNS = ["[", "]", "(", ")", ":", "|", "a", "b ", "cat", "3", "0.5", " ", "\\(", "\\]", ",", "1.5", ":1.3)", ":0.5]", "[a:b:"]
SIGNS += ["[x|y]", "[", "]", "(", "]", "-2", "1e1", ".5]", "5.]", ":3]", "[cat:"]
TIMES = ["3", "0.5", " .25 ", "1.0", "12", "0", "-1", "1.5", "7 ", "x", "15"]


def tree(depth):
    """A prompt that keeps the grammar."""
    draw = rng.random()
    if depth <= 0 or draw < 0.35:
        return rng.choice(["a", "b c", " d ", "e, f", "\\(x\\)", " "])
    if draw < 0.5:
        return tree(depth - 1) + tree(depth - 1)
    if draw < 0.6:
        return "(" + tree(depth - 1) + rng.choice(["", ":1.3", ": 0.7 ", ":.5", ":" + tree(depth - 1)]) + ")"
    if draw < 0.66:
        return "[" + tree(depth - 1) + "]"
    if draw < 0.86:
        before = rng.choice(["", tree(depth - 1) + ":", ":"])
        return "[" + before + tree(depth - 1) + ":" + rng.choice(TIMES) + "]"
    parts = [rng.choice([tree(depth - 1), tree(depth - 1), ""]) for _ in range(rng.randrange(2, 5))]
    return "[" + "|".join(parts) + "]"


def spoilt(text):
    """The same with signs lost or added."""
    signs = list(text)
    for _ in range(rng.randrange(1, 4)):
        if not signs:
            break
        at = rng.randrange(len(signs))
        if rng.random() < 0.5:
            del signs[at]
        else:
            signs.insert(at, rng.choice(SIGNS))
    return "".join(signs)


def prompts():
    for _ in range(options.count):
        any_signs = rng.random() < 0.6
        yield ("".join(rng.choice(SIGNS) for _ in range(rng.randrange(2, 14))) if any_signs else spoilt(tree(4)))[:80]


def readings(texts):
    sys.path.insert(0, str(pathlib.Path(options.webui) / "modules"))
    import prompt_parser

    return [prompt_parser.get_learned_conditioning_prompt_schedules([text], 10)[0] for text in texts]


def of_seed(hash_seed):
    env = {**os.environ, "PYTHONHASHSEED": str(hash_seed)}
    run = subprocess.run([sys.executable, *sys.argv, "--once"], env=env, capture_output=True, text=True, check=True)
    return json.loads(run.stdout)


def hardness(text):
    """Signs of a prompt in which a bracket stays open beside a schedule; 0 for others."""
    open_, stray = [], 0
    for sign in re.sub(r"\\.", "", text):
        if sign in "([":
            open_.append(sign)
        elif sign in ")]":
            stray += not open_ or "([".index(open_.pop()) != ")]".index(sign)
    return bool(open_ or stray) * bool(re.search(r":\s*[-+.\d]+\s*\]", text)) * len(re.findall(r"[][():|]", text))


texts = list(prompts())
if options.once:
    print(json.dumps(readings(texts)))
    sys.exit()
seeds = [of_seed(seed) for seed in range(3)]
rows = [[text, *({json.dumps(seed[i]): seed[i] for seed in seeds}.values())] for i, text in enumerate(texts)]
if options.keep:
    rows = [row for row in rows if len(row) == 2 and len(row[1]) > 1 and hardness(row[0])]
    rows = sorted(rows, key=lambda row: -hardness(row[0]))[: options.keep]
about = {"seed": options.seed, "count": options.count, "lark": importlib.metadata.version("lark")}
lines = ",\n".join(json.dumps(row, separators=(",", ":"), ensure_ascii=False) for row in rows)
out = pathlib.Path(options.out) / "a1111-wild.json"
out.write_text(f'{{"about":{json.dumps(about)},\n"rows":[\n{lines}\n]}}\n')
