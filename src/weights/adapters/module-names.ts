import { LABEL_EMBEDDING, RESNET, UNET_FIXED } from "../ldm-keys.ts"

/** Words of module paths in diffusers' U-Net and transformers' CLIP, those with underscores in them above all. */
const WORDS = (
  "down_blocks up_blocks mid_block transformer_blocks attentions resnets downsamplers upsamplers time_emb_proj " +
  "conv_shortcut time_embedding add_embedding class_embedding linear_1 linear_2 cond_proj proj_in proj_out to_q to_k " +
  "to_v to_out attn1 attn2 ff net proj conv_in conv_out conv_norm_out conv1 conv2 conv norm1 norm2 norm3 norm " +
  "text_model encoder layers self_attn q_proj k_proj v_proj out_proj mlp fc1 fc2 embeddings token_embedding " +
  "position_embedding final_layer_norm layer_norm1 layer_norm2 text_projection"
)
  .split(" ")
  .sort((a, b) => b.length - a.length)
const word = new RegExp(`^(${WORDS.join("|")}|\\d+)(?:_|$)`)

/** A path whose dots kohya's keys made underscores, with its dots; undefined for a module of no known network. */
export function dotted(flat: string): string | undefined {
  const parts: string[] = []
  for (let rest = flat; rest !== ""; ) {
    const found = word.exec(rest)
    if (!found) return undefined
    parts.push(found[1]!)
    rest = rest.slice(found[0].length)
  }
  return parts.length > 0 ? parts.join(".") : undefined
}

const flat = (path: string) => path.replaceAll(".", "_")
const fixed = new Map([
  ...Object.entries(UNET_FIXED).map(([ldm, to]): [string, string] => [flat(ldm), to]),
  ...Object.entries(LABEL_EMBEDDING).map(([ldm, to]): [string, string] => [flat(ldm), `add_embedding.${to}`]),
])
const resnets = new Map(Object.entries(RESNET).map(([ldm, to]) => [flat(ldm), to]))

/**
 * diffusers' path of a module that kohya's keys for SDXL name by SGM's block numbers (two residual blocks a level, as
 * published), or undefined.
 */
export function fromSgm(name: string): string | undefined {
  const outside = fixed.get(name)
  if (outside !== undefined) return outside
  const found = /^(input|output|middle)_blocks?_(\d+)(?:_(\d))?(?:_(.+))?$/.exec(name)
  if (!found) return undefined
  const [, side, number, place, rest = ""] = found
  const n = Number(number)
  if (side === "middle")
    return n === 1
      ? joined("mid_block.attentions.0", false, [place, rest].filter(Boolean).join("_"))
      : joined(`mid_block.resnets.${n / 2}`, true, [place, rest].filter(Boolean).join("_"))
  const [level, index] = side === "input" ? [(n - 1) / 3, (n - 1) % 3] : [n / 3, n % 3]
  const block = `${side === "input" ? "down" : "up"}_blocks.${Math.floor(level)}`
  if (rest === "op") return `${block}.downsamplers.0.conv`
  if (rest === "conv") return `${block}.upsamplers.0.conv`
  return place === "0"
    ? joined(`${block}.resnets.${index}`, true, rest)
    : joined(`${block}.attentions.${index}`, false, rest)
}

function joined(block: string, resnet: boolean, rest: string): string | undefined {
  const inner = resnet ? resnets.get(rest) : dotted(rest)
  return inner === undefined ? undefined : `${block}.${inner}`
}

const outer = new Map([...fixed].map(([ldm, to]) => [to, ldm]))
const inner = new Map([...resnets].map(([ldm, to]) => [to, ldm]))

/** The other way: SGM's name of a diffusers path, dots as underscores. */
export function toSgm(path: string): string | undefined {
  const outside = outer.get(path)
  if (outside !== undefined) return outside
  const middle = /^mid_block\.(resnets|attentions)\.(\d)\.(.+)$/.exec(path)
  if (middle) {
    const [, kind, index, rest] = middle
    return kind === "resnets"
      ? named(`middle_block_${2 * Number(index)}`, inner.get(rest!))
      : `middle_block_1_${flat(rest!)}`
  }
  const found = /^(down|up)_blocks\.(\d)\.(resnets|attentions|downsamplers|upsamplers)\.(\d)\.(.+)$/.exec(
    path,
  )
  if (!found) return undefined
  const [, side, level, kind, index, rest] = found
  const first = 3 * Number(level) + (side === "down" ? 1 : 0)
  if (kind === "downsamplers") return `input_blocks_${first + 2}_0_op`
  if (kind === "upsamplers") return `output_blocks_${first + 2}_2_conv`
  const block = `${side === "down" ? "input" : "output"}_blocks_${first + Number(index)}`
  return kind === "resnets" ? named(`${block}_0`, inner.get(rest!)) : `${block}_1_${flat(rest!)}`
}

const named = (block: string, part: string | undefined) =>
  part === undefined ? undefined : `${block}_${part}`
