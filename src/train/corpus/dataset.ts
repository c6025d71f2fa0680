import { mkdir, open, readdir, readFile, rename, rmdir, stat, writeFile } from "node:fs/promises"
import { dirname, join } from "node:path"
import { fail } from "../../errors.ts"
import type { Language } from "./caption.ts"
import { type Corpus, type CorpusEntry, corpus } from "./corpus.ts"
import { fastPng } from "./fast-png.ts"
import { CC0, datasheet } from "./licence.ts"
import type { Split } from "./spec.ts"

/**
 * "imagefolder": PNG files and metadata.jsonl, which Hugging Face's datasets loads as it is.
 * "captions": PNG files, each with a .txt of the same name, as kohya's scripts and our trainer read them.
 */
export type DatasetFormat = "imagefolder" | "captions"

export interface DatasetOptions {
  /** Folder to make. It must not exist yet, or be empty. */
  out: string
  /** Pictures, 1 to 10 million. */
  count: number
  /** Width and height in pixels, default 256. */
  size?: number
  /** Default 1. */
  seed?: number
  /** Default "imagefolder". */
  format?: DatasetFormat
  /** Default "train". */
  split?: Split
  /** Default: three parts English, one part German. */
  language?: Language
  signal?: AbortSignal
}

export interface DatasetProgress {
  done: number
  count: number
}

/** Pictures of one subfolder; large flat folders are slow on most file systems. */
const PER_FOLDER = 1000

/**
 * Draws a data set into a folder, yielding progress after every picture. All is written to `OUT.partial`, which
 * takes its name at the very end: a folder called `out` is always whole. A run that was stopped goes on where it
 * was when called again with the same options.
 * @throws AquatintError DATASET_EXISTS, DATASET_COUNT, CORPUS_SIZE; what the file system says as its own error
 * @example for await (const { done, count } of drawDataset({ out: "scenes", count: 1000 })) show(done / count)
 */
export async function* drawDataset(options: DatasetOptions): AsyncGenerator<DatasetProgress> {
  const {
    out,
    count,
    size = 256,
    seed = 1,
    format = "imagefolder",
    split = "train",
    language,
    signal,
  } = options
  if (!Number.isInteger(count) || count < 1 || count > 1e7)
    fail("DATASET_COUNT", `A data set of ${count} pictures cannot be drawn.`, {
      hint: "Choose 1 to 10000000.",
    })
  await refuseFull(out)
  const partial = `${out}.partial`
  const settings = { count, size, seed, format, split, language: language ?? "mixed" }
  await prepare(partial, settings)
  const items = corpus({ seed, size, split, language })
  let done = 0
  for await (const _ of inFlight(count, (i) => writeItem(partial, items, i, format), signal))
    yield { done: ++done, count }
  if (format === "imagefolder") await writeMetadata(partial, items, count)
  await writeWhole(join(partial, "LICENSE"), CC0)
  await writeWhole(join(partial, "README.md"), datasheet(settings))
  await rmdir(out).catch(() => {})
  await rename(partial, out)
}

/** Runs tasks 0 to count - 1 in order, a few at a time, so that packing and writing overlap with drawing. */
async function* inFlight(count: number, task: (i: number) => Promise<void>, signal?: AbortSignal) {
  const running: Promise<void>[] = []
  try {
    for (let i = 0; i < count; i++) {
      signal?.throwIfAborted()
      const item = task(i)
      item.catch(() => {}) // a failure is met when its turn comes
      running.push(item)
      if (running.length === 8) yield await running.shift()
    }
    while (running.length > 0) yield await running.shift()
  } finally {
    await Promise.allSettled(running)
  }
}

async function refuseFull(out: string): Promise<void> {
  const entries = await readdir(out).catch((cause: NodeJS.ErrnoException) => {
    if (cause.code === "ENOENT") return []
    return fail("DATASET_EXISTS", `${out} cannot be made a folder.`, {
      file: out,
      cause,
      hint: "Name another folder.",
    })
  })
  if (entries.length > 0)
    fail("DATASET_EXISTS", `The folder ${out} is not empty.`, {
      file: out,
      hint: "Name a new folder, or empty this one.",
    })
}

/** Makes the partial folder, or checks that the one found was made with the same settings. */
async function prepare(partial: string, settings: Record<string, unknown>): Promise<void> {
  const file = join(partial, "corpus.json")
  const text = `${JSON.stringify(settings, null, 2)}\n`
  await mkdir(partial, { recursive: true })
  const before = await readFile(file, "utf8").catch(() => null)
  if (before === null) return writeWhole(file, text)
  if (before !== text)
    fail("DATASET_EXISTS", `${partial} was begun with other settings.`, {
      file: partial,
      hint: "Remove it, or repeat the settings in its corpus.json.",
    })
}

const nameOf = (index: number) =>
  `${String(Math.floor(index / PER_FOLDER)).padStart(4, "0")}/${String(index).padStart(8, "0")}`

async function writeItem(folder: string, items: Corpus, index: number, format: DatasetFormat): Promise<void> {
  const path = join(folder, nameOf(index))
  // the picture is written last, so that its presence means the item is whole
  if (await exists(`${path}.png`)) return
  const item = items.item(index)
  const [bytes] = await Promise.all([fastPng(item), mkdir(dirname(path), { recursive: true })])
  if (format === "captions") await writeWhole(`${path}.txt`, `${item.caption}\n`)
  await writeWhole(`${path}.png`, bytes)
}

/** One line a picture, in Hugging Face's imagefolder form, with the scene behind the caption. */
async function writeMetadata(folder: string, items: Corpus, count: number): Promise<void> {
  const path = join(folder, "metadata.jsonl")
  const file = await open(`${path}.tmp`, "w")
  try {
    for (let i = 0; i < count; i++) await file.write(`${JSON.stringify(metadataOf(items.entry(i)))}\n`)
  } finally {
    await file.close()
  }
  await rename(`${path}.tmp`, path)
}

function metadataOf({ index, spec, caption, language }: CorpusEntry): Record<string, unknown> {
  const { subject, second, seed: _, ...scene } = spec
  const things = { subject: subject.kind, colour: subject.colour }
  const other = { second: second?.kind ?? null, second_colour: second?.colour ?? null }
  return { file_name: `${nameOf(index)}.png`, text: caption, language, ...things, ...other, ...scene }
}

const exists = (path: string) =>
  stat(path).then(
    () => true,
    () => false,
  )

/** Readers see no file or the whole file. */
async function writeWhole(path: string, content: string | Uint8Array): Promise<void> {
  await writeFile(`${path}.tmp`, content)
  await rename(`${path}.tmp`, path)
}
