import { open } from "node:fs/promises"
import * as zlib from "node:zlib"
import { brotliDecompressSync, gunzipSync } from "node:zlib"
import { type Columns, captionOf, type Entry, type Listing, type Problem, pick } from "./entry.ts"

type Row = Record<string, unknown>
type Groups = readonly { start: number; end: number }[]

/** Decompressors beside Snappy, which the reader brings; zstd where this Node has it. */
const zstd = (zlib as { zstdDecompressSync?: (b: Uint8Array) => Uint8Array }).zstdDecompressSync
const compressors = {
  GZIP: (b: Uint8Array) => new Uint8Array(gunzipSync(b)),
  BROTLI: (b: Uint8Array) => new Uint8Array(brotliDecompressSync(b)),
  ...(zstd ? { ZSTD: (b: Uint8Array) => new Uint8Array(zstd(b)) } : {}),
}

/** A Parquet file read piece by piece; the row group used last stays in memory. */
class Table {
  private readonly path: string
  private held: { at: number; rows: Promise<Row[]> } | null = null
  groups: Groups = []
  names: readonly string[] = []

  constructor(path: string) {
    this.path = path
  }

  async load(): Promise<void> {
    const { parquetMetadataAsync } = await import("hyparquet")
    await this.withFile(async (file) => {
      const meta = await parquetMetadataAsync(file)
      let start = 0
      this.groups = meta.row_groups.map((g) => ({ start, end: (start += Number(g.num_rows)) }))
      const tops = meta.row_groups[0]?.columns.map((c) => c.meta_data?.path_in_schema[0] ?? "") ?? []
      this.names = [...new Set(tops)]
    })
  }

  /** Rows of a range with some of the columns. */
  async rows(rowStart: number, rowEnd: number, columns: string[]): Promise<Row[]> {
    const { parquetReadObjects } = await import("hyparquet")
    // text without a logical type and bytes look alike: strings are made where they are needed
    return this.withFile((file) =>
      parquetReadObjects({ file, columns, rowStart, rowEnd, compressors, utf8: false }),
    )
  }

  /** One cell of a picture column, by its row group. */
  async cell(row: number, column: string): Promise<unknown> {
    const at = this.groups.findIndex((g) => row < g.end)
    const group = this.groups[at]!
    if (this.held?.at !== at) this.held = { at, rows: this.rows(group.start, group.end, [column]) }
    return (await this.held.rows)[row - group.start]?.[column]
  }

  private async withFile<T>(
    use: (file: { byteLength: number; slice(a: number, b?: number): Promise<ArrayBuffer> }) => Promise<T>,
  ): Promise<T> {
    const handle = await open(this.path, "r")
    try {
      const { size } = await handle.stat()
      const slice = async (from: number, to = size) => {
        const start = from < 0 ? size + from : from
        const bytes = new Uint8Array(Math.max(0, Math.min(to, size) - start))
        await handle.read(bytes, 0, bytes.length, start)
        return bytes.buffer
      }
      return await use({ byteLength: size, slice })
    } finally {
      await handle.close()
    }
  }
}

/** Bytes of a picture's cell: Hugging Face's `{bytes, path}`, or the bytes themselves. */
function bytesOf(cell: unknown): Uint8Array | null {
  if (cell instanceof Uint8Array) return cell
  const inner = typeof cell === "object" && cell !== null ? (cell as { bytes?: unknown }).bytes : undefined
  return inner instanceof Uint8Array ? inner : null
}

const asText = (cell: unknown): string =>
  typeof cell === "string"
    ? captionOf(cell)
    : cell instanceof Uint8Array
      ? captionOf(Buffer.from(cell).toString("utf8"))
      : ""

/** Entries of a Parquet file: a column of pictures and one of text. Pictures are read when their turn comes. */
export async function parquetEntries(path: string, where: string, columns: Columns): Promise<Listing> {
  const table = new Table(path)
  const entries: Entry[] = []
  const problems: Problem[] = []
  try {
    await table.load()
    const named = Object.fromEntries(table.names.map((n) => [n, n]))
    const image = pick(named, [...columns.image, "img", "jpg", "png"]) as string | undefined
    const text = pick(named, columns.text) as string | undefined
    if (image === undefined || text === undefined)
      return missing(where, image === undefined ? "pictures" : "text", table.names)
    const side = (name: string | undefined, row: number, kind: string) =>
      name === undefined ? {} : { [kind]: cellSource(table, row, name, where) }
    const [mask, condition] = [columns.mask, columns.condition].map(
      (c) => pick(named, c) as string | undefined,
    )
    for (const { start, end } of table.groups)
      for (const [i, row] of (await table.rows(start, end, [text])).entries())
        entries.push({
          ...cellSource(table, start + i, image, where),
          caption: asText(row[text]),
          ...side(mask, start + i, "mask"),
          ...side(condition, start + i, "condition"),
        })
  } catch (cause) {
    problems.push({ code: "DATA_ARCHIVE", what: `damaged Parquet: ${(cause as Error).message}`, where })
  }
  return { entries, problems }
}

const missing = (where: string, what: string, names: readonly string[]): Listing => ({
  entries: [],
  problems: [{ code: "DATA_COLUMN", what: `no column of ${what} among ${names.join(", ")}`, where }],
})

const cellSource = (table: Table, row: number, column: string, where: string) => ({
  where: `${where} row ${row}`,
  read: async () => bytesOf(await table.cell(row, column)) ?? new Uint8Array(0),
})
