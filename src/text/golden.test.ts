import { readFileSync } from "node:fs"
import { expect, test } from "vitest"
import { attention, schedule, splitAnd } from "./a1111.ts"
import { ClipTokenizer } from "./bpe.ts"
import { bundledVocabulary } from "./bundled.ts"
import type { Chunk } from "./chunks.ts"
import { encodePrompt } from "./prompt.ts"

/** Numbers of transformers, A1111 (Forge) and ComfyUI, made by tools/reference/text_golden.py. */
const folder = process.env.TEXT_GOLDEN ?? new URL("../../test/golden/text", import.meta.url).pathname
const golden = <T>(name: string): T => JSON.parse(readFileSync(`${folder}/${name}.json`, "utf8")) as T

test("ids are those of Hugging Face's fast tokenizer", async () => {
  const { rows } = golden<{ rows: [string, number[], number[]?][] }>("bpe")
  const [sd1, sd2] = [await bundledVocabulary(), await bundledVocabulary("!")]
  const ours = rows.map(([text, , second]) => [text, sd1.encode(text), ...(second ? [sd2.encode(text)] : [])])
  expect(ours).toEqual(rows)
})

interface Small {
  name: string
  vocab: Record<string, number>
  merges: string[]
  config: unknown
  specialTokens: unknown
  marks: [number, number, number, number]
  rows: [string, number[]][]
}

test.each(golden<{ tokenizers: Small[] }>("small").tokenizers)("small vocabulary: $name", (small) => {
  const { vocab, merges, config, specialTokens } = small
  const files = { vocab: JSON.stringify(vocab), merges: `#version: 0.2\n${merges.join("\n")}\n`, config }
  const tokenizer = ClipTokenizer.fromFiles({ ...files, specialTokens: specialTokens ?? undefined })
  expect([tokenizer.bos, tokenizer.eos, tokenizer.pad, tokenizer.maxLength]).toEqual(small.marks)
  expect(small.rows.map(([text]) => [text, tokenizer.encode(text)])).toEqual(small.rows)
})

type ScheduleRow = [string, number, number | null, [number, string][], [string, number][] | null]

test("schedules and weights are A1111's", () => {
  const { rows } = golden<{ rows: ScheduleRow[] }>("a1111")
  const ours = rows.map(([text, steps, hires]) => {
    const entries = hires === null ? schedule(text, steps) : schedule(text, hires, steps)
    return [text, steps, hires, entries.map(({ end, text }) => [end, text]), runs(text)]
  })
  expect(ours).toEqual(rows)
})

test("wild prompts, with brackets left open beside schedules, are read as A1111 reads them", () => {
  // a row holds a prompt and its readings: A1111's parser has several where Python's hash seed decides
  const path = process.env.WILD_GOLDEN ?? `${folder}/a1111-wild.json`
  const { rows } = JSON.parse(readFileSync(path, "utf8")) as { rows: [string, ...[number, string][][]][] }
  expect(rows.length).toBeGreaterThan(15)
  for (const [text, ...readings] of rows)
    expect(readings, text).toContainEqual(schedule(text, 10).map(({ end, text }) => [end, text]))
})

function runs(text: string): [string, number][] | null {
  try {
    return attention(text).map((run) => [run.text, run.weight])
  } catch {
    return null // A1111 stops at such a weight too
  }
}

test("AND splits where A1111 splits", () => {
  const { splits } = golden<{ splits: [string, [string, number][]][] }>("a1111")
  expect(splits.map(([text]) => [text, splitAnd(text).map((part) => [part.text, part.weight])])).toEqual(
    splits,
  )
})

type Rows = [number[], number[]][]

test("chunks are A1111's and ComfyUI's", async () => {
  const { words, rows } = golden<{
    words: Record<string, number>
    rows: [string, string, { a1111: Rows; comfy: Rows }][]
  }>("chunks")
  const tokenizers: Record<string, ClipTokenizer> = {
    sd1: await bundledVocabulary(),
    sd2: await bundledVocabulary("!"),
    "sd2, 20 long": await bundledVocabulary("!", 20),
  }
  const known = new Map(Object.entries(words))
  const listed = (chunks: Chunk[]) =>
    chunks.map(({ ids, weights }) => `${ids.join(" ")} x ${weights.join(" ")}`)
  const rounded = (list: Rows) =>
    list.map(([ids, weights]) => `${ids.join(" ")} x ${weights.map(Math.fround).join(" ")}`)
  for (const [text, name, { a1111, comfy }] of rows) {
    const tokenizer = tokenizers[name]!.withWords(known)
    const encoded = encodePrompt(text, { tokenizer }).parts[0]!.schedule[0]!.chunks
    expect(listed(encoded), text).toEqual(rounded(a1111))
    const comfyChunks = encodePrompt(text, { tokenizer, syntax: "comfy" }).parts[0]!.schedule[0]!.chunks
    expect(listed(comfyChunks), text).toEqual(rounded(comfy))
  }
})
