import { fail } from "../errors.ts"
import { type GenerateRequest, promptLimit } from "./request.ts"

/** Most pictures that one command expands to. */
const most = 1000

/**
 * Every choice of a prompt's optional parts: `a fox|oil painting|at night` gives the first part with no, one, or both
 * others, in A1111's order (part i is in where bit i of the number is set).
 */
export function promptMatrix(prompt: string): string[] {
  const [first = "", ...parts] = prompt.split("|")
  if (2 ** parts.length > most)
    fail("REQUEST_MATRIX", `${parts.length} optional parts make ${2 ** parts.length} prompts`, {
      hint: "use at most 9",
    })
  const cleaned = parts.map((part) => part.trim().replace(/^,+|,+$/g, ""))
  return Array.from({ length: 2 ** parts.length }, (_, n) =>
    [first, ...cleaned.filter((_p, i) => n & (1 << i))].join(", "),
  )
}

/** What one axis of a grid changes. */
export interface GridAxis {
  readonly field: string
  readonly values: readonly string[]
}

const numbers = new Set(
  "steps cfg eta clipSkip seed width height strength imageCfg guidanceRescale maskBlur maskPadding variationSeed variationStrength upscale".split(
    " ",
  ),
)
const words = new Set("negative sampler schedule rng promptSyntax tiling fill inpaintArea".split(" "))

/** `1-5`, `1-10 (+3)` and `0-1 [5]` as A1111's X/Y/Z plot reads them; other text is one value. */
function range(text: string): string[] {
  const found = /^\s*(-?[\d.]+)\s*-\s*(-?[\d.]+)(?:\s*(?:\(([+-]?[\d.]+)\)|\[(\d+)\]))?\s*$/.exec(text)
  if (!found) return [text.trim()]
  const [from, to] = [Number(found[1]), Number(found[2])]
  const step = Math.abs(Number(found[3] ?? 1)) * Math.sign(to - from || 1)
  const count = found[4] ? Number(found[4]) : Math.floor((to - from) / step + 1e-9) + 1
  if (!(count >= 1 && count <= most))
    fail("REQUEST_GRID", `${text} is no range`, { hint: "write 1-5 or 1-9 (+2)" })
  const apart = found[4] ? (count > 1 ? (to - from) / (count - 1) : 0) : step
  return Array.from({ length: count }, (_, i) => String(Number((from + i * apart).toFixed(6))))
}

/**
 * Reads `cfg=3,7,11`, `seed=1-4`, `strength=0.2-0.8 [4]`, or `prompt=fox,owl` (the first word of the prompt is exchanged
 * for the others: A1111's "prompt S/R"). Values with commas stand in double quotes. @throws REQUEST_GRID
 */
export function gridAxis(text: string): GridAxis {
  const at = text.indexOf("=")
  const name = text
    .slice(0, at)
    .trim()
    .replace(/-([a-z])/g, (_, c: string) => c.toUpperCase())
  const rest = text.slice(at + 1)
  if (at < 1 || !(numbers.has(name) || words.has(name) || name === "prompt"))
    fail("REQUEST_GRID", `${text} names nothing that a grid can change`, {
      hint: `use one of prompt, ${[...words, ...numbers].join(", ")}: cfg=3,7,11`,
    })
  const listed = [...rest.matchAll(/\s*(?:"((?:[^"]|"")*)"|([^,]*))(?:,|$)/g)]
    .map(([, quoted, plain]) => quoted?.replaceAll('""', '"') ?? plain!.trim())
    .filter((value, i, all) => value !== "" || i < all.length - 1)
  const values = numbers.has(name) ? listed.flatMap(range) : listed
  if (numbers.has(name) && values.some((value) => value === "" || Number.isNaN(Number(value))))
    fail("REQUEST_GRID", `${text} holds what is no number`, { hint: "write cfg=3,7,11 or seed=1-4" })
  return { field: name, values }
}

/** A request with one axis at its i-th value. */
export function withAxis(ask: GenerateRequest, { field, values }: GridAxis, i: number): GenerateRequest {
  const value = values[i]!
  if (field !== "prompt") return { ...ask, [field]: numbers.has(field) ? Number(value) : value }
  if (!ask.prompt.includes(values[0]!))
    fail("REQUEST_GRID", `the prompt does not hold ${values[0]}`, {
      hint: "the first value is what is exchanged",
    })
  return { ...ask, prompt: ask.prompt.replaceAll(values[0]!, value) }
}

/** Rows of a CSV file (RFC 4180). */
function csvRows(text: string): string[][] {
  const rows: string[][] = [[]]
  for (const [, quoted, plain, end] of text.matchAll(/(?:"((?:[^"]|"")*)"|([^",\r\n]*))(,|\r?\n|$)/g)) {
    rows.at(-1)!.push(quoted?.replaceAll('""', '"') ?? plain!)
    if (end === "") break
    if (end !== ",") rows.push([])
  }
  return rows.filter((row) => row.some((cell) => cell !== ""))
}

/**
 * Prompts of a text file, one a line, `#` begins a comment; or of a CSV whose first row names fields (`prompt`,
 * `negative`, `seed`, `steps`, ...), empty cells leaving a field as it is. @throws REQUEST_PROMPTS
 */
export function readPrompts(text: string, csv: boolean): (Partial<GenerateRequest> & { prompt: string })[] {
  const lines = csv ? [] : text.split(/\r?\n/).filter((line) => line.trim() !== "" && !line.startsWith("#"))
  const [head = [], ...rows] = csv ? csvRows(text) : []
  const fields = head.map((name) => name.trim().replace(/[-_ ]([a-z])/g, (_, c: string) => c.toUpperCase()))
  const strange = fields.find((f) => f !== "prompt" && !numbers.has(f) && !words.has(f))
  if (strange !== undefined || (csv && !fields.includes("prompt")))
    fail("REQUEST_PROMPTS", strange === undefined ? "no column prompt" : `there is no field ${strange}`, {
      hint: `name the columns in the first row: prompt, ${[...words, ...numbers].join(", ")}`,
    })
  const found = csv
    ? rows.map((row) => Object.fromEntries(fields.flatMap((field, i) => cell(field, row[i] ?? ""))))
    : lines.map((line) => ({ prompt: line.trim() }))
  if (found.length === 0 || found.length > most)
    fail("REQUEST_PROMPTS", `the file holds ${found.length} prompts`, { hint: `use 1 to ${most}` })
  return found.map((entry, i) => {
    const { prompt } = entry as { prompt?: string }
    if (!prompt || prompt.length > promptLimit)
      fail("REQUEST_PROMPTS", `row ${i + 1} has no prompt, or one too long`, {
        hint: "give each row a prompt",
      })
    return { ...entry, prompt }
  })
}

function cell(field: string, text: string): [string, unknown][] {
  if (text === "") return []
  if (!numbers.has(field)) return [[field, text]]
  const value = Number(text)
  return Number.isNaN(value)
    ? fail("REQUEST_PROMPTS", `${field} is ${text}`, { hint: "give a number" })
    : [[field, value]]
}
