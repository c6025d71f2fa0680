import { readFile } from "node:fs/promises"
import { posix } from "node:path"
import {
  type Columns,
  captionOf,
  type Entry,
  type Listing,
  type Problem,
  pictureEnding,
  type Source,
} from "./entry.ts"
import { fileAt, filesBelow, Inside } from "./inside.ts"
import { tableEntries } from "./tables.ts"

export interface FolderOptions {
  readonly columns: Columns
  /** Folder of masks, or of pictures to be conditioned on, with the pictures' names; default: tables name them. */
  readonly masks?: string
  readonly conditions?: string
  /** Pictures without any caption get this one. */
  readonly caption?: string
}

/**
 * A folder of pictures: by its `metadata.jsonl` or CSV tables where it has some, else every picture with the `.txt` of
 * the same name. Where there is no text at all, the folder a picture lies in is its caption (imagefolder's classes).
 */
export async function folderEntries(root: string, options: FolderOptions): Promise<Listing> {
  const inside = await Inside.of(root)
  const files = await filesBelow(root)
  const tables = files.filter((f) => /(^|\/)metadata\.(jsonl|csv)$/i.test(f))
  const other = files.filter((f) => /^[^/]+\.csv$/i.test(f))
  const chosen = tables.length > 0 ? tables : other
  if (chosen.length === 0) return withSides(await pictureFiles(inside, files, options), options)
  const parts = await Promise.all(chosen.map((t) => tableEntries(inside, t, options.columns)))
  const entries = parts.flatMap((p) => p.entries)
  return withSides({ entries, problems: parts.flatMap((p) => p.problems) }, options)
}

async function pictureFiles(
  inside: Inside,
  files: readonly string[],
  options: FolderOptions,
): Promise<Listing> {
  const pictures = files.filter((f) => pictureEnding.test(f))
  const texts = new Set(files.filter((f) => /\.(txt|caption)$/i.test(f)))
  const problems: Problem[] = []
  const entries: Entry[] = []
  const used = new Set<string>()
  for (const name of pictures) {
    const stem = name.slice(0, -posix.extname(name).length)
    const beside = [`${stem}.txt`, `${stem}.caption`].find((t) => texts.has(t))
    if (beside !== undefined) used.add(beside)
    const path = await inside.path(name)
    if (typeof path !== "string") {
      problems.push(path)
      continue
    }
    const caption = await captionFor(inside, name, beside, texts.size > 0, options.caption)
    if (typeof caption === "string") entries.push({ ...fileAt(path, name), caption })
    else problems.push(caption)
  }
  for (const text of texts)
    if (!used.has(text) && !/(^|\/)(README|LICENSE|NOTICE)\.txt$/i.test(text))
      problems.push({ code: "DATA_NO_PICTURE", what: "a caption without a picture of its name", where: text })
  return { entries, problems }
}

async function captionFor(
  inside: Inside,
  name: string,
  beside: string | undefined,
  captioned: boolean,
  given: string | undefined,
): Promise<string | Problem> {
  if (beside !== undefined) {
    const path = await inside.path(beside)
    return typeof path === "string" ? captionOf(await readFile(path, "utf8")) : path
  }
  if (given !== undefined) return given
  const folder = posix.basename(posix.dirname(name))
  return captioned || folder === "." ? "" : captionOf(folder.replaceAll("_", " "))
}

/** Adds masks and conditions that lie in folders of their own under the pictures' names. */
async function withSides(
  { entries, problems }: Listing,
  { masks, conditions }: FolderOptions,
): Promise<Listing> {
  if (masks === undefined && conditions === undefined) return { entries, problems }
  const wrong = [...problems]
  const made: Entry[] = []
  for (const entry of entries) {
    const mask = masks === undefined ? undefined : await sideOf(masks, entry.where)
    const condition = conditions === undefined ? undefined : await sideOf(conditions, entry.where)
    const bad = [mask, condition].find((s): s is Problem => s !== undefined && "code" in s)
    if (bad) wrong.push(bad)
    else
      made.push({
        ...entry,
        ...(mask ? { mask: mask as Source } : {}),
        ...(condition ? { condition: condition as Source } : {}),
      })
  }
  return { entries: made, problems: wrong }
}

async function sideOf(folder: string, name: string): Promise<Source | Problem> {
  const inside = await Inside.of(folder)
  const stem = name.slice(0, -posix.extname(name).length)
  for (const ending of [posix.extname(name), ".png", ".jpg", ".jpeg", ".webp"]) {
    const path = await inside.path(stem + ending)
    if (typeof path === "string") return fileAt(path, `${folder}/${stem}${ending}`)
    if (path.code !== "DATA_MISSING") return { ...path, where: name }
  }
  return { code: "DATA_MISSING", what: `${folder} has no picture of this name`, where: name }
}
