import { unetConfig } from "./ldm-config.ts"
import { renameUnet, unetLayout } from "./ldm-unet.ts"
import type { Component, Config, Family } from "./model-files.ts"
import type { TensorView, Weights } from "./view.ts"

/** A ControlNet's tensors under LDM names, whichever they have: the one layout its config is derived from. */
function isLdm(tensors: ReadonlyMap<string, TensorView>): boolean {
  return tensors.has("input_blocks.0.0.weight")
}

/**
 * A ControlNet component from tensors alone (keys without `control_model.`). Family by names and ranks:
 * label embedding means SDXL, linear projections SD 2.x, else SD 1.x; heads follow the family.
 */
export function controlNetComponent(tensors: Weights): Component {
  const files = [...new Set([...tensors.values()].map((view) => view.file))]
  if (!isLdm(tensors)) {
    const config = diffusersConfig(tensors)
    return { className: "ControlNetModel", config, weights: tensors, files }
  }
  const layout = unetLayout(tensors.keys())
  const family = familyOf(
    tensors.has("label_emb.0.0.weight"),
    tensors.get(`${layout.attention}.proj_in.weight`),
  )
  const unet = unetConfig(tensors, layout, { family, sampleSize: 64, outChannels: 4 })
  const weights = renameUnet(tensors, layout, "add_embedding")
  return { className: "ControlNetModel", config: { ...trimmed(unet), ...hint(weights) }, weights, files }
}

function familyOf(labels: boolean, projection: TensorView | undefined): Family {
  if (labels) return "sdxl"
  return projection?.shape.length === 2 ? "sd2" : "sd1"
}

const DROPPED = [
  "out_channels",
  "up_block_types",
  "sample_size",
  "center_input_sample",
  "reverse_transformer_layers_per_block",
]

function trimmed(unet: Config): Config {
  const kept = Object.entries(unet).filter(([key]) => !DROPPED.includes(key))
  return { ...Object.fromEntries(kept), _class_name: "ControlNetModel" }
}

/** The hint encoder's widths: conv_in, then every second block widens. */
function hint(weights: ReadonlyMap<string, TensorView>): Config {
  const first = weights.get("controlnet_cond_embedding.conv_in.weight")
  const widths = [first?.shape[0]]
  for (let n = 1; ; n += 2) {
    const block = weights.get(`controlnet_cond_embedding.blocks.${n}.weight`)
    if (!block) break
    widths.push(block.shape[0])
  }
  return {
    conditioning_channels: first?.shape[1],
    conditioning_embedding_out_channels: widths,
    controlnet_conditioning_channel_order: "rgb",
    global_pool_conditions: false,
  }
}

/** Diffusers keys are turned into LDM keys just to read the layout; no view is kept of that. */
function diffusersConfig(tensors: Weights): Config {
  const ldm = new Map<string, TensorView>()
  for (const [key, view] of tensors) ldm.set(key, view)
  const place = placer(tensors)
  for (const [key, view] of tensors) {
    const to = place(key)
    if (to !== undefined) ldm.set(to, view)
  }
  const layout = unetLayout(ldm.keys())
  const family = familyOf(
    tensors.has("add_embedding.linear_1.weight"),
    ldm.get(`${layout.attention}.proj_in.weight`),
  )
  const unet = unetConfig(ldm, layout, { family, sampleSize: 64, outChannels: 4 })
  return { ...trimmed(unet), ...hint(tensors) }
}

/** Where each diffusers key of the way down stands in LDM's numbering. */
function placer(tensors: ReadonlyMap<string, TensorView>): (key: string) => string | undefined {
  const numbers = new Map<string, string>()
  let n = 1
  for (let i = 0; tensors.has(`down_blocks.${i}.resnets.0.conv1.weight`); i++) {
    for (let j = 0; tensors.has(`down_blocks.${i}.resnets.${j}.conv1.weight`); j++, n++) {
      numbers.set(`down_blocks.${i}.resnets.${j}`, `input_blocks.${n}.0`)
      numbers.set(`down_blocks.${i}.attentions.${j}`, `input_blocks.${n}.1`)
    }
    if (tensors.has(`down_blocks.${i}.downsamplers.0.conv.weight`))
      numbers.set(`down_blocks.${i}.downsamplers.0`, `input_blocks.${n++}.0.op`)
  }
  for (const [from, to] of [
    ["resnets.0", "0"],
    ["attentions.0", "1"],
    ["resnets.1", "2"],
  ])
    numbers.set(`mid_block.${from}`, `middle_block.${to}`)
  const fixed: Record<string, string> = {
    "conv_in.weight": "input_blocks.0.0.weight",
    "add_embedding.linear_1.weight": "label_emb.0.0.weight",
  }
  return (key) => {
    if (fixed[key] !== undefined) return fixed[key]
    const hit = /^((?:down_blocks\.\d+|mid_block)\.\w+\.\d+)\.(.*)$/.exec(key)
    const to = hit ? numbers.get(hit[1]!) : undefined
    return to === undefined
      ? undefined
      : `${to}.${hit![2]!.replace(/^conv2\./, "out_layers.3.").replace(/^conv\./, "")}`
  }
}
