import { input, type Tensor } from "../../graph/index.ts"
import type { Picture } from "../../image/pixels.ts"
import { AutoencoderKL } from "../../models/index.ts"
import { bind } from "../../nn/index.ts"
import { f32, type Value } from "../../runtime/engine.ts"
import type { Size } from "../data/buckets.ts"
import { streamOf } from "../init.ts"
import type { Prediction } from "../losses.ts"
import { contactSheet } from "../pictures.ts"
import type { Probe } from "../task.ts"
import type { TextInputs } from "./batches.ts"
import type { TrainModel } from "./model.ts"
import { latentShape } from "./networks.ts"
import { stackValues } from "./texts.ts"

export interface SamplePlan {
  readonly prompts: readonly string[]
  readonly size: Size
  readonly steps: number
  readonly cfg: number
  readonly prediction: Prediction
  readonly texts: TextInputs
  /** Weights of this moving average, or the present ones. */
  readonly average: number | null
  /** A picture to be conditioned on, for each prompt. */
  readonly conditions?: readonly Value[]
}

/** Graphs that samples are made with: `denoise` of the empty prompt's row and the prompt's, `decode` of one. */
export function sampleProbes(model: TrainModel, size: Size, predict: (x: Tensor, t: Tensor) => Tensor) {
  const vae = bind(new AutoencoderKL(model.vae), "vae")
  return {
    denoise: () => ({ out: predict(input("x", latentShape(model, 2, size)), input("timestep", [2])) }),
    decode: () => ({ picture: vae.decode(input("latents", latentShape(model, 1, size))) }),
  }
}

/** Clean latents and noise from what the network says at a level. */
export function split(
  prediction: Prediction,
  x: number,
  out: number,
  signal: number,
  sigma: number,
): [clean: number, noise: number] {
  if (prediction === "epsilon") return [(x - sigma * out) / Math.max(signal, 1e-4), out]
  if (prediction === "flow") return [x - sigma * out, x + signal * out]
  return [signal * x - sigma * out, sigma * x + signal * out]
}

/** Pictures of fixed prompts from fixed noise on one sheet: DDIM (Song et al. 2021), or Euler's steps for flow. */
export async function drawSamples(probe: Probe, model: TrainModel, plan: SamplePlan): Promise<Picture> {
  const shape = latentShape(model, 1, plan.size)
  const pictures: Value[] = []
  for (const [n, prompt] of plan.prompts.entries()) {
    const noise = streamOf(5, `sample ${n}`).normal(shape.reduce((a, b) => a * b, 1))
    const texts = await plan.texts(["", prompt])
    const condition = plan.conditions?.[n]
    const more = {
      ...texts,
      ...(model.unet.addition_embed_type ? { time_ids: sizeIds(plan.size) } : {}),
      ...(condition ? { condition: stackValues([condition, condition]) } : {}),
    }
    const z = await denoise(probe, model, plan, noise, more)
    const { scaling_factor: scale, shift_factor: shift } = model.vae
    const latents = f32(
      z.map((v) => v / scale + (shift ?? 0)),
      shape,
    )
    pictures.push((await probe("decode", { latents }, null)).picture!)
  }
  return contactSheet(pictures, Math.min(4, pictures.length))
}

const sizeIds = ({ width, height }: Size): Value => {
  const row = [height, width, 0, 0, height, width]
  return f32(Float32Array.from([...row, ...row]), [2, 6])
}

async function denoise(
  probe: Probe,
  model: TrainModel,
  { size, steps, cfg, prediction, average }: SamplePlan,
  noise: Float32Array,
  more: Readonly<Record<string, Value>>,
): Promise<Float32Array> {
  const shape = latentShape(model, 2, size)
  const n = noise.length
  let x = noise
  for (let i = 0; i < steps; i++) {
    const now = levelOf(model, prediction, 1 - i / steps)
    const then = i + 1 < steps ? levelOf(model, prediction, 1 - (i + 1) / steps) : { signal: 1, sigma: 0 }
    const both = new Float32Array(2 * n)
    both.set(x)
    both.set(x, n)
    const inputs = { ...more, x: f32(both, shape), timestep: f32(Float32Array.of(now.t, now.t), [2]) }
    const out = (await probe("denoise", inputs, average)).out!.data as Float32Array
    x = x.map((v, k) => {
      const [clean, rest] = split(
        prediction,
        v,
        out[k]! + cfg * (out[n + k]! - out[k]!),
        now.signal,
        now.sigma,
      )
      return then.signal * clean + then.sigma * rest
    })
  }
  return x
}

/** Time, signal and noise at a share of the way to pure noise. */
function levelOf(
  model: TrainModel,
  prediction: Prediction,
  u: number,
): { t: number; signal: number; sigma: number } {
  if (prediction === "flow") return { t: u * 1000, signal: 1 - u, sigma: u }
  const count = model.alphas.length
  const t = Math.max(0, Math.round(u * count) - 1)
  const a = model.alphas[t]!
  return { t, signal: Math.sqrt(a), sigma: Math.sqrt(1 - a) }
}
