import { mix } from "../latent.ts"
import { linspace } from "../schedulers/numpy.ts"
import {
  ancestral,
  fresh,
  type KRun,
  type KSampler,
  type KStep,
  type Plan,
  type PlanRun,
  slope,
} from "./run.ts"

type Steps = AsyncGenerator<KStep, void>

// time of DPM-Solver (Lu et al. 2022a) in variance-exploding scale: t = -log sigma
const sigmaAt = (t: number): number => Math.exp(-t)
const timeOf = (sigma: number): number => -Math.log(sigma)

/** From the first to the last positive level; a run of one step goes down to the model's lowest. */
function range({ sigmas, levels }: PlanRun): [start: number, end: number] {
  const positive = sigmas.filter((s) => s > 0)
  const last = positive.length > 1 ? positive.at(-1)! : levels.sigmas[0]!
  return [timeOf(positive[0]!), timeOf(last)]
}

/** Noise estimates of one step, made when they are first needed. */
class Estimates {
  readonly #run: KRun
  constructor(run: KRun) {
    this.#run = run
  }
  async at(x: Float32Array, t: number): Promise<{ eps: Float32Array; x0: Float32Array }> {
    const x0 = await this.#run.denoise(x, sigmaAt(t))
    return { x0, eps: mix(...slope(1, sigmaAt(t), x, x0)) }
  }
}

interface Part {
  readonly x: Float32Array
  readonly t: number
  readonly next: number
  /** Noise estimate at t. */
  readonly eps: Float32Array
}

/** DPM-Solver-1. */
const first = ({ x, t, next, eps }: Part): Float32Array =>
  mix([1, x], [-sigmaAt(next) * Math.expm1(next - t), eps])

/** Where the inner points of DPM-Solver-2 and -3 lie. */
const innerPoint = ({ t, next }: Part, r: number): number => t + r * (next - t)

/** Alg. 1 (r 1/2), or its embedded form with another r; `inner` is the noise estimate at r. */
function second({ x, t, next, eps }: Part, r: number, inner: Float32Array): Float32Array {
  const w = -sigmaAt(next) * Math.expm1(next - t)
  return mix([1, x], [w - w / (2 * r), eps], [w / (2 * r), inner])
}

/** Start of the second inner point of Alg. 2, r1 1/3 and r2 2/3. */
function thirdInner({ x, t, next, eps }: Part, inner: Float32Array): Float32Array {
  const h = (2 / 3) * (next - t)
  const sigma = sigmaAt(t + h)
  const bend = -sigma * 2 * (Math.expm1(h) / h - 1)
  return mix([1, x], [-sigma * Math.expm1(h) - bend, eps], [bend, inner])
}

/** Alg. 2; `inner` is the noise estimate at 2/3. */
function third({ x, t, next, eps }: Part, inner: Float32Array): Float32Array {
  const h = next - t
  const sigma = sigmaAt(next)
  const bend = -sigma * 1.5 * (Math.expm1(h) / h - 1)
  return mix([1, x], [-sigma * Math.expm1(h) - bend, eps], [bend, inner])
}

async function solved(part: Part, order: number, estimates: Estimates): Promise<Float32Array> {
  if (order === 1) return first(part)
  const r = order === 2 ? 1 / 2 : 1 / 3
  const at = innerPoint(part, r)
  const { eps: inner } = await estimates.at(first({ ...part, next: at }), at)
  if (order === 2) return second(part, r, inner)
  const { eps: outer } = await estimates.at(thirdInner(part, inner), innerPoint(part, 2 / 3))
  return third(part, outer)
}

/** Time to step down to and noise back up, for a step from t to next. */
function reached(t: number, next: number, end: number, eta: number): [down: number, up: number] {
  if (eta === 0) return [next, 0]
  const [down] = ancestral(sigmaAt(t), sigmaAt(next), eta)
  const to = Math.min(end, timeOf(down))
  return [to, Math.sqrt(Math.max(sigmaAt(next) ** 2 - sigmaAt(to) ** 2, 0))]
}

interface FastStep {
  readonly t: number
  readonly next: number
  readonly order: number
}

