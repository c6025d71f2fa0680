import { fail } from "../errors.ts"

/** A token matched in the text before byte-pair encoding, with the switches Hugging Face gives it. */
export interface AddedToken {
  content: string
  /** Matched in the cleaned text rather than in the raw one. */
  normalized: boolean
  /** Swallows white space on its left, on its right. */
  lstrip: boolean
  rstrip: boolean
  /** Matched only where no letter or digit touches it. */
  singleWord: boolean
}

/** What a tokenizer folder says beside its vocabulary. */
export interface SpecialTokens {
  bos: string
  eos: string
  unk: string
  pad: string
  /** In the order they are added; of two with one content the later wins. */
  added: AddedToken[]
  /** Tokens of one chunk, begin and end included. */
  maxLength: number
}

const order = ["bos_token", "eos_token", "unk_token", "sep_token", "pad_token", "cls_token", "mask_token"]
const end = "<|endoftext|>"
const defaults = { bos_token: "<|startoftext|>", eos_token: end, unk_token: end, pad_token: end }
const longest = 100_000

type Json = Record<string, unknown>
type Named = string | AddedToken

/**
 * Special tokens of a CLIP tokenizer folder, read with the precedence of transformers' `from_pretrained`:
 * `added_tokens_decoder` of the configuration, else special_tokens_map.json over the configuration, then
 * added_tokens.json and the `added_tokens` of tokenizer.json.
 */
export function readSpecialTokens(config: Json, map: Json, addedFile: Json, tokenizer: Json): SpecialTokens {
  const named = new Map<string, Named>(Object.entries(defaults))
  const take = (source: Json, special: boolean) => {
    for (const [key, value] of Object.entries(source))
      if (key.endsWith("_token")) {
        const token = readNamed(value, special)
        if (token) named.set(key, token)
      }
  }
  take(config, false)
  const decoder = isObject(config.added_tokens_decoder) ? config.added_tokens_decoder : undefined
  if (!decoder) take(map, true)
  const listed = decoder ? byId(decoder) : legacyTokens(addedFile, tokenizer, named)
  const content = (key: keyof typeof defaults) => text(named.get(key)!)
  return {
    bos: content("bos_token"),
    eos: content("eos_token"),
    unk: content("unk_token"),
    pad: content("pad_token"),
    added: inOrder(named, listed, [...extras(config), ...(decoder ? [] : extras(map))]),
    maxLength: readMaxLength(config.model_max_length ?? config.max_len),
  }
}

const isObject = (value: unknown): value is Json =>
  typeof value === "object" && value !== null && !Array.isArray(value)

const text = (token: Named) => (typeof token === "string" ? token : token.content)

function readNamed(value: unknown, special: boolean): Named | undefined {
  if (typeof value === "string" && value !== "") return value
  return isObject(value) ? readAdded(value, special) : undefined
}

function readAdded(value: Json, special = value.special === true): AddedToken | undefined {
  if (typeof value.content !== "string" || value.content === "") return undefined
  return {
    content: value.content,
    normalized: typeof value.normalized === "boolean" ? value.normalized : !special,
    lstrip: value.lstrip === true,
    rstrip: value.rstrip === true,
    singleWord: value.single_word === true,
  }
}

function byId(decoder: Json): AddedToken[] {
  return Object.keys(decoder)
    .sort((a, b) => Number(a) - Number(b))
    .flatMap((id) => (isObject(decoder[id]) ? (readAdded(decoder[id]) ?? []) : []))
}

function legacyTokens(addedFile: Json, tokenizer: Json, named: Map<string, Named>): AddedToken[] {
  const special = new Set([...named.values()].map(text))
  const tokens = new Map<number, AddedToken>()
  for (const [content, id] of Object.entries(addedFile))
    tokens.set(Number(id), { ...literal(content), normalized: !special.has(content) })
  const rows = Array.isArray(tokenizer.added_tokens) ? tokenizer.added_tokens.filter(isObject) : []
  for (const row of rows) {
    const token = readAdded(row)
    if (token) tokens.set(Number(row.id), token)
  }
  return [...tokens.entries()].sort(([a], [b]) => a - b).map(([, token]) => token)
}

function extras(source: Json): Named[] {
  const list = source.extra_special_tokens ?? source.additional_special_tokens
  return Array.isArray(list) ? list.flatMap((value) => readNamed(value, true) ?? []) : []
}

const literal = (content: string): AddedToken => ({
  content,
  normalized: false,
  lstrip: false,
  rstrip: false,
  singleWord: false,
})

function inOrder(named: Map<string, Named>, listed: AddedToken[], more: Named[]): AddedToken[] {
  const known = new Set(listed.map((token) => token.content))
  const result: Named[] = [...listed]
  const keys = [...order, ...[...named.keys()].filter((key) => !order.includes(key))]
  const wanted = keys.flatMap((key) => named.get(key) ?? []).map((token) => listedForm(token, listed))
  for (const token of [...wanted, ...more])
    if (!known.has(text(token)) && !result.some((other) => same(other, token))) result.push(token)
  return result.map((token) => (typeof token === "string" ? literal(token) : token))
}

const listedForm = (token: Named, listed: AddedToken[]): Named =>
  listed.find((other) => other.content === text(token)) ?? token

// a bare string and a described token are two entries, so that the later one can win
const same = (a: Named, b: Named) => typeof a === typeof b && JSON.stringify(a) === JSON.stringify(b)

function readMaxLength(value: unknown): number {
  if (typeof value !== "number" || value > longest) return 77
  if (Number.isInteger(value) && value >= 3) return value
  return fail("TOKENIZER-CONFIG", `tokenizer_config.json has model_max_length ${value}`, {
    hint: "a chunk needs room for its begin, its end and one token",
  })
}
