import { readFile } from "node:fs/promises"
import { join } from "node:path"
import type { Random } from "../corpus/random.ts"
import { filesBelow } from "./inside.ts"

export interface CaptionOptions {
  /** Order of the comma-separated parts behind the first `keep`. */
  readonly shuffle?: boolean
  readonly keep?: number
  /** Share of captions replaced by the empty one (Ho & Salimans 2022), and of single parts left out. */
  readonly dropout?: number
  readonly partDropout?: number
  /** Put before every caption. */
  readonly prefix?: string
  /** Lists of words by name; `__name__` takes one of a list, `{a|b|c}` one of the choices. */
  readonly wildcards?: ReadonlyMap<string, readonly string[]>
}

/** Word lists of a folder: each `.txt` by its path without the ending, one entry a line, `#` for notes. */
export async function readWildcards(folder: string): Promise<Map<string, string[]>> {
  const names = (await filesBelow(folder)).filter((f) => f.endsWith(".txt"))
  const lists = names.map(async (name) => {
    const text = await readFile(join(folder, name), "utf8")
    const lines = text.split(/\r?\n/).map((l) => l.trim())
    return [name.slice(0, -4), lines.filter((l) => l !== "" && !l.startsWith("#"))] as const
  })
  return new Map(await Promise.all(lists))
}

const deepest = 8

/** Replaces choices and word lists, innermost first; what names no list stays as it is. */
function filled(caption: string, lists: ReadonlyMap<string, readonly string[]>, random: Random): string {
  let text = caption
  for (let depth = 0; depth < deepest; depth++) {
    const next = text
      .replace(/\{([^{}]*\|[^{}]*)\}/g, (_, inner: string) => random.pick(inner.split("|")).trim())
      .replace(/__([\w/-]+?)__/g, (whole, name: string) => {
        const list = lists.get(name)
        return list && list.length > 0 ? random.pick(list) : whole
      })
    if (next === text) return text
    text = next
  }
  return text
}

/** The text a caption becomes in one draw; the same random stream gives the same text. */
export function drawCaption(caption: string, options: CaptionOptions, random: Random): string {
  const { shuffle = false, keep = 0, dropout = 0, partDropout = 0, prefix = "", wildcards } = options
  // drawn first, so that it does not depend on what the caption holds
  if (random.chance(dropout)) return ""
  const text = wildcards ? filled(caption, wildcards, random) : caption
  if (!shuffle && partDropout === 0) return prefix + text
  const parts = text
    .split(",")
    .map((p) => p.trim())
    .filter((p) => p !== "")
  const [first, rest] = [parts.slice(0, keep), parts.slice(keep)]
  const left = partDropout > 0 ? rest.filter(() => !random.chance(partDropout)) : rest
  return prefix + [...first, ...(shuffle ? random.shuffled(left) : left)].join(", ")
}

/** Whether a caption is another one from draw to draw. */
export const captionsVary = ({ shuffle, partDropout = 0, wildcards }: CaptionOptions): boolean =>
  shuffle === true || partDropout > 0 || wildcards !== undefined
