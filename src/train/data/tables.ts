import { readFile } from "node:fs/promises"
import { posix } from "node:path"
import { csvRows } from "./csv.ts"
import {
  type Columns,
  captionOf,
  type Entry,
  type Listing,
  type Problem,
  pick,
  type Source,
} from "./entry.ts"
import { fileAt, type Inside } from "./inside.ts"

/** Rows of a table with the place each stands at, and lines that are none. */
interface Rows {
  readonly rows: readonly { line: number; row: Readonly<Record<string, unknown>> }[]
  readonly problems: readonly Problem[]
}

/** One JSON object a line, as Hugging Face's imagefolder has it. */
function jsonRows(text: string, where: string): Rows {
  const rows: { line: number; row: Record<string, unknown> }[] = []
  const problems: Problem[] = []
  for (const [i, line] of text
    .replace(/^\uFEFF/, "")
    .split("\n")
    .entries()) {
    if (line.trim() === "") continue
    const at = `${where} line ${i + 1}`
    try {
      const row: unknown = JSON.parse(line)
      if (typeof row === "object" && row !== null && !Array.isArray(row))
        rows.push({ line: i + 1, row: row as Record<string, unknown> })
      else problems.push({ code: "DATA_METADATA", what: "the line is no JSON object", where: at })
    } catch {
      problems.push({ code: "DATA_METADATA", what: "the line is not JSON", where: at })
    }
  }
  return { rows, problems }
}

/**
 * Entries of a `metadata.jsonl` or a CSV file: paths are relative to the table, and must stay in the data set.
 * @param table path of the table inside the folder
 */
export async function tableEntries(inside: Inside, table: string, columns: Columns): Promise<Listing> {
  const path = await inside.path(table)
  if (typeof path !== "string") return { entries: [], problems: [path] }
  const text = await readFile(path, "utf8")
  const { rows, problems } = /\.jsonl$/i.test(table)
    ? jsonRows(text, table)
    : { rows: csvRows(text), problems: [] }
  const entries: Entry[] = []
  const wrong = [...problems]
  for (const { line, row } of rows) {
    const made = await entryOf(inside, row, columns, posix.dirname(table), `${table} line ${line}`)
    if ("code" in made) wrong.push(made)
    else entries.push(made)
  }
  return { entries, problems: wrong }
}

async function entryOf(
  inside: Inside,
  row: Readonly<Record<string, unknown>>,
  columns: Columns,
  folder: string,
  line: string,
): Promise<Entry | Problem> {
  const image = pick(row, columns.image)
  if (typeof image !== "string" || image === "")
    return { code: "DATA_METADATA", what: `no picture is named (${columns.image.join(", ")})`, where: line }
  const at = (name: string) => (folder === "." ? name : `${folder}/${name}`)
  const file = async (name: string): Promise<Source | Problem> => {
    const path = await inside.path(/^([\\/]|[A-Za-z]:)/.test(name) ? name : at(name), `${line} (${name})`)
    return typeof path === "string" ? fileAt(path, at(name)) : path
  }
  const picture = await file(image)
  if ("code" in picture) return picture
  const more: { mask?: Source; condition?: Source } = {}
  for (const key of ["mask", "condition"] as const) {
    const name = pick(row, columns[key])
    if (typeof name !== "string" || name === "") continue
    const found = await file(name)
    if ("code" in found) return found
    more[key] = found
  }
  const text = pick(row, columns.text)
  return { ...picture, ...more, caption: typeof text === "string" ? captionOf(text) : "" }
}
