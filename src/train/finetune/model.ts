import { createHash } from "node:crypto"
import { createReadStream } from "node:fs"
import { readFile, stat } from "node:fs/promises"
import { join } from "node:path"
import { trainingSchedule } from "../../diffusion/betas.ts"
import { fail } from "../../errors.ts"
import type { StoredDType, StoredTensor } from "../../graph/index.ts"
import {
  AutoencoderKL,
  type ClipConfig,
  ClipText,
  clipConfig,
  UNet,
  type UNetConfig,
  unetConfig,
  type VaeConfig,
  vaeConfig,
  vaeFactor,
} from "../../models/index.ts"
import { expected, type Module } from "../../nn/index.ts"
import { ClipTokenizer } from "../../text/bpe.ts"
import { bundledVocabulary } from "../../text/bundled.ts"
import { readFloats } from "../../weights/decode.ts"
import { fitWeights } from "../../weights/fit.ts"
import { openFolder } from "../../weights/folder.ts"
import type { Component, ModelFiles } from "../../weights/model-files.ts"
import { withFile } from "../../weights/open-file.ts"
import { openSingleFile } from "../../weights/single-file.ts"
import type { TensorView } from "../../weights/view.ts"
import type { Prediction } from "../losses.ts"

/** A text encoder with its tokenizer, and which of its states the U-Net reads. */
export interface TextPart {
  /** `text_encoder` or `text_encoder_2`: also the prefix of its parameters' names. */
  readonly name: string
  readonly config: ClipConfig
  readonly tokenizer: ClipTokenizer
  readonly skip: number
  readonly norm: boolean
}

/** A model to be trained: configs checked against weights, nothing read but headers. */
export interface TrainModel {
  readonly files: ModelFiles
  readonly unet: UNetConfig
  readonly vae: VaeConfig
  readonly texts: readonly TextPart[]
  readonly prediction: Prediction
  /** Share of the clean signal at each time. */
  readonly alphas: Float32Array
  /** Pixels per latent, and the smallest step of picture sides: all halvings of the U-Net are even. */
  readonly factor: number
  readonly step: number
  /** Views by name with the part before it: `unet.conv_in.weight`. */
  readonly views: ReadonlyMap<string, TensorView>
}

/**
 * Opens a diffusers folder or a single file for training. @throws TRAIN_MODEL for models that take other inputs than
 * latents, time and text; MODEL_*, FOLDER_*, WEIGHTS_DO_NOT_FIT.
 */
export async function openTrainModel(path: string): Promise<TrainModel> {
  const found = await stat(path).catch(() => null)
  if (!found)
    fail("MODEL_NOT_FOUND", `${path} is no file or folder`, {
      file: path,
      hint: "name a diffusers folder or a .safetensors checkpoint",
    })
  const files = found.isDirectory() ? await openFolder(path) : await openSingleFile(path)
  const part = (name: string): Component =>
    files.components.get(name) ??
    fail("MODEL_PART", `${path} has no ${name}`, { file: path, hint: "use a complete model" })
  const [unet, vae] = [unetConfig(part("unet").config), vaeConfig(part("vae").config)]
  const views = new Map<string, TensorView>()
  const add = (name: string, net: Module) => {
    const allow = (key: string) => name.startsWith("text") && key.startsWith("text_projection")
    const fitted = fitWeights(expected(net), part(name).weights, {
      model: `${files.family}.${name}`,
      file: part(name).files[0],
      allow,
    })
    for (const [key, view] of fitted) views.set(`${name}.${key}`, view)
  }
  add("unet", new UNet(unet))
  add("vae", new AutoencoderKL(vae))
  const texts = await textParts(files, part)
  for (const { name, config } of texts) add(name, new ClipText(config))
  const factor = vaeFactor(vae)
  return {
    files,
    unet,
    vae,
    texts,
    views,
    ...(await knowledge(files, unet)),
    factor,
    step: factor * 2 ** (unet.down.length - 1),
  }
}

async function knowledge(
  files: ModelFiles,
  unet: UNetConfig,
): Promise<Pick<TrainModel, "prediction" | "alphas">> {
  if (files.variant !== "base" && files.variant !== "lcm")
    fail("TRAIN_MODEL", `${files.path} is a model for ${files.variant}, which training does not know yet`, {
      file: files.path,
      hint: "train a text-to-image model",
    })
  if (unet.time_cond_proj_dim != null)
    fail("TRAIN_MODEL", `${files.path} is distilled for guidance`, {
      file: files.path,
      hint: "train the model it was distilled from",
    })
  if (files.prediction === "sample")
    fail("TRAIN_MODEL", `${files.path} predicts clean latents, which training does not know`, {
      file: files.path,
    })
  const flow = String(files.scheduler._class_name ?? "").startsWith("FlowMatch")
  return {
    prediction: flow ? "flow" : files.prediction,
    alphas: trainingSchedule(flow ? {} : files.scheduler).alphasCumprod,
  }
}

