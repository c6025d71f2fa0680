import { HINT, LABEL_EMBEDDING, RESNET, UNET_FIXED } from "./ldm-keys.ts"
import { type TensorView, Weights } from "./view.ts"

/** One level of a U-Net's way down or up: what stands beside each residual block. */
export interface Level {
  /** Transformer blocks beside each residual block, 0 where there is no attention. */
  depths: number[]
  /** LDM prefix of the last residual block: its output is the level's width. */
  lastResnet: string
}

/** The block structure of a U-Net, read off its key names alone. */
export interface UnetLayout {
  down: Level[]
  up: Level[]
  /** Residual blocks in the middle: 2, 1 (diffusers' UNetMidBlock2D) or 0. */
  midResnets: number
  midDepth: number
  /** LDM prefix of the first attention that was found, for shapes. */
  attention: string | undefined
  /** LDM prefix -> diffusers prefix. */
  blocks: Map<string, string>
}

/** Every prefix of every key, cut at dots: `has("input_blocks.3.0.op")`. */
function prefixes(keys: Iterable<string>): Set<string> {
  const out = new Set<string>()
  for (const key of keys)
    for (let dot = key.indexOf("."); dot > 0; dot = key.indexOf(".", dot + 1)) out.add(key.slice(0, dot))
  return out
}

/** Derives the layout from keys without the `model.diffusion_model.` prefix. */
export function unetLayout(keys: Iterable<string>): UnetLayout {
  const has = prefixes(keys)
  const layout: UnetLayout = {
    down: [],
    up: [],
    midResnets: 0,
    midDepth: 0,
    attention: undefined,
    blocks: new Map(),
  }
  walkDown(has, layout)
  walkMiddle(has, layout)
  walkUp(has, layout)
  return layout
}

function depthOf(has: Set<string>, at: string): number {
  let depth = 0
  while (has.has(`${at}.transformer_blocks.${depth}`)) depth++
  return depth
}

/** Notes one residual block and the attention beside it, if there is one. */
function addLayer(has: Set<string>, layout: UnetLayout, level: Level, at: string, to: string): void {
  const n = level.depths.length
  layout.blocks.set(`${at}.0`, `${to}.resnets.${n}`)
  const depth = depthOf(has, `${at}.1`)
  if (depth > 0) {
    layout.blocks.set(`${at}.1`, `${to}.attentions.${n}`)
    layout.attention ??= `${at}.1`
  }
  level.depths.push(depth)
  level.lastResnet = `${at}.0`
}

const emptyLevel = (): Level => ({ depths: [], lastResnet: "" })

function walkDown(has: Set<string>, layout: UnetLayout): void {
  let level = emptyLevel()
  layout.down.push(level)
  for (let n = 1; has.has(`input_blocks.${n}`); n++) {
    const at = `input_blocks.${n}`
    const to = `down_blocks.${layout.down.length - 1}`
    if (!has.has(`${at}.0.op`)) {
      addLayer(has, layout, level, at, to)
      continue
    }
    layout.blocks.set(`${at}.0.op`, `${to}.downsamplers.0.conv`)
    level = emptyLevel()
    layout.down.push(level)
  }
}

function walkMiddle(has: Set<string>, layout: UnetLayout): void {
  for (let n = 0; has.has(`middle_block.${n}`); n++) {
    const at = `middle_block.${n}`
    const depth = depthOf(has, at)
    if (depth > 0) {
      layout.blocks.set(at, "mid_block.attentions.0")
      layout.midDepth = depth
      layout.attention ??= at
    } else layout.blocks.set(at, `mid_block.resnets.${layout.midResnets++}`)
  }
}

function walkUp(has: Set<string>, layout: UnetLayout): void {
  let level = emptyLevel()
  for (let n = 0; has.has(`output_blocks.${n}`); n++) {
    const at = `output_blocks.${n}`
    if (level.depths.length === 0) layout.up.push(level)
    const to = `up_blocks.${layout.up.length - 1}`
    addLayer(has, layout, level, at, to)
    // the upsampler follows the attention, or stands in its place
    const sampler = [1, 2].map((m) => `${at}.${m}.conv`).find((key) => has.has(key))
    if (sampler === undefined) continue
    layout.blocks.set(sampler, `${to}.upsamplers.0.conv`)
    level = emptyLevel()
  }
}

/** Names a U-Net's (or ControlNet's) tensors as diffusers does; keys that have no counterpart keep their own. */
export function renameUnet(
  tensors: Iterable<[string, TensorView]>,
  layout: UnetLayout,
  labels: string,
): Weights {
  const out = new Weights()
  for (const [key, view] of tensors) {
    const name = unetName(key, layout, labels) ?? key
    out.set(name, { ...view, name })
  }
  return out
}

function unetName(key: string, layout: UnetLayout, labels: string): string | undefined {
  const dot = key.lastIndexOf(".")
  const stem = key.slice(0, dot)
  const leaf = key.slice(dot)
  const fixed = UNET_FIXED[stem] ?? HINT[stem]
  if (fixed !== undefined) return fixed + leaf
  const label = LABEL_EMBEDDING[stem]
  if (label !== undefined) return `${labels}.${label}${leaf}`
  if (key === "label_emb.weight") return "class_embedding.weight"
  const zero = /^zero_convs\.(\d+)\.0$/.exec(stem)
  if (zero) return `controlnet_down_blocks.${zero[1]}${leaf}`
  if (stem === "middle_block_out.0") return `controlnet_mid_block${leaf}`
  return blockName(key, layout.blocks)
}

/** The block whose prefix the key has, longest first: `input_blocks.3.0.op` before `input_blocks.3.0`. */
function blockName(key: string, blocks: Map<string, string>): string | undefined {
  const parts = key.split(".")
  for (let n = Math.min(4, parts.length - 1); n >= 2; n--) {
    const to = blocks.get(parts.slice(0, n).join("."))
    if (to === undefined) continue
    const rest = parts.slice(n)
    if (!to.includes(".resnets.")) return [to, ...rest].join(".")
    const part = RESNET[rest.slice(0, -1).join(".")]
    return part === undefined ? undefined : `${to}.${part}.${rest.at(-1)}`
  }
  return undefined
}
