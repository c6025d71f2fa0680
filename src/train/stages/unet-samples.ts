import { trainingSchedule } from "../../diffusion/betas.ts"
import type { Picture } from "../../image/pixels.ts"
import { f32 } from "../../runtime/engine.ts"
import { evaluationPrompts } from "../corpus/index.ts"
import { streamOf } from "../init.ts"
import { contactSheet } from "../pictures.ts"
import type { Probe } from "../task.ts"
import { textInputs } from "./text.ts"
import type { UNetData } from "./unet.ts"

/** The noise levels of the embedded model: Stable Diffusion's betas, stretched to end in pure noise. */
export const noiseSchedule = {
  beta_start: 0.00085,
  beta_end: 0.012,
  beta_schedule: "scaled_linear",
  num_train_timesteps: 1000,
  rescale_betas_zero_snr: true,
  prediction_type: "v_prediction",
} as const

export const alphas = trainingSchedule(noiseSchedule).alphasCumprod

export const sampleRows = 16

/** How samples are drawn: steps, and the guidance scale, 1 for a network that has it built in. */
export const full = { steps: 16, guidance: 4 }
export const draft = { steps: 6, guidance: 1 }

/** Pictures of fixed prompts from fixed noise: DDIM (Song et al. 2021), trailing times. */
export async function drawSamples(
  probe: Probe,
  { words, train }: Pick<UNetData, "words" | "train">,
  context: number,
  { steps, guidance }: typeof full,
): Promise<Picture> {
  const [channels, h, w] = train.shape
  const size = sampleRows * channels * h * w
  const prompts = [...evaluationPrompts(sampleRows - 4, 11, "en"), ...evaluationPrompts(4, 12, "de")].map(
    (p) => p.prompt,
  )
  const empty = prompts.map(() => "")
  const { context: states } = await probe(
    "text",
    { ids: textInputs(words, [...empty, ...prompts], context).ids! },
    0,
  )
  let x = streamOf(5, "samples").normal(size)
  const times = Array.from({ length: steps }, (_, i) => Math.round(1000 - (i * 1000) / steps) - 1)
  for (const [i, t] of times.entries()) {
    const both = new Float32Array(2 * size)
    both.set(x)
    both.set(x, size)
    const inputs = {
      x: f32(both, [2 * sampleRows, channels, h, w]),
      timestep: f32(new Float32Array(2 * sampleRows).fill(t), [2 * sampleRows]),
      context: states!,
    }
    const v = (await probe("denoise", inputs, 0)).v!.data as Float32Array
    const [a, next] = [alphas[t]!, i + 1 < steps ? alphas[times[i + 1]!]! : 1]
    x = x.map((value, k) => {
      const guided = v[k]! + guidance * (v[size + k]! - v[k]!)
      const clean = Math.sqrt(a) * value - Math.sqrt(1 - a) * guided
      const noise = Math.sqrt(1 - a) * value + Math.sqrt(a) * guided
      return Math.sqrt(next) * clean + Math.sqrt(1 - next) * noise
    })
  }
  const { picture } = await probe("decode", { latents: f32(x, [sampleRows, channels, h, w]) }, null)
  return contactSheet([picture!], 4)
}
