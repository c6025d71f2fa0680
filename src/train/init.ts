import { torchGenerator } from "../diffusion/random.ts"
import { hashText } from "./corpus/random.ts"

type Weights = Map<string, Float32Array>
type Shapes = ReadonlyMap<string, readonly number[]>

const sizeOf = (shape: readonly number[]): number => shape.reduce((a, b) => a * b, 1)

/** A stream of random numbers of its own for every name, so that adding one tensor changes no other. */
export const streamOf = (seed: number, name: string) => torchGenerator(hashText(`${seed} ${name}`))

/**
 * First weights as PyTorch makes them: uniform within 1 / sqrt(fan-in) for linear layers and convolutions, ones and
 * zeros for norms, normal with deviation 0.02 for embeddings.
 */
export function freshWeights(shapes: Shapes, seed: number): Weights {
  const out: Weights = new Map()
  for (const [name, shape] of shapes) {
    const n = sizeOf(shape)
    const stem = name.replace(/\.(weight|bias)$/, "")
    const weight = shapes.get(`${stem}.weight`) ?? shape
    if (/embedding\.weight$/.test(name)) {
      out.set(
        name,
        streamOf(seed, name)
          .normal(n)
          .map((v) => v * 0.02),
      )
    } else if (weight.length === 1) out.set(name, new Float32Array(n).fill(name.endsWith(".weight") ? 1 : 0))
    else {
      const bound = 1 / Math.sqrt(sizeOf(weight.slice(1)))
      out.set(
        name,
        streamOf(seed, name)
          .uniform(n)
          .map((v) => (2 * v - 1) * bound),
      )
    }
  }
  return out
}

/** Zeros where a residual branch or the network ends, so that it starts as the identity (Zhang et al. 2019). */
export function zeroBranches(weights: Weights): Weights {
  for (const [name, data] of weights)
    if (/(\.conv2|\.proj_out|^conv_out|\bunet\.conv_out)\.(weight|bias)$/.test(name)) data.fill(0)
  return weights
}

type Tap = readonly [number, number]
const centre = (k: number): Tap[] => [[k >> 1, k >> 1]]
const quarter = (): Tap[] => [
  [0, 0],
  [0, 1],
  [1, 0],
  [1, 1],
]

/** Weights under change; a name that is not there is passed over. */
class Draft {
  private readonly weights: Weights
  private readonly shapes: Shapes

  constructor(weights: Weights, shapes: Shapes) {
    this.weights = weights
    this.shapes = shapes
  }

  edit(name: string, change: (data: Float32Array, shape: readonly number[]) => void): void {
    const data = this.weights.get(name)
    if (data) change(data, this.shapes.get(name)!)
  }

  /** Rows 0 to 2 of a filter read channels 0 to 2 alone, at one tap or the mean of several. */
  carry(stem: string, taps: (k: number) => Tap[], gain = 1, bias = 0): void {
    this.edit(`${stem}.weight`, (data, [, i, k]) => {
      const row = i! * k! * k!
      data.fill(0, 0, 3 * row)
      const at = taps(k!)
      for (let c = 0; c < 3; c++)
        for (const [y, x] of at) data[c * row + (c * k! + y) * k! + x] = gain / at.length
    })
    this.edit(`${stem}.bias`, (data) => data.fill(bias, 0, 3))
  }

  /** A 1 x 1 convolution as the identity, times `gain` per row, with a bias per row. */
  identity(
    stem: string,
    gain: (row: number, rows: number) => number,
    bias: (row: number, rows: number) => number,
  ): void {
    this.edit(`${stem}.weight`, (data, [o, i]) => {
      data.fill(0)
      for (let c = 0; c < o!; c++) data[c * i! + c] = gain(c, o!)
    })
    this.edit(`${stem}.bias`, (data) => {
      data.forEach((_, c) => {
        data[c] = bias(c, data.length)
      })
    })
  }
}

/**
 * The first three channels carry the picture through the whole autoencoder, so that it starts as a thumbnail and its
 * enlargement instead of noise: worth 4 dB after 700 crops. Needs 8 channels or more at every level and no attention.
 * @param weights of AutoencoderKL, changed in place.
 */
export function passThrough(weights: Weights, shapes: Shapes, groups: number): Weights {
  const draft = new Draft(weights, shapes)
  for (const stem of [...weights.keys()].flatMap((n) => (n.endsWith(".weight") ? [n.slice(0, -7)] : []))) {
    if (stem.endsWith(".conv2")) quieten(draft, stem)
    else if (/\.conv_shortcut$|upsamplers\.0\.conv$|^(en|de)coder\.conv_in$/.test(stem))
      draft.carry(stem, centre)
    else if (/downsamplers\.0\.conv$/.test(stem)) draft.carry(stem, quarter)
  }
  const ups = [...weights.keys()].filter((n) =>
    /^decoder\.up_blocks\.\d+\.resnets\.\d+\.conv2\.bias$/.test(n),
  )
  steadyEnd(draft, "encoder", "encoder.mid_block.resnets.1.conv2.bias", groups)
  steadyEnd(draft, "decoder", ups.sort(byNumbers).at(-1)!, groups)
  // the latents start nearly certain: log variances of -6
  const half = (row: number, rows: number) => row < rows / 2
  draft.identity(
    "quant_conv",
    (c, n) => (half(c, n) ? 1 : 0.1),
    (c, n) => (half(c, n) ? 0 : -6),
  )
  draft.identity(
    "post_quant_conv",
    () => 1,
    () => 0,
  )
  return weights
}

/** A residual branch begins small, and smaller still where it would change the picture. */
function quieten(draft: Draft, stem: string): void {
  draft.edit(`${stem}.weight`, (data, shape) => {
    const row = sizeOf(shape.slice(1))
    data.forEach((v, j) => {
      data[j] = v * (j < 3 * row ? 0.03 : 0.1)
    })
  })
  draft.edit(`${stem}.bias`, (data) => data.fill(0))
}

/**
 * Two constant channels make the last norm's variance nearly constant, so that it hardly distorts colours; the norm's
 * bias keeps them where SiLU is nearly a line, and the last convolution takes that shift back.
 */
function steadyEnd(draft: Draft, side: string, before: string, groups: number): void {
  draft.edit(before, (data) => {
    const level = Math.sqrt((2 * data.length) / groups)
    data[6] = level
    data[7] = -level
  })
  draft.edit(`${side}.conv_norm_out.weight`, (data) => data.fill(2, 0, 3))
  draft.edit(`${side}.conv_norm_out.bias`, (data) => data.fill(3, 0, 3))
  draft.carry(`${side}.conv_out`, centre, 0.93, -0.93 * 2.86)
}

const byNumbers = (a: string, b: string): number => a.localeCompare(b, "en", { numeric: true })
