import type { StoredTensor, Tensor } from "../../graph/index.ts"
import { f32 } from "../../runtime/engine.ts"
import { mixBits } from "../corpus/random.ts"
import { nameOf, type Size } from "../data/buckets.ts"
import { batchOrder } from "../data/order.ts"
import type { Prediction } from "../losses.ts"
import { adafactor, adamw, lion, type Optimizer, scheduleFree, sgd } from "../optimizer.ts"
import { learningRate } from "../schedule.ts"
import { shuffled } from "../shuffle.ts"
import type { Probe, Task } from "../task.ts"
import { type BatchMaker, measuredBatch, trainingBatch } from "./batches.ts"
import { partHash, type TrainModel } from "./model.ts"
import { lossGraph } from "./networks.ts"
import type { TrainSettings } from "./options.ts"
import { planesOf } from "./pictures.ts"
import { bySize, type Placed, type Prepared, resolutionOf } from "./prepare.ts"
import { drawSamples, sampleProbes } from "./sample.ts"

/** What one kind of training learns, and how the prediction follows from it. */
export interface Method {
  readonly parameters: ReadonlyMap<string, Tensor>
  first(): Map<string, Float32Array> | Promise<Map<string, Float32Array>>
  /** Weights that are used and not learned. */
  readonly held: ReadonlyMap<string, StoredTensor>
  readonly texts: BatchMaker["texts"]
  readonly scale?: (name: string) => number
  /** The network's answer; every other input it needs it names itself. */
  predict(x: Tensor, timestep: Tensor): Tensor
  /** Changes outputs after they were traced: low-rank parts. */
  adapt?(outputs: Record<string, Tensor>): Record<string, Tensor>
}

export const predictionOf = (s: TrainSettings, model: TrainModel): Prediction =>
  s.prediction === "model" ? model.prediction : s.prediction

export function optimizerOf(s: TrainSettings): Optimizer {
  const { beta1, beta2, weightDecay: decay } = s
  if (s.optimizer === "lion") return lion({ beta1, beta2, decay })
  if (s.optimizer === "sgd") return sgd({ momentum: beta1, decay })
  if (s.optimizer === "adafactor") return adafactor({ decay })
  if (s.optimizer === "schedule-free") return scheduleFree({ beta1, beta2, decay, warmup: s.warmup })
  return adamw({ beta1, beta2, decay })
}

/** Settings that no number depends on. */
const idle: readonly (keyof TrainSettings)[] = [
  "model",
  "data",
  "out",
  "cache",
  "classData",
  "classCount",
  "masks",
  "conditions",
  "wildcards",
  "onBad",
  "sampleEvery",
  "validateEvery",
  "checkpointEvery",
  "logEvery",
  "keep",
  "threads",
  "samplePrompts",
  "sampleSteps",
  "sampleCfg",
  "format",
  "dtype",
]

/** What a checkpoint belongs to: settings, data and model by content, not by place. */
export async function settingsOf(
  s: TrainSettings,
  model: TrainModel,
  data: Prepared,
): Promise<Record<string, unknown>> {
  const own = Object.entries(s).filter(([key]) => !idle.includes(key as keyof TrainSettings))
  const ends = s.schedule === "constant" ? own.filter(([key]) => key !== "steps") : own
  const parts = [...model.files.components.keys()].sort()
  const hashes = await Promise.all(parts.map(async (name) => [name, await partHash(model, name)]))
  return { ...Object.fromEntries(ends), data: data.hash, model: Object.fromEntries(hashes) }
}

/** The parts of a task that all kinds share. */
export const schedulingOf = (s: TrainSettings) => ({
  optimizer: optimizerOf(s),
  steps: s.steps,
  samplesPerStep: s.batch * s.accumulate,
  accumulate: s.accumulate,
  recompute: s.recompute,
  clip: s.clip,
  averages: s.ema,
  rate: (step: number) =>
    s.optimizer === "schedule-free"
      ? s.rate
      : learningRate({ rate: s.rate, warmup: s.warmup, shape: s.schedule }, step, s.steps),
})

/** A training of the U-Net, or of something beside it, on latents and texts of a data set. */
export async function diffusionTask(
  model: TrainModel,
  s: TrainSettings,
  data: Prepared,
  method: Method,
): Promise<Task> {
  const maker: BatchMaker = {
    model,
    settings: s,
    data,
    prediction: predictionOf(s, model),
    masked: data.train.some((i) => i.mask !== undefined),
    texts: method.texts,
    conditioned: s.kind === "controlnet",
  }
  const order = batchOrder(bySize(data.train), s.batch, s.seed)
  const rows = s.batch * (data.prior.length > 0 ? 2 : 1)
  const lossOf = losses(maker, method)
  const first = order.batch(0).bucket
  return {
    name: s.kind,
    settings: await settingsOf(s, model, data),
    objective: { parameters: method.parameters, ...lossOf(first, rows) },
    ...schedulingOf(s),
    scale: method.scale,
    held: method.held,
    first: () => method.first(),
    sizes: { first, of: (index) => order.batch(index).bucket, loss: (name) => lossOf(name, rows) },
    batch(index) {
      const items = order.batch(index).items.map((i) => data.train[i]!)
      return trainingBatch(maker, index, items, priorsOf(data, s, index))
    },
    ...probesOf(maker, method, lossOf),
  }
}

