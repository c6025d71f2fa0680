import { readFile } from "node:fs/promises"
import type { Command } from "commander"
import {
  AquatintError,
  type GenerateRequest,
  type GenerateResult,
  type GridAxis,
  gridAxis,
  labelledGrid,
  type Picture,
  promptMatrix,
  readPrompts,
  withAxis,
} from "../index.ts"

/** Options that make one command draw many pictures. */
export interface ManyOptions {
  prompts?: string
  matrix?: boolean
  x?: GridAxis
  y?: GridAxis
  z?: GridAxis
}

export function addManyOptions(command: Command): void {
  const axis = "cfg=3,7,11, seed=1-4, strength=0.2-0.8 [4] or prompt=fox,owl (default: none)"
  command
    .option("--prompts <file>", "a prompt per line, or a CSV with a column prompt (default: none)")
    .option("--matrix", "draw every choice of the prompt's parts after a | in one grid (default: off)")
    .option("--x <field=values>", `columns of a grid: ${axis}`, gridAxis)
    .option("--y <field=values>", "rows of a grid (default: none)", gridAxis)
    .option("--z <field=values>", "one grid each (default: none)", gridAxis)
}

/** Several requests, and the grids their pictures go into. */
export interface Many {
  readonly asks: readonly GenerateRequest[]
  readonly grids: readonly { readonly columns: string[]; readonly rows: string[] }[]
}

export const isMany = ({ prompts, matrix, x, y, z }: ManyOptions): boolean =>
  prompts !== undefined || matrix === true || x !== undefined || y !== undefined || z !== undefined

/** What a request becomes; all of one seed unless a file or an axis says otherwise. @throws USAGE, REQUEST_* */
export async function many(given: GenerateRequest, options: ManyOptions): Promise<Many> {
  const { prompts, matrix, x, y, z } = options
  if (!isMany(options)) return { asks: [given], grids: [] }
  const ask = { ...given, seed: given.seed ?? Math.floor(Math.random() * 2 ** 32) }
  const kinds = [prompts !== undefined, matrix === true, (x ?? y ?? z) !== undefined].filter(Boolean).length
  if (kinds > 1 || (given.count ?? 1) > 1)
    throw new AquatintError("USAGE", "more than one of --prompts, --matrix, --x/--y/--z and --count", {
      hint: "name one of them",
    })
  if (prompts !== undefined) {
    const text = await readFile(prompts, "utf8").catch((cause: unknown) => {
      throw new AquatintError("INPUT_FILE", `${prompts} cannot be read`, { cause, file: prompts })
    })
    return { asks: readPrompts(text, /\.csv$/i.test(prompts)).map((row) => ({ ...ask, ...row })), grids: [] }
  }
  return matrix ? matrixOf(ask) : axesOf(ask, x, y, z)
}

/** Half of the parts across, the other half down, as A1111 lays them out. */
function matrixOf(ask: GenerateRequest): Many {
  const all = promptMatrix(ask.prompt)
  const parts = ask.prompt
    .split("|")
    .slice(1)
    .map((part) => part.trim())
  const across = Math.ceil(parts.length / 2)
  const chosen = (some: string[]) =>
    Array.from({ length: 2 ** some.length }, (_, n) => some.filter((_p, i) => n & (1 << i)).join(", ") || "-")
  const columns = chosen(parts.slice(0, across))
  const rows = parts.length > across ? chosen(parts.slice(across)) : [""]
  return { asks: all.map((prompt) => ({ ...ask, prompt })), grids: [{ columns, rows }] }
}

function axesOf(ask: GenerateRequest, x?: GridAxis, y?: GridAxis, z?: GridAxis): Many {
  const names = (axis: GridAxis | undefined) => axis?.values.map((value) => `${axis.field}: ${value}`) ?? [""]
  const over = (from: GenerateRequest[], axis: GridAxis | undefined): GenerateRequest[] =>
    axis ? from.flatMap((one) => axis.values.map((_, i) => withAxis(one, axis, i))) : from
  const asks = over(over(over([ask], z), y), x)
  const [columns, rows] = [names(x), names(y)]
  const grids = names(z).map((name) => ({
    columns,
    rows: name === "" ? rows : rows.map((row) => [name, row].filter((part) => part !== "").join(" ")),
  }))
  return { asks, grids }
}

/** The grids of the pictures, in order. */
async function gridsOf({ grids }: Many, pictures: readonly Picture[]): Promise<Picture[]> {
  const made: Picture[] = []
  let at = 0
  for (const { columns, rows } of grids) {
    const count = columns.length * rows.length
    made.push(await labelledGrid({ columns, rows, pictures: pictures.slice(at, at + count) }))
    at += count
  }
  return made
}

/** Several results as one: all pictures, then their grids, which carry the first picture's parameters and mark. */
export async function together(plan: Many, results: GenerateResult[]): Promise<GenerateResult> {
  const last = results.at(-1)!
  if (results.length === 1 && plan.grids.length === 0) return last
  const images = results.flatMap((r) => r.images)
  const grids = await gridsOf(
    plan,
    images.map((image) => image.picture),
  )
  const sum = (key: keyof GenerateResult["timings"]) =>
    results.reduce((n, { timings }) => n + timings[key], 0)
  const { load } = last.timings
  const timings = {
    load,
    text: sum("text"),
    denoise: sum("denoise"),
    decode: sum("decode"),
    total: sum("total") - load * (results.length - 1),
  }
  return { ...last, images: [...images, ...grids.map((grid) => images[0]!.around(grid))], timings }
}
