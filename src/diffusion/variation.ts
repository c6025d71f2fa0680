import { generator, type Rng } from "./random.ts"

/** How the noise of one picture leans towards that of another seed, and from which size it is taken. */
export interface Variation {
  readonly seed: number
  /** Share of the other seed's noise, 0..1; 0 leaves the noise as it is. */
  readonly strength: number
  /** Latent height and width whose noise the picture shall keep in its middle; null for its own. */
  readonly from: readonly [height: number, width: number] | null
}

/**
 * Spherical interpolation as A1111 has it: along the height, column by column and channel by channel; straight where
 * the two are nearly parallel (and then the shares change places, as they do there).
 * @param low, high c h w
 */
export function slerp(
  share: number,
  low: Float32Array,
  high: Float32Array,
  [channels, height, width]: readonly [number, number, number],
): Float32Array {
  const columns = channels * width
  const omega = new Float64Array(columns)
  let sum = 0
  for (let k = 0; k < columns; k++) {
    const at = Math.floor(k / width) * height * width + (k % width)
    let [ll, hh, lh] = [0, 0, 0]
    for (let y = 0, i = at; y < height; y++, i += width) {
      ll += low[i]! ** 2
      hh += high[i]! ** 2
      lh += low[i]! * high[i]!
    }
    const dot = lh / Math.sqrt(ll * hh)
    sum += dot
    omega[k] = Math.acos(Math.min(1, Math.max(-1, dot)))
  }
  if (sum / columns > 0.9995) return low.map((v, i) => v * share + high[i]! * (1 - share))
  return low.map((v, i) => {
    const angle = omega[Math.floor(i / (height * width)) * width + (i % width)]!
    const whole = Math.sin(angle)
    return (Math.sin((1 - share) * angle) * v + Math.sin(share * angle) * high[i]!) / whole
  })
}

/** `part` (c h w) in the middle of `frame`, cut where it is larger. */
function centred(
  frame: Float32Array,
  part: Float32Array,
  [channels, height, width]: readonly [number, number, number],
  [h, w]: readonly [number, number],
): Float32Array {
  const out = frame.slice()
  const dx = Math.floor((width - w) / 2)
  const dy = Math.floor((height - h) / 2)
  const columns = dx >= 0 ? w : w + 2 * dx
  const rows = dy >= 0 ? h : h + 2 * dy
  const [tx, ty, fx, fy] = [Math.max(dx, 0), Math.max(dy, 0), Math.max(-dx, 0), Math.max(-dy, 0)]
  for (let c = 0; c < channels; c++)
    for (let y = 0; y < rows; y++) {
      const from = (c * h + fy + y) * w + fx
      out.set(part.subarray(from, from + columns), (c * height + ty + y) * width + tx)
    }
  return out
}

/**
 * A picture's first noise with a variation, as A1111's ImageRNG makes it.
 * @param drawn the first draw of the picture's own stream, c h w
 * @param seed the picture's seed, for the noise of another size
 */
export function varied(
  drawn: Float32Array,
  shape: readonly [channels: number, height: number, width: number],
  { seed, rng, variation }: { seed: number; rng: Rng; variation: Variation },
): Float32Array {
  const { from, strength } = variation
  const [channels, height, width] = shape
  const moved = from !== null && (from[0] !== height || from[1] !== width)
  const size = moved ? from : ([height, width] as const)
  const count = channels * size[0] * size[1]
  const own = moved ? generator(seed, rng).normal(count) : drawn
  const mixed =
    strength === 0
      ? own
      : slerp(strength, own, generator(variation.seed, rng).normal(count), [channels, ...size])
  return moved ? centred(drawn, mixed, shape, size) : mixed
}
