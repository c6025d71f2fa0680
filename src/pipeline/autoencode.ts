import type { DrawNoise } from "../diffusion/types.ts"
import { fail } from "../errors.ts"
import { type Picture, pictureFromPlanes } from "../image/pixels.ts"
import { vaeFactor } from "../models/index.ts"
import { f32, type Value } from "../runtime/engine.ts"
import type { Job } from "./generate.ts"
import { type Planes, rescale, sampleLatents, tiled, unscale, unwrapPlanes, wrapPlanes } from "./vae.ts"

/** Latent height and width, and channels. */
export interface Sized {
  readonly size: readonly [number, number]
  readonly channels: number
}

/** Latent side above which the VAE works in tiles: 1024 pixels at factor 8. */
const wholeLatents = 128
const tileLatents = 64

/** A picture's latents: a draw from the encoder's distribution, or what a tiny VAE says without a draw. */
export async function encode(job: Job, picture: Planes, noise: DrawNoise): Promise<Float32Array> {
  const { vae } = job.networks
  const found = await moments(job, picture)
  return "tiny" in vae ? rescale(found, vae) : sampleLatents(found, noise(), vae)
}

export async function moments(job: Job, picture: Planes): Promise<Float32Array> {
  const factor = vaeFactor(job.networks.vae)
  const tile =
    picture.width * picture.height > (wholeLatents * factor) ** 2
      ? tileLatents * factor
      : Number.POSITIVE_INFINITY
  // tiles of a large picture are no whole circle, so they get no wrapped convolutions
  const whole = tile === Number.POSITIVE_INFINITY
  const net = await job.networks.encoder(whole ? job.settings.wrap : null)
  const out = await tiled(picture, { tile, scale: 1 / factor }, async (x) => {
    job.signal?.throwIfAborted()
    const out = await net.run({ image: f32(x.data, [1, x.channels, x.height, x.width]) })
    return planes((out.moments ?? out.latents)!)
  })
  return out.data
}

export async function decode(job: Job, z: Float32Array, { size, channels }: Sized): Promise<Picture> {
  const { networks, trace } = job
  const tile = size[0] * size[1] > wholeLatents ** 2 ? tileLatents : Number.POSITIVE_INFINITY
  const { wrap } = job.settings
  const whole = tile === Number.POSITIVE_INFINITY
  const latents: Planes = { data: unscale(z, networks.vae), channels, height: size[0], width: size[1] }
  const margin = { x: !whole && wrap?.x ? tile / 4 : 0, y: !whole && wrap?.y ? tile / 4 : 0 }
  const wide = wrapPlanes(latents, margin)
  const net = await networks.decoder(wide.height, wide.width, whole ? wrap : null)
  const scale = vaeFactor(networks.vae)
  const made = await tiled(wide, { tile, scale }, async (x) => {
    job.signal?.throwIfAborted()
    return planes((await net.run({ latents: f32(x.data, [1, x.channels, x.height, x.width]) })).image!)
  })
  const image = unwrapPlanes(made, { x: margin.x * scale, y: margin.y * scale })
  if (!image.data.every(Number.isFinite))
    fail("NOT_FINITE", "the VAE's picture is not finite", {
      hint: "its weights may be damaged; try another one with --vae",
    })
  trace?.add("image", f32(image.data, [1, image.channels, image.height, image.width]))
  return pictureFromPlanes(image.data, image.width, image.height)
}

const planes = (v: Value): Planes => ({
  data: v.data as Float32Array,
  channels: v.shape[1]!,
  height: v.shape[2]!,
  width: v.shape[3]!,
})
