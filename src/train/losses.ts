import { addDim, apply, type Tensor } from "../graph/index.ts"

/** What a denoiser predicts. */
export type Prediction = "epsilon" | "v_prediction" | "flow"

/**
 * Noised latents and what is to be predicted from them, per row: x = signal z + noise e. For `flow` these are
 * 1 - t and t (Lipman et al. 2023), else sqrt(alpha) and sqrt(1 - alpha) (Ho et al. 2020; Salimans & Ho 2022 for v).
 */
export function noised(
  z: Tensor,
  e: Tensor,
  { signal, noise }: { signal: Tensor; noise: Tensor },
  prediction: Prediction,
): { x: Tensor; target: Tensor } {
  const [s, n] = [signal, noise].map((t) => t.rearrange("b -> b 1 1 1")) as [Tensor, Tensor]
  const x = z.mul(s).add(e.mul(n))
  if (prediction === "epsilon") return { x, target: e }
  if (prediction === "flow") return { x, target: e.sub(z) }
  return { x, target: e.mul(s).sub(z.mul(n)) }
}

/**
 * Adds one number per row and channel to white noise, so that the network learns to move a picture's mean colour
 * (Guttenberg 2023).
 * @param noise b c h w, changed in place. @param offsets b c standard normals.
 */
export function offsetNoise(noise: Float32Array, offsets: Float32Array, strength: number): Float32Array {
  const places = noise.length / offsets.length
  for (let i = 0; i < noise.length; i++) noise[i]! += strength * offsets[Math.floor(i / places)]!
  return noise
}

export interface DiffusionLoss {
  /** b: weight of each row, from `rowWeights`. */
  weight?: Tensor
  /** b 1 h w: where the picture matters more; a map of mean 1. */
  region?: Tensor
  /** Beyond this size an error counts linearly (Huber 1964); pseudo-Huber form of Song & Dhariwal 2024. */
  huber?: number
}

/** Mean squared (or pseudo-Huber) error per row, weighted: b c h w -> scalar. */
export function diffusionLoss(
  predicted: Tensor,
  target: Tensor,
  { weight, region, huber }: DiffusionLoss = {},
): Tensor {
  const d = predicted.sub(target)
  const error =
    huber === undefined
      ? d.square()
      : d
          .square()
          .add(huber * huber)
          .sqrt()
          .sub(huber)
          .mul(2 * huber)
  const rows = (region ? error.mul(region) : error).mean([1, 2, 3]) // b
  return (weight ? rows.mul(weight) : rows).mean([0])
}

/**
 * Weight of a noise level. `min-snr` (Hang et al. 2023) evens out how much each level asks for; `debiased` (Yu et
 * al. 2023) weighs by 1 / sqrt(SNR), or 1 / (SNR + 1) for v as kohya's scripts do. Both depend on what is predicted.
 */
export function levelWeight(
  alpha: number,
  prediction: Prediction,
  rule: { kind: "none" } | { kind: "min-snr"; gamma: number } | { kind: "debiased" },
): number {
  if (rule.kind === "none") return 1
  const snr = alpha / Math.max(1 - alpha, 1e-8)
  if (rule.kind === "debiased")
    return prediction === "v_prediction"
      ? 1 / (Math.min(snr, 1000) + 1)
      : 1 / Math.sqrt(Math.max(Math.min(snr, 1000), 1e-4))
  const capped = Math.min(snr, rule.gamma)
  return prediction === "v_prediction" ? capped / (snr + 1) : capped / Math.max(snr, 1e-8)
}

export interface VaeLoss {
  /** Weight of the L1 distance of neighbouring pixels' differences: edges. */
  differences: number
  /** Weight of the L1 distance of 4 x 4 means: flat colours. */
  coarse: number
  /** Weight of the KL divergence to a standard normal, per latent number. */
  kl: number
}

/** Mean and log variance of `encode`, the latter within the limits diffusers clamps to. */
export function posterior(moments: Tensor): { mean: Tensor; logvar: Tensor } {
  const [, channels] = moments.dims("b c h w")
  const half = (channels as number) / 2
  return { mean: moments.slice(1, 0, half), logvar: moments.slice(1, half, 2 * half).clamp(-30, 20) }
}

/** Kingma & Welling 2014, eq. 10, as a mean over all latent numbers. */
export const klDivergence = (mean: Tensor, logvar: Tensor): Tensor =>
  mean.square().add(logvar.exp()).sub(logvar).sub(1).mean([0, 1, 2, 3]).mul(0.5)

/** Reconstruction in L1, of pixels, of differences of neighbours and of coarse means; no network to download. */
export function vaeLoss(picture: Tensor, made: Tensor, mean: Tensor, logvar: Tensor, w: VaeLoss) {
  const d = made.sub(picture)
  const all = [0, 1, 2, 3]
  const l1 = d.abs().mean(all)
  const step = (axis: 2 | 3) => {
    const size = d.shape[axis]!
    return d
      .slice(axis, 1, size)
      .sub(d.slice(axis, 0, addDim(size, -1)))
      .abs()
      .mean(all)
  }
  const differences = step(3).add(step(2))
  const coarse = apply("blockSum", [d], { factor: 4 })
    .abs()
    .mean(all)
    .mul(1 / 16)
  const kl = klDivergence(mean, logvar)
  const loss = l1.add(differences.mul(w.differences)).add(coarse.mul(w.coarse)).add(kl.mul(w.kl))
  return { loss, metrics: { l1, differences, kl, square: d.square().mean(all) } }
}

/** Cross-entropy of logits b n against integer classes b, given as one-hot rows b n. */
export function crossEntropy(logits: Tensor, wanted: Tensor): Tensor {
  const shifted = logits.sub(logits.amax([1], true))
  const total = shifted.exp().sum([1], true).log()
  return total.sub(shifted).mul(wanted).sum([1]).mean([0])
}
