import { fail } from "../errors.ts"

/**
 * How weights act on embeddings: A1111's "Original" (`restoreMean`), "No norm" (`multiply`) and "Ignore", or ComfyUI's
 * way, which starts from the empty prompt.
 */
export type Emphasis = "restoreMean" | "multiply" | "ignore" | "fromEmpty"

/**
 * A1111's emphasis ("Original"): every token's embedding times its weight, then all of it scaled so that its mean is
 * what it was. A1111 encodes the texts of one schedule (`[a:b:10]`) at once, and their chunks of one place have one
 * mean (modules/sd_emphasis.py of version 1.10).
 *
 * @param zs embeddings of one chunk each, `weights[i].length` by dim; new arrays are returned
 */
export function restoreMean(zs: readonly Float32Array[], weights: readonly Float32Array[]): Float32Array[] {
  const weighted = zs.map((z, i) => multiply(z, weights[i]!))
  const scale = Math.fround(mean(zs) / mean(weighted))
  return weighted.map((z) => z.map((value) => value * scale))
}

/** A1111's emphasis "No norm": every token's embedding times its weight. */
export function multiply(z: Float32Array, weights: Float32Array): Float32Array {
  const dim = rowLength(z, weights)
  return z.map((value, i) => value * weights[Math.floor(i / dim)]!)
}

/**
 * ComfyUI's emphasis: every token's embedding moved along the line from the empty prompt's embedding at that place,
 * e + w (z - e).
 *
 * @param empty embeddings of the empty chunk, the size of `z`
 */
export function fromEmpty(z: Float32Array, empty: Float32Array, weights: Float32Array): Float32Array {
  const dim = rowLength(z, weights)
  if (empty.length !== z.length)
    fail("EMBEDDING-SHAPE", `${z.length} embedding values beside ${empty.length} of the empty prompt`)
  return z.map((value, i) => {
    const weight = weights[Math.floor(i / dim)]!
    // at weight 1 the value stays to the last bit
    return weight === 1 ? value : Math.fround(Math.fround(value - empty[i]!) * weight) + empty[i]!
  })
}

/** Sum of embeddings times weights: Compel's `.blend()`. With `normalize`, weights are divided by their sum. */
export function blend(
  embeddings: readonly Float32Array[],
  weights: readonly number[],
  normalize = true,
): Float32Array {
  const sum = normalize ? weights.reduce((a, b) => a + b, 0) : 1
  const [first, ...others] = embeddings
  if (!first || embeddings.length !== weights.length)
    return fail("EMBEDDING-SHAPE", `${embeddings.length} embeddings beside ${weights.length} weights`)
  const mixed = first.map((value) => (value * weights[0]!) / sum)
  others.forEach((other, k) => {
    for (let i = 0; i < mixed.length; i++) mixed[i]! += (other[i]! * weights[k + 1]!) / sum
  })
  return mixed
}

const mean = (arrays: readonly Float32Array[]) =>
  arrays.reduce((sum, values) => values.reduce((s, value) => s + value, sum), 0) /
  arrays.reduce((count, values) => count + values.length, 0)

function rowLength(z: Float32Array, weights: Float32Array): number {
  const dim = z.length / weights.length
  if (Number.isInteger(dim) && dim > 0) return dim
  return fail("EMBEDDING-SHAPE", `${z.length} embedding values for ${weights.length} tokens`)
}
