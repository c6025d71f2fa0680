import { mix, pairs } from "../latent.ts"
import {
  ancestral,
  flow,
  fresh,
  type KRun,
  type KSampler,
  type KStep,
  oneCall,
  slope,
  stepwise,
} from "./run.ts"

type Steps = AsyncGenerator<KStep, void>

/** Raised level of Karras et al. 2022, Alg. 2, line 4-5. */
function hat(sigma: number, { sigmas, options }: Pick<KRun, "sigmas" | "options">): number {
  const { sChurn = 0, sTmin = 0, sTmax = Infinity } = options
  if (sChurn === 0 || sigma < sTmin || sigma > sTmax) return sigma
  return sigma * (1 + Math.min(sChurn / (sigmas.length - 1), Math.SQRT2 - 1))
}

/** Line 6: noise up to the raised level. Like k-diffusion, every step of a churned run draws. */
function churned(run: KRun, x: Float32Array, sigma: number): [hat: number, x: Float32Array] {
  if (!run.options.sChurn) return [sigma, x]
  const raised = hat(sigma, run)
  const noise = run.noise(sigma, raised)
  const up = Math.sqrt(raised ** 2 - sigma ** 2) * (run.options.sNoise ?? 1)
  return up > 0 ? [raised, mix([1, x], [up, noise])] : [sigma, x]
}

/** Karras et al. 2022, Alg. 2 with Euler steps. */
async function* euler(run: KRun): Steps {
  let { x } = run
  for (const [sigma, next] of pairs(run.sigmas)) {
    const [s, noisy] = churned(run, x, sigma)
    const x0 = await run.denoise(noisy, s)
    yield { x0, x: (x = mix(...flow(s, next, noisy, x0))) }
  }
}

/** Karras et al. 2022, Alg. 2: the slope is the mean of both ends. */
async function* heun(run: KRun): Steps {
  let { x } = run
  for (const [sigma, next] of pairs(run.sigmas)) {
    const [s, noisy] = churned(run, x, sigma)
    const x0 = await run.denoise(noisy, s)
    x = mix(...flow(s, next, noisy, x0))
    if (next > 0) {
      const half = (next - s) / 2
      const end = await run.denoise(x, next)
      x = mix([1, noisy], ...slope(half, s, noisy, x0), ...slope(half, next, x, end))
    }
    yield { x, x0 }
  }
}

/** Geometric middle, where log sigma is halfway. */
const between = (sigma: number, next: number): number => Math.sqrt(sigma * next)

/** DPM-Solver-2 (Lu et al. 2022a) over Karras' levels: the slope of the geometric middle. */
async function* dpm2(run: KRun): Steps {
  let { x } = run
  for (const [sigma, next] of pairs(run.sigmas)) {
    const [s, noisy] = churned(run, x, sigma)
    const x0 = await run.denoise(noisy, s)
    if (next === 0) x = x0
    else {
      const middle = between(s, next)
      const half = mix(...flow(s, middle, noisy, x0))
      x = mix([1, noisy], ...slope(next - s, middle, half, await run.denoise(half, middle)))
    }
    yield { x, x0 }
  }
}

/** Euler's step to a lower level and fresh noise back up: eta 1 is Song et al. 2021's ancestral sampling. */
async function* eulerAncestral(run: KRun): Steps {
  let { x } = run
  const { eta = 1 } = run.options
  for (const [s, next] of pairs(run.sigmas)) {
    const x0 = await run.denoise(x, s)
    const [down, up] = ancestral(s, next, eta)
    yield { x0, x: (x = mix(...flow(s, down, x, x0), ...fresh(run, up, s, next))) }
  }
}

/** DPM-Solver-2 to the lower level of an ancestral step. */
async function* dpm2Ancestral(run: KRun): Steps {
  let { x } = run
  const { eta = 1 } = run.options
  for (const [s, next] of pairs(run.sigmas)) {
    const x0 = await run.denoise(x, s)
    const [down, up] = ancestral(s, next, eta)
    if (down === 0) x = mix(...flow(s, down, x, x0))
    else {
      const middle = between(s, down)
      const half = mix(...flow(s, middle, x, x0))
      const end = await run.denoise(half, middle)
      x = mix([1, x], ...slope(down - s, middle, half, end), ...fresh(run, up, s, next))
    }
    yield { x, x0 }
  }
}

/** DDIM (Song, Meng & Ermon 2021, eq. 12): in variance-exploding scale it is an ancestral step with its own eta. */
const ddim = (run: KRun): Steps =>
  eulerAncestral({ ...run, options: { ...run.options, eta: run.options.eta ?? 0 } })

/** DDPM (Ho et al. 2020, Alg. 2) with the posterior's variance, which is DDIM with eta 1. */
const ddpm = (run: KRun): Steps => eulerAncestral({ ...run, options: { ...run.options, eta: 1 } })

/** Latent consistency models (Luo et al. 2023, Alg. 3): to the clean picture, then fresh noise to the next level. */
async function* lcm(run: KRun): Steps {
  let { x } = run
  for (const [s, next] of pairs(run.sigmas)) {
    const x0 = await run.denoise(x, s)
    yield { x0, x: (x = mix([1, x0], ...fresh(run, next, s, next))) }
  }
}

/** Trajectory consistency (Zheng et al. 2024, Alg. 4): down to time (1 - gamma) t, then noise back up to t. */
async function* tcd(run: KRun): Steps {
  let { x } = run
  const { eta = 0 } = run.options
  for (const [s, next] of pairs(run.sigmas)) {
    const x0 = await run.denoise(x, s)
    const time = (1 - eta) * run.levels.timeOf(next)
    const down = next === 0 || eta === 0 ? next : Math.min(run.levels.sigmaAt(Math.floor(time + 1e-4)), next)
    const up = Math.sqrt(next ** 2 - down ** 2)
    yield { x0, x: (x = mix(...flow(s, down, x, x0), ...fresh(run, up, s, next))) }
  }
}

const twoCalls = (second: (sigma: number, next: number) => number) =>
  stepwise((sigma, next, _, run) => {
    const s = hat(sigma, run)
    return next === 0 ? [s] : [s, second(s, next)]
  })

export const eulerFamily = {
  euler: { run: euler, plan: stepwise((sigma, _next, _i, run) => [hat(sigma, run)]) },
  "euler-a": { run: eulerAncestral, plan: oneCall },
  heun: { run: heun, plan: twoCalls((_, next) => next) },
  dpm2: { run: dpm2, plan: twoCalls(between) },
  "dpm2-a": {
    run: dpm2Ancestral,
    plan: stepwise((s, next, _, { options }) => {
      const [down] = ancestral(s, next, options.eta ?? 1)
      return down === 0 ? [s] : [s, between(s, down)]
    }),
  },
  ddim: { run: ddim, plan: oneCall },
  ddpm: { run: ddpm, plan: oneCall },
  lcm: { run: lcm, plan: oneCall },
  tcd: { run: tcd, plan: oneCall },
} satisfies Record<string, KSampler>