type LossOf = (size: string, rows: number) => { loss: Tensor }

/** The loss of a size by its name, with as many rows. */
function losses({ model, settings: s, data, prediction, masked }: BatchMaker, method: Method): LossOf {
  const sizes = new Map([...data.train, ...data.validation].map((i) => [nameOf(i.size), i.size]))
  return (name, rows) => {
    const loss = lossGraph(model, s, { rows, size: sizes.get(name)!, prediction, masked }, method.predict)
    return { loss: method.adapt ? method.adapt({ loss }).loss! : loss }
  }
}

/** What is measured and drawn beside the training. */
function probesOf(
  maker: BatchMaker,
  method: Method,
  lossOf: LossOf,
): Pick<Task, "probes" | "validate" | "sample"> {
  const { model, settings: s, data, prediction } = maker
  const average = s.ema.length > 0 ? 0 : null
  const size = squareOf(model, s)
  const samples = sampleProbes(model, size, method.predict)
  const sizes = [...new Set(data.validation.map((i) => nameOf(i.size)))]
  return {
    probes: {
      ...Object.fromEntries(sizes.map((name) => [`loss ${name}`, () => lossOf(name, s.batch)])),
      denoise: () => method.adapt?.(samples.denoise()) ?? samples.denoise(),
      decode: samples.decode,
    },
    ...(data.validation.length > 0
      ? { validate: async (probe: Probe) => ({ loss: await measure(probe, maker, average) }) }
      : {}),
    sample: async (probe) => {
      const chosen = sampleItems(s, data)
      const given = maker.conditioned ? await Promise.all(chosen.map((c) => conditionOf(c.item, size))) : []
      return drawSamples(probe, model, {
        prompts: chosen.map((c) => c.prompt),
        size,
        steps: s.sampleSteps,
        cfg: s.sampleCfg,
        prediction,
        texts: method.texts,
        average,
        ...(given.length > 0 ? { conditions: given } : {}),
      })
    },
  }
}

/** The square that samples are drawn in. */
export function squareOf(model: TrainModel, s: TrainSettings): Size {
  const side = Math.floor(resolutionOf(s, model) / model.step) * model.step
  return { width: side, height: side }
}

function priorsOf({ prior }: Prepared, s: TrainSettings, index: number): Placed[] {
  if (prior.length === 0) return []
  const at = (row: number) => index * s.batch + row
  const seed = (n: number) => mixBits(mixBits(s.seed + 3) + Math.floor(n / prior.length))
  return Array.from(
    { length: s.batch },
    (_, row) => prior[shuffled(at(row) % prior.length, prior.length, seed(at(row)))]!,
  )
}

const conditionOf = async (item: Placed, size: Size) =>
  f32(await planesOf(item.condition!, size, false), [3, size.height, size.width])

/** Prompts of samples: those asked for, or some captions of held-out pictures. */
function sampleItems(s: TrainSettings, data: Prepared): { prompt: string; item: Placed }[] {
  const pool = data.validation.length > 0 ? data.validation : data.train
  if (s.samplePrompts.length > 0)
    return s.samplePrompts.map((prompt, i) => ({ prompt, item: pool[i % pool.length]! }))
  return pool.slice(0, 4).map((item) => ({ prompt: (data.captions.prefix ?? "") + item.caption, item }))
}

const timesPerItem = 4
const mostBatches = 16

/** Mean loss of held-out pictures at fixed times with fixed noise, every level counting the same. */
async function measure(probe: Probe, maker: BatchMaker, average: number | null): Promise<number> {
  const { data, settings: s } = maker
  const rows = [...bySize(data.validation.map((i) => ({ ...i, repeats: timesPerItem })))]
  const chunks = rows.flatMap(([name, items]) =>
    Array.from({ length: Math.ceil(items.length / s.batch) }, (_, n) => ({
      name,
      items: Array.from({ length: s.batch }, (_, i) => items[(n * s.batch + i) % items.length]!),
    })),
  )
  const chosen = chunks.slice(0, mostBatches)
  let sum = 0
  for (const [n, { name, items }] of chosen.entries()) {
    const times = items.map((_, i) => ((n * s.batch + i) * 0.618034 + 0.5) % 1)
    const inputs = await measuredBatch(
      maker,
      items.map((i) => data.validation[i]!),
      times,
      `validation ${n}`,
    )
    sum += Number((await probe(`loss ${name}`, inputs, average)).loss!.data[0])
  }
  return Number((sum / chosen.length).toPrecision(6))
}
