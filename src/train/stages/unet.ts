import { input, type StoredTensor, type Tensor } from "../../graph/index.ts"
import { AutoencoderKL, ClipText, clipConfig, UNet, unetConfig, vaeConfig } from "../../models/index.ts"
import { bind, expected, type Module, parameters } from "../../nn/index.ts"
import { f32, type Value } from "../../runtime/engine.ts"
import type { ClipTokenizer } from "../../text/bpe.ts"
import { type Corpus, caption, corpus, fullCaption, Random } from "../corpus/index.ts"
import { mixBits } from "../corpus/random.ts"
import { freshWeights, streamOf, zeroBranches } from "../init.ts"
import { diffusionLoss, levelWeight, noised } from "../losses.ts"
import { adamw } from "../optimizer.ts"
import { determining, learningRate, type RateConfig } from "../schedule.ts"
import { itemOfDraw } from "../shuffle.ts"
import type { Inputs, Probe, Task } from "../task.ts"
import type { LatentStore, LatentsConfig } from "./latents.ts"
import { hiddenStates, textInputs } from "./text.ts"
import { alphas, draft, drawSamples, full, sampleRows } from "./unet-samples.ts"

export interface UNetStage {
  /** UNet2DConditionModel's config.json. */
  readonly model: Readonly<Record<string, unknown>>
  /** The text encoder's config.json, as its own stage has it. */
  readonly textModel: Readonly<Record<string, unknown>>
  readonly seed: number
  readonly steps: number
  readonly batch: number
  /** Copies of the networks that share a batch, one thread each, 1. */
  readonly replicas?: number
  readonly rate: RateConfig
  /** Learning rate of the text encoder relative to the U-Net's. */
  readonly textRate: number
  /** Share of captions replaced by the empty one, for classifier-free guidance (Ho & Salimans 2022). */
  readonly dropout: number
  /** Every how many draws one is taken from the scenes of two subjects alone, where colours have to find theirs. */
  readonly pairsEvery?: number
  /** How much more the places of named things count. */
  readonly region: number
  /** Limit of the min-SNR weights (Hang et al. 2023); without it every time counts the same. */
  readonly gamma?: number
  /** The finished stage whose guided answer is learned instead of the data's, and its guidance scale. */
  readonly teacher?: { readonly of: string; readonly guidance: number }
  readonly beta2: number
  readonly decay: number
  readonly clip: number
  readonly average: number
}

export interface UNetData {
  readonly words: ClipTokenizer
  readonly latents: LatentsConfig
  readonly train: LatentStore
  readonly validation: LatentStore
  /** Autoencoder of the latents, for sample pictures. */
  readonly vae: { model: unknown; weights: ReadonlyMap<string, Float32Array> }
  /** Weights to begin with: `text.*` of the pretrained encoder, and `unet.*` where a stage goes on from another. */
  readonly from: ReadonlyMap<string, Float32Array>
  /** `unet.*` of the teacher, where the stage has one. */
  readonly teacher?: ReadonlyMap<string, Float32Array>
}

const validationBatch = 32
const validationRows = 192

/**
 * Trains U-Net and text encoder together on stored latents: v-prediction, min-SNR weights, stratified times. With a
 * teacher the U-Net alone learns the guided answer, so that one call a step is enough (Meng et al. 2023, sec. 3.1).
 */
export function unetTask(c: UNetStage, name: string, data: UNetData): Task {
  const nets = networks(c, data)
  const { unet, text, context } = nets
  const [channels, h, w] = data.train.shape
  const loss = (b: number) => lossGraph(nets, [b, channels, h, w])
  const all = new Map([...parameters(unet, "unet"), ...(c.teacher ? [] : parameters(text, "text"))])
  const pair = 2 * sampleRows
  const { replicas = 1 } = c
  return {
    name,
    settings: determining(c),
    objective: {
      parameters: new Map([...all].map(([key, p]) => [key, p.tensor])),
      loss: loss(c.batch / replicas),
    },
    replicas,
    optimizer: adamw({ beta2: c.beta2, decay: c.decay }),
    steps: c.steps,
    samplesPerStep: c.batch,
    clip: c.clip,
    rate: (step) => learningRate(c.rate, step, c.steps),
    scale: (key) => (key.startsWith("text.") ? c.textRate : 1),
    averages: [c.average],
    frozen: frozenWeights(nets, data),
    first: () => {
      const shapes = new Map([...all].map(([key, p]) => [key, p.shape]))
      const known = [...data.from].filter(([key]) => all.has(key))
      return new Map([...zeroBranches(freshWeights(shapes, c.seed)), ...known])
    },
    batch: batches(c, data, context),
    probes: {
      loss: { loss: loss(validationBatch) },
      text: { context: hiddenStates(text, input("ids", [pair, context], "i64")) },
      denoise: {
        v: unet.forward(
          input("x", [pair, channels, h, w]),
          input("timestep", [pair]),
          input("context", [pair, context, clipConfig(c.textModel).hidden_size]),
        ),
      },
      decode: { picture: nets.vae.decode(input("latents", [sampleRows, channels, h, w])) },
    },
    validate: async (probe) => ({ loss: await validationLoss(probe, c, data, context) }),
    sample: (probe) => drawSamples(probe, data, context, c.teacher ? draft : full),
  }
}

