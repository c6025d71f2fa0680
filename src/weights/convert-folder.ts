import { readdir } from "node:fs/promises"
import { join } from "node:path"
import { AquatintError } from "../errors.ts"
import { CONFIGS_KEY, restoredConfigs } from "./convert-configs.ts"
import { inOrder, jsonFile, type Plan, type PlannedFile, planned } from "./convert-plan.ts"
import { readComponent, type Tree } from "./folder-layout.ts"
import type { Component, Config, Family, ModelFiles, Variant } from "./model-files.ts"
import { isLeftover } from "./model-files.ts"

/** In a folder: the single file's tensors that no network needs, and its metadata, for the way back. */
export const LEFTOVERS_FILE = "leftovers.safetensors"
/** The diffusers whose folder layout is written; its loader asks for one. */
const LAYOUT_VERSION = "0.42.1"
/** Markers of single files that scheduler_config.json says better. */
const MARKERS = ["v_pred", "ztsnr"]
const TOKENIZER_FILE =
  /^(vocab\.json|merges\.txt|tokenizer(_config)?\.json|special_tokens_map\.json|added_tokens\.json)$/
const SMALL_FILE = /^[\w.-]+\.(json|txt)$/
const FORMAT = new Map([["format", "pt"]])

/** Files of a tokenizer that pads with one of the two ends, by name: for single files, which bring none. */
export type TokenizerFiles = (pad: "<|endoftext|>" | "!") => Promise<Map<string, string>>

/** Plans a diffusers folder from a single file: components, configs, scheduler, CLIP's tokenizer, leftovers. */
export async function planFolder(model: ModelFiles, tokenizerFiles: TokenizerFiles): Promise<Plan> {
  const notes: string[] = []
  const { components, scheduler, index } = restoredConfigs(model)
  const files = [...components].flatMap(([name, component]) => componentFiles(name, component))
  files.push(jsonFile("scheduler/scheduler_config.json", scheduler))
  const named: Config = { ...index }
  for (const [name, pad] of tokenizersOf(model)) {
    for (const [file, text] of await tokenizerFiles(pad)) files.push({ path: `${name}/${file}`, text })
    named[name] = ["transformers", "CLIPTokenizer"]
  }
  noteVocabulary(components, notes)
  const whole = wholeIndex(model, components, scheduler, named, notes)
  files.push(jsonFile("model_index.json", whole), ...leftovers(model, notes))
  return { format: "diffusers", family: model.family, files, notes }
}

/** A component's folder: config.json (copied where there is one) and weights, named as diffusers and transformers look for them. */
export function componentFiles(
  folder: string,
  { className, config, weights }: Component,
  configFile?: string,
): PlannedFile[] {
  const stem = /^(CLIP|StableDiffusionSafetyChecker)/.test(className) ? "model" : "diffusion_pytorch_model"
  const tensors = inOrder(
    [...weights.values()].filter(({ name }) => !isLeftover(name)).map((view) => planned(view)),
  )
  const path = (name: string) => (folder === "" ? name : `${folder}/${name}`)
  return [
    configFile === undefined
      ? jsonFile(path("config.json"), config)
      : { path: path("config.json"), copyOf: configFile },
    { path: path(`${stem}.safetensors`), tensors, metadata: FORMAT },
  ]
}

function tokenizersOf({ family, components }: ModelFiles): [string, "<|endoftext|>" | "!"][] {
  const first = components.has("text_encoder")
  const out: [string, "<|endoftext|>" | "!"][] = first
    ? [["tokenizer", family === "sd2" ? "!" : "<|endoftext|>"]]
    : []
  return components.has("text_encoder_2") ? [...out, ["tokenizer_2", "!"]] : out
}

const CLIP_WORDS = 49408

function noteVocabulary(components: ReadonlyMap<string, Component>, notes: string[]): void {
  for (const [name, { config }] of components)
    if (name.startsWith("text") && typeof config.vocab_size === "number" && config.vocab_size !== CLIP_WORDS)
      notes.push(
        `${name} knows ${config.vocab_size} tokens, CLIP's tokenizer ${CLIP_WORDS}: put the model's own tokenizer in its place`,
      )
}

const PIPELINES: Partial<Record<Variant, Partial<Record<Family, string>>>> = {
  inpaint: {
    sd1: "StableDiffusionInpaintPipeline",
    sd2: "StableDiffusionInpaintPipeline",
    sdxl: "StableDiffusionXLInpaintPipeline",
  },
  instruct: {
    sd1: "StableDiffusionInstructPix2PixPipeline",
    sdxl: "StableDiffusionXLInstructPix2PixPipeline",
  },
  upscale: { sd2: "StableDiffusionUpscalePipeline" },
}