async function textParts(files: ModelFiles, part: (name: string) => Component): Promise<TextPart[]> {
  const names = ["text_encoder", "text_encoder_2"].filter((name) => files.components.has(name))
  if (names.length === 0) part("text_encoder")
  const double = files.family.startsWith("sdxl")
  return Promise.all(
    names.map(async (name) => {
      const config = clipConfig({ architectures: [part(name).className], ...part(name).config })
      const tokenizer = await openTokenizer(files, name.replace("text_encoder", "tokenizer"), name)
      if (tokenizer.maxLength !== config.max_position_embeddings || tokenizer.size > config.vocab_size)
        fail("TOKENIZER-VOCAB", `${files.path}: the tokenizer of ${name} does not belong to it`, {
          file: files.path,
        })
      return { name, config, tokenizer, skip: double ? 2 : 1, norm: !double }
    }),
  )
}

async function openTokenizer(files: ModelFiles, name: string, encoder: string): Promise<ClipTokenizer> {
  if (files.format === "single-file")
    return bundledVocabulary(files.family === "sd2" || encoder.endsWith("_2") ? "!" : "<|endoftext|>")
  const folder =
    files.tokenizers.get(name) ??
    fail("FOLDER_NO_COMPONENT", `${files.path} has no ${name}`, { file: files.path })
  const text = (file: string) => readFile(join(folder, file), "utf8").catch(() => undefined)
  const [vocab, merges, tokenizer, config, specialTokens, addedTokens] = await Promise.all(
    [
      "vocab.json",
      "merges.txt",
      "tokenizer.json",
      "tokenizer_config.json",
      "special_tokens_map.json",
      "added_tokens.json",
    ].map(text),
  )
  return ClipTokenizer.fromFiles({ vocab, merges, tokenizer, config, specialTokens, addedTokens })
}

const dtypes: Partial<Record<TensorView["dtype"], StoredDType>> = {
  F32: "f32",
  F16: "f16",
  BF16: "bf16",
  F64: "f64",
}

/** Weights by name as the engine takes them from their files. */
export function storedWeights(
  model: TrainModel,
  wanted: (name: string) => boolean = () => true,
): Map<string, StoredTensor> {
  const chosen = [...model.views].filter(([name]) => wanted(name))
  return new Map(
    chosen.map(([name, view]) => {
      const dtype =
        dtypes[view.dtype] ??
        fail("WEIGHTS_DTYPE", `${view.file}: ${view.name} is stored as ${view.dtype}`, {
          file: view.file,
          hint: "convert the model to fp16 or fp32",
        })
      const bytes = { location: view.file, offset: view.offset, length: view.length }
      return [name, { dtype, shape: view.shape, bytes, ...(view.transposed ? { transposed: true } : {}) }]
    }),
  )
}

/** Values of some weights as float32, by name. */
export async function readWeights(
  model: TrainModel,
  names: Iterable<string>,
): Promise<Map<string, Float32Array>> {
  const byFile = new Map<string, [string, TensorView][]>()
  for (const name of names) {
    const view = model.views.get(name)!
    byFile.set(view.file, [...(byFile.get(view.file) ?? []), [name, view]])
  }
  const out = new Map<string, Float32Array>()
  for (const [file, list] of byFile)
    await withFile(file, async (source) => {
      for (const [name, view] of list) out.set(name, await readFloats(source, view))
    })
  return out
}

const hashes = new Map<string, Promise<string>>()

/** SHA-256 over the files of a part, and its config: what results computed with it are remembered under. */
export async function partHash(model: TrainModel, name: string): Promise<string> {
  const component = model.files.components.get(name)!
  const hash = createHash("sha256").update(JSON.stringify([name, component.config]))
  for (const file of component.files) hash.update(await fileHash(file))
  return hash.digest("hex")
}

async function fileHash(path: string): Promise<string> {
  const { mtimeMs, size } = await stat(path)
  const key = `${path} ${mtimeMs} ${size}`
  if (!hashes.has(key))
    hashes.set(
      key,
      (async () => {
        const hash = createHash("sha256")
        for await (const chunk of createReadStream(path, { highWaterMark: 1 << 20 }))
          hash.update(chunk as Buffer)
        return hash.digest("hex")
      })(),
    )
  return hashes.get(key)!
}
