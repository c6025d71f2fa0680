import { pictureQuestions, thingAt } from "./classifier.ts"
import { COLOURS, POSITIONS, type SceneSpec, SUBJECTS } from "./corpus/index.ts"
import { eigen } from "./whiten.ts"

/** What is asked of a picture made from a prompt. */
export const attributes = [
  "style",
  "place",
  "time",
  "weather",
  "size",
  "subject",
  "colour",
  "count",
  "position",
  "second",
  "second colour",
] as const
export type Attribute = (typeof attributes)[number]

/** Answers of the classifier for one picture, in the order of `pictureQuestions`. */
export type Answers = readonly number[]

/** What stands where, as the classifier sees it. */
function seen(answers: Answers): { kind: number; colour: number }[] {
  const of = (name: string) => answers[pictureQuestions.findIndex((q) => q.name === name)]!
  return POSITIONS.map((p) => ({ kind: of(`kind ${p}`) - 1, colour: of(`colour ${p}`) - 1 }))
}

/**
 * Whether a picture shows what its prompt asked for, fact by fact. The colour and the position of a subject that is
 * not there are wrong; facts that the prompt does not hold (a second thing) are left out.
 */
export function scoreScene(spec: SceneSpec, answers: Answers): Partial<Record<Attribute, boolean>> {
  const whole = Object.fromEntries(
    pictureQuestions.slice(0, 5).map((q, i) => [q.name, answers[i] === q.answer(spec)]),
  ) as Record<"style" | "place" | "time" | "weather" | "size", boolean>
  const there = seen(answers)
  const wanted = POSITIONS.map((p) => thingAt(spec, p))
  const subject = SUBJECTS.indexOf(spec.subject.kind)
  const own = there.filter((t) => t.kind === subject)
  const places = (kind: number) => there.flatMap((t, i) => (t.kind === kind ? [i] : [])).join()
  const asked = wanted.flatMap((t, i) => (t?.kind === spec.subject.kind ? [i] : [])).join()
  const facts = {
    ...whole,
    subject: own.length > 0,
    colour: own.length > 0 && own.every((t) => t.colour === COLOURS.indexOf(spec.subject.colour)),
    count: own.length === spec.count,
    position: places(subject) === asked,
  }
  if (!spec.second) return facts
  const other = there.filter((t) => t.kind === SUBJECTS.indexOf(spec.second!.kind))
  return {
    ...facts,
    second: other.length > 0,
    "second colour": other.some((t) => t.colour === COLOURS.indexOf(spec.second!.colour)),
  }
}

/** A share with its 95 % interval. */
export interface Share {
  readonly right: number
  readonly of: number
  readonly share: number
  readonly low: number
  readonly high: number
}

/** Wilson's interval of a share at 95 % (Wilson 1927). */
export function shareOf(right: number, of: number): Share {
  if (of === 0) return { right, of, share: Number.NaN, low: 0, high: 1 }
  const z = 1.959964
  const p = right / of
  const middle = (p + z ** 2 / (2 * of)) / (1 + z ** 2 / of)
  const reach = (z / (1 + z ** 2 / of)) * Math.sqrt((p * (1 - p)) / of + z ** 2 / (4 * of ** 2))
  return { right, of, share: p, low: Math.max(0, middle - reach), high: Math.min(1, middle + reach) }
}

/** Shares of right facts over many pictures. */
export function tally(
  scores: readonly Partial<Record<Attribute, boolean>>[],
): Partial<Record<Attribute, Share>> {
  return Object.fromEntries(
    attributes.flatMap((name) => {
      const asked = scores.filter((s) => s[name] !== undefined)
      return asked.length === 0 ? [] : [[name, shareOf(asked.filter((s) => s[name]).length, asked.length)]]
    }),
  )
}

/** Mean with the 95 % interval of the normal approximation. */
export function meanOf(values: readonly number[]): { mean: number; low: number; high: number } {
  const n = values.length
  const mean = values.reduce((a, b) => a + b, 0) / n
  const variance = values.reduce((s, v) => s + (v - mean) ** 2, 0) / Math.max(1, n - 1)
  const reach = 1.959964 * Math.sqrt(variance / n)
  return { mean, low: mean - reach, high: mean + reach }
}

type Matrix = number[][]

/** Mean and covariance of rows of features. */
function moments(rows: readonly ArrayLike<number>[]): { mean: number[]; covariance: Matrix } {
  const size = rows[0]!.length
  const mean = Array.from({ length: size }, (_, i) => rows.reduce((s, r) => s + r[i]!, 0) / rows.length)
  const covariance = mean.map(() => new Array<number>(size).fill(0))
  for (const row of rows)
    for (let i = 0; i < size; i++) {
      const d = row[i]! - mean[i]!
      for (let j = 0; j <= i; j++) covariance[i]![j]! += (d * (row[j]! - mean[j]!)) / (rows.length - 1)
    }
  for (let i = 0; i < size; i++) for (let j = i + 1; j < size; j++) covariance[i]![j] = covariance[j]![i]!
  return { mean, covariance }
}

/** V f(values) V^T of a symmetric matrix. */
function mapValues(symmetric: Matrix, f: (v: number) => number): Matrix {
  const { values, vectors } = eigen(symmetric)
  const scaled = values.map(f)
  return symmetric.map((_, i) =>
    symmetric.map((_, j) => vectors.reduce((s, v, k) => s + v[i]! * scaled[k]! * v[j]!, 0)),
  )
}

const product = (a: Matrix, b: Matrix): Matrix =>
  a.map((row) => b[0]!.map((_, j) => row.reduce((s, v, k) => s + v * b[k]![j]!, 0)))

/**
 * Fréchet distance of two sets of feature rows taken as normal distributions (Heusel et al. 2017, eq. 6):
 * |m1 - m2|^2 + tr(C1 + C2 - 2 (C1^1/2 C2 C1^1/2)^1/2).
 */
export function frechet(a: readonly ArrayLike<number>[], b: readonly ArrayLike<number>[]): number {
  const [one, two] = [moments(a), moments(b)]
  const root = mapValues(one.covariance, (v) => Math.sqrt(Math.max(0, v)))
  const { values } = eigen(product(product(root, two.covariance), root))
  const trace = (m: Matrix) => m.reduce((s, row, i) => s + row[i]!, 0)
  const means = one.mean.reduce((s, m, i) => s + (m - two.mean[i]!) ** 2, 0)
  const shared = values.reduce((s, v) => s + Math.sqrt(Math.max(0, v)), 0)
  return Math.max(0, means + trace(one.covariance) + trace(two.covariance) - 2 * shared)
}

/** Mean distance of all pairs of feature rows: how different pictures of one prompt are. */
export function spread(rows: readonly ArrayLike<number>[]): number {
  let sum = 0
  let pairs = 0
  for (const [i, a] of rows.entries())
    for (const b of rows.slice(0, i)) {
      sum += Math.sqrt(Array.from(a, (v, k) => (v - b[k]!) ** 2).reduce((s, v) => s + v, 0))
      pairs++
    }
  return pairs === 0 ? 0 : sum / pairs
}
