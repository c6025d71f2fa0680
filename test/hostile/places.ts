import { execFileSync } from "node:child_process"
import { chmodSync, mkdirSync, readFileSync, rmSync, symlinkSync, writeFileSync } from "node:fs"
import { basename } from "node:path"
import type { Dice } from "./dice.ts"

/** Ways to put something else where a file should be. */
export const spoilPlace: Record<string, (path: string, dice: Dice) => void> = {
  gone: (path) => remove(path),
  empty: (path) => writeFileSync(path, ""),
  "a folder": (path) => {
    remove(path)
    mkdirSync(path)
  },
  "a pipe": (path) => {
    remove(path)
    execFileSync("mkfifo", [path])
  },
  "a link to itself": (path) => link(basename(path), path),
  "a link to nowhere": (path) => link("nowhere", path),
  "a link to its folder": (path) => link(".", path),
  "a link to a device": (path, dice) => link(dice.pick(["/dev/zero", "/dev/null", "/dev/random"]), path),
  "a link to another file": (path) => link("/etc/hostname", path),
  unreadable: (path) => chmodSync(path, 0),
  "half of it": (path) => {
    const bytes = readFileSync(path)
    writeFileSync(path, bytes.subarray(0, bytes.length / 2))
  },
}

const remove = (path: string) => rmSync(path, { recursive: true })

function link(target: string, path: string): void {
  remove(path)
  symlinkSync(target, path)
}

/** Ways to spoil the lines of a merges.txt. */
export const spoilLines: Record<string, (text: string, dice: Dice) => string | Buffer> = {
  "a line gone": (text, dice) => edit(text, dice, () => []),
  "a line twice": (text, dice) => edit(text, dice, (line) => [line, line]),
  "a word gone": (text, dice) => edit(text, dice, (line) => [line.split(" ")[0]!]),
  "words changed over": (text, dice) => edit(text, dice, (line) => [line.split(" ").reverse().join(" ")]),
  "a strange line": (text, dice) =>
    edit(text, dice, () => [dice.pick([" ", "a b c", "\u0000 x", "é é", "x ".repeat(50_000)])]),
  "very many lines": (text) => `${text}\n${"a b\n".repeat(500_000)}`,
  bytes: (_text, dice) => dice.bytes(dice.below(400)),
}

function edit(text: string, dice: Dice, change: (line: string) => string[]): string {
  const lines = text.split("\n")
  const at = dice.below(lines.length)
  return lines.flatMap((line, i) => (i === at ? change(line) : [line])).join("\n")
}

const laughs = (levels: number) =>
  `a0: &a0 [x,x,x,x,x,x,x,x,x]\n${Array.from(
    { length: levels },
    (_, i) => `a${i + 1}: &a${i + 1} [${Array(9).fill(`*a${i}`)}]`,
  ).join("\n")}\nmodel: {params: *a${levels}}\n`

const ldm = (params: string) => `model:\n  params:\n${params.replace(/^/gm, "    ")}\n`

/** LDM configs that a stranger may lay beside a checkpoint. */
export const yamls: Record<string, string> = {
  plain: ldm('parameterization: "v"\nlinear_start: 0.00085\nlinear_end: 0.012\ntimesteps: 1000'),
  laughs: laughs(9),
  "a few laughs": laughs(1),
  "an alias of itself": "a: &a [*a]\nmodel: *a\n",
  "deep lists": `model: ${"[".repeat(50_000)}`,
  "deep closed lists": `model: ${"[".repeat(20_000)}${"]".repeat(20_000)}`,
  "deep blocks": Array.from({ length: 2000 }, (_, i) => `${" ".repeat(i)}a:`).join("\n"),
  tags: "model: !!python/object/apply:os.system ['true']\n",
  "js tags": "model: !!js/function 'function(){}'\n",
  "a broken line": "model: {params: [",
  "tabs and NUL": "model:\n\t\u0000: 1",
  "a prototype": "__proto__: {polluted: true}\nmodel: {params: {__proto__: {polluted: true}}}",
  merge: "base: &b {timesteps: 5}\nmodel: {params: {<<: *b}}",
  "keys twice": ldm("timesteps: 1000\ntimesteps: 1000"),
  "no document": "",
  "two documents": "a: 1\n---\nb: 2\n",
  "only text": "just some notes about this model",
  "unknown parameterization": ldm('parameterization: "flow"'),
  "huge timesteps": ldm("timesteps: 1000000000"),
  "no timesteps": ldm("timesteps: 0"),
  "half a timestep": ldm("timesteps: 0.5"),
  "odd betas": ldm("linear_start: -1\nlinear_end: 1e300"),
  "betas above 1": ldm("linear_start: 5\nlinear_end: 50"),
  "betas changed over": ldm("linear_start: 0.9\nlinear_end: 0.0001"),
  "tiny betas": ldm("linear_start: 1e-300\nlinear_end: 1e-299"),
  "huge scale": ldm("scale_factor: 1e308"),
  "tiny scale": ldm("scale_factor: 1e-308"),
  "no scale": ldm("scale_factor: .nan"),
  "many heads": ldm("unet_config: {params: {num_heads: 1000000000}}"),
  "seven heads": ldm("unet_config: {params: {num_heads: 7}}"),
  "wide heads": ldm("unet_config: {params: {num_head_channels: 999999}}"),
  "a huge picture": ldm("image_size: 100000000"),
  long: `# ${"x".repeat(1_000_000)}\n`,
  "long number": ldm(`timesteps: ${"9".repeat(5000)}`),
}
