import { createHash } from "node:crypto"
import { stat } from "node:fs/promises"
import { basename, dirname, join, resolve } from "node:path"
import { AquatintError, fail } from "../../errors.ts"
import { checkImage, type ImageLimits } from "../../image/header.ts"
import { byName, columnsWith, type Entry, type Listing, type Problem } from "./entry.ts"
import { folderEntries } from "./folder.ts"
import { filesBelow, Inside } from "./inside.ts"
import { parquetEntries } from "./parquet.ts"
import { tableEntries } from "./tables.ts"
import { tarEntries } from "./tar.ts"

export interface DataOptions {
  /** Columns of tables; default: the first of the usual names that is there. */
  readonly imageColumn?: string
  readonly textColumn?: string
  /** Folders with a mask, or a picture to be conditioned on, under each picture's name. */
  readonly masks?: string
  readonly conditions?: string
  /** Caption of pictures that have none; without it they are bad entries. */
  readonly caption?: string
  /** Pictures whose bytes are those of an earlier one: bad entries unless kept. */
  readonly duplicates?: "drop" | "keep"
  /** Most pixels of a picture, 100 million; the header decides, before anything is decoded. */
  readonly pixels?: number
  readonly signal?: AbortSignal
}

/** An entry whose header is sound. */
export interface Item extends Entry {
  /** SHA-256 of the picture's bytes. */
  readonly hash: string
  /** Pixels as stored. */
  readonly width: number
  readonly height: number
}

export interface Dataset {
  readonly path: string
  readonly items: readonly Item[]
  readonly problems: readonly Problem[]
}

const limitsOf = ({ pixels = 100e6 }: DataOptions): ImageLimits => ({
  pixels,
  side: 65_535,
  bytes: 256 * 2 ** 20,
})

/**
 * Opens a data set: a folder (pictures with `.txt`, `metadata.jsonl`, CSV, folders by class, Parquet or tar files in
 * it), or a single `.jsonl`, `.csv`, `.parquet` or `.tar` file. Every picture's header is checked and its bytes hashed;
 * what is wrong is listed with code, reason and place, and never stops the reading.
 * @throws DATA_NOT_FOUND, DATA_EMPTY
 */
export async function openDataset(path: string, options: DataOptions = {}): Promise<Dataset> {
  const { entries, problems } = await listEntries(path, options)
  const wrong = [...problems]
  const items: Item[] = []
  const seen = new Map<string, string>()
  for (const entry of [...entries].sort((a, b) => byName(a.where, b.where))) {
    options.signal?.throwIfAborted()
    const made = await itemOf(entry, options)
    const first = "hash" in made ? seen.get(made.hash) : undefined
    if (!("hash" in made)) wrong.push(made)
    else if (first !== undefined && options.duplicates !== "keep")
      wrong.push({ code: "DATA_DUPLICATE", what: `the same picture as ${first}`, where: entry.where })
    else {
      seen.set(made.hash, entry.where)
      items.push(made)
    }
  }
  if (items.length === 0)
    fail(
      "DATA_EMPTY",
      `${path} holds no picture that can be used${wrong[0] ? `: ${wrong[0].where}: ${wrong[0].what}` : ""}`,
      {
        file: path,
        hint: "a folder of PNG, JPEG or WebP files, each with a .txt of the same name, is the simplest",
        details: { problems: wrong },
      },
    )
  return { path, items, problems: wrong }
}

async function listEntries(path: string, options: DataOptions): Promise<Listing> {
  const found = await stat(path).catch(() => null)
  if (!found)
    fail("DATA_NOT_FOUND", `${path} does not exist`, {
      file: path,
      hint: "name a folder or file of pictures",
    })
  const columns = columnsWith({ image: options.imageColumn, text: options.textColumn })
  const rest = { masks: options.masks, conditions: options.conditions, caption: options.caption, columns }
  if (!found.isDirectory()) {
    const full = resolve(path)
    if (/\.(jsonl|csv)$/i.test(path))
      return tableEntries(await Inside.of(dirname(full)), basename(full), columns)
    const read = readerOf(path)
    return read ? read(full, basename(full), columns) : unknownKind(path)
  }
  const archives = (await filesBelow(path)).filter((f) => readerOf(f) !== null)
  if (archives.length === 0) return folderEntries(resolve(path), rest)
  const inside = await Inside.of(resolve(path))
  const parts: Listing[] = []
  for (const name of archives) {
    const real = await inside.path(name)
    parts.push(
      typeof real === "string"
        ? await readerOf(name)!(real, name, columns)
        : { entries: [], problems: [real] },
    )
  }
  return { entries: parts.flatMap((p) => p.entries), problems: parts.flatMap((p) => p.problems) }
}

const readerOf = (name: string) =>
  /\.tar$/i.test(name) ? tarEntries : /\.parquet$/i.test(name) ? parquetEntries : null

const unknownKind = (path: string): never =>
  fail("DATA_FORMAT", `${path} is no data set that is read here`, {
    file: path,
    hint: "name a folder, or a .jsonl, .csv, .parquet or .tar file",
  })

async function itemOf(entry: Entry, options: DataOptions): Promise<Item | Problem> {
  const bad = (code: string, what: string): Problem => ({ code, what, where: entry.where })
  const caption = entry.caption === "" ? options.caption : entry.caption
  if (caption === undefined) return bad("DATA_CAPTION_EMPTY", "the caption is missing or empty")
  try {
    const bytes = await entry.read()
    const { width, height } = checkImage(bytes, limitsOf(options))
    return { ...entry, caption, width, height, hash: createHash("sha256").update(bytes).digest("hex") }
  } catch (error) {
    return problemOf(error, entry.where)
  }
}

/** A thrown error as a problem of the place it belongs to. */
export function problemOf(error: unknown, where: string): Problem {
  if (error instanceof AquatintError) return { code: error.code, what: error.message, where }
  const code = (error as NodeJS.ErrnoException | undefined)?.code
  return {
    code: code && /^[A-Z0-9_-]+$/.test(code) ? "DATA_UNREADABLE" : "IMAGE_BROKEN",
    what: error instanceof Error ? error.message : String(error),
    where,
  }
}

/**
 * Cuts a held-out part off: the pictures of the lowest hashes, so that adding pictures moves few of the others.
 * @param share of all items, 0 to 0.5; at least one where it is above 0
 */
export function heldOut<T extends { readonly hash: string }>(
  items: readonly T[],
  share: number,
): { train: T[]; validation: T[] } {
  if (share <= 0 || items.length < 2) return { train: [...items], validation: [] }
  const count = Math.min(items.length - 1, Math.max(1, Math.round(share * items.length)))
  const out = new Set([...items].sort((a, b) => byName(a.hash, b.hash)).slice(0, count))
  return { train: items.filter((i) => !out.has(i)), validation: items.filter((i) => out.has(i)) }
}

export const sha256Of = (...parts: (string | Uint8Array)[]): string => {
  const hash = createHash("sha256")
  for (const part of parts) hash.update(part)
  return hash.digest("hex")
}

/** Everything of a data set that a training's numbers depend on, as one hash. */
export const dataHash = (items: readonly (Item & { repeats?: number })[]): string =>
  sha256Of(JSON.stringify(items.map((i) => [i.hash, i.caption, i.repeats ?? 1])))

export const reportPath = (folder: string): string => join(folder, "data-report.json")
