import { mkdir, writeFile } from "node:fs/promises"
import { join } from "node:path"
import { AutoencoderKL, ClipText, clipConfig, UNet, unetConfig, vaeConfig } from "../models/index.ts"
import { expected, type Module } from "../nn/index.ts"
import { bundledFiles } from "../text/bundled.ts"
import { pipelineIndex } from "../weights/pipeline-index.ts"
import { elements } from "../weights/view.ts"
import { type TensorToWrite, writeSafetensors } from "../weights/write.ts"

/** The configs of a Stable Diffusion model, as diffusers and transformers write them. */
export interface ModelLayout {
  readonly unet: Readonly<Record<string, unknown>>
  readonly vae: Readonly<Record<string, unknown>>
  readonly text_encoder: Readonly<Record<string, unknown>>
  readonly scheduler: Readonly<Record<string, unknown>>
}

/**
 * Writes a diffusers folder of this layout with random fp16 weights of sane scale, tensor by tensor: what benchmarks
 * and trials need of a model when its pictures do not matter. The tokenizer is CLIP's own.
 * @throws MODEL_CONFIG, FILE_NOT_WRITTEN
 */
export async function writeRandomModel(folder: string, layout: ModelLayout, seed = 0): Promise<void> {
  const nets: [name: string, stem: string, net: Module][] = [
    ["unet", "diffusion_pytorch_model", new UNet(unetConfig(layout.unet))],
    ["vae", "diffusion_pytorch_model", new AutoencoderKL(vaeConfig(layout.vae))],
    ["text_encoder", "model", new ClipText(clipConfig(layout.text_encoder))],
  ]
  const json = async (path: string, value: object) => {
    await mkdir(join(folder, path, ".."), { recursive: true })
    await writeFile(join(folder, path), `${JSON.stringify(value, null, 2)}\n`)
  }
  for (const [name, stem, net] of nets) {
    await json(`${name}/config.json`, layout[name as keyof ModelLayout])
    const tensors = [...expected(net)].map(([key, shape], i) => randomTensor(key, shape, seed + 31 * i))
    await writeSafetensors(join(folder, name, `${stem}.safetensors`), tensors, [["format", "pt"]])
  }
  await json("scheduler/scheduler_config.json", layout.scheduler)
  await json("model_index.json", pipelineIndex(layout.scheduler._class_name))
  await json("tokenizer/tokenizer_config.json", tokenizerConfig)
  const { vocab, merges } = await bundledFiles()
  await writeFile(join(folder, "tokenizer", "vocab.json"), vocab)
  await writeFile(join(folder, "tokenizer", "merges.txt"), merges)
}

const tokenizerConfig = {
  bos_token: "<|startoftext|>",
  eos_token: "<|endoftext|>",
  pad_token: "<|endoftext|>",
  unk_token: "<|endoftext|>",
  model_max_length: 77,
  tokenizer_class: "CLIPTokenizer",
}

/** Norms near 1, small biases, matrices of unit gain (He et al. 2015): activations neither die nor overflow. */
function randomTensor(name: string, shape: readonly number[], seed: number): TensorToWrite {
  const norm = shape.length === 1 && name.endsWith("weight")
  const fanIn = name.includes("embedding.weight") ? 4 : elements(shape.slice(1))
  const spread = norm ? 0.15 : name.endsWith("bias") ? 0.1 : 1 / Math.sqrt(fanIn)
  const table = halves(norm ? 1 : 0, spread)
  return { name, dtype: "F16", shape, bytes: () => drawn(table, elements(shape), seed) }
}

const levels = 4096

/** Evenly spread values around a middle with this standard deviation, as fp16 bits. */
function halves(middle: number, spread: number): Uint16Array {
  const values = Float32Array.from(
    { length: levels },
    (_, i) => middle + spread * Math.sqrt(3) * ((2 * i + 1) / levels - 1),
  )
  return Uint16Array.from(new Uint32Array(values.buffer), (bits) => {
    const exponent = ((bits >>> 23) & 0xff) - 112
    return ((bits >>> 16) & 0x8000) | (exponent < 1 ? 0 : (exponent << 10) | ((bits >>> 13) & 0x3ff))
  })
}

/** Entries of the table in the order of a linear congruential generator's high bits. */
function* pieces(table: Uint16Array, count: number, seed: number): Generator<Uint8Array> {
  const piece = 1 << 20
  let state = Math.imul(seed + 1, 0x9e3779b1)
  for (let at = 0; at < count; at += piece) {
    const out = new Uint16Array(Math.min(piece, count - at))
    for (let i = 0; i < out.length; i++) {
      state = (Math.imul(state, 1664525) + 1013904223) | 0
      out[i] = table[state >>> 20]!
    }
    yield new Uint8Array(out.buffer)
  }
}

async function* drawn(table: Uint16Array, count: number, seed: number): AsyncGenerator<Uint8Array> {
  yield* pieces(table, count, seed)
}
