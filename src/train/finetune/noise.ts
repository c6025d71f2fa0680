import { f32, type Value } from "../../runtime/engine.ts"
import type { Random } from "../corpus/random.ts"
import { streamOf } from "../init.ts"
import { levelWeight, offsetNoise, type Prediction } from "../losses.ts"
import type { TrainSettings } from "./options.ts"

type NoiseSettings = Pick<TrainSettings, "weighting" | "gamma" | "noiseOffset" | "seed">

/** Time, signal, noise and weight of rows at times of 0..1 of the way to pure noise. */
export function levelsAt(
  times: readonly number[],
  alphas: Float32Array,
  prediction: Prediction,
  s: Pick<NoiseSettings, "weighting" | "gamma">,
): Record<"timestep" | "signal" | "sigma" | "weight", Value> {
  const rows = times.map((u) => {
    if (prediction === "flow") return { t: u * 1000, signal: 1 - u, sigma: u, weight: 1 }
    const t = Math.min(alphas.length - 1, Math.floor(u * alphas.length))
    const a = alphas[t]!
    const rule =
      s.weighting === "min-snr" ? ({ kind: "min-snr", gamma: s.gamma } as const) : { kind: s.weighting }
    return { t, signal: Math.sqrt(a), sigma: Math.sqrt(1 - a), weight: levelWeight(a, prediction, rule) }
  })
  const column = (key: "t" | "signal" | "sigma" | "weight") =>
    f32(
      Float32Array.from(rows, (r) => r[key]),
      [rows.length],
    )
  return { timestep: column("t"), signal: column("signal"), sigma: column("sigma"), weight: column("weight") }
}

/** Times of a batch: one random offset spreads them evenly (Kingma et al. 2021, I.1); flow's gather in the middle (Esser et al. 2024). */
export function drawTimes(rows: number, prediction: Prediction, random: Random): number[] {
  const offset = random.unit()
  const even = Array.from({ length: rows }, (_, row) => ((row + offset) / rows) % 1)
  if (prediction !== "flow") return random.shuffled(even)
  return random
    .shuffled(even)
    .map((u) => 1 / (1 + Math.exp(-normalQuantile(Math.min(1 - 1e-7, Math.max(1e-7, u))))))
}

/** Inverse of the normal distribution function (Acklam 2003), to 1e-9. */
export function normalQuantile(p: number): number {
  const a = [
    -39.69683028665376, 220.9460984245205, -275.9285104469687, 138.357751867269, -30.66479806614716,
    2.506628277459239,
  ]
  const b = [
    -54.47609879822406, 161.5858368580409, -155.6989798598866, 66.80131188771972, -13.28068155288572, 1,
  ]
  const c = [
    -0.007784894002430293, -0.3223964580411365, -2.400758277161838, -2.549732539343734, 4.374664141464968,
    2.938163982698783,
  ]
  const d = [0.007784695709041462, 0.3224671290700398, 2.445134137142996, 3.754408661907416, 1]
  const poly = (k: readonly number[], x: number) => k.reduce((s, v) => s * x + v, 0)
  if (p > 0.97575) return -normalQuantile(1 - p)
  if (p < 0.02425) {
    const q = Math.sqrt(-2 * Math.log(p))
    return poly(c, q) / poly(d, q)
  }
  const q = p - 0.5
  return (poly(a, q * q) * q) / poly(b, q * q)
}

/** Standard normal noise of a batch, with one shared number per row and channel where asked. */
export function drawNoise(
  name: string,
  shape: readonly number[],
  s: Pick<NoiseSettings, "seed" | "noiseOffset">,
): Value {
  const n = shape.reduce((a, b) => a * b, 1)
  const noise = streamOf(s.seed, `noise ${name}`).normal(n)
  if (s.noiseOffset > 0)
    offsetNoise(noise, streamOf(s.seed, `offset ${name}`).normal(shape[0]! * shape[1]!), s.noiseOffset)
  return f32(noise, shape)
}
