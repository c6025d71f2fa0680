import { torchGenerator } from "../diffusion/random.ts"
import { blank, type Picture } from "../image/pixels.ts"
import { vaeFactor } from "../models/index.ts"
import { f32 } from "../runtime/engine.ts"
import type { Sized } from "./autoencode.ts"
import type { Networks } from "./networks.ts"
import { unscale } from "./vae.ts"

/** Red, green and blue of an empty latent place, then each channel's share of them; -1 to 1. */
export type Colours = readonly (readonly [number, number, number])[]

/** Stable Diffusion's four latent channels: a least-squares fit, good enough to watch. */
const stableDiffusion: Colours = [
  [0, 0, 0],
  [0.298, 0.207, 0.208],
  [0.187, 0.286, 0.173],
  [-0.158, 0.189, 0.264],
  [-0.184, -0.271, -0.473],
]

/** Bytes of an autoencoder that answers within milliseconds; Stable Diffusion's has ten times as many. */
const small = 32e6

const known = new WeakMap<Networks, Promise<Colours>>()

/** Colours of a model's latents: a small autoencoder of its own is asked, others are taken for Stable Diffusion's. */
export function coloursOf(networks: Networks, sized: Sized): Promise<Colours> {
  if (networks.vaeBytes > small) return Promise.resolve(stableDiffusion)
  // what is wrong with a decoder is told when a picture needs it
  const colours = known.get(networks) ?? fitColours(networks, sized).catch(() => stableDiffusion)
  known.set(networks, colours)
  return colours
}

/** Least squares over what the decoder makes of soft noise. */
async function fitColours(networks: Networks, { size, channels }: Sized): Promise<Colours> {
  // sides that the picture's own decoder takes
  const side = size.every((s) => s % 4 === 0) ? 8 : 7
  const rows = 8
  const factor = vaeFactor(networks.vae)
  const probes = Array.from({ length: rows }, (_, i) => softNoise(i, channels, side))
  const data = new Float32Array(rows * channels * side * side)
  for (const [i, z] of probes.entries()) data.set(unscale(z, networks.vae), i * z.length)
  const net = await networks.decoder(side, side)
  const { image } = await net.run({ latents: f32(data, [rows, channels, side, side]) })
  const equations = probes.flatMap((z, i) => {
    const at = image!.data.length / rows
    const rgb = (image!.data as Float32Array).subarray(i * at, (i + 1) * at)
    return Array.from({ length: side * side }, (_, place) => ({
      x: [1, ...Array.from({ length: channels }, (_, c) => z[c * side * side + place]!)],
      y: meanColour(rgb, place, side, factor),
    }))
  })
  return leastSquares(equations)
}

/** Noise of unit variance whose neighbours are alike, as in pictures: blocks of two places. */
function softNoise(seed: number, channels: number, side: number): Float32Array {
  const blocks = Math.ceil(side / 2)
  const noise = torchGenerator(seed).normal(Math.max(16, channels * blocks * blocks))
  return Float32Array.from({ length: channels * side * side }, (_, i) => {
    const [c, y, x] = [Math.floor(i / (side * side)), Math.floor(i / side) % side, i % side]
    return noise[(c * blocks + (y >> 1)) * blocks + (x >> 1)]!
  })
}

/** Mean red, green and blue of the pixels over a latent place. */
function meanColour(rgb: Float32Array, place: number, side: number, factor: number): number[] {
  const width = side * factor
  const corner = Math.floor(place / side) * factor * width + (place % side) * factor
  return [0, 1, 2].map((channel) => {
    let sum = 0
    for (let y = 0; y < factor; y++)
      for (let x = 0; x < factor; x++) sum += rgb[channel * width * width + corner + y * width + x]!
    return sum / factor ** 2
  })
}

/** Solves the normal equations by elimination; a breath of regularisation keeps them solvable. */
function leastSquares(equations: readonly { x: readonly number[]; y: readonly number[] }[]): Colours {
  const n = equations[0]!.x.length
  const m = Array.from({ length: n }, (_, i) =>
    Array.from({ length: n + 3 }, (_, j) =>
      equations.reduce((sum, { x, y }) => sum + x[i]! * (j < n ? x[j]! : y[j - n]!), i === j ? 1e-6 : 0),
    ),
  )
  for (let i = 0; i < n; i++)
    for (let k = 0; k < n; k++) {
      if (k === i) continue
      const share = m[k]![i]! / m[i]![i]!
      for (let j = i; j < n + 3; j++) m[k]![j]! -= share * m[i]![j]!
    }
  return m.map((row, i) => [row[n]! / row[i]!, row[n + 1]! / row[i]!, row[n + 2]! / row[i]!] as const)
}

/** Latents as a small picture, one pixel per latent place, by one matrix; no network runs. */
export function latentPreview(
  x0: Float32Array,
  { size: [height, width], channels }: Sized,
  colours: Colours = stableDiffusion,
): Picture {
  const picture = blank(width, height, 3)
  const area = width * height
  for (let i = 0; i < area; i++) {
    for (let rgb = 0; rgb < 3; rgb++) {
      let v = colours[0]![rgb]!
      for (let c = 0; c < Math.min(channels, colours.length - 1); c++)
        v += x0[c * area + i]! * colours[c + 1]![rgb]!
      picture.data[3 * i + rgb] = (v * 0.5 + 0.5) * 255
    }
  }
  return picture
}
