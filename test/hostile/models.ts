import { copyFileSync, cpSync, lstatSync, mkdirSync, readdirSync, readFileSync, writeFileSync } from "node:fs"
import { join } from "node:path"
import { gunzipSync } from "node:zlib"
import { Dice } from "./dice.ts"
import { jsonWays, spoilJson } from "./json.ts"
import { spoilLines, spoilPlace, yamls } from "./places.ts"
import { joinSafetensors, parseSafetensors, type RawTensor, spoilWeights } from "./weights.ts"

const golden = join(import.meta.dirname, "..", "golden")
const folders = ["sd1-tiny", "sd1-odd", "sd2-tiny", "sdxl-tiny", "sd1-inpaint"]

/** A model that a stranger made: where it lies, and what was done to it. */
export interface Spoilt {
  path: string
  what: string
  /** Its U-Net needs a start picture. */
  inpaint: boolean
}

/** Writes a sound single file in LDM keys: names and shapes as diffusers reads them, small random weights. */
export function writeSingleFile(path: string): void {
  const { ldm } = JSON.parse(
    gunzipSync(readFileSync(join(golden, "weights", "sd1-one-layer.json.gz"))).toString(),
  ) as { ldm: Record<string, [string, number[]]> }
  const dice = new Dice(0)
  const tensors = Object.entries(ldm).map(([name, [dtype, small]]): RawTensor => {
    // the bundled vocabulary belongs to single files
    const shape = name.endsWith("token_embedding.weight") ? [49408, small[1]!] : small
    const count = shape.reduce((a, b) => a * b, 1)
    if (dtype !== "F16") return { name, dtype, shape, bytes: Buffer.alloc(count * (dtype === "I64" ? 8 : 4)) }
    const values = new Uint16Array(count)
    // halves between 2^-5 and 2^-3 of either sign; norms near 1
    const norm = shape.length === 1 && name.endsWith("weight")
    for (let i = 0; i < count; i++)
      values[i] = norm ? 0x3c00 + dice.below(64) : (dice.below(2) << 15) | (0x2800 + dice.below(2048))
    return { name, dtype, shape, bytes: Buffer.from(values.buffer) }
  })
  writeFileSync(path, joinSafetensors(tensors))
}

/** The spoilt model of a number, made in `folder`; `single` is a sound single file to start from. */
export function spoiltModel(seed: number, folder: string, single: string): Spoilt {
  const dice = new Dice(seed)
  mkdirSync(folder, { recursive: true })
  const done: string[] = []
  if (dice.chance(0.25)) {
    const path = join(folder, "model.safetensors")
    copyFileSync(single, path)
    if (dice.chance(0.4)) done.push(layYaml(path, dice))
    else for (const _ of times(dice)) done.push(spoilFile(path, dice))
    return { path, what: `single file: ${done.join("; ")}`, inpaint: false }
  }
  const name = dice.pick(folders)
  const path = join(folder, name)
  cpSync(join(golden, "models", name), path, { recursive: true })
  if (dice.chance(0.12)) done.push(shard(path, dice))
  else for (const _ of times(dice)) done.push(spoilFile(aim(path, dice), dice))
  return { path, what: `${name}: ${done.join("; ")}`, inpaint: name === "sd1-inpaint" }
}

/** A sound model of the committed ones, copied to a folder. */
spoiltModel.sound = (name: string, folder: string): Spoilt => {
  const path = join(folder, name)
  cpSync(join(golden, "models", name), path, { recursive: true })
  return { path, what: name, inpaint: name === "sd1-inpaint" }
}

const times = (dice: Dice) => Array.from({ length: dice.chance(0.85) ? 1 : 2 + dice.below(3) })

function layYaml(model: string, dice: Dice): string {
  const what = dice.pick(Object.keys(yamls))
  const path = model.replace(/safetensors$/, dice.pick(["yaml", "yml", "yaml", "json"]))
  writeFileSync(path, yamls[what]!)
  if (!dice.chance(0.15)) return `yaml ${what}`
  const place = dice.pick(Object.keys(spoilPlace))
  spoilPlace[place]!(path, dice)
  return `yaml ${what}, ${place}`
}

