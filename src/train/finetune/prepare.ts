import { join } from "node:path"
import { fail } from "../../errors.ts"
import type { Engine } from "../../runtime/engine.ts"
import { bucketFor, bucketSizes, nameOf, type Size } from "../data/buckets.ts"
import { type CaptionOptions, captionsVary, readWildcards } from "../data/captions.ts"
import {
  type DataOptions,
  type Dataset,
  dataHash,
  heldOut,
  type Item,
  openDataset,
  problemOf,
} from "../data/dataset.ts"
import type { Problem } from "../data/entry.ts"
import { judge, writeDataReport } from "../data/report.ts"
import type { TrainModel } from "./model.ts"
import type { TrainSettings } from "./options.ts"
import { LatentEncoder, pictureAt } from "./pictures.ts"
import { ArrayStore } from "./store.ts"
import { isLong, TextEncoder } from "./texts.ts"

/** An item with the size it is learned at. */
export interface Placed extends Item {
  readonly size: Size
  /** Of pictures of the class whose prior is preserved. */
  readonly prior?: boolean
  /** How often it is drawn in a round. */
  readonly repeats: number
}

/** Data ready for training: nothing is met in mid-training that was not seen here. */
export interface Prepared {
  readonly train: readonly Placed[]
  readonly prior: readonly Placed[]
  readonly validation: readonly Placed[]
  readonly problems: readonly Problem[]
  readonly captions: CaptionOptions
  readonly latents: LatentEncoder | null
  readonly texts: TextEncoder | null
  /** Everything of the data that the numbers depend on. */
  readonly hash: string
  release(): Promise<void>
}

export interface PrepareStep {
  readonly phase: "read" | "encode"
  readonly done: number
  readonly count: number
}

/** The resolution asked for, or the model's own. */
export function resolutionOf(s: TrainSettings, model: TrainModel): number {
  const own = Number(model.files.components.get("unet")?.config.sample_size ?? 64)
  return s.resolution ?? own * model.factor
}

const dataOptions = (s: TrainSettings): DataOptions => ({
  imageColumn: s.imageColumn,
  textColumn: s.textColumn,
  masks: s.masks,
  conditions: s.conditions,
  caption: s.kind === "dreambooth" ? s.prompt : s.caption,
  duplicates: s.duplicates,
})

const captionOptions = async (s: TrainSettings): Promise<CaptionOptions> => ({
  shuffle: s.captionShuffle,
  keep: s.captionKeep,
  dropout: s.captionDropout,
  partDropout: s.partDropout,
  prefix: s.captionPrefix,
  ...(s.wildcards === undefined ? {} : { wildcards: await readWildcards(s.wildcards) }),
})

/**
 * Opens the data set, tries every picture, and brings latents and text states to the disk. Bad entries stand in
 * `data-report.json`. @throws DATA_*
 */
export async function* prepareData(
  engine: Engine,
  model: TrainModel,
  s: TrainSettings,
): AsyncGenerator<PrepareStep, Prepared> {
  const data = await openDataset(s.data, dataOptions(s))
  yield { phase: "read", done: data.items.length, count: data.items.length }
  const classes =
    s.classData === undefined
      ? null
      : await openDataset(s.classData, { caption: s.classPrompt, duplicates: s.duplicates })
  const sizes = bucketSizes({ resolution: resolutionOf(s, model), step: model.step, square: !s.buckets })
  const place = (item: Item, prior: boolean): Placed => ({
    ...item,
    size: bucketFor(item, sizes),
    repeats: s.folderRepeats ? folderRepeats(item.where) : 1,
    ...(prior ? { prior, caption: s.classPrompt! } : {}),
  })
  // dreambooth's prompt is every picture's caption
  const own = s.kind === "dreambooth" ? data.items.map((i) => ({ ...i, caption: s.prompt! })) : data.items
  const items = [...own.map((i) => place(i, false)), ...(classes?.items ?? []).map((i) => place(i, true))]
  const problems: Problem[] = [...data.problems, ...(classes?.problems ?? [])]
  const captions = await captionOptions(s)
  const store = new ArrayStore(s.cache ?? join(s.out, "cache"))
  const latents = s.kind === "vae" ? null : await LatentEncoder.open(engine, model, store, s.threads)
  const texts =
    s.kind === "vae"
      ? null
      : await TextEncoder.open(engine, model, captionsVary(captions) ? null : store, s.threads)
  const good: Placed[] = []
  for (const [n, item] of items.entries()) {
    const problem = await tried(item, latents, s)
    if (problem) problems.push(problem)
    else good.push(item)
    yield { phase: "encode", done: n + 1, count: items.length }
  }
  return finish(s, data, good, problems, { captions, latents, texts }, model)
}

