import { mkdir, readFile } from "node:fs/promises"
import { join } from "node:path"
import { fail } from "../../errors.ts"
import { input, type StoredTensor, type Tensor } from "../../graph/index.ts"
import { UNet } from "../../models/index.ts"
import { bind, parameters } from "../../nn/index.ts"
import { f32, type Value } from "../../runtime/engine.ts"
import { writeWhole } from "../checkpoint.ts"
import { mixBits, Random } from "../corpus/random.ts"
import { nameOf, type Size } from "../data/buckets.ts"
import { batchOrder } from "../data/order.ts"
import { streamOf } from "../init.ts"
import type { Prediction } from "../losses.ts"
import { contactSheet } from "../pictures.ts"
import type { Inputs, Probe, Task } from "../task.ts"
import { type BatchMaker, encodedTexts, trainingBatch } from "./batches.ts"
import { predictionOf, schedulingOf, settingsOf, squareOf } from "./diffusion.ts"
import { readWeights, storedWeights, type TrainModel } from "./model.ts"
import { latentShape } from "./networks.ts"
import type { TrainSettings } from "./options.ts"
import { bySize, type Prepared } from "./prepare.ts"
import { sampleProbes, split } from "./sample.ts"
import { stackValues } from "./texts.ts"

/** Boundary conditions of a consistency function (Song et al. 2023, app. C) as LCM sets them: sigma_data 0.5, times by 10. */
function boundary(t: number): { skip: number; out: number } {
  const scaled = t * 10
  return { skip: 0.25 / (scaled ** 2 + 0.25), out: scaled / Math.sqrt(scaled ** 2 + 0.25) }
}

/** Clean latents and noise from a network's answer, as graph; `signal` and `sigma` are b 1 1 1. */
function graphSplit(
  prediction: Prediction,
  x: Tensor,
  out: Tensor,
  signal: Tensor,
  sigma: Tensor,
): [clean: Tensor, noise: Tensor] {
  if (prediction === "epsilon") return [x.sub(sigma.mul(out)).div(signal.max(1e-4)), out]
  return [signal.mul(x).sub(sigma.mul(out)), sigma.mul(x).add(signal.mul(out))]
}

/** Student, its own value without gradient, and the teacher: three U-Nets of one shape. */
function networks(model: TrainModel) {
  const net = (prefix: string) => bind(new UNet(model.unet), prefix)
  const [student, target, teacher] = [net("unet"), net("target"), net("teacher")] as [UNet, UNet, UNet]
  const learned = new Map([...parameters(student, "unet")].map(([name, p]) => [name, p.tensor]))
  const aliases = new Map([...learned.keys()].map((name) => [name.replace("unet.", "target."), name]))
  return { student, target, teacher, learned, aliases }
}

/**
 * Latent consistency distillation (Luo et al. 2023, Alg. 1) with one fixed guidance scale: the student's answer at a time
 * shall be its answer one guided DDIM step of the teacher further on. Four to eight steps are enough afterwards.
 */
export async function distillTask(model: TrainModel, s: TrainSettings, data: Prepared): Promise<Task> {
  const prediction = predictionOf(s, model)
  if (model.unet.addition_embed_type || prediction === "flow")
    fail("TRAIN_MODEL", "distillation knows SD 1.x and 2.x models so far", {
      file: s.model,
      hint: "choose a model with one text encoder",
    })
  const nets = networks(model)
  const maker: BatchMaker = {
    model,
    settings: s,
    data,
    prediction,
    masked: false,
    conditioned: false,
    texts: encodedTexts(data),
  }
  const order = batchOrder(bySize(data.train), s.batch, s.seed)
  const sizes = new Map(data.train.map((i) => [nameOf(i.size), i.size]))
  const lossOf = (name: string) => ({ loss: consistencyLoss(model, nets, prediction, s, sizes.get(name)!) })
  const first = order.batch(0).bucket
  const held = new Map<string, StoredTensor>(storedWeights(model))
  for (const [name, weight] of storedWeights(model, (n) => n.startsWith("unet.")))
    held.set(name.replace("unet.", "teacher."), weight)
  for (const name of nets.learned.keys()) held.delete(name)
  const size = squareOf(model, s)
  const context = (name: string, rows: number) => input(name, contextShape(model, rows))
  const samples = sampleProbes(model, size, (x, t) => nets.student.forward(x, t, context("context", 2)))
  return {
    name: "distill",
    settings: await settingsOf(s, model, data),
    objective: { parameters: nets.learned, ...lossOf(first) },
    ...schedulingOf(s),
    held,
    aliases: nets.aliases,
    first: () => readWeights(model, nets.learned.keys()),
    sizes: { first, of: (index) => order.batch(index).bucket, loss: lossOf },
    async batch(index) {
      const items = order.batch(index).items.map((i) => data.train[i]!)
      const inputs = await trainingBatch(maker, index, items, [])
      return { ...inputs, ...(await emptyText(maker, s.batch)), ...stepInputs(model, s, index) }
    },
    probes: samples,
    sample: (probe) => drawFew(probe, maker, size),
  }
}

