import { fail } from "../errors.ts"
import { type PlannedTensor, planned } from "./convert-plan.ts"
import {
  LABEL_EMBEDDING,
  OPENCLIP_FIXED,
  OPENCLIP_LAYER,
  RESNET,
  UNET_FIXED,
  VAE_ATTENTION,
} from "./ldm-keys.ts"
import { elements, reshaped, showView, type TensorView, transposed, type WeightMap } from "./view.ts"

/** The way back from diffusers' names to LDM's: each table of ldm-keys.ts read from right to left. */
const inverse = (table: Record<string, string>): Record<string, string> =>
  Object.fromEntries(Object.entries(table).map(([ldm, ours]) => [ours, ldm]))

const RESNET_BACK = inverse(RESNET)
const LABEL_BACK = inverse(LABEL_EMBEDDING)
const ATTENTION_BACK = inverse(VAE_ATTENTION)
const TEXT_BACK = inverse(OPENCLIP_FIXED)
const LAYER_BACK = inverse(OPENCLIP_LAYER)
const FIXED_BACK: Record<string, string> = {
  ...inverse(UNET_FIXED),
  "time_embedding.cond_proj": "time_embed.cond_proj",
}

/** A U-Net's tensors under LDM names without prefix; names it does not know keep their own. */
export function unetToLdm(weights: WeightMap): PlannedTensor[] {
  const names = [...weights.names()]
  const blocks = ldmBlocks(new Set(names.flatMap((name) => prefixes(name))))
  return names.map((name) => planned(weights.get(name)!, unetKey(name, blocks) ?? name))
}

function prefixes(name: string): string[] {
  const parts = name.split(".")
  return parts.slice(1).map((_, i) => parts.slice(0, i + 1).join("."))
}

function unetKey(name: string, blocks: ReadonlyMap<string, string>): string | undefined {
  const dot = name.lastIndexOf(".")
  const [stem, leaf] = [name.slice(0, dot), name.slice(dot)]
  if (Object.hasOwn(FIXED_BACK, stem)) return FIXED_BACK[stem]! + leaf
  const label = /^(?:add|class)_embedding\.(linear_[12])$/.exec(stem)?.[1]
  if (label !== undefined) return LABEL_BACK[label]! + leaf
  if (name === "class_embedding.weight") return "label_emb.weight"
  const hit =
    /^((?:(?:down|up)_blocks\.\d+|mid_block)\.(resnets|attentions|downsamplers|upsamplers)\.\d+)\.(.+)$/.exec(
      name,
    )
  if (!hit) return undefined
  const [, block, kind, rest] = hit
  const to = blocks.get(block!)
  if (to === undefined) return undefined
  if (kind !== "resnets") return `${to}.${kind === "attentions" ? rest : rest!.replace(/^conv\./, "")}`
  const part = RESNET_BACK[rest!.slice(0, rest!.lastIndexOf("."))]
  return part === undefined ? undefined : `${to}.${part}${leaf}`
}

/** Where each block of diffusers stands in LDM's numbering, which counts residual blocks and samplers alike. */
function ldmBlocks(has: ReadonlySet<string>): Map<string, string> {
  const out = new Map<string, string>()
  const place = (from: string, to: string) => has.has(from) && out.set(from, to)
  let n = 1
  for (let i = 0; has.has(`down_blocks.${i}`); i++) {
    for (let j = 0; has.has(`down_blocks.${i}.resnets.${j}`); j++, n++) {
      place(`down_blocks.${i}.resnets.${j}`, `input_blocks.${n}.0`)
      place(`down_blocks.${i}.attentions.${j}`, `input_blocks.${n}.1`)
    }
    if (place(`down_blocks.${i}.downsamplers.0`, `input_blocks.${n}.0.op`)) n++
  }
  n = 0
  for (let j = 0; has.has(`mid_block.resnets.${j}`); j++) {
    if (place(`mid_block.resnets.${j}`, `middle_block.${n}`)) n++
    if (place(`mid_block.attentions.${j}`, `middle_block.${n}`)) n++
  }
  n = 0
  for (let i = 0; has.has(`up_blocks.${i}`); i++) {
    let last = 0
    for (let j = 0; has.has(`up_blocks.${i}.resnets.${j}`); j++, n++) {
      place(`up_blocks.${i}.resnets.${j}`, `output_blocks.${n}.0`)
      last = place(`up_blocks.${i}.attentions.${j}`, `output_blocks.${n}.1`) ? 2 : 1
    }
    place(`up_blocks.${i}.upsamplers.0`, `output_blocks.${n - 1}.${last}.conv`)
  }
  return out
}