/** A file of a model folder, configs and weights more often than the rest; sometimes a folder. */
function aim(model: string, dice: Dice): string {
  const all = (readdirSync(model, { recursive: true }) as string[]).map((f) => join(model, f))
  if (dice.chance(0.03)) return dice.pick(all.filter((f) => lstatSync(f).isDirectory()))
  const files = all.filter((f) => lstatSync(f).isFile())
  const roll = dice.real()
  const kind = (pattern: RegExp) => files.filter((f) => pattern.test(f))
  const some =
    roll < 0.3
      ? kind(/\.safetensors$/)
      : roll < 0.62
        ? kind(/(unet|vae|encoder\w*)\/config\.json$/)
        : roll < 0.75
          ? kind(/scheduler_config\.json$/)
          : roll < 0.8
            ? kind(/model_index\.json$/)
            : kind(/tokenizer\w*\//)
  return dice.pick(some.length > 0 ? some : files.length > 0 ? files : all)
}

function spoilFile(path: string, dice: Dice): string {
  const name = path.split("/").slice(-2).join("/")
  const stats = lstatSync(path, { throwIfNoEntry: false })
  // an earlier change took it away
  if (!stats) return `${name} gone`
  if (!stats.isFile() || stats.size === 0 || dice.chance(0.12)) {
    const way = dice.pick(Object.keys(spoilPlace))
    if (stats.isFile() || !/half|empty/.test(way)) spoilPlace[way]!(path, dice)
    return `${name} ${way}`
  }
  const [way, bytes] = spoilBytes(path, dice)
  writeFileSync(path, bytes)
  return `${name} ${way}`
}

function spoilBytes(path: string, dice: Dice): [way: string, bytes: string | Buffer] {
  if (path.endsWith(".safetensors")) {
    const way = dice.pick(Object.keys(spoilWeights))
    try {
      return [way, spoilWeights[way]!(readFileSync(path), dice)]
    } catch {
      // spoilt too well before for a second time
      return ["noise", dice.bytes(300)]
    }
  }
  const text = readFileSync(path, "utf8")
  if (path.endsWith(".json")) {
    const way = dice.pick(jsonWays)
    return [way, spoilJson(text, way, dice)]
  }
  const way = dice.pick(Object.keys(spoilLines))
  return [way, spoilLines[way]!(text, dice)]
}

/** Cuts the U-Net's weights in two files with an index, and spoils the index. */
function shard(model: string, dice: Dice): string {
  const folder = join(model, "unet")
  const whole = join(folder, "diffusion_pytorch_model.safetensors")
  const tensors = parseSafetensors(readFileSync(whole))
  const files = [1, 2].map((i) => `diffusion_pytorch_model-0000${i}-of-00002.safetensors`)
  const map: Record<string, unknown> = {}
  for (const [i, file] of files.entries()) {
    const part = tensors.filter((_, k) => k % 2 === i)
    for (const { name } of part) map[name] = file
    writeFileSync(join(folder, file), joinSafetensors(part))
  }
  spoilPlace.gone!(whole, dice)
  const index: Record<string, unknown> = { metadata: {}, weight_map: map }
  const key = dice.pick(Object.keys(map))
  const way = dice.pick(Object.keys(shardWays))
  shardWays[way]!(index, map, key)
  writeFileSync(`${whole}.index.json`, JSON.stringify(index))
  return `shards, ${way}`
}

const shardWays: Record<
  string,
  (index: Record<string, unknown>, map: Record<string, unknown>, key: string) => void
> = {
  sound: () => {},
  "no map": (index) => delete index.weight_map,
  "a list for a map": (index, map) => (index.weight_map = Object.keys(map)),
  "no shards": (index) => (index.weight_map = {}),
  "a key gone": (_index, map, key) => delete map[key],
  "a key more": (_index, map) => (map.more = "diffusion_pytorch_model-00001-of-00002.safetensors"),
  "no such shard": (_index, map, key) => (map[key] = "diffusion_pytorch_model-00003-of-00002.safetensors"),
  "the other shard": (_index, map, key) => {
    map[key] = Object.values(map).find((file) => file !== map[key])
  },
  "a shard above": (_index, map, key) => (map[key] = "../vae/diffusion_pytorch_model.safetensors"),
  "a shard far above": (_index, map, key) => (map[key] = "../../../../../../etc/passwd"),
  "a shard at the root": (_index, map, key) => (map[key] = "/etc/passwd"),
  "dots for a shard": (_index, map, key) => (map[key] = "..safetensors"),
  "a NUL in a shard": (_index, map, key) => (map[key] = "a\u0000.safetensors"),
  "a URL for a shard": (_index, map, key) => (map[key] = "https://localhost/a.safetensors"),
  "a number for a shard": (_index, map, key) => (map[key] = 7),
  "a long shard name": (_index, map, key) => (map[key] = `${"x".repeat(5000)}.safetensors`),
  "very many shards": (_index, map) => {
    for (let i = 0; i < 50_000; i++) map[`x${i}`] = `shard${i}.safetensors`
  },
  "a prototype": (index) =>
    (index.weight_map = JSON.parse('{"__proto__":"diffusion_pytorch_model-00001-of-00002.safetensors"}')),
}