const contextShape = (model: TrainModel, rows: number): [number, number, number] => [
  rows,
  model.texts[0]!.config.max_position_embeddings,
  model.texts[0]!.config.hidden_size,
]

async function emptyText({ texts }: BatchMaker, rows: number): Promise<Inputs> {
  const { context } = await texts(Array.from({ length: rows }, () => ""))
  return { empty: context! }
}

function consistencyLoss(
  model: TrainModel,
  nets: ReturnType<typeof networks>,
  prediction: Prediction,
  s: TrainSettings,
  size: Size,
): Tensor {
  const rows = s.batch
  const row = (name: string) => input(name, [rows])
  const wide = (name: string) => row(name).rearrange("b -> b 1 1 1")
  const shape = latentShape(model, rows, size)
  const [signal, sigma] = [wide("signal"), wide("sigma")]
  const x = input("latents", shape).mul(signal).add(input("noise", shape).mul(sigma))
  const context = input("context", contextShape(model, rows))
  const ask = (net: UNet, at: Tensor, t: Tensor, text: Tensor, a: Tensor, b: Tensor) =>
    graphSplit(prediction, at, net.forward(at, t, text), a, b)
  const t = row("timestep")
  const [clean] = ask(nets.student, x, t, context, signal, sigma)
  const answer = x.mul(wide("skip")).add(clean.mul(wide("out")))
  const [cleanText, noiseText] = ask(nets.teacher, x, t, context, signal, sigma)
  const [cleanEmpty, noiseEmpty] = ask(
    nets.teacher,
    x,
    t,
    input("empty", contextShape(model, rows)),
    signal,
    sigma,
  )
  const guided = (to: Tensor, from: Tensor) => from.add(to.sub(from).mul(s.guidance))
  const [signalNext, sigmaNext] = [wide("signal next"), wide("sigma next")]
  const further = guided(cleanText, cleanEmpty)
    .mul(signalNext)
    .add(guided(noiseText, noiseEmpty).mul(sigmaNext))
  const [cleanNext] = ask(nets.target, further, row("timestep next"), context, signalNext, sigmaNext)
  const wanted = further.mul(wide("skip next")).add(cleanNext.mul(wide("out next")))
  const c = 0.001
  return answer
    .sub(wanted)
    .square()
    .add(c * c)
    .sqrt()
    .sub(c)
    .mean([0, 1, 2, 3])
}

/** Times of a batch on the teacher's way, and one step further on: the rows' levels and boundary conditions. */
function stepInputs(model: TrainModel, s: TrainSettings, index: number): Record<string, Value> {
  const random = new Random(mixBits(mixBits(s.seed + 11) + index))
  const stride = Math.floor(model.alphas.length / s.solverSteps)
  const from = Array.from({ length: s.batch }, () => (random.integer(s.solverSteps) + 1) * stride - 1)
  const to = from.map((t) => Math.max(0, t - stride))
  const column = (values: readonly number[]) => f32(Float32Array.from(values), [values.length])
  const level = (times: readonly number[], suffix: string) => ({
    [`timestep${suffix}`]: column(times),
    [`signal${suffix}`]: column(times.map((t) => Math.sqrt(model.alphas[t]!))),
    [`sigma${suffix}`]: column(times.map((t) => Math.sqrt(1 - model.alphas[t]!))),
    [`skip${suffix}`]: column(times.map((t) => boundary(t).skip)),
    [`out${suffix}`]: column(times.map((t) => boundary(t).out)),
  })
  return { ...level(from, ""), ...level(to, " next") }
}

