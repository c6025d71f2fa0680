import { fail } from "../../errors.ts"
import { mix, type Weighted } from "../latent.ts"
import type { KRun, KSampler, KStep, PlanRun } from "./run.ts"

/** ComfyUI's stand-in for a last level of 0, whose log would be infinite. */
const almostClean = 0.001

const levelsOf = (sigmas: readonly number[]): number[] =>
  sigmas.map((s, i) => (s === 0 && i === sigmas.length - 1 ? almostClean : s))

/** Solves a small linear system by elimination with pivots. */
export function solve(matrix: readonly (readonly number[])[], right: readonly number[]): number[] {
  const rows = matrix.map((row, i) => [...row, right[i]!])
  const n = rows.length
  for (let c = 0; c < n; c++) {
    const pivot = rows.reduce(
      (best, row, r) => (r >= c && Math.abs(row[c]!) > Math.abs(rows[best]![c]!) ? r : best),
      c,
    )
    const [top, low] = [rows[c]!, rows[pivot]!]
    rows[c] = low
    rows[pivot] = top
    for (let r = 0; r < n; r++) {
      if (r === c) continue
      const factor = rows[r]![c]! / low[c]!
      rows[r] = rows[r]!.map((v, k) => v - factor * low[k]!)
    }
  }
  return rows.map((row, i) => row[n]! / row[i]!)
}

interface Past {
  readonly x0: Float32Array
  readonly lambda: number
}

/** Weights of one step (Zhao et al. 2023, eq. 5 and 11): `past[0]` is the newest estimate. */
function weights(past: readonly Past[], lambda: number, order: number, solver: string) {
  const h = lambda - past[0]!.lambda
  const ratios = [...past.slice(1, order).map((p) => (p.lambda - past[0]!.lambda) / h), 1]
  const phi1 = Math.expm1(-h)
  const scale = solver === "bh2" ? phi1 : -h
  let phi = phi1 / -h - 1
  let factorial = 1
  const right = ratios.map((_, i) => {
    const b = (phi * factorial) / scale
    factorial *= i + 2
    phi = phi / -h - 1 / factorial
    return b
  })
  const matrix = ratios.map((_, i) => ratios.map((r) => r ** i))
  const inner = matrix.slice(0, -1).map((row) => row.slice(0, -1))
  const predictor = order === 2 ? [0.5] : solve(inner, right.slice(0, -1))
  const corrector = order === 1 ? [0.5] : solve(matrix, right)
  return { phi1, scale, ratios, predictor, corrector }
}

/** Terms -scale * sum of rho (x0_i - x0_0) / r_i. */
function differences(
  past: readonly Past[],
  ratios: readonly number[],
  rhos: readonly number[],
  scale: number,
): Weighted[] {
  return rhos.flatMap((rho, i): Weighted[] => {
    const w = (-scale * rho) / ratios[i]!
    return [
      [w, past[i + 1]!.x0],
      [-w, past[0]!.x0],
    ]
  })
}

/** UniPC (Zhao et al. 2023), data prediction, order 3 and lower at the ends, corrector at all steps but the last. */
async function* unipc({ denoise, x, sigmas, options }: KRun): AsyncGenerator<KStep, void> {
  const { solver = "bh1" } = options
  if (solver !== "bh1" && solver !== "bh2") {
    fail("SAMPLER_SOLVER", `unipc has no solver "${solver}"`, { hint: "Known are bh1 and bh2." })
  }
  const levels = levelsOf(sigmas)
  const steps = levels.length - 1
  const highest = Math.max(Math.min(3, levels.length - 2), 1)
  const past: Past[] = [{ x0: await denoise(x, levels[0]!), lambda: -Math.log(levels[0]!) }]
  for (let i = 1; i <= steps; i++) {
    const lambda = -Math.log(levels[i]!)
    const order = i < highest ? i : Math.min(highest, steps + 1 - i)
    const { phi1, scale, ratios, predictor, corrector } = weights(past, lambda, order, solver)
    const base: Weighted[] = [
      [levels[i]! / levels[i - 1]!, x],
      [-phi1, past[0]!.x0],
    ]
    x = mix(...base, ...differences(past, ratios, predictor, scale))
    let newest = past[0]!.x0
    if (i < steps) {
      newest = await denoise(x, levels[i]!)
      const known = differences(past, ratios, corrector.slice(0, -1), scale)
      const w = -scale * corrector.at(-1)!
      x = mix(...base, ...known, [w, newest], [-w, past[0]!.x0])
    }
    yield { x, x0: newest }
    past.unshift({ x0: newest, lambda })
    past.length = Math.min(past.length, 3)
  }
}

export const unipcFamily = {
  unipc: {
    run: unipc,
    plan: ({ sigmas }: PlanRun) => ({ calls: sigmas.slice(0, -1), after: sigmas.slice(1) }),
  },
} satisfies Record<string, KSampler>
