import { mix, pairs, type Weighted } from "../latent.ts"
import { deisWeights } from "./deis.ts"
import { flow, type KRun, type KSampler, type KStep, oneCall, type PlanRun, slope, stepwise } from "./run.ts"

type Steps = AsyncGenerator<KStep, void>

/** Adams-Bashforth weights for even steps, newest slope first. */
const adamsBashforth = [
  [1],
  [3 / 2, -1 / 2],
  [23 / 12, -16 / 12, 5 / 12],
  [55 / 24, -59 / 24, 37 / 24, -9 / 24],
] as const

/** x plus a weighted sum of slopes. */
const along = (x: Float32Array, weights: readonly number[], slopes: readonly Float32Array[]): Float32Array =>
  mix([1, x], ...weights.map((w, j): Weighted => [w, slopes[j]!]))

/** Three-point Gauss-Legendre, exact for the cubics below. */
const gauss = [
  [-Math.sqrt(3 / 5), 5 / 9],
  [0, 8 / 9],
  [Math.sqrt(3 / 5), 5 / 9],
] as const

/** Integral from nodes[0] to `next` of the Lagrange polynomial that is 1 at nodes[j] and 0 at the others. */
function lagrangeIntegral(nodes: readonly number[], j: number, next: number): number {
  const [middle, half] = [(nodes[0]! + next) / 2, (next - nodes[0]!) / 2]
  const basis = (tau: number) =>
    nodes.reduce((p, node, k) => (k === j ? p : (p * (tau - node)) / (nodes[j]! - node)), 1)
  return half * gauss.reduce((sum, [at, weight]) => sum + weight * basis(middle + half * at), 0)
}

/** A sampler that adds slopes, newest first, with weights that depend on the step alone. */
function multistep(
  order: number,
  weights: (sigmas: readonly number[], index: number, count: number) => readonly number[],
) {
  return async function* run({ denoise, x, sigmas }: KRun): Steps {
    const slopes: Float32Array[] = []
    for (const [s, , i] of pairs(sigmas)) {
      const x0 = await denoise(x, s)
      slopes.unshift(mix(...slope(1, s, x, x0)))
      if (slopes.length > order) slopes.pop()
      yield { x0, x: (x = along(x, weights(sigmas, i, slopes.length), slopes)) }
    }
  }
}

/** Linear multistep of order 4 with weights for uneven steps (k-diffusion's LMS). */
const lms = multistep(4, (sigmas, i, count) => {
  const nodes = Array.from({ length: count }, (_, k) => sigmas[i - k]!)
  return nodes.map((_, j) => lagrangeIntegral(nodes, j, sigmas[i + 1]!))
})

/** Improved PNDM (Zhang & Chen 2023, app. H.3): Adams-Bashforth from the first step on, the last step clean. */
const ipndm = multistep(4, (sigmas, i, count) => {
  const h = sigmas[i + 1]! - sigmas[i]!
  return sigmas[i + 1] === 0 ? [h] : adamsBashforth[count - 1]!.map((w) => w * h)
})

/** DEIS (Zhang & Chen 2023, tAB of order 3): slopes extrapolated in the time of a variance-preserving process. */
const deis = multistep(3, (sigmas, i, count) => {
  if (sigmas[i + 1] === 0 || count === 1) return [sigmas[i + 1]! - sigmas[i]!]
  return deisWeights(sigmas, i, count)
})

/** PLMS: Liu et al. 2022's linear multistep; the first step takes the mean slope of both ends. */
async function* plms({ denoise, x, sigmas }: KRun): Steps {
  const slopes: Float32Array[] = []
  for (const [s, next, i] of pairs(sigmas)) {
    const x0 = await denoise(x, s)
    slopes.unshift(mix(...slope(1, s, x, x0)))
    if (slopes.length > 4) slopes.pop()
    const h = next - s
    if (i === 0 && next > 0) {
      const end = mix(...flow(s, next, x, x0))
      const endSlope = mix(...slope(1, next, end, await denoise(end, next)))
      x = along(x, [h / 2, h / 2], [slopes[0]!, endSlope])
    } else {
      x = along(
        x,
        adamsBashforth[slopes.length - 1]!.map((w) => w * h),
        slopes,
      )
    }
    yield { x, x0 }
  }
}

/** Level halfway in time. */
const midway = (s: number, next: number, { levels }: Pick<KRun, "levels">): number =>
  levels.sigmaAt((levels.timeOf(s) + levels.timeOf(next)) / 2)

/** PNDM (Liu et al. 2022, Alg. 2): three pseudo Runge-Kutta steps of four calls, then linear multistep. */
async function* pndm(run: KRun): Steps {
  let { x } = run
  const slopes: Float32Array[] = []
  const slopeAt = async (y: Float32Array, s: number) => mix(...slope(1, s, y, await run.denoise(y, s)))
  for (const [s, next, i] of pairs(run.sigmas)) {
    const x0 = await run.denoise(x, s)
    const first = mix(...slope(1, s, x, x0))
    slopes.unshift(first)
    if (slopes.length > 4) slopes.pop()
    const h = next - s
    if (i < 3 && next > 0) {
      const middle = midway(s, next, run)
      const second = await slopeAt(mix([1, x], [middle - s, first]), middle)
      const third = await slopeAt(mix([1, x], [middle - s, second]), middle)
      const fourth = await slopeAt(mix([1, x], [h, third]), next)
      x = along(x, [h / 6, h / 3, h / 3, h / 6], [first, second, third, fourth])
    } else {
      x = along(
        x,
        adamsBashforth[slopes.length - 1]!.map((w) => w * h),
        slopes,
      )
    }
    yield { x, x0 }
  }
}

const pndmCalls = (s: number, next: number, i: number, run: PlanRun): readonly number[] => {
  if (i >= 3 || next === 0) return [s]
  const middle = midway(s, next, run)
  return [s, middle, middle, next]
}

export const multistepFamily = {
  lms: { run: lms, plan: oneCall },
  ipndm: { run: ipndm, plan: oneCall },
  deis: { run: deis, plan: oneCall },
  plms: { run: plms, plan: stepwise((s, next, i) => (i === 0 && next > 0 ? [s, next] : [s])) },
  pndm: { run: pndm, plan: stepwise(pndmCalls) },
} satisfies Record<string, KSampler>