/** The networks of a stage by the prefixes of their weights: `unet`, `text`, `vae`, `teacher`. */
function networks(c: UNetStage, { vae }: UNetData) {
  const text = clipConfig(c.textModel)
  return {
    unet: bind(new UNet(unetConfig(c.model)), "unet"),
    text: bind(new ClipText(text), "text"),
    vae: bind(new AutoencoderKL(vaeConfig(vae.model)), "vae"),
    teacher: c.teacher && { ...c.teacher, unet: bind(new UNet(unetConfig(c.model)), "teacher") },
    context: text.max_position_embeddings,
  }
}

type Nets = ReturnType<typeof networks>

/** What is used and not learned: the autoencoder, and with a teacher its U-Net and the text encoder. */
function frozenWeights({ unet, text, vae, teacher }: Nets, data: UNetData): Map<string, StoredTensor> {
  const own = stored(data.vae.weights, vae, "vae")
  if (!teacher) return own
  const part = (from: ReadonlyMap<string, Float32Array>, prefix: string) =>
    new Map(
      [...from].filter(([k]) => k.startsWith(`${prefix}.`)).map(([k, d]) => [k.slice(prefix.length + 1), d]),
    )
  return new Map([
    ...own,
    ...stored(part(data.teacher ?? new Map(), "unet"), unet, "teacher"),
    ...stored(part(data.from, "text"), text, "text"),
  ])
}

/**
 * Inputs `latents`, `noise`, `ids`, `region` and one number per row: `signal`, `sigma`, `timestep`, `weight`; with a
 * teacher also `empty`, the ids of the empty caption in each row.
 */
function lossGraph(
  { unet, text, teacher, context }: Nets,
  shape: readonly [number, number, number, number],
): Tensor {
  const [b, , h, w] = shape
  const row = (key: string) => input(key, [b])
  const level = { signal: row("signal"), noise: row("sigma") }
  const { x, target } = noised(input("latents", shape), input("noise", shape), level, "v_prediction")
  const statesOf = (key: string) => hiddenStates(text, input(key, [b, context], "i64"))
  const states = statesOf("ids")
  const time = row("timestep")
  const guided = () => {
    const plain = teacher!.unet.forward(x, time, statesOf("empty"))
    return plain.add(teacher!.unet.forward(x, time, states).sub(plain).mul(teacher!.guidance))
  }
  const region = input("region", [b, 1, h, w])
  const wanted = teacher ? guided() : target
  return diffusionLoss(unet.forward(x, time, states), wanted, { weight: row("weight"), region })
}

const stored = (
  weights: ReadonlyMap<string, Float32Array>,
  net: Module,
  prefix: string,
): Map<string, StoredTensor> => {
  const shapes = expected(net)
  return new Map(
    [...weights].map(([name, d]) => [
      `${prefix}.${name}`,
      {
        dtype: "f32" as const,
        shape: shapes.get(name)!,
        bytes: new Uint8Array(d.buffer, d.byteOffset, d.byteLength),
      },
    ]),
  )
}

/** Signal, noise, weight and time of rows at given levels. */
function levels(times: readonly number[], gamma: number | undefined): Record<string, Value> {
  const rule = gamma === undefined ? ({ kind: "none" } as const) : ({ kind: "min-snr", gamma } as const)
  const column = (f: (alpha: number, t: number) => number) =>
    f32(
      Float32Array.from(times, (t) => f(alphas[t]!, t)),
      [times.length],
    )
  return {
    timestep: column((_, t) => t),
    signal: column((a) => Math.sqrt(a)),
    sigma: column((a) => Math.sqrt(1 - a)),
    weight: column((a) => levelWeight(a, "v_prediction", rule)),
  }
}

