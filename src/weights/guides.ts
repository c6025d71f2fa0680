import type { Component } from "./model-files.ts"
import { type TensorView, Weights } from "./view.ts"

const filesOf = (tensors: ReadonlyMap<string, TensorView>) => [
  ...new Set([...tensors.values()].map((view) => view.file)),
]

/**
 * A T2I-Adapter from tensors alone, under diffusers' keys (`adapter.body.0.resnets.0.block1`) or its authors', which count
 * residual blocks through all levels (`body.0.block1`), light ones level by level (`body.0.body.0.block1`).
 */
export function t2iComponent(tensors: Weights): Component {
  const count = (pattern: RegExp) =>
    1 + Math.max(-1, ...[...tensors.keys()].map((key) => Number(pattern.exec(key)?.[1] ?? -1)))
  const diffusers = [...tensors.keys()].some((key) => key.startsWith("adapter."))
  const light = !tensors.has(diffusers ? "adapter.conv_in.weight" : "conv_in.weight")
  const flat = !diffusers && !light
  const perLevel = flat ? blocksPerLevel(tensors, count(/^body\.(\d+)\./)) : 0
  const weights = new Weights()
  for (const [key, view] of tensors) {
    const name = diffusers
      ? key
      : `adapter.${flat ? numbered(key, perLevel) : key.replace(/^(body\.\d+)\.body\./, "$1.resnets.")}`
    weights.set(name, { ...view, name })
  }
  return { className: "T2IAdapter", config: t2iConfig(weights, light), weights, files: filesOf(tensors) }
}

/** Levels begin where a first convolution widens, and they are equally long. */
function blocksPerLevel(tensors: Weights, blocks: number): number {
  for (let n = 1; n < blocks; n++) if (tensors.has(`body.${n}.in_conv.weight`)) return n
  return blocks / 4
}

function numbered(key: string, perLevel: number): string {
  const [, n, rest] = /^body\.(\d+)\.(.+)$/.exec(key) ?? []
  if (n === undefined) return key
  const level = `body.${Math.floor(Number(n) / perLevel)}`
  return rest!.startsWith("in_conv.")
    ? `${level}.${rest}`
    : `${level}.resnets.${Number(n) % perLevel}.${rest}`
}

function t2iConfig(weights: Weights, light: boolean) {
  const shape = (key: string) => weights.get(`adapter.${key}.weight`)?.shape ?? []
  const channels: number[] = []
  for (let i = 0; ; i++) {
    const width = shape(light ? `body.${i}.out_conv` : `body.${i}.resnets.0.block1`)[0]
    if (width === undefined) break
    channels.push(width)
  }
  let blocks = 0
  while (weights.has(`adapter.body.0.resnets.${blocks}.block1.weight`)) blocks++
  // a picture of one or three channels in squares of 8x8 pixels, or of 16x16 for SDXL
  const seen = light ? shape("body.0.in_conv")[1]! : shape("conv_in")[1]!
  const xl = seen === 256 || seen === 768
  const factor = xl ? 16 : 8
  return {
    _class_name: "T2IAdapter",
    adapter_type: light ? "light_adapter" : xl ? "full_adapter_xl" : "full_adapter",
    in_channels: seen / factor ** 2,
    channels: light ? channels.slice(0, -1) : channels,
    num_res_blocks: blocks,
    downscale_factor: factor,
  }
}

/** CLIP's picture encoder from tensors alone; OpenAI's ViT-L has another nonlinearity than OpenCLIP's larger ones. */
export function visionComponent(tensors: Weights): Component {
  const shape = (key: string) => tensors.get(`vision_model.${key}`)?.shape ?? []
  const layers = [...tensors.keys()].map((key) =>
    Number(/^vision_model\.encoder\.layers\.(\d+)\./.exec(key)?.[1] ?? -1),
  )
  const width = shape("embeddings.class_embedding")[0] ?? 0
  const patch = shape("embeddings.patch_embedding.weight")[2] ?? 1
  const side = Math.round(Math.sqrt((shape("embeddings.position_embedding.weight")[0] ?? 1) - 1))
  const config = {
    architectures: ["CLIPVisionModelWithProjection"],
    hidden_size: width,
    intermediate_size: shape("encoder.layers.0.mlp.fc1.weight")[0],
    num_hidden_layers: 1 + Math.max(-1, ...layers),
    num_attention_heads: width === 768 ? 12 : 16,
    image_size: side * patch,
    patch_size: patch,
    projection_dim: tensors.get("visual_projection.weight")?.shape[0],
    hidden_act: width <= 1024 ? "quick_gelu" : "gelu",
  }
  const known = [...tensors].filter(([key]) => /^(vision_model|visual_projection)\./.test(key))
  return {
    className: "CLIPVisionModelWithProjection",
    config,
    weights: new Weights(known),
    files: filesOf(tensors),
  }
}
