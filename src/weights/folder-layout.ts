import { AquatintError, fail } from "../errors.ts"
import { folderFamily, folderVariant } from "./family.ts"
import type { Component, Config, ModelFiles, Prediction } from "./model-files.ts"
import { deepest, nestsTooDeep } from "./nesting.ts"
import { fullTextKeys, modernVaeKeys } from "./old-keys.ts"
import type { SafetensorsHeader } from "./safetensors.ts"
import { type TensorView, Weights } from "./view.ts"

/** A folder tree, on a disk or behind a URL. */
export interface Tree {
  join(...parts: string[]): string
  /** Names in a folder; those that a model's folder can hold suffice. */
  list(path: string): Promise<string[]>
  /** A file's text, refused over `limit` bytes. */
  text(path: string, limit: number): Promise<string>
  /** The checked header of a safetensors file. */
  header(path: string): Promise<SafetensorsHeader>
}

const JSON_LIMIT = 32 * 1024 * 1024
const SHARD_NAME = /^[\w.-]+\.safetensors$/
/** The networks aquatint runs; safety checkers and image encoders of a folder are left alone. */
const NETWORKS = ["unet", "vae", "text_encoder", "text_encoder_2"]

/**
 * Parts that a folder takes from the folder of another model beside it, as `model_index.json` says under
 * `_aquatint.parts`: `{"vae": "../OTHER/vae"}`. Error: FOLDER_PARTS for any other path.
 */
function lentParts({ _aquatint: own }: Config, path: string): ReadonlyMap<string, string[]> {
  const parts = typeof own === "object" && own !== null && "parts" in own ? own.parts : {}
  return new Map(
    Object.entries(parts ?? {}).map(([name, from]) => {
      const [, model, part] = /^\.\.\/([\w-][\w.-]*)\/([\w-]+)$/.exec(String(from)) ?? []
      if (!model || !part)
        fail("FOLDER_PARTS", `${path}: ${name} cannot be taken from ${JSON.stringify(from)}`, {
          file: path,
          hint: "name a folder beside this one, as ../MODEL/vae",
        })
      return [name, ["..", model, part]]
    }),
  )
}

/** Options of the folder readers; `variant` ("fp16") is preferred where a folder holds several. */
export interface FolderOptions {
  variant?: string
}

/**
 * Opens a diffusers folder from its configs and headers: model_index.json, then each network it names.
 * Errors: FOLDER_* naming the component and listing what is there.
 */
export async function readFolder(tree: Tree, path: string, options: FolderOptions = {}): Promise<ModelFiles> {
  const here = await tree.list(path)
  if (!here.includes("model_index.json")) noIndex(path, here)
  const index = await readConfig(tree, tree.join(path, "model_index.json"))
  const lent = lentParts(index, path)
  const at = (name: string) => tree.join(path, ...(lent.get(name) ?? [name]))
  const has = (name: string) => lent.has(name) || here.includes(name)
  const components = new Map<string, Component>()
  for (const name of NETWORKS.filter((n) => isNamed(index[n]))) {
    if (!has(name))
      missing(
        path,
        name,
        here,
        Object.keys(index).filter((k) => isNamed(index[k])),
      )
    components.set(name, await readComponent(tree, at(name), options))
  }
  for (const name of ["unet", "vae"])
    if (!components.has(name)) missing(path, name, here, [...components.keys()])
  const scheduler = here.includes("scheduler")
    ? await readConfig(tree, tree.join(path, "scheduler", "scheduler_config.json"))
    : {}
  const tokenizers = new Map(["tokenizer", "tokenizer_2"].filter(has).map((n) => [n, at(n)] as const))
  const model = {
    format: "diffusers" as const,
    path,
    components,
    scheduler,
    index,
    tokenizers,
    ignored: [],
    metadata: new Map(),
  }
  const { prediction, predictionFrom } = predictionOf(scheduler)
  return { ...model, prediction, predictionFrom, family: folderFamily(model), variant: folderVariant(model) }
}