function batches(
  c: UNetStage,
  { words, latents, train }: UNetData,
  context: number,
): (index: number) => Inputs {
  const scenes = corpus({ seed: latents.seed, size: latents.size, split: "train" })
  const [channels, h, w] = train.shape
  const size = channels * h * w
  const drawn = draws(c, train.count, scenes)
  return (index) => {
    const random = new Random(mixBits(mixBits(c.seed) + index))
    const items = Array.from({ length: c.batch }, (_, row) => drawn(index * c.batch + row))
    const z = new Float32Array(c.batch * size)
    items.forEach((i, row) => {
      train.latents(i, z, row * size)
    })
    const texts = items.map((i) => (random.chance(c.dropout) ? "" : caption(scenes.entry(i).spec, random)))
    // one random offset spreads the times evenly over the batch (Kingma et al. 2021, I.1)
    const offset = random.unit()
    const times = items.map((_, row) => Math.floor((((row + offset) / c.batch) % 1) * 1000))
    return {
      ...levels(times, c.gamma),
      ...captionInputs(c, words, texts, context),
      latents: f32(z, [c.batch, channels, h, w]),
      noise: f32(streamOf(c.seed, `noise ${index}`).normal(z.length), [c.batch, channels, h, w]),
      region: regions(
        items.map((i) => train.boxes(i)),
        c.region,
        h,
        w,
      ),
    }
  }
}

/** `ids` of captions, and the empty one's as often where a teacher is asked without them too. */
function captionInputs(c: UNetStage, words: ClipTokenizer, texts: readonly string[], context: number) {
  const idsOf = (list: readonly string[]) => textInputs(words, list, context).ids!
  return { ids: idsOf(texts), ...(c.teacher ? { empty: idsOf(texts.map(() => "")) } : {}) }
}

/** Which of the stored scenes is drawn n-th. */
export function draws(
  c: Pick<UNetStage, "seed" | "pairsEvery">,
  count: number,
  scenes: Corpus,
): (n: number) => number {
  const every = c.pairsEvery
  if (every === undefined) return (n) => itemOfDraw(n, count, c.seed)
  const pairs = Array.from({ length: count }, (_, i) => i).filter((i) => scenes.entry(i).spec.second)
  return (n) =>
    n % every === 0 ? pairs[itemOfDraw(n / every, pairs.length, c.seed + 1)]! : itemOfDraw(n, count, c.seed)
}

/** Weight `k` at the places of boxes, 1 elsewhere, divided by the batch's mean: b 1 h w. */
function regions(boxes: readonly (readonly number[])[][], k: number, h: number, w: number): Value {
  const data = new Float32Array(boxes.length * h * w).fill(1)
  boxes.forEach((list, row) => {
    for (const [left, top, right, bottom] of list)
      for (let y = Math.floor(top! * h); y < Math.min(h, Math.ceil(bottom! * h)); y++)
        for (let x = Math.floor(left! * w); x < Math.min(w, Math.ceil(right! * w)); x++)
          data[(row * h + y) * w + x] = k
  })
  const mean = data.reduce((s, v) => s + v, 0) / data.length
  return f32(
    data.map((v) => v / mean),
    [boxes.length, 1, h, w],
  )
}

/** Weighted loss of the average on held-out combinations at fixed times, with fixed noise and full captions. */
async function validationLoss(
  probe: Probe,
  c: UNetStage,
  { words, latents, validation }: UNetData,
  context: number,
): Promise<number> {
  const scenes: Corpus = corpus({ seed: latents.seed, size: latents.size, split: "evaluation" })
  const [channels, h, w] = validation.shape
  const size = channels * h * w
  const total = Math.min(validationRows, validation.count - (validation.count % validationBatch))
  let sum = 0
  for (let from = 0; from < total; from += validationBatch) {
    const items = Array.from({ length: validationBatch }, (_, i) => from + i)
    const z = new Float32Array(validationBatch * size)
    items.forEach((i, row) => {
      validation.latents(i, z, row * size)
    })
    const texts = items.map((i) => fullCaption(scenes.entry(i).spec, new Random(i), scenes.entry(i).language))
    const { loss } = await probe(
      "loss",
      {
        ...levels(
          items.map((i) => Math.min(997, Math.floor((i * 997) / total) + 1)),
          c.gamma,
        ),
        ...captionInputs(c, words, texts, context),
        latents: f32(z, [validationBatch, channels, h, w]),
        noise: f32(streamOf(1, `validation ${from}`).normal(z.length), [validationBatch, channels, h, w]),
        region: f32(new Float32Array(validationBatch * h * w).fill(1), [validationBatch, 1, h, w]),
      },
      0,
    )
    sum += Number(loss!.data[0])
  }
  return Number(((sum * validationBatch) / total).toPrecision(6))
}
