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

/**
 * The first three channels carry the picture through the whole autoencoder, so that it starts as a thumbnail and its
 * enlargement instead of noise: worth 4 dB after 700 crops. Needs 8 channels or more at every level and no attention.
 * @param weights of AutoencoderKL, changed in place.
 */
export function passThrough(weights: Weights, shapes: Shapes, groups: number): Weights {
  const edit = (name: string, change: (data: Float32Array, shape: readonly number[]) => void) => {
    const data = weights.get(name)
    if (data) change(data, shapes.get(name)!)
  }
  /** Rows 0 to 2 of a filter read channels 0 to 2, at one tap or several. */
  const carry = (stem: string, taps: (k: number) => [number, number][], gain = 1, bias = 0) => {
    edit(`${stem}.weight`, (data, [, i, k]) => {
      for (let c = 0; c < 3; c++) {
        data.fill(0, c * i! * k! * k!, (c + 1) * i! * k! * k!)
        const at = taps(k!)
        for (const [y, x] of at) data[((c * i! + c) * k! + y) * k! + x] = gain / at.length
      }
    })
    edit(`${stem}.bias`, (data) => data.fill(bias, 0, 3))
  }
  const centre = (k: number): [number, number][] => [[k >> 1, k >> 1]]
  const quarter = (): [number, number][] => [
    [0, 0],
    [0, 1],
    [1, 0],
    [1, 1],
  ]
  for (const name of [...weights.keys()].filter((n) => n.endsWith(".weight"))) {
    const stem = name.slice(0, -".weight".length)
    if (stem.endsWith(".conv2")) {
      edit(name, (data, shape) => {
        const row = sizeOf(shape.slice(1))
        data.forEach((v, j) => {
          data[j] = v * (j < 3 * row ? 0.03 : 0.1)
        })
      })
      edit(`${stem}.bias`, (data) => data.fill(0))
    } else if (/\.conv_shortcut$|upsamplers\.0\.conv$|^(en|de)coder\.conv_in$/.test(stem)) carry(stem, centre)
    else if (/downsamplers\.0\.conv$/.test(stem)) carry(stem, quarter)
  }
  const last = [...weights.keys()]
    .filter((n) => /^decoder\.up_blocks\.\d+\.resnets\.\d+\.conv2\.bias$/.test(n))
    .sort(byNumbers)
  for (const [conv2, side] of [
    ["encoder.mid_block.resnets.1.conv2.bias", "encoder"],
    [last.at(-1)!, "decoder"],
  ] as const) {
    // two constant channels make the last norm's variance nearly constant, so that it hardly distorts colours
    edit(conv2, (data) => {
      const level = Math.sqrt((2 * data.length) / groups)
      data[6] = level
      data[7] = -level
    })
    edit(`${side}.conv_norm_out.weight`, (data) => data.fill(2, 0, 3))
    edit(`${side}.conv_norm_out.bias`, (data) => data.fill(3, 0, 3))
    carry(`${side}.conv_out`, centre, 0.93, -0.93 * 2.86)
  }
  edit("quant_conv.weight", (data, [o, i]) => {
    data.fill(0)
    for (let c = 0; c < o!; c++) data[c * i! + c] = c < o! / 2 ? 1 : 0.1
  })
  edit("quant_conv.bias", (data) => data.fill(0).fill(-6, data.length / 2))
  edit("post_quant_conv.weight", (data, [o, i]) => {
    data.fill(0)
    for (let c = 0; c < o!; c++) data[c * i! + c] = 1
  })
  edit("post_quant_conv.bias", (data) => data.fill(0))
  return weights
}

const byNumbers = (a: string, b: string): number => a.localeCompare(b, "en", { numeric: true })
