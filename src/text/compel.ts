import { fail } from "../errors.ts"
import type { Network, Node, Prompt } from "./tree.ts"
import { spans } from "./tree.ts"

/*
 * Compel's prompt syntax (InvokeAI): word+ word-- (a b)1.2 "a b"+ (x).attend(1.2), (x).swap(y), withLora(name, 0.8),
 * ("a", "b").blend(1, 2) and ("a", "b").and(1, 2). Words are weighed 1.1 per plus and 0.9 per minus.
 */

/** A rule's result: what it read, and where it stopped. */
type Read<T> = { value: T; next: number } | undefined
type Rule = (at: number) => Read<Node[]>

const up = 1.1
const down = 0.9
const numberAt = /[+-]?(?:\d+\.\d*|\.\d+)|-?\d+/y
const signsAt = /\++|-+/y
// characters without meaning, escaped ones, and a sign that is no operator because a word goes on behind it
const wordAt = /(?:\\[()",.+\-=]|[+-](?![\s()",.+\-=]|$)|-?\d+|[^\s()",.+\-=])+/y
const loraPattern =
  /(?<![^\s("+)\-\d])(?:use|with)Lora\s*\(\s*([\w-]+)\s*(?:,\s*([+-]?(?:\d+\.?\d*|\.\d+))\s*)?\)/g
const freeAt = /\S+/y

/** Prompt in Compel's dialect. `.and()` gives several parts, set side by side; all else gives one. */
export function parseCompel(text: string): Prompt {
  const networks: Network[] = []
  const rest = text.replace(loraPattern, (_, name: string, weight = "1") => {
    networks.push({ kind: "lora", args: [name, weight], named: {} })
    return " "
  })
  const reader = new Reader(rest.replace(/,(\S)/g, ", $1"))
  const joined = reader.joined()
  if (!joined || joined.operator === ".blend")
    return { parts: [{ weight: 1, nodes: reader.whole() }], join: "concat", networks }
  const { prompts, weights } = joined
  if (weights.length > 0 && weights.length !== prompts.length)
    fail("PROMPT-COMPEL", `.and() joins ${prompts.length} prompts with ${weights.length} weights`)
  const parts = prompts.map((nodes, i) => ({ weight: weights[i] ?? 1, nodes }))
  return { parts, join: "concat", networks }
}

/** Texts of a Compel tree with their weights; neighbours of one weight are joined by a space, as Compel does. */
export function compelSpans(nodes: readonly Node[]): { text: string; weight: number }[] {
  const joined: { text: string; weight: number }[] = []
  for (const span of spans(nodes)) {
    const last = joined.at(-1)
    if (last?.weight === span.weight) last.text += ` ${span.text}`
    else joined.push({ ...span })
  }
  return joined
}

interface Joined {
  prompts: Node[][]
  operator: string
  weights: number[]
  normalize: boolean
}

/** Recursive descent with a memory of what each rule read where, so that nesting costs no more than length. */
class Reader {
  private readonly text: string
  private readonly memory = new Map<string, Read<Node[]>>()
  private depth = 0

  constructor(text: string) {
    this.text = text
  }

  /** A prompt that is no `.and()`: a blend, or anything. */
  whole(): Node[] {
    const blend = this.blendAt()
    if (blend && this.skip(blend.next) === this.text.length) return blend.value
    return this.many(0, this.anything).value
  }

  joined(at = 0): (Joined & { next: number }) | undefined {
    const open = this.sign(at, "(")
    if (open === undefined) return undefined
    const prompts: Node[][] = []
    let next = open
    for (;;) {
      const target = this.first(next, [this.quoted, this.round, this.word, this.quotedPrompt])
      if (!target) return undefined
      prompts.push(target.value)
      const comma = this.sign(target.next, ",")
      if (comma === undefined) {
        next = target.next
        break
      }
      next = comma
    }
    const closed = this.sign(next, ")")
    const operator = closed === undefined ? undefined : this.match(this.skip(closed), /\.(?:and|add|blend)/y)
    if (!operator) return undefined
    const list = this.optionList(operator.next)
    return list && { prompts, operator: operator.value, ...list }
  }

  private optionList(at: number): { weights: number[]; normalize: boolean; next: number } | undefined {
    const match = this.match(this.skip(at), /\(([^()]*)\)/y)
    if (!match) return undefined
    const entries = match.value
      .slice(1, -1)
      .split(",")
      .map((entry) => entry.trim())
      .filter((entry) => entry !== "")
    const weights = entries.filter((entry) => entry !== "no_normalize").map(Number)
    return weights.some(Number.isNaN)
      ? undefined
      : { weights, normalize: weights.length === entries.length, next: match.next }
  }

  private blendAt(): Read<Node[]> {
    const joined = this.joined()
    if (joined?.operator !== ".blend") return undefined
    const { prompts, next, normalize } = joined
    const weights = joined.weights.length === 0 ? prompts.map(() => 1) : joined.weights
    if (weights.length !== prompts.length)
      fail("PROMPT-COMPEL", `.blend() mixes ${prompts.length} prompts with ${weights.length} weights`)
    if (prompts.flat().some((node) => node.kind === "swap"))
      fail("PROMPT-COMPEL", ".blend() cannot mix a prompt that holds .swap()")
    return { value: [{ kind: "blend", prompts, weights, normalize }], next }
  }

  /* What a prompt is made of. Every rule skips white space before it. */

  private readonly attention = (at: number): Read<Node[]> => {
    const target = this.first(at, [this.quoted, this.round, this.word])
    const attend =
      target && this.match(this.skip(target.next), /\.attend\s*\(\s*(\++|-+|[+-]?(?:\d+\.?\d*|\.\d+))\s*\)/y)
    if (attend) return { value: [weigh(target.value, attend.groups[0]!)], next: attend.next }
    const group = this.first(at, [this.quoted, this.round])
    const operator = group && (this.match(group.next, signsAt) ?? this.match(group.next, numberAt))
    if (operator) return { value: [weigh(group.value, operator.value)], next: operator.next }
    const word = this.word(at)
    const signs = word && this.match(word.next, signsAt)
    return signs && { value: [weigh(word.value, signs.value)], next: signs.next }
  }

  private readonly swap = (at: number): Read<Node[]> => {
    const target = this.first(at, [this.quoted, this.round, this.word])
    const open = target && this.match(this.skip(target.next), /\.swap\s*\(/y)
    if (!open) return undefined
    const edited = this.many(open.next, this.parts)
    const end = this.match(this.skip(edited.next), /(?:,([^()]*))?\)/y)
    if (!end) return undefined
    const options = Object.fromEntries(
      (end.groups[0] ?? "")
        .split(",")
        .filter((o) => o.includes("="))
        .map((o) => o.split("=").map((s) => s.trim())),
    )
    return {
      value: [
        {
          kind: "swap",
          original: target.value,
          edited: edited.value.length > 0 ? edited.value : [word("")],
          options,
        },
      ],
      next: end.next,
    }
  }

  private readonly round = (at: number): Read<Node[]> => {
    const open = this.sign(at, "(")
    if (open === undefined) return undefined
    const inner = this.many(open, [...this.parts, this.mark])
    const close = this.sign(inner.next, ")")
    return close === undefined ? undefined : { value: inner.value, next: close }
  }

  private readonly quoted = (at: number): Read<Node[]> => this.inQuotes(at, (r) => [...r.parts, r.mark])

  private readonly quotedPrompt = (at: number): Read<Node[]> => this.inQuotes(at, (r) => r.anything)

  private inQuotes(at: number, rules: (reader: Reader) => Rule[]): Read<Node[]> {
    const match = this.match(this.skip(at), /"((?:\\"|[^"\n])*)"/y)
    if (!match) return undefined
    const inside = match.groups[0]!
    if (inside.trim() === "") return { value: [word("")], next: match.next }
    const reader = new Reader(inside)
    const read = reader.many(0, rules(reader))
    return reader.skip(read.next) === inside.length ? { value: read.value, next: match.next } : undefined
  }

  private readonly word = (at: number): Read<Node[]> => this.textOf(this.match(this.skip(at), wordAt))

  private readonly free = (at: number): Read<Node[]> => this.textOf(this.match(this.skip(at), freeAt))

  private readonly mark = (at: number): Read<Node[]> => this.textOf(this.match(this.skip(at), /[,.]/y))

  private readonly parts: Rule[] = [this.attention, this.swap, this.round, this.quoted, this.word]

  private readonly anything: Rule[] = [this.swap, this.attention, this.quoted, this.round, this.free]

  private textOf(match: Read<string>): Read<Node[]> {
    return match && { value: [word(match.value)], next: match.next }
  }

  /* Machinery. */

  private many(at: number, rules: readonly Rule[]): { value: Node[]; next: number } {
    const value: Node[] = []
    for (let read = this.first(at, rules); read; read = this.first(at, rules)) {
      value.push(...read.value)
      at = read.next
    }
    return { value, next: at }
  }

  private first(at: number, rules: readonly Rule[]): Read<Node[]> {
    for (const rule of rules) {
      const read = this.remember(rule, at)
      if (read) return read
    }
    return undefined
  }

  private remember(rule: Rule, at: number): Read<Node[]> {
    const key = `${this.ruleName(rule)} ${at}`
    if (this.memory.has(key)) return this.memory.get(key)
    if (++this.depth > 1000) fail("PROMPT-NESTING", "a prompt nests its brackets too deeply")
    const read = rule(at)
    this.depth--
    this.memory.set(key, read)
    return read
  }

  private readonly names = new Map<Rule, number>()

  private ruleName(rule: Rule): number {
    const name = this.names.get(rule) ?? this.names.size
    this.names.set(rule, name)
    return name
  }

  private skip(at: number): number {
    while (at < this.text.length && " \n\t\r".includes(this.text[at]!)) at++
    return at
  }

  private sign(at: number, sign: string): number | undefined {
    const start = this.skip(at)
    return this.text[start] === sign ? start + 1 : undefined
  }

  private match(
    at: number,
    pattern: RegExp,
  ): { value: string; groups: (string | undefined)[]; next: number } | undefined {
    pattern.lastIndex = at
    const match = pattern.exec(this.text)
    return match && match[0] !== ""
      ? { value: match[0], groups: match.slice(1), next: at + match[0].length }
      : undefined
  }
}

const word = (text: string): Node => ({ kind: "text", text: text.replace(/\\([()"])/g, "$1") })

function weigh(items: readonly Node[], operator: string): Node {
  const signs = /^(?:\++|-+)$/.test(operator)
  const factor = signs ? (operator[0] === "+" ? up : down) ** operator.length : Number(operator)
  return { kind: "weight", factor, children: [...items] }
}
