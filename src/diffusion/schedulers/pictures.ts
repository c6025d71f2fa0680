/** Element-wise arithmetic on latents, and the scalar float32 functions that its weights are computed with. */

export type Weighted = readonly [weight: number, picture: Float32Array]

/** Weighted sum of pictures, rounded to float32 after each product and sum, as torch does. */
export function mix(...terms: readonly Weighted[]): Float32Array {
  const sum = new Float32Array(terms[0]![1].length)
  for (const [weight, picture] of terms) {
    const w = f32(weight)
    for (let i = 0; i < sum.length; i++) sum[i]! += f32(w * picture[i]!)
  }
  return sum
}

export const f32 = Math.fround

/** (x - x0) / sigma, rounded as torch rounds: it shows where sigmas are large. */
export const slopeOf = (x: Float32Array, x0: Float32Array, sigma: number): Float32Array =>
  x.map((v, i) => f32(v - x0[i]!) / sigma)

/** x + slope * length, rounded as torch rounds. */
export const along = (x: Float32Array, slope: Float32Array, length: number): Float32Array =>
  x.map((v, i) => v + f32(slope[i]! * length))

export const exp = (x: number): number => f32(Math.exp(x))
export const expm1 = (x: number): number => f32(Math.expm1(x))
export const log = (x: number): number => f32(Math.log(x))
export const sqrt = (x: number): number => f32(Math.sqrt(x))

/** What bounds a clean estimate before it is used. */
export interface Bounds {
  readonly thresholding?: boolean
  readonly dynamic_thresholding_ratio?: number
  readonly sample_max_value?: number
  readonly clip_sample?: boolean
  readonly clip_sample_range?: number
}

/** `torch.lerp` of two float32 numbers. */
export const lerp = (a: number, b: number, w: number): number =>
  f32(w < 0.5 ? a + f32(w * f32(b - a)) : b - f32(f32(b - a) * f32(1 - w)))

/** `torch.quantile` of the absolute values: linear between the two nearest ranks. */
function quantileOfAbs(x: Float32Array, q: number): number {
  const sorted = x.map(Math.abs).sort()
  const rank = f32(f32(q) * (sorted.length - 1))
  const below = Math.floor(rank)
  return lerp(sorted[below]!, sorted[Math.min(below + 1, sorted.length - 1)]!, f32(rank - below))
}

/**
 * A clean estimate within its bounds: dynamic thresholding (Saharia et al. 2022, section 2.3) divides by a quantile
 * where that is above 1; clipping cuts at the range.
 */
export function bounded(x0: Float32Array, keys: Bounds): Float32Array {
  if (keys.thresholding) {
    const quantile = quantileOfAbs(x0, keys.dynamic_thresholding_ratio ?? 0.995)
    const s = Math.min(Math.max(quantile, 1), keys.sample_max_value ?? 1)
    return x0.map((v) => Math.max(-s, Math.min(s, v)) / s)
  }
  if (keys.clip_sample) {
    const range = keys.clip_sample_range ?? 1
    return x0.map((v) => Math.max(-range, Math.min(range, v)))
  }
  return x0
}
