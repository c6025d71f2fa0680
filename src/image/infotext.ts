/**
 * A1111's generation parameters ("infotext"), written and read as modules/infotext_utils.py and
 * modules/processing.py do:
 *
 *     a cat
 *     Negative prompt: dog
 *     Steps: 20, Sampler: Euler a, CFG scale: 7, Seed: 1, Size: 512x512, Version: aquatint 1.0
 */
export interface Infotext {
  prompt: string
  negativePrompt: string
  steps?: number
  sampler?: string
  /** "Schedule type"; A1111 reads its absence as Automatic. */
  scheduleType?: string
  cfgScale?: number
  imageCfgScale?: number
  seed?: number
  width?: number
  height?: number
  modelHash?: string
  model?: string
  vaeHash?: string
  vae?: string
  variationSeed?: number
  variationSeedStrength?: number
  denoisingStrength?: number
  /** A1111 writes it above 1 only and reads its absence as 1. */
  clipSkip?: number
  /** "CPU" or "NV"; A1111 reads its absence as GPU. */
  rng?: string
  /** LoRA name to the first 12 hexadecimal digits of its AddNet hash. */
  loraHashes?: Record<string, string>
  /** Word of a textual inversion to the first 12 hexadecimal digits of its file's SHA-256. */
  embeddingHashes?: Record<string, string>
  version?: string
  /** Keys this record does not name, in order, values unquoted; written before Version. */
  extra: [key: string, value: string][]
}

type Kind = "integer" | "number" | "text"
type Named = Exclude<keyof Infotext, "prompt" | "negativePrompt" | "width" | "height" | Hashes | "extra">
type Hashes = "loraHashes" | "embeddingHashes"

/** A1111's order; "Size" and hashes have shapes of their own, "*" is where the other keys go. */
const order: [key: string, field: Named | "size" | Hashes | "*", kind: Kind][] = [
  ["Steps", "steps", "integer"],
  ["Sampler", "sampler", "text"],
  ["Schedule type", "scheduleType", "text"],
  ["CFG scale", "cfgScale", "number"],
  ["Image CFG scale", "imageCfgScale", "number"],
  ["Seed", "seed", "integer"],
  ["Size", "size", "text"],
  ["Model hash", "modelHash", "text"],
  ["Model", "model", "text"],
  ["VAE hash", "vaeHash", "text"],
  ["VAE", "vae", "text"],
  ["Variation seed", "variationSeed", "integer"],
  ["Variation seed strength", "variationSeedStrength", "number"],
  ["Denoising strength", "denoisingStrength", "number"],
  ["Clip skip", "clipSkip", "integer"],
  ["RNG", "rng", "text"],
  ["Lora hashes", "loraHashes", "text"],
  ["TI hashes", "embeddingHashes", "text"],
  ["*", "*", "text"],
  ["Version", "version", "text"],
]

/** Python's str.isspace and the `\w` of its re module; JavaScript's differ in both. */
const space = "\\t-\\r\\x1c- \\x85\\xa0\\u1680\\u2000-\\u200a\\u2028\\u2029\\u202f\\u205f\\u3000"
const word = "\\p{L}\\p{N}_"
const spaces = new RegExp(`[${space}]*`, "uy")
const wordStart = new RegExp(`[${word}]`, "uy")
const keyRest = new RegExp(`[${word} \\-/]*`, "uy")
const quoted = /"(?:\\[^\n]|[^\\"])+"(?=,|$)/uy

/** Python's str.strip. */
function strip(text: string): string {
  let start = 0
  let end = text.length
  while (start < end && isSpace(text[start]!)) start++
  while (end > start && isSpace(text[end - 1]!)) end--
  return text.slice(start, end)
}

const oneSpace = new RegExp(`[${space}]`, "u")
const isSpace = (c: string) => oneSpace.test(c)

/** A value as A1111 quotes it: JSON when it holds a comma, colon or line break. */
export function quoteValue(value: string): string {
  return /[,:\n]/.test(value) ? JSON.stringify(value) : value
}

/** The reverse; what is not valid JSON stays as it is. */
export function unquoteValue(value: string): string {
  if (!value.startsWith('"') || !value.endsWith('"')) return value
  try {
    return String(JSON.parse(value))
  } catch {
    return value
  }
}

/** Infotext of a record; fields that are undefined are left out, the negative line when it is empty. */
export function writeInfotext(record: Infotext): string {
  const pairs: string[] = []
  for (const [key, field] of order) {
    if (field === "*") for (const [k, v] of record.extra) pairs.push(pair(k, v))
    else {
      const value = textOf(record, field)
      if (value !== undefined) pairs.push(pair(key, value))
    }
  }
  const negative = record.negativePrompt === "" ? "" : `\nNegative prompt: ${record.negativePrompt}`
  return strip(`${record.prompt}${negative}\n${pairs.join(", ")}`)
}

