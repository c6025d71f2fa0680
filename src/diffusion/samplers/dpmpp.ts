import { mix, pairs, type Weighted } from "../latent.ts"
import { ancestral, flow, fresh, type KRun, type KSampler, type KStep, oneCall, stepwise } from "./run.ts"

type Steps = AsyncGenerator<KStep, void>

/** DPM-Solver++(2M), Lu et al. 2022b, Alg. 2: the clean estimate is extrapolated from the last two. */
async function* dpmpp2m(run: KRun): Steps {
  let { x } = run
  let old: { x0: Float32Array; h: number } | undefined
  for (const [s, next] of pairs(run.sigmas)) {
    const x0 = await run.denoise(x, s)
    const h = Math.log(s / next)
    const tilt = old && next > 0 ? h / (2 * old.h) : 0
    const gain = 1 - next / s
    const back: Weighted[] = old && tilt > 0 ? [[-gain * tilt, old.x0]] : []
    yield { x0, x: (x = mix([next / s, x], [gain * (1 + tilt), x0], ...back)) }
    old = { x0, h }
  }
}

/** SDE-DPM-Solver++(2M), Lu et al. 2022b, app. C, by the midpoint or Heun rule. */
async function* dpmpp2mSde(run: KRun): Steps {
  let { x } = run
  const { eta = 1, solver = "midpoint" } = run.options
  let old: { x0: Float32Array; h: number } | undefined
  for (const [s, next] of pairs(run.sigmas)) {
    const x0 = await run.denoise(x, s)
    if (next === 0) {
      yield { x0, x: (x = x0.slice()) }
      continue
    }
    const h = Math.log(s / next)
    const gain = -Math.expm1(-h - eta * h)
    const rule = solver === "heun" ? 1 - gain / (h + eta * h) : gain / 2
    const tilt = old ? (rule * h) / old.h : 0
    const up = next * Math.sqrt(-Math.expm1(-2 * eta * h))
    const back: Weighted[] = old ? [[-tilt, old.x0]] : []
    x = mix([(next / s) * Math.exp(-eta * h), x], [gain + tilt, x0], ...back, ...fresh(run, up, s, next))
    yield { x, x0 }
    old = { x0, h }
  }
}

/** SDE-DPM-Solver++(3M), Crowson 2023 (k-diffusion): divided differences of the last three estimates. */
async function* dpmpp3mSde(run: KRun): Steps {
  let { x } = run
  const { eta = 1 } = run.options
  const old: { x0: Float32Array; h: number }[] = []
  for (const [s, next] of pairs(run.sigmas)) {
    const x0 = await run.denoise(x, s)
    if (next === 0) {
      yield { x0, x: (x = x0.slice()) }
      continue
    }
    const h = Math.log(s / next)
    const reach = h * (eta + 1)
    const phi2 = Math.expm1(-reach) / reach + 1
    const phi3 = phi2 / reach - 0.5
    const [one, two] = old
    const terms: Weighted[] = [
      [Math.exp(-reach), x],
      [-Math.expm1(-reach), x0],
    ]
    if (one && two) {
      const [r0, r1] = [one.h / h, two.h / h]
      const bend = (phi2 * r0 - phi3) / (r0 + r1) // weight of the second difference
      terms.push([(phi2 + bend) / r0, x0], [-(phi2 + bend) / r0 - bend / r1, one.x0], [bend / r1, two.x0])
    } else if (one) {
      terms.push([(phi2 * h) / one.h, x0], [(-phi2 * h) / one.h, one.x0])
    }
    const up = next * Math.sqrt(-Math.expm1(-2 * h * eta))
    yield { x0, x: (x = mix(...terms, ...fresh(run, up, s, next))) }
    old.splice(0, 2, { x0, h }, ...(one ? [one] : []))
  }
}

/** Geometric middle of a step. */
const between = (s: number, next: number): number => Math.sqrt(s * next)

const f32 = Math.fround

/** k-diffusion's float32 way there and back through log sigma: a Brownian tree wants the very same numbers. */
function logarithmic(s: number, next: number): [from: number, middle: number, to: number] {
  const [a, b] = [f32(Math.log(s)), f32(Math.log(next))]
  const middle = f32(a + f32(b - a) / 2)
  return [f32(Math.exp(a)), f32(Math.exp(middle)), f32(Math.exp(b))]
}

/** DPM-Solver++ (stochastic, second order, singlestep): two ancestral steps from one start (k-diffusion). */
async function* dpmppSde(run: KRun): Steps {
  let { x } = run
  const { eta = 1 } = run.options
  for (const [s, next] of pairs(run.sigmas)) {
    const x0 = await run.denoise(x, s)
    if (next === 0) x = mix(...flow(s, 0, x, x0))
    else {
      const [from, middle, to] = logarithmic(s, next)
      const [down1, up1] = ancestral(s, middle, eta)
      const half = mix(...flow(s, down1, x, x0), ...fresh(run, up1, from, middle))
      const end = await run.denoise(half, middle)
      const [down2, up2] = ancestral(s, next, eta)
      x = mix(...flow(s, down2, x, end), ...fresh(run, up2, from, to))
    }
    yield { x, x0 }
  }
}

/** DPM-Solver++(2S), Lu et al. 2022b, Alg. 1, to the lower level of an ancestral step. */
async function* dpmpp2sAncestral(run: KRun): Steps {
  let { x } = run
  const { eta = 1 } = run.options
  for (const [s, next] of pairs(run.sigmas)) {
    const x0 = await run.denoise(x, s)
    const [down, up] = ancestral(s, next, eta)
    let end = x0
    if (down > 0) {
      const middle = between(s, down)
      end = await run.denoise(mix(...flow(s, middle, x, x0)), middle)
    }
    yield { x0, x: (x = mix(...flow(s, down, x, end), ...fresh(run, up, s, next))) }
  }
}

export const dpmppFamily = {
  "dpmpp-2m": { run: dpmpp2m, plan: oneCall },
  "dpmpp-2m-sde": { run: dpmpp2mSde, plan: oneCall },
  "dpmpp-3m-sde": { run: dpmpp3mSde, plan: oneCall },
  "dpmpp-sde": {
    run: dpmppSde,
    plan: stepwise((s, next) => (next === 0 ? [s] : [s, logarithmic(s, next)[1]])),
  },
  "dpmpp-2s-a": {
    run: dpmpp2sAncestral,
    plan: stepwise((s, next, _, { options }) => {
      const [down] = ancestral(s, next, options.eta ?? 1)
      return down === 0 ? [s] : [s, between(s, down)]
    }),
  },
} satisfies Record<string, KSampler>