/** DPM-Solver-fast's split of n calls into steps of order 3 and a rest (Lu et al. 2022a, section 3.4). */
function fastSteps(run: PlanRun): FastStep[] {
  const n = run.sigmas.length - 1
  const m = Math.floor(n / 3) + 1
  const [start, end] = range(run)
  const times = linspace(start, end, m + 1)
  const rest = n % 3 === 0 ? [2, 1] : [n % 3]
  const orders = [...new Array<number>(m - rest.length).fill(3), ...rest]
  return orders.map((order, i) => ({ order, t: times[i]!, next: times[i + 1]! }))
}

function fastPlan(run: PlanRun): Plan {
  const [, end] = range(run)
  const steps = fastSteps(run)
  const calls = steps.flatMap(({ t, next, order }) => {
    const [down] = reached(t, next, end, run.options.eta ?? 0)
    const points = [[0], [0, 1 / 2], [0, 1 / 3, 2 / 3]][order - 1]!
    return points.map((r) => sigmaAt(t + r * (down - t)))
  })
  return { calls, after: steps.map(({ next }) => sigmaAt(next)) }
}

/** DPM-Solver-fast (Lu et al. 2022a, section 3.4): as many calls as there are steps, even in log sigma. */
async function* dpmFast(run: KRun): Steps {
  let { x } = run
  const estimates = new Estimates(run)
  const [, end] = range(run)
  for (const { t, next, order } of fastSteps(run)) {
    const [down, up] = reached(t, next, end, run.options.eta ?? 0)
    const { eps, x0 } = await estimates.at(x, t)
    x = await solved({ x, t, next: down, eps }, order, estimates)
    x = up > 0 ? mix([1, x], ...fresh(run, up, sigmaAt(t), sigmaAt(next))) : x
    yield { x, x0 }
  }
}

// Lu et al. 2022a, app. C, and k-diffusion's controller: integral control alone
const relative = 0.05
const absolute = 0.0078
const firstStep = 0.05
const acceptable = 0.81

/** Root mean square of the difference over its tolerance. */
function errorOf(low: Float32Array, high: Float32Array, before: Float32Array): number {
  let sum = 0
  for (let i = 0; i < low.length; i++) {
    const bound = Math.max(absolute, relative * Math.max(Math.abs(low[i]!), Math.abs(before[i]!)))
    sum += ((low[i]! - high[i]!) / bound) ** 2
  }
  return Math.sqrt(sum / low.length)
}

/** DPM-Solver-23, adaptive (Lu et al. 2022a, app. C): the second order solution inside the third tells the error. */
async function* dpmAdaptive(run: KRun): Steps {
  let { x } = run
  const { eta = 0 } = run.options
  const estimates = new Estimates(run)
  const [start, end] = range(run)
  let t = start
  let h = firstStep
  let before = x
  while (t < end - 1e-5) {
    const next = Math.min(end, t + h)
    const [down, up] = reached(t, next, end, eta)
    const { eps, x0 } = await estimates.at(x, t)
    const part: Part = { x, t, next: down, eps }
    const { eps: inner } = await estimates.at(
      first({ ...part, next: innerPoint(part, 1 / 3) }),
      innerPoint(part, 1 / 3),
    )
    const low = second(part, 1 / 3, inner)
    const { eps: outer } = await estimates.at(thirdInner(part, inner), innerPoint(part, 2 / 3))
    const high = third(part, outer)
    const order = eta > 0 ? 1.5 : 3
    const factor = 1 + Math.atan((1 / (errorOf(low, high, before) + 1e-8)) ** (1 / order) - 1)
    h *= factor
    if (!(h > 1e-12)) return // numbers that are not finite would never be accepted
    if (factor < acceptable) continue
    before = low
    x = up > 0 ? mix([1, high], ...fresh(run, up, sigmaAt(t), sigmaAt(next))) : high
    t = next
    yield { x, x0 }
  }
}

export const dpmSolverFamily = {
  "dpm-fast": { run: dpmFast, plan: fastPlan },
  "dpm-adaptive": { run: dpmAdaptive },
} satisfies Record<string, KSampler>