/** A VAE's tensors under LDM names without prefix; decoder levels count from the other end, attention is 1x1 convolutions. */
export function vaeToLdm(weights: WeightMap): PlannedTensor[] {
  const names = [...weights.names()]
  const levels =
    1 + Math.max(-1, ...names.map((name) => Number(/^decoder\.up_blocks\.(\d+)\./.exec(name)?.[1] ?? -1)))
  return names.map((name) => {
    const view = weights.get(name)!
    const [, head, part, leaf] = /^(.*\.)mid_block\.attentions\.0\.(.+)\.(\w+)$/.exec(name) ?? []
    if (head === undefined) return planned(view, vaeKey(name, levels))
    const to = Object.hasOwn(ATTENTION_BACK, part!) ? ATTENTION_BACK[part!] : undefined
    if (to === undefined) return planned(view)
    const matrix = leaf === "weight" && to !== "norm" && view.shape.length === 2
    return planned(matrix ? reshaped(view, [...view.shape, 1, 1]) : view, `${head}mid.attn_1.${to}.${leaf}`)
  })
}

function vaeKey(name: string, levels: number): string {
  const up = (n: string) => `decoder.up.${levels - 1 - Number(n)}`
  return name
    .replace(/^(encoder|decoder)\.conv_norm_out\./, "$1.norm_out.")
    .replace(/\.conv_shortcut\./, ".nin_shortcut.")
    .replace(/^encoder\.down_blocks\.(\d+)\.resnets\.(\d+)\./, "encoder.down.$1.block.$2.")
    .replace(/^encoder\.down_blocks\.(\d+)\.downsamplers\.0\./, "encoder.down.$1.downsample.")
    .replace(
      /^decoder\.up_blocks\.(\d+)\.resnets\.(\d+)\./,
      (_, n: string, m: string) => `${up(n)}.block.${m}.`,
    )
    .replace(/^decoder\.up_blocks\.(\d+)\.upsamplers\.0\./, (_, n: string) => `${up(n)}.upsample.`)
    .replace(/\.mid_block\.resnets\.(\d+)\./, (_, n: string) => `.mid.block_${Number(n) + 1}.`)
}

/** A CLIP text encoder's tensors under OpenCLIP's names: q, k and v on top of each other, the projection turned. */
export function textToOpenClip(weights: WeightMap): PlannedTensor[] {
  const out: PlannedTensor[] = []
  for (const name of weights.names()) {
    const view = weights.get(name)!
    const [, n, stem, leaf] = /^text_model\.encoder\.layers\.(\d+)\.(.+)\.(weight|bias)$/.exec(name) ?? []
    const third = /^self_attn\.([qkv])_proj$/.exec(stem ?? "")?.[1]
    if (Object.hasOwn(TEXT_BACK, name)) out.push(planned(view, TEXT_BACK[name]!))
    else if (name === "text_projection.weight") out.push(planned(transposed(view), "text_projection"))
    else if (stem === undefined) out.push(planned(view))
    else if (third === undefined) {
      const part = Object.hasOwn(LAYER_BACK, stem)
        ? `transformer.resblocks.${n}.${LAYER_BACK[stem]}.${leaf}`
        : name
      out.push(planned(view, part))
    } else if (third === "q") out.push(fused(weights, n!, leaf!))
  }
  return out
}

function fused(weights: WeightMap, n: string, leaf: string): PlannedTensor {
  const parts = ["q", "k", "v"].map((p) =>
    weights.get(`text_model.encoder.layers.${n}.self_attn.${p}_proj.${leaf}`),
  )
  const [first] = parts
  const same = (v: TensorView | undefined): v is TensorView =>
    v !== undefined && showView(v) === showView(first!)
  if (!first || !parts.every(same) || first.shape.length === 0)
    return fail("CONVERT_LAYOUT", `layer ${n} of the text encoder has no q, k and v of one size and type`, {
      ...(first ? { file: first.file } : {}),
      hint: "the folder's text encoder is damaged; fetch it again",
    })
  const [rows, ...rest] = first.shape as [number, ...number[]]
  const name = `transformer.resblocks.${n}.attn.in_proj_${leaf}`
  return { name, dtype: first.dtype, shape: [3 * rows, ...rest], parts }
}

/**
 * A zero layer above OpenCLIP's last. Readers of SD 2.x files take the last layer for unused; files of the published
 * depth may lack it (23 layers without a projection say so), others must have one.
 */
export function unusedLayer(tensors: readonly PlannedTensor[]): PlannedTensor[] {
  const layer = (t: PlannedTensor) => Number(/^transformer\.resblocks\.(\d+)\./.exec(t.name)?.[1] ?? -1)
  const last = Math.max(-1, ...tensors.map(layer))
  if (last === 22) return []
  return tensors
    .filter((t) => layer(t) === last && elements(t.shape) > 0)
    .map((t) => ({
      ...t,
      name: t.name.replace(/^transformer\.resblocks\.\d+/, `transformer.resblocks.${last + 1}`),
      parts: [],
    }))
}