function noIndex(path: string, here: string[]): never {
  fail("FOLDER_NO_INDEX", `${path} is no diffusers folder: it has no model_index.json; there ${are(here)}`, {
    file: path,
    hint: here.includes("config.json")
      ? "this looks like one component; name the model's folder"
      : "name the model's folder",
  })
}

const isNamed = (entry: unknown) => Array.isArray(entry) && typeof entry[1] === "string"
const are = (names: string[]) =>
  names.length === 0 ? "is nothing" : `are: ${names.slice(0, 30).sort().join(", ")}`

function missing(path: string, name: string, here: string[], named: string[]): never {
  fail("FOLDER_NO_COMPONENT", `${path} has no ${name}; there ${are(here)}`, {
    file: path,
    hint: "fetch the whole model folder again",
    details: { component: name, present: here, named },
  })
}

function predictionOf(scheduler: Config): { prediction: Prediction; predictionFrom: string } {
  const said = scheduler.prediction_type
  if (said === "v_prediction" || said === "sample" || said === "epsilon")
    return { prediction: said, predictionFrom: "scheduler_config.json" }
  return { prediction: "epsilon", predictionFrom: "diffusers' default" }
}

/**
 * One component's folder: config.json and its weights, whole or sharded, `.fp16` too.
 * Old VAE attention names and text encoders without `text_model.` come out under today's keys.
 */
export async function readComponent(
  tree: Tree,
  path: string,
  options: FolderOptions = {},
): Promise<Component> {
  const here = await tree.list(path)
  if (!here.includes("config.json"))
    fail("FOLDER_NO_CONFIG", `${path} has no config.json; there ${are(here)}`, { file: path })
  const config = await readConfig(tree, tree.join(path, "config.json"))
  const className = classOf(config, tree.join(path, "config.json"))
  const raw = await openWeights(tree, path, here, options)
  const files = [...new Set([...raw.values()].map((view) => view.file))]
  return { className, config, weights: modernKeys(className, raw), files }
}

function classOf(config: Config, path: string): string {
  const architectures = config.architectures
  const name = config._class_name ?? (Array.isArray(architectures) ? architectures[0] : undefined)
  if (typeof name === "string") return name
  if (String(config.model_type ?? "").startsWith("clip")) return "CLIPTextModel"
  return fail("FOLDER_NO_CLASS", `${path} names no class`, {
    file: path,
    hint: "a diffusers config has _class_name, a transformers config has architectures",
  })
}

function modernKeys(className: string, weights: Weights): Weights {
  if (className.startsWith("CLIPText")) return fullTextKeys(weights)
  return className === "AutoencoderKL" ? modernVaeKeys(weights) : weights
}

async function openWeights(
  tree: Tree,
  path: string,
  here: string[],
  options: FolderOptions,
): Promise<Weights> {
  const file = pickWeights(here, options.variant)
  if (file === undefined) noWeights(path, here)
  if (!file.includes(".index.")) return (await tree.header(tree.join(path, file))).tensors
  return openShards(tree, path, file)
}

/** Plain weights first, then the wanted or only variant; a sharded set counts as its index file. */
export function pickWeights(here: readonly string[], variant?: string): string | undefined {
  const stems = ["diffusion_pytorch_model", "model", "pytorch_model"]
  for (const stem of stems) {
    const escaped = stem.replaceAll(".", "\\.")
    const whole = new RegExp(`^${escaped}(?:\\.([\\w-]+))?\\.safetensors$`)
    const index = new RegExp(`^${escaped}(?:\\.([\\w-]+))?\\.safetensors\\.index(?:\\.([\\w-]+))?\\.json$`)
    const found = new Map<string, string>()
    for (const name of [...here].sort()) {
      const hit = whole.exec(name) ?? index.exec(name)
      const key = hit?.[1] ?? hit?.[2] ?? ""
      if (hit && !/-\d{5}-of-\d{5}$/.test(key) && !found.has(key)) found.set(key, name)
    }
    const wanted = variant === undefined ? undefined : found.get(variant)
    const pick = wanted ?? found.get("") ?? found.get("fp32") ?? found.get("fp16") ?? [...found.values()][0]
    if (pick !== undefined) return pick
  }
  return undefined
}