/** model_index.json with every part that diffusers' pipeline of this kind asks for; absent ones are null. */
function wholeIndex(
  model: ModelFiles,
  components: ReadonlyMap<string, Component>,
  scheduler: Config,
  named: Config,
  notes: string[],
): Config {
  const { family, variant } = model
  const xl = family.startsWith("sdxl")
  const parts = xl
    ? ["text_encoder", "text_encoder_2", "tokenizer", "tokenizer_2", "unet", "vae"]
    : ["text_encoder", "tokenizer", "unet", "vae"]
  const none = xl
    ? ["image_encoder", "feature_extractor"]
    : ["safety_checker", "feature_extractor", "image_encoder"]
  const absent = parts.filter((name) => !components.has(name) && named[name] === undefined)
  const missing = absent.filter(
    (name) => !(family === "sdxl-refiner" && /^(text_encoder|tokenizer)$/.test(name)),
  )
  if (missing.length > 0)
    notes.push(`the file brings no ${missing.join(", no ")}: the folder is incomplete without`)
  const pipeline = PIPELINES[variant]?.[family]
  return {
    _diffusers_version: LAYOUT_VERSION,
    ...Object.fromEntries([...absent, ...none].map((name) => [name, [null, null]])),
    ...(xl ? {} : { requires_safety_checker: false }),
    ...(family === "sdxl-refiner" ? { requires_aesthetics_score: true } : {}),
    ...named,
    ...(pipeline === undefined ? {} : { _class_name: pipeline }),
    scheduler: ["diffusers", String(scheduler._class_name)],
  }
}

function leftovers(model: ModelFiles, notes: string[]): PlannedFile[] {
  const kept = model.ignored.filter(({ name, length }) => !(MARKERS.includes(name) && length === 0))
  // what aquatint writes itself it can write again
  if (kept.length === 0 && (model.metadata.size === 0 || model.metadata.has(CONFIGS_KEY))) return []
  if (kept.length > 0)
    notes.push(`${kept.length} tensors that no network reads are in ${LEFTOVERS_FILE}, which may be deleted`)
  const tensors = inOrder(kept.map((view) => planned(view)))
  return [{ path: LEFTOVERS_FILE, tensors, metadata: model.metadata }]
}

/** Plans a copy of a diffusers folder: tensors under today's names in one file per component, other files as they are. */
export async function planFolderCopy(model: ModelFiles, tree: Tree): Promise<Plan> {
  const notes: string[] = []
  const files = [...model.components].flatMap(([name, component]) =>
    componentFiles(name, component, join(model.path, name, "config.json")),
  )
  const index: Config = { ...model.index }
  for (const [name, folder] of model.tokenizers) files.push(...(await copies(name, folder, TOKENIZER_FILE)))
  const here = await readdir(model.path)
  if (here.includes("scheduler"))
    files.push(...(await copies("scheduler", join(model.path, "scheduler"), SMALL_FILE)))
  const done = new Set([...model.components.keys(), ...model.tokenizers.keys(), "scheduler"])
  for (const [name, entry] of Object.entries(index)) {
    if (done.has(name) || !Array.isArray(entry) || typeof entry[1] !== "string") continue
    const part = await otherPart(name, join(model.path, name), tree)
    files.push(...part.files)
    if (part.files.length > 0) continue
    index[name] = [null, null]
    notes.push(`${name} is left out: ${part.why}`)
  }
  if (here.includes(LEFTOVERS_FILE))
    files.push({ path: LEFTOVERS_FILE, copyOf: join(model.path, LEFTOVERS_FILE) })
  files.push(jsonFile("model_index.json", index))
  return { format: "diffusers", family: model.family, files, notes }
}

async function copies(to: string, folder: string, allowed: RegExp): Promise<PlannedFile[]> {
  const names = (await readdir(folder, { withFileTypes: true })).filter(
    (e) => !e.isDirectory() && allowed.test(e.name),
  )
  return names.map(({ name }) => ({ path: `${to}/${name}`, copyOf: join(folder, name) }))
}

/** A component aquatint does not run (safety checker, feature extractor): copied with its weights, or left out. */
async function otherPart(
  name: string,
  folder: string,
  tree: Tree,
): Promise<{ files: PlannedFile[]; why: string }> {
  if (!/^\w+$/.test(name)) return { files: [], why: "its name is no folder's" }
  try {
    const small = await copies(name, folder, SMALL_FILE)
    if (!small.some(({ path }) => path === `${name}/config.json`))
      return { files: small, why: "it has no files" }
    const component = await readComponent(tree, folder)
    const rest = small.filter(({ path }) => path !== `${name}/config.json` && !path.endsWith(".index.json"))
    return { files: [...componentFiles(name, component, join(folder, "config.json")), ...rest], why: "" }
  } catch (error) {
    const missing = error instanceof Error && "code" in error && error.code === "ENOENT"
    if (!missing && !(error instanceof AquatintError)) throw error
    return { files: [], why: missing ? "the folder does not hold it" : (error as AquatintError).message }
  }
}
