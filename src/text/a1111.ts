import { fail } from "../errors.ts"
import type { Node, SwitchNode } from "./tree.ts"
import { printNodes } from "./tree.ts"

/*
 * AUTOMATIC1111's prompt syntax with its quirks (modules/prompt_parser.py of version 1.10). A prompt goes through
 * text stages in this order: comments, extra networks, AND, schedule, attention.
 */

// what Python calls white space
const space = "[\\t-\\r\\x1c-\\x20\\x85\\xa0\\u1680\\u2000-\\u200a\\u2028\\u2029\\u202f\\u205f\\u3000]"
const alone = (word: string) => `(?<![\\p{L}\\p{N}_])${word}(?![\\p{L}\\p{N}_])`

/** Removes `# ...` to the end of the line, as A1111 does before anything else. */
export function stripComments(text: string): string {
  return text.replace(/(^|\n)#[^\n]*(\n|$)/g, "\n").replace(/#[^\n]*(\n|$)/g, "\n")
}

const andPattern = new RegExp(alone("AND"), "u")
const endSpace = new RegExp(`${space}+$`)
const weightPattern = new RegExp(`^${space}*([-+]?(?:[0-9]+\\.?|[0-9]*\\.[0-9]+))$`)

/** Parts of a prompt between `AND`, each with the weight after its last colon, 1 without. */
export function splitAnd(text: string): { text: string; weight: number }[] {
  return text.split(andPattern).map((part) => {
    const trimmed = part.replace(endSpace, "")
    const colon = trimmed.lastIndexOf(":")
    const weight = colon < 0 ? null : weightPattern.exec(trimmed.slice(colon + 1))
    if (!weight) return { text: trimmed, weight: 1 }
    return { text: trimmed.slice(0, colon).replace(endSpace, ""), weight: Number(weight[1]) }
  })
}

/* Schedules: [before:after:when] and [a|b]. */

const number = "[+-]?(?:[0-9]+[eE][+-]?[0-9]+|(?:[0-9]+\\.[0-9]*|\\.[0-9]+)(?:[eE][+-]?[0-9]+)?|[0-9]+)"
const whenPattern = new RegExp(`^${space}*(${number})${space}*$`)
const scheduleToken = /\\[^\n]|[()[\]:|]|[^\\()[\]:|]+|[\s\S]/gu
const deepest = 500

/** An open bracket with what followed it: nodes, cut at colons and bars. */
interface Frame {
  open: string
  segments: Node[][]
  marks: string[]
}

/**
 * Tree of a prompt by A1111's schedule grammar. Brackets that do not fit the grammar are text. `undefined` where
 * the whole prompt does not parse (a bar outside of an alternation, a backslash at the end): A1111 then leaves
 * all of it as it stands.
 */
export function parseSchedule(text: string): Node[] | undefined {
  const top: Frame = { open: "", segments: [[]], marks: [] }
  const stack: Frame[] = [top]
  for (const [token] of text.matchAll(scheduleToken)) {
    const frame = stack.at(-1)!
    if (token === "\\") return undefined
    if (token === "(" || token === "[") {
      if (stack.length > deepest)
        fail("PROMPT-NESTING", `a prompt opens more than ${deepest} brackets at once`)
      stack.push({ open: token, segments: [[]], marks: [] })
    } else if (token === ")" || token === "]") {
      const node = frame.open === (token === ")" ? "(" : "[") ? close(frame) : undefined
      if (node) stack.pop()
      else if (!flatten(stack)) return undefined
      add(stack.at(-1)!, node ?? { kind: "text", text: token })
    } else if (token === "|" && frame === top) return undefined
    else if (frame !== top && (token === ":" || token === "|")) {
      frame.marks.push(token)
      frame.segments.push([])
    } else add(frame, { kind: "text", text: token })
  }
  return flatten(stack) ? top.segments[0] : undefined
}

function add(frame: Frame, node: Node): void {
  const nodes = frame.segments.at(-1)!
  const last = nodes.at(-1)
  if (node.kind === "text" && last?.kind === "text")
    nodes[nodes.length - 1] = { kind: "text", text: last.text + node.text }
  else nodes.push(node)
}

/** Turns every bracket still open into text of the top level; false where a bar is among it. */
function flatten(stack: Frame[]): boolean {
  const top = stack[0]!
  for (const frame of stack.splice(1)) {
    if (frame.marks.includes("|")) return false
    add(top, { kind: "text", text: frame.open })
    frame.segments.forEach((nodes, i) => {
      if (i > 0) add(top, { kind: "text", text: ":" })
      for (const node of nodes) add(top, node)
    })
  }
  return true
}

/** The node a bracket pair stands for, if the grammar has one. */
function close({ open, segments, marks }: Frame): Node | undefined {
  const [first, second] = segments
  if (open === "(") return closeRound(segments, marks)
  if (marks.length === 0)
    return { kind: "weight", factor: 1 / 1.1, children: first!, written: { open: "[", close: "]" } }
  if (marks.every((mark) => mark === "|")) return { kind: "turns", options: segments }
  const last = segments.at(-1)!
  const only = last.length === 1 ? last[0]! : undefined
  const when = only?.kind === "text" ? whenPattern.exec(only.text) : null
  if (!when || marks.includes("|") || marks.length > 2) return undefined
  const tail = { at: when[1]!, tail: when[0] }
  return marks.length === 1
    ? { kind: "switch", before: undefined, after: first!, ...tail }
    : { kind: "switch", before: first!, after: second!, ...tail }
}

function closeRound(segments: Node[][], marks: string[]): Node | undefined {
  if (marks.length > 1 || marks.includes("|")) return undefined
  const suffix = marks.length === 0 ? "" : `:${printNodes(segments[1]!)}`
  const weight = /^:\s*([+-]?[.0-9]+)\s*$/.exec(suffix)
  const children =
    suffix === "" || weight
      ? segments[0]!
      : [...segments[0]!, { kind: "text" as const, text: ":" }, ...segments[1]!]
  const factor = weight ? Number(weight[1]) : 1.1
  return { kind: "weight", factor, children, written: { open: "(", close: weight ? `${suffix})` : ")" } }
}

/** What a prompt says up to and including a step (or denoiser call). */
export interface ScheduleEntry {
  end: number
  text: string
}

/**
 * Texts of a prompt over its steps, with the last step of each: `a [b:3]` over 10 steps is `a ` until 3 and `a b`
 * until 10. Numbers with a point are fractions of the steps.
 *
 * @param hires steps of the first pass, when `steps` are those of the second: whole numbers then count on from
 *   the first pass, and fractions from 1.0.
 */
export function schedule(text: string, steps: number, hires?: number): ScheduleEntry[] {
  const tree = parseSchedule(text)
  if (!tree) return [{ end: steps, text }]
  const ends = new Set([steps])
  collectEnds(tree, steps, hires, ends)
  return [...ends]
    .sort((a, b) => a - b)
    .map((end) => ({ end, text: printNodes(atStep(tree, end, steps, hires)) }))
}

/** The entry in force at a denoiser call, counted from 0: the first whose end is not before it. */
export function entryAt<T extends { end: number }>(entries: readonly T[], call: number): T {
  return entries.find((entry) => call <= entry.end) ?? entries[0]!
}

function switchStep(node: SwitchNode, steps: number, hires: number | undefined): number {
  const value = Number(node.at)
  const at = node.at.includes(".") ? (value - (hires === undefined ? 0 : 1)) * steps : value - (hires ?? 0)
  return Math.min(steps, Math.trunc(at))
}

function collectEnds(
  nodes: readonly Node[],
  steps: number,
  hires: number | undefined,
  ends: Set<number>,
): void {
  for (const node of nodes) {
    if (node.kind === "weight") collectEnds(node.children, steps, hires, ends)
    if (node.kind === "turns") {
      for (let step = 1; step <= steps; step++) ends.add(step)
      for (const option of node.options) collectEnds(option, steps, hires, ends)
    }
    if (node.kind === "switch") {
      const step = switchStep(node, steps, hires)
      if (step >= 1) ends.add(step)
      collectEnds([...(node.before ?? []), ...node.after], steps, hires, ends)
    }
  }
}

function atStep(nodes: readonly Node[], step: number, steps: number, hires: number | undefined): Node[] {
  return nodes.flatMap((node): Node[] => {
    if (node.kind === "weight") return [{ ...node, children: atStep(node.children, step, steps, hires) }]
    if (node.kind === "turns")
      return atStep(node.options[(step - 1) % node.options.length]!, step, steps, hires)
    if (node.kind !== "switch") return [node]
    return atStep(
      step <= switchStep(node, steps, hires) ? (node.before ?? []) : node.after,
      step,
      steps,
      hires,
    )
  })
}

/* Attention: (x), (x:1.3), [x], backslash escapes, BREAK. */

/** A run of text with one weight. A break ends the chunk before it. */
export interface Span {
  text: string
  weight: number
}

const attentionToken = new RegExp(
  `\\\\[()[\\]\\\\]?|[([]|:${space}*([+-]?[.0-9]+)${space}*\\)|[)\\]]|[^\\\\()[\\]:]+|:`,
  "g",
)
const breakPattern = new RegExp(`${space}*${alone("BREAK")}${space}*`, "u")

/** True for the span that stands for BREAK. */
export const isBreak = (span: Span): boolean => span.text === "BREAK" && span.weight === -1

/**
 * Text of one schedule entry as runs of equal weight. Unclosed brackets reach to the end; `BREAK` is a span of
 * its own, unless emphasis around it changes its weight and makes it a word.
 */
export function attention(text: string): Span[] {
  const runs: Span[] = []
  const round: number[] = []
  const square: number[] = []
  const scale = (from: number, factor: number) => {
    for (let i = from; i < runs.length; i++) runs[i]!.weight *= factor
  }
  for (const match of text.matchAll(attentionToken)) {
    const token = match[0]
    if (token.startsWith("\\")) runs.push({ text: token.slice(1), weight: 1 })
    else if (token === "(") round.push(runs.length)
    else if (token === "[") square.push(runs.length)
    else if (match[1] !== undefined && round.length > 0) scale(round.pop()!, readWeight(match[1]))
    else if (token === ")" && round.length > 0) scale(round.pop()!, 1.1)
    else if (token === "]" && square.length > 0) scale(square.pop()!, 1 / 1.1)
    else
      token.split(breakPattern).forEach((part, i) => {
        if (i > 0) runs.push({ text: "BREAK", weight: -1 })
        runs.push({ text: part, weight: 1 })
      })
  }
  for (const from of round) scale(from, 1.1)
  for (const from of square) scale(from, 1 / 1.1)
  return joinEqual(runs)
}

function readWeight(written: string): number {
  const weight = Number(written)
  if (!Number.isNaN(weight)) return weight
  return fail("PROMPT-WEIGHT", `the prompt weighs a word ":${written}", which is not a number`, {
    hint: "write (word:1.2), or put a backslash before brackets that are meant as text",
  })
}

function joinEqual(runs: Span[]): Span[] {
  const joined: Span[] = []
  for (const run of runs) {
    const last = joined.at(-1)
    if (last && last.weight === run.weight) last.text += run.text
    else joined.push(run)
  }
  return joined.length > 0 ? joined : [{ text: "", weight: 1 }]
}
