/** What strict JSON gives: objects are Maps (`__proto__` is a key like any other), 1.0 and 1e3 are no integers. */
export type Json = null | boolean | number | Fraction | string | Json[] | Map<string, Json>

/** A JSON number written with a fraction or an exponent. */
export class Fraction {
  readonly value: number
  constructor(value: number) {
    this.value = value
  }
}

/** Why and where (character index) the text is no strict JSON. */
export class JsonError extends Error {
  readonly at: number
  readonly duplicate: string | undefined
  constructor(message: string, at: number, duplicate?: string) {
    super(message)
    this.at = at
    this.duplicate = duplicate
  }
}

const NUMBER = /-?(?:0|[1-9]\d*)(\.\d+)?([eE][+-]?\d+)?/y
const LONE_SURROGATE = /\p{Surrogate}/u

/**
 * Strict JSON (RFC 8259) that refuses what JSON.parse lets pass: a key given twice, a lone surrogate,
 * nesting deeper than `maxDepth`. White space may follow the value, nothing else. Throws JsonError.
 */
export function scanJson(text: string, maxDepth = 16): Json {
  const scanner = new Scanner(text, maxDepth)
  const value = scanner.value(0)
  scanner.space()
  if (scanner.at < text.length) throw new JsonError("text after the end", scanner.at)
  return value
}

class Scanner {
  at = 0
  readonly text: string
  readonly maxDepth: number
  constructor(text: string, maxDepth: number) {
    this.text = text
    this.maxDepth = maxDepth
  }

  space(): void {
    for (;;) {
      const c = this.text.charCodeAt(this.at)
      if (c !== 0x20 && c !== 0x0a && c !== 0x0d && c !== 0x09) return
      this.at++
    }
  }

  value(depth: number): Json {
    if (depth > this.maxDepth) throw new JsonError(`nested deeper than ${this.maxDepth}`, this.at)
    this.space()
    const c = this.text[this.at]
    if (c === "{") return this.object(depth)
    if (c === "[") return this.array(depth)
    if (c === '"') return this.string()
    if (c === "t") return this.word("true", true)
    if (c === "f") return this.word("false", false)
    if (c === "n") return this.word("null", null)
    return this.number()
  }

  private word<T extends Json>(word: string, value: T): T {
    if (!this.text.startsWith(word, this.at)) this.wrong("a value")
    this.at += word.length
    return value
  }

  private number(): number | Fraction {
    NUMBER.lastIndex = this.at
    const hit = NUMBER.exec(this.text)
    if (!hit) this.wrong("a value")
    this.at = NUMBER.lastIndex
    const value = Number(hit[0])
    return hit[1] === undefined && hit[2] === undefined ? value : new Fraction(value)
  }

  private string(): string {
    const start = this.at++
    let escaped = false
    for (;;) {
      const c = this.text.charCodeAt(this.at)
      if (c === 0x22) break
      if (c === 0x5c) {
        escaped = true
        this.escape()
      } else if (c >= 0x20) this.at++
      else this.wrong("the end of a string") // a control character, or NaN at the end
    }
    this.at++
    if (!escaped) return this.text.slice(start + 1, this.at - 1)
    const value = JSON.parse(this.text.slice(start, this.at)) as string
    if (LONE_SURROGATE.test(value)) throw new JsonError("half a surrogate pair in a string", start)
    return value
  }

  private escape(): void {
    const kind = this.text[this.at + 1]
    const hex = kind === "u" && /^[0-9a-fA-F]{4}$/.test(this.text.slice(this.at + 2, this.at + 6))
    if (!hex && (kind === undefined || !'"\\/bfnrt'.includes(kind))) this.wrong("an escape")
    this.at += hex ? 6 : 2
  }

  private array(depth: number): Json[] {
    const out: Json[] = []
    this.at++
    this.space()
    if (this.take("]")) return out
    for (;;) {
      out.push(this.value(depth + 1))
      this.space()
      if (this.take("]")) return out
      if (!this.take(",")) this.wrong('"," or "]"')
    }
  }

  private object(depth: number): Map<string, Json> {
    const out = new Map<string, Json>()
    this.at++
    this.space()
    if (this.take("}")) return out
    for (;;) {
      this.space()
      const start = this.at
      if (this.text[start] !== '"') this.wrong("a key in quotes")
      const key = this.string()
      if (out.has(key)) throw new JsonError("a key is given twice", start, key)
      this.space()
      if (!this.take(":")) this.wrong('":"')
      out.set(key, this.value(depth + 1))
      this.space()
      if (this.take("}")) return out
      if (!this.take(",")) this.wrong('"," or "}"')
    }
  }

  private take(c: string): boolean {
    if (this.text[this.at] !== c) return false
    this.at++
    return true
  }

  private wrong(expected: string): never {
    const found = this.at < this.text.length ? JSON.stringify(this.text[this.at]) : "the end"
    throw new JsonError(`expected ${expected}, found ${found}`, this.at)
  }
}
