import { createHash } from "node:crypto"
import { expect, test } from "vitest"
import { corpus, evaluationPrompts } from "./corpus.ts"
import { Random } from "./random.ts"
import { drawScene } from "./scene.ts"
import { isHeldOut, isPossible, PLACES, randomSpec, type SceneSpec, STYLES, SUBJECTS, TIMES } from "./spec.ts"

const sha = (data: Uint8Array) => createHash("sha256").update(data).digest("hex").slice(0, 16)
const many = (n: number, split: "train" | "evaluation") => {
  const random = new Random(5)
  return Array.from({ length: n }, () => randomSpec(random, split))
}
const plain: SceneSpec = {
  style: "flat",
  place: "hills",
  time: "day",
  weather: "clear",
  subject: { kind: "house", colour: "red" },
  count: 1,
  position: "left",
  size: "medium",
  second: null,
  seed: 1,
}

test("random numbers are xoshiro128** seeded by splitmix32", () => {
  const random = new Random(1)
  expect(Array.from({ length: 4 }, () => random.next())).toMatchInlineSnapshot(`
    [
      2442144158,
      3238099751,
      3819917871,
      2104621829,
    ]
  `)
})

test("a seed has its pixels, on every machine", () => {
  const hashes = [
    [1, 256],
    [2, 128],
    [3, 64],
  ].map(([seed, size]) => {
    const c = corpus({ seed: seed!, size: size!, split: "train" })
    const hash = createHash("sha256")
    for (let i = 0; i < 24; i++) hash.update(c.item(i).data)
    return hash.digest("hex").slice(0, 16)
  })
  expect(hashes).toMatchInlineSnapshot(`
    [
      "3998b84626b60541",
      "ebb1cee535441934",
      "3c8eb4859af67b3c",
    ]
  `)
})

test("item i does not depend on what was asked before, and the iterator counts", () => {
  const c = corpus({ seed: 9, size: 64, split: "train" })
  const late = c.item(1000)
  c.item(3)
  expect(sha(c.item(1000).data)).toBe(sha(late.data))
  expect(c.entry(1000).caption).toBe(late.caption)
  let count = 0
  for (const item of c) {
    expect(item.index).toBe(count)
    expect(item.caption).toBe(c.entry(count).caption)
    if (++count === 5) break
  }
  expect(corpus({ seed: 10, size: 64, split: "train" }).entry(0)).not.toEqual(c.entry(0))
  expect(() => c.item(-1)).toThrow(expect.objectContaining({ code: "CORPUS_INDEX" }))
  expect(() => drawScene(plain, 7)).toThrow(expect.objectContaining({ code: "CORPUS_SIZE" }))
})

test("held-out combinations never meet in training and always in evaluation", () => {
  const triple = (s: SceneSpec, t = s.subject) => `${t.kind} ${t.colour} ${s.place}`
  const train = many(4000, "train")
  const evaluation = many(1500, "evaluation")
  expect(train.filter(isHeldOut)).toEqual([])
  expect(evaluation.every(isHeldOut)).toBe(true)
  const seen = new Set(train.flatMap((s) => (s.second ? [triple(s), triple(s, s.second)] : [triple(s)])))
  const alone = evaluation.filter((s) => s.second === null)
  expect(alone.filter((s) => seen.has(triple(s)))).toEqual([])
  const kinds = new Set(alone.map((s) => s.subject.kind))
  expect(kinds.size).toBe(SUBJECTS.length)
})

test("every scene is possible, and every choice occurs", () => {
  const specs = many(4000, "train")
  expect(specs.every(isPossible)).toBe(true)
  for (const style of STYLES) expect(specs.some((s) => s.style === style)).toBe(true)
  for (const place of PLACES)
    for (const time of TIMES) expect(specs.some((s) => s.place === place && s.time === time)).toBe(true)
  expect(specs.filter((s) => s.style === "neon").every((s) => s.time === "night")).toBe(true)
  expect(specs.filter((s) => s.second).length / specs.length).toBeGreaterThan(0.18)
})

test("boxes hold the subjects, sides and sizes are where they are said to be", () => {
  const centre = (s: SceneSpec) => {
    const box = drawScene(s, 128).boxes[0]!
    return box.x + box.width / 2
  }
  const area = (s: SceneSpec) => {
    const box = drawScene(s, 128).boxes[0]!
    return box.width * box.height
  }
  for (const kind of SUBJECTS) {
    const spec = { ...plain, subject: { kind, colour: "red" as const }, place: "sea" as const }
    const [left, middle, right] = (["left", "centre", "right"] as const).map((position) =>
      centre({ ...spec, position }),
    )
    expect(left!).toBeLessThan(middle! - 12)
    expect(middle!).toBeLessThan(right! - 12)
    const [small, medium, large] = (["small", "medium", "large"] as const).map((size) =>
      area({ ...spec, size }),
    )
    expect(small! * 1.3).toBeLessThan(medium!)
    expect(medium! * 1.2).toBeLessThan(large!)
  }
  for (const spec of many(200, "train")) {
    const { boxes } = drawScene(spec, 96)
    expect(boxes.length).toBe(spec.second ? 2 : spec.count)
    for (const b of boxes) {
      expect(b.x >= 0 && b.y >= 0 && b.x + b.width <= 96 && b.y + b.height <= 96).toBe(true)
      expect(b.width * b.height).toBeGreaterThan(150)
    }
  }
})

test("the colour named is the colour seen", () => {
  const red = drawScene(plain, 128)
  const blue = drawScene({ ...plain, subject: { kind: "house", colour: "blue" } }, 128)
  const mean = ({ data, boxes }: typeof red, channel: number) => {
    const box = boxes[0]!
    let sum = 0
    for (let y = box.y; y < box.y + box.height; y++)
      for (let x = box.x; x < box.x + box.width; x++) sum += data[(y * 128 + x) * 3 + channel]!
    return sum / (box.width * box.height)
  }
  expect(mean(red, 0)).toBeGreaterThan(mean(blue, 0) + 30)
  expect(mean(blue, 2)).toBeGreaterThan(mean(red, 2) + 30)
})

test("evaluation prompts come from held-out combinations and name every fact", () => {
  for (const language of ["en", "de"] as const) {
    const prompts = evaluationPrompts(60, 3, language)
    expect(prompts).toEqual(evaluationPrompts(60, 3, language))
    expect(prompts.every((p) => isHeldOut(p.spec) && p.prompt.split(" ").length >= 6)).toBe(true)
  }
})
