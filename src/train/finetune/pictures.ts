import { mulDim, symbol } from "../../graph/index.ts"
import { decodeImage } from "../../image/codec.ts"
import { type Picture, planesFromPicture, toGrey, toRgb, unitPlanesFromPicture } from "../../image/pixels.ts"
import { resize, fit as scaled } from "../../image/resize.ts"
import { encoderGraph } from "../../models/index.ts"
import { type Engine, f32, type Value } from "../../runtime/engine.ts"
import { compile, type Program } from "../../runtime/program.ts"
import type { Size } from "../data/buckets.ts"
import { type Item, sha256Of } from "../data/dataset.ts"
import type { Source } from "../data/entry.ts"
import { partHash, storedWeights, type TrainModel } from "./model.ts"
import type { ArrayStore } from "./store.ts"

/** A picture of a data set is larger than what a stranger may send: its header was checked when it was listed. */
const limits = { pixels: Number.POSITIVE_INFINITY, side: 65_535, bytes: 256 * 2 ** 20 }

/** A picture scaled to cover a size and cut evenly at the sides, as RGB. */
export async function pictureAt(source: Source, { width, height }: Size): Promise<Picture> {
  const picture = toRgb(await decodeImage(await source.read(), limits, source.where))
  return scaled(picture, width, height, "crop", "lanczos")
}

/** Left to right mirrored. */
export function mirrored(picture: Picture): Picture {
  const { width, height, channels, data } = picture
  const out = new Uint8ClampedArray(data.length)
  for (let y = 0; y < height; y++)
    for (let x = 0; x < width; x++)
      for (let c = 0; c < channels; c++)
        out[(y * width + x) * channels + c] = data[(y * width + width - 1 - x) * channels + c]!
  return { width, height, channels, data: out }
}

/** How much each latent counts by a mask: its mean over the latent's pixels, h w of 0..1. */
export async function maskAt(
  source: Source,
  size: Size,
  factor: number,
  mirror: boolean,
): Promise<Float32Array> {
  const whole = await pictureAt(source, size)
  const grey = toGrey(mirror ? mirrored(whole) : whole)
  const small = resize(grey, size.width / factor, size.height / factor, "box")
  return Float32Array.from(small.data, (v) => v / 255)
}

/** A picture as a ControlNet takes it, 3 h w in 0..1. */
export async function planesOf(source: Source, size: Size, mirror: boolean): Promise<Float32Array> {
  const picture = await pictureAt(source, size)
  return unitPlanesFromPicture(mirror ? mirrored(picture) : picture)
}

/** Turns pictures into the autoencoder's means and log variances, remembered on a disk. */
export class LatentEncoder {
  private readonly program: Program
  private readonly key: string
  private readonly store: ArrayStore

  private constructor(program: Program, key: string, store: ArrayStore) {
    this.program = program
    this.key = key
    this.store = store
  }

  static async open(
    engine: Engine,
    model: TrainModel,
    store: ArrayStore,
    threads?: number,
  ): Promise<LatentEncoder> {
    const side = (name: string) => mulDim(model.factor, symbol(name))
    const { graph } = encoderGraph(model.vae, { b: 1, h: side("h"), w: side("w") })
    const weights = new Map(
      [...storedWeights(model, (n) => n.startsWith("vae."))].map(([n, t]) => [n.slice(4), t]),
    )
    return new LatentEncoder(
      await compile(engine, graph, weights, { device: "cpu", threads }),
      await partHash(model, "vae"),
      store,
    )
  }

  private keyOf(item: Item, size: Size, mirror: boolean): string {
    return sha256Of(`latents ${this.key} ${item.hash} ${size.width}x${size.height} crop ${mirror}`)
  }

  /** Moments of an item, 2z h w, made where they are not there yet. @throws IMAGE_* */
  async moments(item: Item, size: Size, mirror = false): Promise<Value> {
    const key = this.keyOf(item, size, mirror)
    const known = await this.store.get(key)
    if (known) return known.moments!
    const picture = await pictureAt(item, size)
    const image = f32(planesFromPicture(mirror ? mirrored(picture) : picture), [
      1,
      3,
      size.height,
      size.width,
    ])
    const { moments } = await this.program.run({ image })
    const value = f32(moments!.data as Float32Array, moments!.shape.slice(1))
    await this.store.set(key, { moments: value })
    return value
  }

  release(): Promise<void> {
    return this.program.release()
  }
}

/** One sample of a normal distribution from moments (Kingma & Welling 2014), times the scaling factor, into `out`. */
export function sampleMoments(
  moments: Float32Array,
  noise: Float32Array,
  { scale, shift }: { scale: number; shift: number },
  out: Float32Array,
  at: number,
): void {
  const half = moments.length / 2
  for (let i = 0; i < half; i++) {
    const spread = Math.exp(0.5 * Math.min(20, Math.max(-30, moments[half + i]!)))
    out[at + i] = (moments[i]! + spread * noise[i]! - shift) * scale
  }
}
