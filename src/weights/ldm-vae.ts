import { VAE_ATTENTION } from "./ldm-keys.ts"
import { asLinear } from "./old-keys.ts"
import { type TensorView, Weights } from "./view.ts"

/** How many levels the decoder (or, without one, the encoder) has, from key names without prefix. */
export function vaeLevels(keys: Iterable<string>): number {
  const all = [...keys]
  const count = (side: string) => {
    const seen = new Set(all.map((key) => new RegExp(`^${side}\\.(\\d+)\\.`).exec(key)?.[1]))
    let n = 0
    while (seen.has(String(n))) n++
    return n
  }
  return count("decoder\\.up") || count("encoder\\.down")
}

/** Names a VAE's tensors as diffusers' AutoencoderKL does: decoder levels are counted from the other end. */
export function renameVae(tensors: Iterable<[string, TensorView]>): Weights {
  const all = [...tensors]
  const levels = vaeLevels(all.map(([key]) => key))
  const out = new Weights()
  for (const [key, view] of all) {
    const name = vaeName(key, levels)
    const matrix = /mid_block\.attentions\.0\.to_.*weight$/.test(name)
    out.set(name, matrix ? asLinear({ ...view, name }) : { ...view, name })
  }
  return out
}

function vaeName(key: string, levels: number): string {
  const up = (n: string) => `up_blocks.${levels - 1 - Number(n)}`
  return key
    .replace(/^(encoder|decoder)\.norm_out\./, "$1.conv_norm_out.")
    .replace(/\.nin_shortcut\./, ".conv_shortcut.")
    .replace(/^encoder\.down\.(\d+)\.block\.(\d+)\./, "encoder.down_blocks.$1.resnets.$2.")
    .replace(/^encoder\.down\.(\d+)\.downsample\./, "encoder.down_blocks.$1.downsamplers.0.")
    .replace(
      /^decoder\.up\.(\d+)\.block\.(\d+)\./,
      (_, n: string, m: string) => `decoder.${up(n)}.resnets.${m}.`,
    )
    .replace(/^decoder\.up\.(\d+)\.upsample\./, (_, n: string) => `decoder.${up(n)}.upsamplers.0.`)
    .replace(/\.mid\.block_(\d+)\./, (_, n: string) => `.mid_block.resnets.${Number(n) - 1}.`)
    .replace(
      /\.mid\.attn_1\.(norm|q|k|v|proj_out)\./,
      (_, part: string) => `.mid_block.attentions.0.${VAE_ATTENTION[part]}.`,
    )
}
