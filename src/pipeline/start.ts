import { pictureNoise } from "../diffusion/random.ts"
import type { DrawNoise } from "../diffusion/types.ts"
import { varied } from "../diffusion/variation.ts"
import { f32 } from "../runtime/engine.ts"
import { encode, moments, type Sized } from "./autoencode.ts"
import type { Job } from "./generate.ts"
import { hole, latentMask, maskInput, pictureInput } from "./inputs.ts"
import type { ExtraChannels } from "./rows.ts"
import type { Scene } from "./scene.ts"
import { type Settings, seedOf } from "./settings.ts"
import { modeLatents, type Planes } from "./vae.ts"

/** What the start picture and the mask become for one picture of the batch. */
export interface Start {
  readonly x: Float32Array
  readonly extra: ExtraChannels
  /** Inpainting with an ordinary model: keeps what the mask protects, after each step. */
  readonly protect: {
    readonly mask: Float32Array
    readonly original: Float32Array
    readonly noise: Float32Array
  } | null
}

/** The noise of one picture: its stream, and the draw that it begins from. */
export interface PictureNoise {
  readonly seed: number
  readonly noise: DrawNoise
  /** The draw that the picture begins from, varied as asked; it takes one draw of the stream. */
  readonly first: DrawNoise
}

/** Noise of picture i at a latent size: z_T and all that follows of its stream, 4 h w each. */
export function noiseOf(settings: Settings, { channels, size }: Sized, i: number): PictureNoise {
  const { rng, variation, factor } = settings
  const seed = seedOf(settings, i)
  const noise = pictureNoise(seed, rng, channels * size[0] * size[1])
  if (variation.strength === 0 && !variation.from) return { seed, noise, first: noise }
  const from = variation.from
    ? ([Math.floor(variation.from.height / factor), Math.floor(variation.from.width / factor)] as const)
    : null
  const leaning = { seed: (variation.seed + i) % 2 ** 32, strength: variation.strength, from }
  return { seed, noise, first: () => varied(noise(), [channels, ...size], { seed, rng, variation: leaning }) }
}

/** Start latents; the order of draws is that of diffusers' pipelines: the picture's sample, the noise, the hole's sample. */
export async function begin(
  job: Job,
  sized: Sized,
  scene: Scene | null,
  { noise, first, seed }: PictureNoise,
): Promise<Start> {
  const { settings, sampling, networks, trace } = job
  const shape = [1, sized.channels, ...sized.size]
  const draw = (): Float32Array => {
    const drawn = first()
    trace?.add("noise", f32(drawn, shape))
    return drawn
  }
  if (!scene) {
    const drawn = draw()
    return { x: sampling.start(drawn), extra: null, protect: null }
  }
  const picture = pictureInput(scene.picture, settings.width, settings.height)
  if (networks.unet.in_channels === 2 * sized.channels) return instructStart(job, sized, draw, picture)
  const nine = networks.unet.in_channels === 2 * sized.channels + 1
  const fromNoise = scene.mask !== null && settings.strength === 1 && settings.fill === "original"
  const encoded = nine && fromNoise ? null : await encode(job, picture, noise)
  const drawn = draw()
  const pixels = scene.mask
    ? maskInput(scene.mask, settings.width, settings.height)
    : new Float32Array(settings.width * settings.height).fill(1)
  const mask = latentMask(pixels, settings.width, settings.height, settings.width / sized.size[1])
  const original = encoded && (scene.mask ? emptied(encoded, mask, settings, seed) : encoded)
  const x = fromNoise || original === null ? sampling.start(drawn) : sampling.noised(original, drawn)
  if (!scene.mask && !nine) return { x, extra: null, protect: null }
  // drawn also where an ordinary model makes no use of it, as diffusers does
  const masked = await encode(job, hole(picture, pixels), noise)
  if (nine) return { x, extra: { data: concatenate(mask, masked) }, protect: null }
  return { x, extra: null, protect: { mask, original: original!, noise: drawn } }
}

/** A1111's latent fills of the masked places: nought, or what the picture's seed gives first. */
function emptied(
  original: Float32Array,
  mask: Float32Array,
  { fill, rng }: Settings,
  seed: number,
): Float32Array {
  if (fill !== "latent-noise" && fill !== "latent-nothing") return original
  const fresh = fill === "latent-noise" ? pictureNoise(seed, rng, original.length)() : null
  return original.map((v, i) => (mask[i % mask.length]! < 0.5 ? v : (fresh?.[i] ?? 0)))
}

async function instructStart(
  job: Job,
  sized: Sized,
  draw: () => Float32Array,
  picture: Planes,
): Promise<Start> {
  const x = job.sampling.start(draw())
  const tiny = "tiny" in job.networks.vae
  const data = tiny ? await moments(job, picture) : modeLatents(await moments(job, picture))
  return {
    x,
    extra: { data, zero: new Float32Array(sized.channels * sized.size[0] * sized.size[1]) },
    protect: null,
  }
}

function concatenate(...parts: readonly Float32Array[]): Float32Array {
  const out = new Float32Array(parts.reduce((n, p) => n + p.length, 0))
  let at = 0
  for (const part of parts) {
    out.set(part, at)
    at += part.length
  }
  return out
}
