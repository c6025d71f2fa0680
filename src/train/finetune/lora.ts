import { fail } from "../../errors.ts"
import { apply, nameOf, parameter, rewrite, type Tensor } from "../../graph/index.ts"
import { streamOf } from "../init.ts"

/** Which weights get a low-rank part. */
export interface LoraOptions {
  readonly rank: number
  readonly alpha: number
  /** `attention`: queries, keys, values and outputs; `linear`: every linear layer of the transformers. */
  readonly targets: "attention" | "linear"
  /** Rank of the residual blocks' and samplers' convolutions, 0 for none. */
  readonly convRank: number
  readonly convAlpha: number
  /** Other ranks of blocks by the beginning of their names; 0 leaves a block alone. The longest name counts. */
  readonly blocks: ReadonlyMap<string, number>
}

/** One adapted layer: its name without `.weight`, the weight's shape, rank and alpha. */
export interface LoraPart {
  readonly layer: string
  readonly shape: readonly number[]
  readonly rank: number
  readonly alpha: number
}

const attention = /(\.attn[12]\.to_(q|k|v|out\.0)|\.self_attn\.(q|k|v|out)_proj)$/
const linear =
  /(\.attn[12]\.to_(q|k|v|out\.0)|\.ff\.net\.(0\.proj|2)|\.attentions\.\d+\.proj_(in|out)|\.self_attn\.(q|k|v|out)_proj|\.mlp\.fc[12])$/
const convolutions = /(\.resnets\.\d+\.(conv1|conv2|conv_shortcut)|\.(down|up)samplers\.0\.conv)$/

/**
 * The layers of a network that a LoRA (Hu et al. 2022) adapts, by the names of its weights.
 * @param shapes all weights by name, `unet.` or `text_encoder.` before it
 * @throws TRAIN_LORA for a block name that fits nothing, or when nothing is left
 */
export function loraParts(shapes: ReadonlyMap<string, readonly number[]>, options: LoraOptions): LoraPart[] {
  const wanted = options.targets === "attention" ? attention : linear
  const found: LoraPart[] = []
  const used = new Set<string>()
  for (const [name, shape] of shapes) {
    if (!name.endsWith(".weight") || shape.length < 2) continue
    const layer = name.slice(0, -".weight".length)
    const conv = convolutions.test(layer) && options.convRank > 0
    if (!wanted.test(layer) && !conv) continue
    const block = [...options.blocks.keys()]
      .filter((b) => layer.split(".").slice(1).join(".").startsWith(b) || layer.startsWith(b))
      .sort((a, b) => b.length - a.length)[0]
    if (block !== undefined) used.add(block)
    const [own, alpha] = conv ? [options.convRank, options.convAlpha] : [options.rank, options.alpha]
    const rank = block === undefined ? own : options.blocks.get(block)!
    if (rank > 0) found.push({ layer, shape, rank, alpha: rank === own ? alpha : (alpha / own) * rank })
  }
  const idle = [...options.blocks.keys()].find((b) => !used.has(b))
  if (idle !== undefined)
    fail("TRAIN_LORA", `no adapted layer lies in a block called ${idle}`, {
      hint: "blocks are named as down_blocks.1, mid_block, up_blocks.2.attentions.0",
    })
  if (found.length === 0)
    fail("TRAIN_LORA", "no layer is left to be adapted", { hint: "give some block a rank above 0" })
  return found
}

export const downName = (layer: string): string => `${layer}.lora_down`
export const upName = (layer: string): string => `${layer}.lora_up`

/** Shapes of a part's two factors: down r i kh kw and up o r 1 1, without the last two for linear layers. */
export function factorShapes({ shape, rank }: LoraPart): { down: number[]; up: number[] } {
  const [o, i, ...kernel] = shape as [number, number, ...number[]]
  return { down: [rank, i, ...kernel], up: [o, rank, ...kernel.map(() => 1)] }
}

/** The learned parameters of all parts by name. */
export function loraParameters(parts: readonly LoraPart[]): Map<string, Tensor> {
  return new Map(
    parts.flatMap((part) => {
      const { down, up } = factorShapes(part)
      return [
        [downName(part.layer), parameter(downName(part.layer), down)],
        [upName(part.layer), parameter(upName(part.layer), up)],
      ] as const
    }),
  )
}

/** First values: the way down uniform within 1 / sqrt(fan-in), as PyTorch makes layers, the way up zero: no change. */
export function freshLora(parts: readonly LoraPart[], seed: number): Map<string, Float32Array> {
  return new Map(
    parts.flatMap((part) => {
      const shapes = factorShapes(part)
      const size = (s: number[]) => s.reduce((a, b) => a * b, 1)
      const bound = 1 / Math.sqrt(size(shapes.down.slice(1)))
      const down = streamOf(seed, downName(part.layer))
        .uniform(size(shapes.down))
        .map((v) => (2 * v - 1) * bound)
      return [
        [downName(part.layer), down],
        [upName(part.layer), new Float32Array(size(shapes.up))],
      ] as const
    }),
  )
}

/**
 * Adds the low-rank parts to a graph: W x becomes W x + alpha / r B(A x), beside each product or convolution with an
 * adapted weight; its own weight is left as it is. Where B is zero that is the same number bit for bit.
 * @param learned from `loraParameters`
 */
export function withLora(
  outputs: Readonly<Record<string, Tensor>>,
  parts: readonly LoraPart[],
  learned: ReadonlyMap<string, Tensor>,
): Record<string, Tensor> {
  const byWeight = new Map(parts.map((p) => [`${p.layer}.weight`, p]))
  const graph = rewrite({ outputs }, (node) => {
    if (node.op !== "linear" && node.op !== "conv2d") return node
    const weight = node.inputs[1]!
    const rows = weight.op === "slice" && weight.inputs[0]!.op === "param" ? weight : null
    const source = rows ? weight.inputs[0]! : weight
    const part = source.op === "param" ? byWeight.get(nameOf(source)) : undefined
    if (!part) return node
    const [down, up] = [downName(part.layer), upName(part.layer)].map((n) => learned.get(n)!) as [
      Tensor,
      Tensor,
    ]
    const cut = rows ? apply("slice", [up], rows.attrs) : up
    const x = node.inputs[0]!
    const low = node.op === "linear" ? x.linear(down) : apply("conv2d", [x, down], node.attrs)
    const high = node.op === "linear" ? low.linear(cut) : low.conv2d(cut, null)
    return node.add(high.mul(part.alpha / part.rank))
  })
  return { ...graph.outputs }
}
