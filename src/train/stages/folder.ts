import { copyFile, mkdir } from "node:fs/promises"
import { join } from "node:path"
import { fail } from "../../errors.ts"
import { AutoencoderKL, ClipText, clipConfig, UNet, unetConfig, vaeConfig } from "../../models/index.ts"
import { expected, type Module } from "../../nn/index.ts"
import { castOf } from "../../weights/convert-cast.ts"
import { pipelineIndex } from "../../weights/pipeline-index.ts"
import { writeSafetensors } from "../../weights/write.ts"
import { writeWhole } from "../checkpoint.ts"
import { noiseSchedule } from "./unet-samples.ts"

/** A trained model's parts: configs as diffusers and transformers spell them, and float32 weights by their keys. */
export interface ModelParts {
  readonly unet: { config: Readonly<Record<string, unknown>>; weights: ReadonlyMap<string, Float32Array> }
  readonly vae: { config: Readonly<Record<string, unknown>>; weights: ReadonlyMap<string, Float32Array> }
  readonly text: { config: Readonly<Record<string, unknown>>; weights: ReadonlyMap<string, Float32Array> }
  /** Folder of the tokenizer's files. */
  readonly words: string
  /** Side of the pictures in pixels. */
  readonly size: number
  readonly defaults: { readonly steps: number; readonly cfg: number }
  /** The model card's text. */
  readonly card?: string
  /** Name of the model beside it that lends everything but the U-Net. */
  readonly lender?: string
}

const tokenizerFiles = ["vocab.json", "merges.txt", "tokenizer_config.json", "special_tokens_map.json"]

/** DPM-Solver++ 2M (Lu et al. 2022) over the levels the model was trained on. */
const scheduler = {
  _class_name: "DPMSolverMultistepScheduler",
  ...noiseSchedule,
  algorithm_type: "dpmsolver++",
  solver_order: 2,
  timestep_spacing: "trailing",
  // without effect on this spacing; diffusers warns where it is missing
  steps_offset: 1,
} as const

/** Writes a model as a diffusers folder in half precision; `model_index.json` last, so that a torn folder is no model. */
export async function writeModelFolder(folder: string, parts: ModelParts): Promise<void> {
  const { unet, vae, size } = parts
  const factor = 2 ** (vaeConfig(vae.config).block_out_channels.length - 1)
  const unetJson = { ...unet.config, sample_size: size / factor }
  await writePart(
    join(folder, "unet"),
    "diffusion_pytorch_model",
    unetJson,
    new UNet(unetConfig(unetJson)),
    unet.weights,
  )
  if (parts.lender === undefined) await writeLendable(folder, parts)
  await mkdir(join(folder, "scheduler"), { recursive: true })
  await json(join(folder, "scheduler", "scheduler_config.json"), scheduler)
  if (parts.card !== undefined) await writeWhole(join(folder, "README.md"), parts.card)
  const lent = ["text_encoder", "tokenizer", "vae"].map((part) => [part, `../${parts.lender}/${part}`])
  const own = { ...parts.defaults, ...(parts.lender ? { parts: Object.fromEntries(lent) } : {}) }
  const index = pipelineIndex(scheduler._class_name, { _aquatint: own })
  await json(join(folder, "model_index.json"), index)
}

/** What a model can lend to another: autoencoder, text encoder, tokenizer. */
async function writeLendable(folder: string, { vae, text, words }: ModelParts): Promise<void> {
  await writePart(
    join(folder, "vae"),
    "diffusion_pytorch_model",
    vae.config,
    new AutoencoderKL(vaeConfig(vae.config)),
    vae.weights,
  )
  await writePart(
    join(folder, "text_encoder"),
    "model",
    // transformers would compute in the type of the file, and diffusers' U-Net beside it in float32
    { ...text.config, dtype: "float32" },
    new ClipText(clipConfig(text.config)),
    text.weights,
  )
  await mkdir(join(folder, "tokenizer"), { recursive: true })
  for (const name of tokenizerFiles) await copyFile(join(words, name), join(folder, "tokenizer", name))
}

const json = (path: string, value: object): Promise<void> =>
  writeWhole(path, `${JSON.stringify(value, null, 2)}\n`)

const toHalf = castOf("F32", "F16")!

async function writePart(
  folder: string,
  stem: string,
  config: Readonly<Record<string, unknown>>,
  net: Module,
  weights: ReadonlyMap<string, Float32Array>,
): Promise<void> {
  await mkdir(folder, { recursive: true })
  const tensors = [...expected(net)].map(([name, shape]) => {
    const data =
      weights.get(name) ??
      fail("TRAIN_PART", `the trained weights lack ${name}`, { file: folder, blame: "here" })
    const bytes = new Uint8Array(2 * data.length)
    if (toHalf.run(new Uint8Array(data.buffer, data.byteOffset, data.byteLength), bytes) > 0)
      fail("TRAIN_PART", `${name} holds numbers too large for half precision`, {
        file: folder,
        blame: "here",
      })
    return { name, dtype: "F16" as const, shape, bytes }
  })
  await json(join(folder, "config.json"), config)
  await writeSafetensors(join(folder, `${stem}.safetensors`), tensors, [["format", "pt"]])
}
