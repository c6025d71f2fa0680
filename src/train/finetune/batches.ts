import { endPosition } from "../../models/index.ts"
import { f32, i64, type Value } from "../../runtime/engine.ts"
import { mixBits, Random } from "../corpus/random.ts"
import type { Size } from "../data/buckets.ts"
import { drawCaption } from "../data/captions.ts"
import { streamOf } from "../init.ts"
import type { Prediction } from "../losses.ts"
import type { Inputs } from "../task.ts"
import type { TrainModel } from "./model.ts"
import { latentShape } from "./networks.ts"
import { drawNoise, drawTimes, levelsAt } from "./noise.ts"
import type { TrainSettings } from "./options.ts"
import { maskAt, planesOf, sampleMoments } from "./pictures.ts"
import type { Placed, Prepared } from "./prepare.ts"
import { idsOf, stackValues } from "./texts.ts"

/** How texts go in: encoded beforehand, or as ids for encoders inside the graph. */
export type TextInputs = (texts: readonly string[]) => Promise<Record<string, Value>>

export interface BatchMaker {
  readonly model: TrainModel
  readonly settings: TrainSettings
  readonly data: Prepared
  readonly prediction: Prediction
  readonly texts: TextInputs
  readonly masked: boolean
  readonly conditioned: boolean
}

/** States from the text encoders, with SDXL's pooled ones. */
export function encodedTexts(data: Prepared): TextInputs {
  return async (texts) => {
    const states = []
    for (const text of texts) states.push(await data.texts!.encode(text))
    const pooled = states.map((t) => t.pooled)
    return {
      context: stackValues(states.map((t) => t.context)),
      ...(pooled[0] ? { text_embeds: stackValues(pooled as Value[]) } : {}),
    }
  }
}

/** Ids for each text encoder, and where each row ends. */
export function idTexts(model: TrainModel): TextInputs {
  return async (texts) => {
    const out: Record<string, Value> = {}
    for (const [i, part] of model.texts.entries()) {
      const rows = texts.map((t) => idsOf(part, t))
      const length = part.config.max_position_embeddings
      out[`ids ${i}`] = i64(rows.flat(), [texts.length, length])
      out[`ends ${i}`] = i64(
        rows.map((ids, row) => row * length + endPosition(ids, part.config)),
        [texts.length],
      )
    }
    return out
  }
}

/** What is drawn for one batch. */
interface Draw {
  readonly name: string
  readonly size: Size
  readonly times: readonly number[]
  /** One chance of the picture being mirrored; 0 where it is measured. */
  readonly mirror: number
  readonly captions: readonly string[]
  readonly random: Random
  /** Rows of the class count this much. */
  readonly weights: readonly number[] | null
}

/** Inputs of a training batch by its number: rows of one size, then as many of the class where its prior is preserved. */
export async function trainingBatch(
  maker: BatchMaker,
  index: number,
  items: readonly Placed[],
  priors: readonly Placed[],
): Promise<Inputs> {
  const { settings: s, data, prediction } = maker
  const random = new Random(mixBits(mixBits(s.seed) + index))
  const rows = [...items, ...priors]
  const captions = rows.map((item) =>
    item.prior ? item.caption : drawCaption(item.caption, data.captions, random),
  )
  const times = drawTimes(rows.length, prediction, random)
  const share = rows.length / items.length
  return rowInputs(maker, rows, {
    name: `${index}`,
    size: items[0]!.size,
    times,
    mirror: s.flip ? 0.5 : 0,
    captions,
    random,
    weights: priors.length === 0 ? null : rows.map((r) => share * (r.prior ? s.priorWeight : 1)),
  })
}

/** Inputs of rows of which nothing is left to chance but fixed noise. */
export function measuredBatch(
  maker: BatchMaker,
  items: readonly Placed[],
  times: readonly number[],
  name: string,
): Promise<Inputs> {
  return rowInputs(
    { ...maker, settings: { ...maker.settings, weighting: "none", noiseOffset: 0, seed: 1 } },
    items,
    {
      name,
      size: items[0]!.size,
      times,
      mirror: 0,
      captions: items.map((i) => maker.data.captions.prefix + i.caption),
      random: new Random(1),
      weights: null,
    },
  )
}

async function rowInputs(maker: BatchMaker, rows: readonly Placed[], draw: Draw): Promise<Inputs> {
  const { model, settings: s, data, prediction } = maker
  const { size, random, name } = draw
  const shape = latentShape(model, rows.length, size)
  const own = shape[1] * shape[2] * shape[3]
  const z = new Float32Array(rows.length * own)
  const mirrors = rows.map(() => random.chance(draw.mirror))
  const scaling = { scale: model.vae.scaling_factor, shift: model.vae.shift_factor ?? 0 }
  const spread = streamOf(s.seed, `latents ${name}`).normal(z.length)
  for (const [row, item] of rows.entries()) {
    const moments = await data.latents!.moments(item, size, mirrors[row])
    sampleMoments(
      moments.data as Float32Array,
      spread.subarray(row * own, (row + 1) * own),
      scaling,
      z,
      row * own,
    )
  }
  const { timestep, signal, sigma, weight } = levelsAt(draw.times, model.alphas, prediction, s)
  const weights = weight.data as Float32Array
  for (const [i, w] of draw.weights?.entries() ?? []) weights[i]! *= w
  return {
    timestep,
    signal,
    sigma,
    weight,
    latents: f32(z, shape),
    noise: drawNoise(name, shape, s),
    ...(await maker.texts(draw.captions)),
    ...(model.unet.addition_embed_type ? { time_ids: timeIds(rows, size) } : {}),
    ...(maker.masked ? { region: await regions(rows, size, model.factor, mirrors) } : {}),
    ...(maker.conditioned ? { condition: await conditions(rows, size, mirrors) } : {}),
  }
}

/** SDXL's size embedding (Podell et al. 2023, sec. 2.2): size before scaling, corner of the crop, size now; b 6. */
function timeIds(rows: readonly Placed[], { width, height }: Size): Value {
  const data = rows.flatMap((item) => {
    const scale = Math.max(width / item.width, height / item.height)
    const cut = (whole: number, kept: number) => Math.max(0, Math.floor((whole * scale - kept) / 2))
    return [item.height, item.width, cut(item.height, height), cut(item.width, width), height, width]
  })
  return f32(Float32Array.from(data), [rows.length, 6])
}

async function regions(
  rows: readonly Placed[],
  size: Size,
  factor: number,
  mirrors: readonly boolean[],
): Promise<Value> {
  const [h, w] = [size.height / factor, size.width / factor]
  const data = new Float32Array(rows.length * h * w).fill(1)
  for (const [row, { mask }] of rows.entries())
    if (mask) data.set(await maskAt(mask, size, factor, mirrors[row]!), row * h * w)
  return f32(data, [rows.length, 1, h, w])
}

/** Pictures to be conditioned on, b 3 H W in 0..1. */
async function conditions(rows: readonly Placed[], size: Size, mirrors: readonly boolean[]): Promise<Value> {
  const own = 3 * size.width * size.height
  const data = new Float32Array(rows.length * own)
  for (const [row, item] of rows.entries())
    data.set(await planesOf(item.condition!, size, mirrors[row]!), row * own)
  return f32(data, [rows.length, 3, size.height, size.width])
}