function noWeights(path: string, here: string[]): never {
  const pickled = here.find((name) => /\.(bin|ckpt|pt|pth)$/.test(name))
  if (pickled !== undefined)
    fail("FOLDER_PICKLED", `${path} has only pickled weights (${pickled}), which are not loaded`, {
      file: path,
      hint: "run `aquatint convert FOLDER NEW_FOLDER` once; it reads them as data",
    })
  fail("FOLDER_NO_WEIGHTS", `${path} has no safetensors weights; there ${are(here)}`, {
    file: path,
    hint: "fetch the model again, with its .safetensors files",
  })
}

async function openShards(tree: Tree, path: string, indexName: string): Promise<Weights> {
  const index = await readConfig(tree, tree.join(path, indexName))
  const map = index.weight_map
  const where = tree.join(path, indexName)
  if (typeof map !== "object" || map === null || Array.isArray(map))
    fail("FOLDER_SHARD_INDEX", `${where} has no weight_map`, { file: where })
  const entries = Object.entries(map)
  for (const [key, file] of entries)
    if (typeof file !== "string" || !SHARD_NAME.test(file))
      fail("FOLDER_SHARD_NAME", `${where}: ${JSON.stringify(file)} of ${key} is no shard's name`, {
        file: where,
        hint: "a shard is a .safetensors file beside its index",
      })
  const shards = new Map<string, Weights>()
  for (const file of new Set(entries.map(([, f]) => f as string)))
    shards.set(file, (await tree.header(tree.join(path, file))).tensors)
  return gather(entries as [string, string][], shards, where)
}

function gather(entries: [string, string][], shards: Map<string, Weights>, where: string): Weights {
  const out = new Weights()
  for (const [key, file] of entries) {
    const view = shards.get(file)?.get(key)
    if (!view) fail("FOLDER_SHARD_TENSOR", `${where}: ${file} does not hold ${key}`, { file: where })
    out.set(key, view)
  }
  for (const [file, tensors] of shards)
    for (const key of tensors.keys())
      if (!out.has(key))
        fail("FOLDER_SHARD_TENSOR", `${where} does not name ${key}, which ${file} holds`, { file: where })
  return out
}

/** A JSON object from a file of at most 32 MB. Errors: CONFIG_JSON, FILE_*. */
export async function readConfig(tree: Tree, path: string): Promise<Config> {
  const text = await tree.text(path, JSON_LIMIT)
  if (nestsTooDeep(text.replace(/"(?:[^"\\]|\\.)*"/g, "")))
    fail("CONFIG_JSON", `${path} nests more than ${deepest} levels`, { file: path })
  try {
    const value: unknown = JSON.parse(pythonNumbers(text))
    if (typeof value === "object" && value !== null && !Array.isArray(value)) return value as Config
  } catch (error) {
    throw new AquatintError("CONFIG_JSON", `${path} is no JSON: ${(error as Error).message}`, {
      file: path,
      cause: error,
    })
  }
  return fail("CONFIG_JSON", `${path} holds no JSON object`, { file: path })
}

/** Python's json writes bare NaN and Infinity (diffusers' `lambda_min_clipped`): null, and a number too large to hold. */
const pythonNumbers = (text: string) =>
  text.replace(/"(?:[^"\\]|\\.)*"|-?\bInfinity\b|\bNaN\b/g, (found) => {
    if (found.startsWith('"')) return found
    return found === "NaN" ? "null" : found.replace("Infinity", "1e999")
  })

/** Every tensor of a component, with its file: what scans and hashes walk. */
export function viewsOf(components: Iterable<Component>): TensorView[] {
  return [...components].flatMap((component) => [...component.weights.values()])
}
