import { readFileSync } from "node:fs"
import { join } from "node:path"
import { afterAll, expect, test } from "vitest"
import { encodeTexts } from "../src/pipeline/conditioning.ts"
import { withEmbeddings } from "../src/pipeline/embeddings.ts"
import { readIfThere } from "../src/pipeline/files.ts"
import { Networks } from "../src/pipeline/networks.ts"
import { planPrompts } from "../src/pipeline/prompt.ts"
import { openModel } from "../src/pipeline/stable-diffusion.ts"
import { openTokenizers } from "../src/pipeline/tokenizers.ts"
import { nodeEngine } from "../src/runtime/node.ts"
import { entryAt } from "../src/text/a1111.ts"
import type { EmphasisMode } from "../src/text/prompt.ts"

/** Conditionings by A1111's own parser, chunks and emphasis, made by tools/reference/a1111_golden.py. */
const path = process.env.A1111_GOLDEN ?? join(import.meta.dirname, "golden/text/a1111-conditioning.json")
const { rows } = JSON.parse(readFileSync(path, "utf8")) as { rows: Case[] }

interface Case {
  model: string
  prompt: string
  steps?: number
  hires?: number
  emphasis?: string
  clipSkip?: number
  words?: Record<string, number>
  /** Denoiser calls, and per part of the prompt its weight and sums over its conditioning. */
  calls: [number[], number[][]][]
}

const engine = nodeEngine()
afterAll(() => engine.close())

type Opened = { networks: Networks; tokenizers: Awaited<ReturnType<typeof openTokenizers>> }
const opened = new Map<string, Promise<Opened>>()

async function open(name: string): Promise<Opened> {
  const files = await openModel(join(import.meta.dirname, "golden/models", name))
  const tokenizers = await openTokenizers(files, (folder, file) => readIfThere(join(folder, file)))
  return { networks: new Networks(files, engine, "cpu"), tokenizers }
}

/** The script's vectors: a formula of the word's length and the place. */
function vectors(word: string, count: number): Float32Array {
  return Float32Array.from({ length: count * 32 }, (_, i) => Math.sin(i * 0.37 + word.length))
}

async function drawn({ model, prompt, steps = 1, hires, emphasis, clipSkip, words }: Case, calls: number[]) {
  if (!opened.has(model)) opened.set(model, open(model))
  const { networks, tokenizers: plain } = await opened.get(model)!
  const found = Object.entries(words ?? {}).map(([word, count]) => ({
    words: [word],
    count,
    vectors: [vectors(word, count)],
  }))
  const { tokenizers, tables } = words
    ? withEmbeddings(plain, found)
    : { tokenizers: plain, tables: undefined }
  const mode = emphasis?.toLowerCase().replace(" ", "-") as EmphasisMode | undefined
  const pass = hires === undefined ? { calls: steps } : { calls: hires, firstPass: steps }
  const plan = planPrompts(prompt, "", {
    syntax: "a1111",
    tokenizers,
    words: tables,
    emphasis: mode,
    ...pass,
  })
  const parts = await Promise.all(
    plan.positive.map(async ({ weight, schedule }) => {
      const made = await encodeTexts(
        networks,
        schedule.map(({ text }) => text),
        clipSkip,
      )
      return { weight, entries: schedule.map(({ end }, i) => ({ end, made: made[i]! })) }
    }),
  )
  return calls.map((call) =>
    parts.map(({ weight, entries }) => {
      const { context, pooled } = entryAt(entries, call).made
      return [
        weight,
        ...[context, pooled].flatMap((value) =>
          value ? sums(value.data as Float32Array, value === context ? context.shape[1]! : 1) : [],
        ),
      ]
    }),
  )
}

const known = new WeakMap<Float32Array, number[]>()

/** Length, root mean square, and twelve sums with cosines of different speed. */
function sums(v: Float32Array, length: number): number[] {
  const made = known.get(v) ?? summed(v, length)
  known.set(v, made)
  return made
}

function summed(v: Float32Array, length: number): number[] {
  const root = Math.sqrt(v.length)
  const parts = Array.from(
    { length: 12 },
    (_, k) => v.reduce((s, x, i) => s + x * Math.cos(0.1 * (k + 1) * i + k), 0) / root,
  )
  return [length, Math.sqrt(v.reduce((s, x) => s + x * x, 0)) / root, ...parts]
}

/** Sums as far from those wanted as 2e-4 of the embedding's size allows. */
function near(got: number[], want: number[]): boolean {
  const size = [...want.slice(2, 3), ...want.slice(16, 17)]
  return (
    got.length === want.length &&
    got.every(
      (x, i) =>
        Math.abs(x - want[i]!) <= (i === 0 || i === 1 || i === 15 ? 1e-6 : 2e-4 * size[i < 15 ? 0 : 1]!),
    )
  )
}

test("awkward prompts are conditioned as A1111 does it", { timeout: 120_000 }, async () => {
  const wrong: unknown[] = []
  for (const row of rows) {
    const all = row.calls.flatMap(([calls, want]) => calls.map((call) => ({ call, want })))
    const made = await drawn(
      row,
      all.map(({ call }) => call),
    )
    for (const [i, { call, want }] of all.entries())
      if (made[i]!.length !== want.length || !made[i]!.every((part, k) => near(part, want[k]!)))
        wrong.push([row.model, row.prompt, row.emphasis, call, made[i], want])
  }
  expect(wrong).toEqual([])
  expect(rows.length).toBeGreaterThan(90)
})
