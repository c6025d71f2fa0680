import type { NoiseLevels } from "./denoiser.ts"
import { linspace } from "./schedulers/numpy.ts"
import type { SigmaSchedule } from "./schedules.ts"

// A1111's samplers that do not follow k-diffusion's schedules: what their labels mean, for recipes made there

/** Level at a fractional timestep with log alpha linear between training steps, as the UniPC code has it. */
function sigmaByAlpha(time: number, sigmas: Float32Array): number {
  const logAlpha = (i: number) => -0.5 * Math.log1p(sigmas[i]! ** 2)
  const low = Math.min(Math.floor(time), sigmas.length - 1)
  const high = Math.min(low + 1, sigmas.length - 1)
  const mean = logAlpha(low) + (time - low) * (logAlpha(high) - logAlpha(low))
  return Math.sqrt(Math.expm1(-2 * mean))
}

/**
 * Levels of A1111's DDIM and PLMS: timesteps 1, 1 + stride, ... and so one step less than there are; UniPC: evenly
 * spread times. Both end above 0, in variance-preserving scale.
 */
export function compvisSchedule(steps: number, unipc: boolean, { sigmas }: NoiseLevels): SigmaSchedule {
  const stride = Math.floor(sigmas.length / steps)
  const count = Math.ceil(sigmas.length / stride)
  const last = sigmas.length - 1
  if (unipc) {
    const times = linspace(last, 0, count + 1)
    return { times: times.slice(0, -1), sigmas: times.map((t) => sigmaByAlpha(t, sigmas)) }
  }
  const times = Array.from({ length: count }, (_, i) => Math.min(i * stride + 1, last)).reverse()
  return { times: times.slice(0, -1), sigmas: times.map((t) => sigmas[t]!) }
}

/** Noise levels that a latent consistency model was distilled on, 50 of them; times go to the nearest. */
export function consistencyLevels({ sigmas, prediction }: NoiseLevels): NoiseLevels {
  const stride = Math.floor(sigmas.length / 50)
  const kept = sigmas.filter((_, i) => (sigmas.length - 1 - i) % stride === 0).slice(-50)
  const logs = kept.map(Math.log)
  const offset = sigmas.length - 1 - stride * (kept.length - 1)
  return {
    sigmas: kept,
    prediction,
    timeOf(sigma) {
      const log = Math.log(sigma)
      const nearest = logs.reduce(
        (best, l, i) => (Math.abs(l - log) < Math.abs(logs[best]! - log) ? i : best),
        0,
      )
      return nearest * stride + offset
    },
    sigmaAt(time) {
      const at = Math.min(Math.max((time - offset) / stride, 0), kept.length - 1)
      const low = Math.min(Math.floor(at), kept.length - 2)
      return Math.fround(Math.exp(logs[low]! + (at - low) * (logs[low + 1]! - logs[low]!)))
    },
  }
}
