import { fail } from "../errors.ts"

/**
 * A1111's emphasis ("Original"): every token's embedding times its weight, then the whole chunk scaled so that its
 * mean is what it was.
 *
 * @param z embeddings of one chunk, `weights.length` by dim; a new array is returned
 */
export function restoreMean(z: Float32Array, weights: Float32Array): Float32Array {
  const dim = rowLength(z, weights)
  const weighted = z.map((value, i) => value * weights[Math.floor(i / dim)]!)
  const scale = Math.fround(mean(z) / mean(weighted))
  return weighted.map((value) => value * scale)
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

const mean = (values: Float32Array) => values.reduce((sum, value) => sum + value, 0) / values.length

function rowLength(z: Float32Array, weights: Float32Array): number {
  const dim = z.length / weights.length
  if (Number.isInteger(dim) && dim > 0) return dim
  return fail("EMBEDDING-SHAPE", `${z.length} embedding values for ${weights.length} tokens`)
}
