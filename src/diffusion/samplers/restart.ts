import { mix } from "../latent.ts"
import { linspace } from "../schedulers/numpy.ts"
import { flow, fresh, type KRun, type KSampler, type KStep, type Plan, type PlanRun, slope } from "./run.ts"

// Xu et al. 2023 as A1111 sets it: restart once or twice from sigma 0.1 up to sigma 2
const restartLow = 0.1
const restartHigh = 2

const karras = (n: number, low: number, high: number): number[] =>
  linspace(0, 1, n).map((part) => (high ** (1 / 7) + part * (low ** (1 / 7) - high ** (1 / 7))) ** 7)

const nearest = (sigmas: readonly number[], to: number): number =>
  sigmas.reduce((best, s, i) => (Math.abs(s - to) < Math.abs(sigmas[best]! - to) ? i : best), 0)

type Move = readonly [from: number, to: number]

const moves = (sigmas: readonly number[]): Move[] => sigmas.slice(0, -1).map((s, i) => [s, sigmas[i + 1]!])

/** Levels of Heun's steps. From 20 steps on a part of them is spent on restarts, the rest follows Karras' schedule. */
function restartMoves({ sigmas }: Pick<PlanRun, "sigmas">): Move[] {
  const steps = sigmas.length - 1
  if (steps < 20) return moves(sigmas)
  const [each, times] = steps >= 36 ? [Math.floor(steps / 4), 2] : [9, 1]
  const main = [...karras(steps - each * times, sigmas.at(-2)!, sigmas[0]!), 0]
  const low = nearest(main, restartLow)
  const high = nearest(main, restartHigh)
  if (low === 0 || high >= low) return moves(main)
  const again = moves(karras(each + 1, main[low]!, main[high]!))
  const restarts = new Array<Move[]>(times).fill(again).flat()
  return [...moves(main.slice(0, low + 1)), ...restarts, ...moves(main.slice(low))]
}

/** Restart sampling (Xu et al. 2023, Alg. 1): Heun's steps, going back up with fresh noise on the way. */
async function* restart(run: KRun): AsyncGenerator<KStep, void> {
  let { x } = run
  let at: number | undefined
  for (const [s, next] of restartMoves(run)) {
    if (at !== undefined && at < s) x = mix([1, x], ...fresh(run, Math.sqrt(s ** 2 - at ** 2), at, s))
    const x0 = await run.denoise(x, s)
    const end = mix(...flow(s, next, x, x0))
    if (next === 0) x = end
    else {
      const half = (next - s) / 2
      x = mix([1, x], ...slope(half, s, x, x0), ...slope(half, next, end, await run.denoise(end, next)))
    }
    yield { x, x0 }
    at = next
  }
}

function plan(run: PlanRun): Plan {
  const all = restartMoves(run)
  return {
    calls: all.flatMap(([s, next]) => (next === 0 ? [s] : [s, next])),
    after: all.map(([, next]) => next),
  }
}

export const restartFamily = { restart: { run: restart, plan } } satisfies Record<string, KSampler>
