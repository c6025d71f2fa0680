import { fail } from "../errors.ts"
import { generator, type Rng } from "./random.ts"
import { seedSequence } from "./seed-sequence.ts"

/** Unit-variance noise for the step from one sigma to another; overlapping steps get correlated noise. */
export type StepNoise = (sigma: number, sigmaNext: number) => Float32Array

const f32 = Math.fround
// torchsde.BrownianTree's entropy pool, in words
const poolSize = 24
// increments kept at a time: enough for two ways down the tree, 32 MB for SDXL
const remembered = 128

/** Python's `round(x, 6)`: the nearest multiple of 1e-6, ties (odd multiples of 1/128) to even. */
function round6(x: number): number {
  const tie = Number.isInteger(x * 128) && (x * 128) % 2 !== 0
  if (!tie) return Number(x.toFixed(6))
  const below = Math.floor(x * 1e6)
  return (below % 2 === 0 ? below : below + 1) / 1e6
}

/** Increments of one Brownian path over [t0, t1]: a dyadic tree refined where it is asked (torchsde's BrownianTree). */
class BrownianPath {
  readonly #size: number
  readonly #entropy: number | bigint
  readonly #rng: Rng
  readonly #start: number
  readonly #end: number
  /** Increment of a node, by heap index: root 1, children 2i and 2i + 1. */
  readonly #cache = new Map<number, Float32Array>()
  readonly #root: Float32Array

  constructor(size: number, t0: number, t1: number, entropy: number | bigint, rng: Rng) {
    this.#size = size
    this.#entropy = entropy
    this.#rng = rng
    this.#start = round6(t0)
    this.#end = round6(t1)
    const [seed] = seedSequence(entropy, [], poolSize, 1)
    const scale = f32(Math.sqrt(t1 - t0))
    this.#root = generator(seed!, rng)
      .normal(size)
      .map((v) => v * scale)
  }

  /** W(tb) - W(ta), for ta < tb; times outside of the path are moved to its ends. */
  increment(ta: number, tb: number): Float32Array {
    const inside = (t: number) => round6(Math.min(Math.max(t, this.#start), this.#end))
    const from = inside(ta)
    const to = inside(tb)
    const sum = new Float32Array(this.#size)
    const visit = (node: number, start: number, end: number, w: () => Float32Array): void => {
      if (from <= start && end <= to) {
        const part = w()
        for (let i = 0; i < sum.length; i++) sum[i]! += part[i]!
        return
      }
      const middle = round6(0.5 * (start + end))
      const child = (which: 0 | 1) => () => this.#child(node, which, start, middle, end, w)
      if (from < middle) visit(2 * node, start, middle, child(0))
      if (to > middle) visit(2 * node + 1, middle, end, child(1))
    }
    if (from < to) visit(1, this.#start, this.#end, () => this.#root)
    return sum
  }

  /** Increment of a half: a Brownian bridge at the middle, seeded by the node's place in the tree. */
  #child(
    node: number,
    which: 0 | 1,
    start: number,
    middle: number,
    end: number,
    w: () => Float32Array,
  ): Float32Array {
    const known = this.#cache.get(2 * node + which)
    if (known) return known
    const parent = w()
    const depth = Math.floor(Math.log2(node))
    const [seed] = seedSequence(this.#entropy, [node - 2 ** depth, depth], poolSize, 1)
    const left = generator(seed!, this.#rng).normal(this.#size)
    const share = f32(middle - start)
    const perTime = f32(1 / (end - start))
    const std = f32(Math.sqrt((middle - start) * (end - middle) * (1 / (end - start))))
    for (let i = 0; i < left.length; i++) {
      left[i] = f32(f32(share * parent[i]!) * perTime) + f32(std * left[i]!)
    }
    const right = parent.map((v, i) => v - left[i]!)
    this.#remember(2 * node, left)
    this.#remember(2 * node + 1, right)
    return which === 0 ? left : right
  }

  #remember(node: number, w: Float32Array): void {
    if (this.#cache.size >= remembered) this.#cache.delete(this.#cache.keys().next().value!)
    this.#cache.set(node, w)
  }
}

/**
 * k-diffusion's `BrownianTreeNoiseSampler` (and diffusers' for DPMSolverSDE) on torchsde's Brownian tree.
 * @param size numbers per path: the whole tensor under one seed, one picture under each of several seeds.
 * @param seed one seed, or one per picture: their paths then stand one after another in the result.
 * @param rng where the tree's nodes draw: torch's CPU stream, or Philox as in A1111's NV mode.
 * @throws BROWNIAN_RANGE unless 0 <= sigmaMin < sigmaMax, or for negative seeds.
 */
export function brownianTree(
  size: number,
  sigmaMin: number,
  sigmaMax: number,
  seed: number | bigint | readonly (number | bigint)[],
  rng: Rng = "cpu",
): StepNoise {
  const seeds = typeof seed === "object" ? seed : [seed]
  const t0 = f32(Math.min(sigmaMin, sigmaMax))
  const t1 = f32(Math.max(sigmaMin, sigmaMax))
  if (!(t0 >= 0 && t0 < t1 && t1 < Infinity)) {
    fail("BROWNIAN_RANGE", `Brownian noise needs a range of sigmas, not ${sigmaMin} to ${sigmaMax}`)
  }
  if (seeds.some((s) => s < 0)) fail("BROWNIAN_RANGE", "Brownian noise needs seeds of 0 or more")
  const paths = seeds.map((s) => new BrownianPath(size, t0, t1, s, rng))
  const treeSign = sigmaMin < sigmaMax ? 1 : -1
  return (sigma, sigmaNext) => {
    const [a, b] = [f32(sigma), f32(sigmaNext)]
    const scale = f32(Math.sqrt(Math.abs(f32(b - a)))) * (a < b ? treeSign : -treeSign)
    const out = new Float32Array(size * paths.length)
    for (const [i, path] of paths.entries()) out.set(path.increment(Math.min(a, b), Math.max(a, b)), i * size)
    return out.map((v) => v / scale)
  }
}
