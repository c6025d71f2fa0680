import type { TinyVaeConfig, VaeConfig } from "../models/index.ts"

/** Either kind of autoencoder, as far as latents go. */
export type AnyVae = VaeConfig | TinyVaeConfig

/** A batch of one: channels h w, flat. */
export interface Planes {
  data: Float32Array
  channels: number
  height: number
  width: number
}

export type Transform = (x: Planes) => Promise<Planes>

/** Latents to what the decoder takes: the scaling factor undone (Rombach et al. 2022, App. G; mean and deviation where a config has them). */
export function unscale(latents: Float32Array, c: AnyVae): Float32Array {
  const { latents_mean: mean, latents_std: std, scaling_factor: s } = c
  if (!mean || !std) return latents.map((v) => v / s)
  const size = latents.length / c.latent_channels
  return latents.map((v, i) => (v * std[Math.floor(i / size)]!) / s + mean[Math.floor(i / size)]!)
}

/** A draw from the encoder's distribution, scaled to latents: Kingma & Welling 2014, eq. 10. Moments are mean then log-variance. */
export function sampleLatents(moments: Float32Array, noise: Float32Array | null, c: AnyVae): Float32Array {
  const size = moments.length / 2
  const z = new Float32Array(size)
  for (let i = 0; i < size; i++) {
    const logvar = Math.min(20, Math.max(-30, moments[size + i]!))
    z[i] = moments[i]! + (noise === null ? 0 : Math.exp(0.5 * logvar) * noise[i]!)
  }
  return rescale(z, c)
}

/** The picture's latents without a draw or a scale: instruct-pix2pix reads the mode. */
export const modeLatents = (moments: Float32Array): Float32Array => moments.slice(0, moments.length / 2)

export function rescale(z: Float32Array, c: AnyVae): Float32Array {
  const { latents_mean: mean, latents_std: std, scaling_factor: s } = c
  if (!mean || !std) return z.map((v) => v * s)
  const size = z.length / c.latent_channels
  return z.map((v, i) => ((v - mean[Math.floor(i / size)]!) * s) / std[Math.floor(i / size)]!)
}

/** Share of a tile that overlaps its neighbour. */
const overlap = 0.25

export interface Tiling {
  /** Side of a tile of the input. */
  tile: number
  /** Output pixels per input pixel: the VAE's factor when decoding, its inverse when encoding. */
  scale: number
}

/**
 * Runs a transform over overlapping tiles and blends the seams linearly, so that memory is bounded by a tile.
 * A picture of one tile is passed through whole. The scheme is diffusers' tiled_decode and tiled_encode.
 */
export async function tiled(x: Planes, { tile, scale }: Tiling, run: Transform): Promise<Planes> {
  if (x.width <= tile && x.height <= tile) return run(x)
  const stride = Math.floor(tile * (1 - overlap))
  const keep = Math.floor(stride * scale)
  const blend = Math.floor(tile * scale) - keep
  const height = Math.round(x.height * scale)
  const width = Math.round(x.width * scale)
  let out: Planes | undefined
  let above: Planes[] = []
  for (let i = 0, top = 0; top < x.height; i++, top += stride) {
    const row: Planes[] = []
    for (let j = 0, left = 0; left < x.width; j++, left += stride) {
      const made = await run(crop(x, top, left, tile))
      out ??= {
        data: new Float32Array(made.channels * height * width),
        channels: made.channels,
        height,
        width,
      }
      if (above[j]) blendEdge(above[j]!, made, blend, "down")
      if (row[j - 1]) blendEdge(row[j - 1]!, made, blend, "right")
      row.push(made)
      paste(made, out, i * keep, j * keep, keep)
    }
    above = row
  }
  return out!
}

/** Planes with their opposite edges around them. */
export function wrapPlanes(p: Planes, { x, y }: { x: number; y: number }): Planes {
  if (x === 0 && y === 0) return p
  const [height, width] = [p.height + 2 * y, p.width + 2 * x]
  const data = new Float32Array(p.channels * height * width)
  const inside = (i: number, n: number) => ((i % n) + n) % n
  for (let c = 0, to = 0; c < p.channels; c++)
    for (let i = 0; i < height; i++) {
      const row = (c * p.height + inside(i - y, p.height)) * p.width
      for (let j = 0; j < width; j++) data[to++] = p.data[row + inside(j - x, p.width)]!
    }
  return { ...p, data, height, width }
}

/** Planes without what `wrapPlanes` put around them. */
export const unwrapPlanes = (p: Planes, { x, y }: { x: number; y: number }): Planes =>
  x === 0 && y === 0 ? p : cutPlanes(p, y, x, p.height - 2 * y, p.width - 2 * x)

const crop = (x: Planes, top: number, left: number, tile: number): Planes =>
  cutPlanes(x, top, left, Math.min(tile, x.height - top), Math.min(tile, x.width - left))

function cutPlanes(x: Planes, top: number, left: number, height: number, width: number): Planes {
  const data = new Float32Array(x.channels * height * width)
  for (let c = 0; c < x.channels; c++) {
    for (let y = 0; y < height; y++) {
      const from = (c * x.height + top + y) * x.width + left
      data.set(x.data.subarray(from, from + width), (c * height + y) * width)
    }
  }
  return { data, channels: x.channels, height, width }
}

/** Fades the start of `b` in over the end of `a`, its neighbour above or to the left. */
function blendEdge(a: Planes, b: Planes, extent: number, way: "down" | "right"): void {
  const down = way === "down"
  const n = Math.min(extent, down ? a.height : a.width, down ? b.height : b.width)
  const across = down ? Math.min(a.width, b.width) : Math.min(a.height, b.height)
  const at = (p: Planes, c: number, along: number, side: number) =>
    down ? (c * p.height + along) * p.width + side : (c * p.height + side) * p.width + along
  for (let c = 0; c < b.channels; c++) {
    for (let k = 0; k < n; k++) {
      for (let s = 0; s < across; s++) {
        const to = at(b, c, k, s)
        const from = at(a, c, (down ? a.height : a.width) - n + k, s)
        b.data[to] = a.data[from]! * (1 - k / n) + b.data[to]! * (k / n)
      }
    }
  }
}

function paste(from: Planes, to: Planes, top: number, left: number, keep: number): void {
  const height = Math.min(keep, from.height, to.height - top)
  const width = Math.min(keep, from.width, to.width - left)
  for (let c = 0; c < from.channels; c++) {
    for (let y = 0; y < height; y++) {
      const start = (c * from.height + y) * from.width
      to.data.set(from.data.subarray(start, start + width), (c * to.height + top + y) * to.width + left)
    }
  }
}