async function finish(
  s: TrainSettings,
  data: Dataset,
  good: readonly Placed[],
  problems: readonly Problem[],
  parts: Pick<Prepared, "captions" | "latents" | "texts">,
  model: TrainModel,
): Promise<Prepared> {
  const notes = s.kind === "vae" ? [] : longCaptions(model, good)
  await writeDataReport(s.out, { ...data, items: good }, [...problems, ...notes])
  judge(problems, s.onBad, s.data)
  if (!good.some((i) => !i.prior))
    fail(
      "DATA_EMPTY",
      `${s.data} holds no picture that can be used: ${problems[0]?.where}: ${problems[0]?.what}`,
      {
        file: s.data,
        hint: "see data-report.json for every picture",
        details: { problems },
      },
    )
  const { train, validation } = heldOut(
    good.filter((i) => !i.prior),
    s.validation,
  )
  return {
    ...parts,
    train,
    validation,
    prior: good.filter((i) => i.prior),
    problems: [...problems, ...notes],
    hash: dataHash(good),
    release: async () => {
      await parts.latents?.release()
      await parts.texts?.release()
    },
  }
}

/** Captions whose end the text encoder does not read: told, and not held against the entry. */
const longCaptions = (model: TrainModel, items: readonly Placed[]): Problem[] =>
  items
    .filter((i) => isLong(model.texts[0]!, i.caption))
    .map((i) => ({
      code: "DATA_CAPTION_LONG",
      what: "the caption's end lies beyond the text encoder's last token",
      where: i.where,
    }))

/** Decodes a picture and what belongs to it, and encodes it where latents are kept. */
async function tried(item: Placed, latents: LatentEncoder | null, s: TrainSettings): Promise<Problem | null> {
  try {
    if (latents) {
      await latents.moments(item, item.size)
      if (s.flip) await latents.moments(item, item.size, true)
    } else await pictureAt(item, item.size)
    if (item.mask) await pictureAt(item.mask, item.size)
    if (s.kind === "controlnet" && !item.condition && !item.prior)
      return { code: "DATA_MISSING", what: "there is no picture to be conditioned on", where: item.where }
    if (item.condition) await pictureAt(item.condition, item.size)
    return null
  } catch (error) {
    return problemOf(error, item.where)
  }
}

/** `10_red fox/1.png` is drawn ten times a round, as kohya's folders say. */
const folderRepeats = (where: string): number =>
  Number(/(?:^|\/)(\d{1,4})_[^/]*\/[^/]*$/.exec(where)?.[1] ?? 1)

/** Indices of items by the name of their size, each as often as it is repeated. */
export function bySize(items: readonly Placed[]): Map<string, number[]> {
  const out = new Map<string, number[]>()
  for (const [i, { size, repeats }] of items.entries()) {
    if (!out.has(nameOf(size))) out.set(nameOf(size), [])
    for (let n = 0; n < repeats; n++) out.get(nameOf(size))!.push(i)
  }
  return new Map([...out].sort(([a], [b]) => (a < b ? -1 : 1)))
}
