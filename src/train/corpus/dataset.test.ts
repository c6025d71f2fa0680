import { mkdtemp, readdir, readFile, rm, writeFile } from "node:fs/promises"
import { tmpdir } from "node:os"
import { join } from "node:path"
import { afterAll, beforeAll, expect, test } from "vitest"
import { decodeImage } from "../../image/codec.ts"
import { corpus } from "./corpus.ts"
import { type DatasetOptions, drawDataset } from "./dataset.ts"

let folder = ""
beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), "corpus-"))
})
afterAll(() => rm(folder, { recursive: true }))

async function draw(options: DatasetOptions, stopAfter = Number.POSITIVE_INFINITY): Promise<number[]> {
  const done: number[] = []
  for await (const p of drawDataset(options)) if (done.push(p.done) >= stopAfter) break
  return done
}

test("an image folder: pictures, metadata, licence, data sheet", async () => {
  const out = join(folder, "a")
  expect(await draw({ out, count: 3, size: 32, seed: 4 })).toEqual([1, 2, 3])
  expect((await readdir(out)).sort()).toEqual([
    "0000",
    "LICENSE",
    "README.md",
    "corpus.json",
    "metadata.jsonl",
  ])
  const lines = (await readFile(join(out, "metadata.jsonl"), "utf8"))
    .trim()
    .split("\n")
    .map((l) => JSON.parse(l))
  const item = corpus({ seed: 4, size: 32, split: "train" }).item(1)
  expect(lines[1]).toMatchObject({
    file_name: "0000/00000001.png",
    text: item.caption,
    subject: item.spec.subject.kind,
  })
  const picture = await decodeImage(await readFile(join(out, lines[1].file_name)))
  expect([...picture.data]).toEqual([...item.data])
  expect(await readFile(join(out, "LICENSE"), "utf8")).toContain("CC0 1.0")
})

test("a run that was stopped goes on, and only a whole folder has the name", async () => {
  const options: DatasetOptions = {
    out: join(folder, "b"),
    count: 4,
    size: 16,
    format: "captions",
    language: "de",
  }
  await expect(draw({ ...options, count: 0.5 })).rejects.toMatchObject({ code: "DATASET_COUNT" })
  await draw(options, 2)
  expect(await readdir(folder)).not.toContain("b")
  await expect(draw({ ...options, seed: 2 })).rejects.toMatchObject({ code: "DATASET_EXISTS" })
  await draw(options)
  const names = await readdir(join(folder, "b", "0000"))
  expect(names.filter((n) => n.endsWith(".txt")).length).toBe(4)
  expect(names.length).toBe(8)
  expect(await readdir(folder)).not.toContain("b.partial")
})

test("what it refuses", async () => {
  await writeFile(join(folder, "file"), "")
  await expect(draw({ out: join(folder, "file"), count: 1 })).rejects.toMatchObject({
    code: "DATASET_EXISTS",
  })
  await expect(draw({ out: folder, count: 1 })).rejects.toMatchObject({ code: "DATASET_EXISTS" })
  await expect(draw({ out: join(folder, "c"), count: 0 })).rejects.toMatchObject({ code: "DATASET_COUNT" })
  const signal = AbortSignal.abort()
  await expect(draw({ out: join(folder, "d"), count: 1, signal })).rejects.toThrow()
})