/** Pictures in few steps: the clean answer, noised again to the next time (Luo et al. 2023, Alg. 3). */
async function drawFew(probe: Probe, maker: BatchMaker, size: Size) {
  const { model, settings: s, data, prediction } = maker
  const pool = data.validation.length > 0 ? data.validation : data.train
  const prompts = s.samplePrompts.length > 0 ? s.samplePrompts : pool.slice(0, 4).map((i) => i.caption)
  const pictures: Value[] = []
  for (const [n, prompt] of prompts.entries()) {
    const stream = streamOf(5, `sample ${n}`)
    const shape = latentShape(model, 1, size)
    const count = shape.reduce((a, b) => a * b, 1)
    const { context } = await data.texts!.encode(prompt)
    let x = stream.normal(count)
    for (let i = 0; i < s.sampleSteps; i++) {
      const t = timeOf(model, s, i)
      const a = model.alphas[t]!
      const rows = f32(Float32Array.from([...x, ...x]), latentShape(model, 2, size))
      const inputs = {
        x: rows,
        timestep: f32(Float32Array.of(t, t), [2]),
        context: stackValues([context, context]),
      }
      const out = (await probe("denoise", inputs, s.ema.length > 0 ? 0 : null)).out!.data as Float32Array
      const { skip, out: share } = boundary(t)
      const next = i + 1 < s.sampleSteps ? model.alphas[timeOf(model, s, i + 1)]! : 1
      const fresh = i + 1 < s.sampleSteps ? stream.normal(count) : null
      x = x.map((v, k) => {
        const clean = skip * v + share * split(prediction, v, out[k]!, Math.sqrt(a), Math.sqrt(1 - a))[0]
        return Math.sqrt(next) * clean + (fresh ? Math.sqrt(1 - next) * fresh[k]! : 0)
      })
    }
    const latents = f32(
      x.map((v) => v / model.vae.scaling_factor + (model.vae.shift_factor ?? 0)),
      shape,
    )
    pictures.push((await probe("decode", { latents }, null)).picture!)
  }
  return contactSheet(pictures, Math.min(4, pictures.length))
}

/** Time of a step among the teacher's: evenly spread from the last one, as LCMScheduler chooses. */
function timeOf(model: TrainModel, s: TrainSettings, step: number): number {
  const stride = Math.floor(model.alphas.length / s.solverSteps)
  const n = s.solverSteps - 1 - Math.floor((step * s.solverSteps) / s.sampleSteps)
  return (n + 1) * stride - 1
}

/** Says in a model's folder that it is drawn in few steps: LCMScheduler, guidance built in. */
export async function nameScheduler(folder: string, s: Pick<TrainSettings, "solverSteps">): Promise<void> {
  const read = async (path: string) =>
    JSON.parse(await readFile(join(folder, path), "utf8")) as Record<string, unknown>
  const write = (path: string, json: object) =>
    writeWhole(join(folder, path), `${JSON.stringify(json, null, 2)}\n`)
  const old = await read("scheduler/scheduler_config.json")
  const kept = [
    "beta_start",
    "beta_end",
    "beta_schedule",
    "num_train_timesteps",
    "trained_betas",
    "prediction_type",
    "rescale_betas_zero_snr",
  ]
  const config = {
    _class_name: "LCMScheduler",
    _diffusers_version: old._diffusers_version,
    ...Object.fromEntries(kept.filter((k) => k in old).map((k) => [k, old[k]])),
    original_inference_steps: s.solverSteps,
    timestep_scaling: 10,
    set_alpha_to_one: true,
    clip_sample: false,
  }
  await mkdir(join(folder, "scheduler"), { recursive: true })
  await write("scheduler/scheduler_config.json", config)
  await write("model_index.json", {
    ...(await read("model_index.json")),
    scheduler: ["diffusers", "LCMScheduler"],
  })
}
