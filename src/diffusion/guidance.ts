import { mix } from "./latent.ts"

/** Classifier-free guidance (Ho & Salimans 2022) on raw network outputs: uncond + cfg (cond - uncond). */
export const guided = (cond: Float32Array, uncond: Float32Array, cfg: number): Float32Array =>
  mix([cfg, cond], [1 - cfg, uncond])

/** One part of an AND composition. */
export interface Part {
  readonly cond: Float32Array
  readonly weight: number
}

/** Composed prompts (Liu et al. 2022): uncond + sum of weight cfg (cond - uncond). */
export function composed(parts: readonly Part[], uncond: Float32Array, cfg: number): Float32Array {
  const total = parts.reduce((sum, { weight }) => sum + weight * cfg, 0)
  return mix([1 - total, uncond], ...parts.map(({ cond, weight }) => [weight * cfg, cond] as const))
}

/**
 * InstructPix2Pix' two scales (Brooks et al. 2023, eq. 3).
 * @param both output under text and picture; `image` under the picture alone; `uncond` under neither.
 */
export const instructed = (
  both: Float32Array,
  image: Float32Array,
  uncond: Float32Array,
  cfg: number,
  imageCfg: number,
): Float32Array => mix([cfg, both], [imageCfg - cfg, image], [1 - imageCfg, uncond])

/** Standard deviation of all numbers with n - 1 below, as torch.std. */
export function deviation(values: Float32Array): number {
  let sum = 0
  for (const v of values) sum += v
  const mean = sum / values.length
  let squares = 0
  for (const v of values) squares += (v - mean) ** 2
  return Math.sqrt(squares / (values.length - 1))
}

/**
 * Guidance rescale (Lin et al. 2023, section 3.4): brings the guided output back towards the conditional output's
 * deviation, by `phi` of the way (0 leaves it alone, the paper uses 0.7). One picture at a time.
 */
export function rescaled(output: Float32Array, cond: Float32Array, phi: number): Float32Array {
  if (phi === 0) return output
  const weight = 1 + phi * (deviation(cond) / deviation(output) - 1)
  return mix([weight, output])
}