function textOf(record: Infotext, field: Named | "size" | Hashes): string | undefined {
  if (field === "size") {
    return record.width === undefined || record.height === undefined
      ? undefined
      : `${record.width}x${record.height}`
  }
  if (field === "loraHashes" || field === "embeddingHashes") {
    const hashes = Object.entries(record[field] ?? {})
    return hashes.length === 0 ? undefined : hashes.map(([name, hash]) => `${name}: ${hash}`).join(", ")
  }
  const value = record[field]
  return value === undefined ? undefined : String(value)
}

function pair(key: string, value: string): string {
  return key === value ? key : `${key}: ${quoteValue(value)}`
}

/** The three parts of an infotext before its values are interpreted. */
export interface InfotextParts {
  prompt: string
  negativePrompt: string
  /** Keys in order of first appearance, the last value of each, unquoted; empty values are dropped, as A1111 does. */
  fields: Map<string, string>
}

/**
 * Splits an infotext as A1111's parse_generation_parameters: the last line holds the parameters if
 * at least three are found in it, every line is stripped. Linear in the length of the text.
 */
export function splitInfotext(text: string): InfotextParts {
  const lines = strip(text).split("\n")
  let pairs = scanPairs(lines.at(-1)!)
  if (pairs.length < 3) pairs = []
  else lines.pop()
  const prompt: string[] = []
  const negative: string[] = []
  let into = prompt
  for (let line of lines.map(strip)) {
    if (line.startsWith("Negative prompt:")) {
      into = negative
      line = strip(line.slice(16))
    }
    // A1111 adds a line break only behind text, so leading empty lines vanish
    if (into.length > 0 || line !== "") into.push(line)
  }
  const fields = new Map<string, string>()
  for (const [key, value] of pairs) if (value !== "") fields.set(key, unquoteValue(value))
  return { prompt: prompt.join("\n"), negativePrompt: negative.join("\n"), fields }
}

function stop(pattern: RegExp, text: string, at: number): number {
  pattern.lastIndex = at
  return pattern.test(text) ? pattern.lastIndex : -1
}

/**
 * All matches of A1111's `\s*(\w[\w \-/]+):\s*("(?:\\.|[^\\"])+"|[^,]*)(?:,|$)`, found without
 * backtracking: a key is a maximal run of its characters, so each run is looked at once.
 */
function scanPairs(line: string): [key: string, value: string][] {
  const pairs: [string, string][] = []
  let at = 0
  while (at < line.length) {
    const key = stop(spaces, line, at)
    const first = stop(wordStart, line, key)
    if (first < 0) {
      // whole code points: from the middle of one the next search would step back
      at = key + ((line.codePointAt(key) ?? 0) > 0xffff ? 2 : 1)
      continue
    }
    const end = stop(keyRest, line, first)
    if (end === first || line[end] !== ":") {
      at = Math.max(end, first)
      continue
    }
    const from = stop(spaces, line, end + 1)
    const comma = line.indexOf(",", from)
    const plain = comma < 0 ? line.length : comma
    const closed = line[from] === '"' ? stop(quoted, line, from) : -1
    const to = closed < 0 ? plain : closed
    pairs.push([line.slice(key, end), line.slice(from, to)])
    at = to + 1
  }
  return pairs
}

/**
 * Reads an infotext into a record. Values that do not have their key's form stay in `extra`, with
 * the keys it does not know, in their order. Never throws: text without parameters is all prompt.
 */
export function parseInfotext(text: string): Infotext {
  const { prompt, negativePrompt, fields } = splitInfotext(text)
  const record: Infotext = { prompt, negativePrompt, extra: [] }
  const known = new Map(order.map(([key, field, kind]) => [key, { field, kind }]))
  for (const [key, value] of fields) {
    const entry = known.get(key)
    if (!entry || entry.field === "*" || !take(record, entry.field, entry.kind, value))
      record.extra.push([key, value])
  }
  return record
}

/** Puts one value into its field; false when it has not the form. */
function take(record: Infotext, field: Named | "size" | Hashes, kind: Kind, value: string): boolean {
  if (field === "size") {
    const size = /^(\d+)x(\d+)$/.exec(value)
    if (!size) return false
    return Object.assign(record, { width: Number(size[1]), height: Number(size[2]) }) !== undefined
  }
  if (field === "loraHashes" || field === "embeddingHashes") {
    const hashes = hashesOf(value)
    if (hashes) record[field] = hashes
    return hashes !== undefined
  }
  const read = kind === "text" ? value : numberOf(value, kind)
  return read !== undefined && Object.assign(record, { [field]: read }) !== undefined
}

function numberOf(value: string, kind: Kind): number | undefined {
  if (!/^[+-]?(\d+\.?\d*|\.\d+)(e[+-]?\d+)?$/i.test(value)) return undefined
  const number = Number(value)
  return (kind === "integer" ? Number.isSafeInteger(number) : Number.isFinite(number)) ? number : undefined
}

function hashesOf(text: string): Record<string, string> | undefined {
  const pairs = text.split(", ").map((part) => /^(.+): ?([0-9a-f]+)$/i.exec(part))
  if (pairs.some((match) => match === null)) return undefined
  return Object.fromEntries(pairs.map((match) => [match![1]!, match![2]!]))
}
