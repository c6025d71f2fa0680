import { mkdtemp, rm, writeFile } from "node:fs/promises"
import { tmpdir } from "node:os"
import { join } from "node:path"
import { describe, expect, test } from "vitest"
import { Random } from "../corpus/random.ts"
import { bucketFor, bucketSizes, nameOf } from "./buckets.ts"
import { captionsVary, drawCaption, readWildcards } from "./captions.ts"
import { batchOrder } from "./order.ts"

describe("buckets", () => {
  test("keep to the step and the area, and reach both ways", () => {
    for (const [resolution, step] of [
      [512, 64],
      [1024, 64],
      [256, 8],
      [64, 16],
    ] as const) {
      const sizes = bucketSizes({ resolution, step })
      expect(sizes.map(nameOf)).toContain(`${resolution}x${resolution}`)
      for (const { width, height } of sizes) {
        expect((width % step) + (height % step)).toBe(0)
        expect(width * height).toBeLessThanOrEqual(resolution ** 2)
        expect(Math.min(width, height)).toBeGreaterThanOrEqual(resolution / 2)
      }
      expect(new Set(sizes.map(nameOf)).size).toBe(sizes.length)
    }
  })

  test("take the picture of the nearest shape", () => {
    const sizes = bucketSizes({ resolution: 512, step: 64 })
    expect(bucketFor({ width: 4000, height: 4000 }, sizes)).toEqual({ width: 512, height: 512 })
    expect(bucketFor({ width: 3000, height: 2000 }, sizes)).toEqual({ width: 640, height: 384 })
    expect(bucketFor({ width: 1000, height: 9000 }, sizes).height).toBe(1024)
    expect(
      bucketFor({ width: 9, height: 7 }, bucketSizes({ resolution: 64, step: 64, square: true })),
    ).toEqual({
      width: 64,
      height: 64,
    })
  })

  test("smaller than the model's step are refused", () => {
    expect(() => bucketSizes({ resolution: 32, step: 64 })).toThrow(
      expect.objectContaining({ code: "TRAIN_CONFIG" }),
    )
  })
})

describe("the order of batches", () => {
  const groups = new Map([
    ["a", Array.from({ length: 10 }, (_, i) => i)],
    ["b", [10, 11, 12]],
    ["c", []],
  ])
  test("draws every item once a round, in batches of one bucket, another way every round", () => {
    const order = batchOrder(groups, 4, 5)
    expect(order.batches).toBe(4)
    const rounds = [0, 1].map((round) => Array.from({ length: 4 }, (_, i) => order.batch(4 * round + i)))
    for (const batches of rounds) {
      expect(new Set(batches.flatMap((b) => b.items)).size).toBe(13)
      for (const { bucket, items } of batches) {
        expect(items).toHaveLength(4)
        expect(items.every((i) => groups.get(bucket)!.includes(i))).toBe(true)
      }
    }
    expect(rounds[0]!.map((b) => b.items)).not.toEqual(rounds[1]!.map((b) => b.items))
    expect(order.batch(6)).toEqual(batchOrder(groups, 4, 5).batch(6))
  })

  test("fills batches of few items", () => {
    expect(batchOrder(new Map([["a", [3]]]), 4, 1).batch(0).items).toEqual([3, 3, 3, 3])
  })
})

describe("captions", () => {
  const draw = (text: string, options: Parameters<typeof drawCaption>[1], seed: number) =>
    drawCaption(text, options, new Random(seed))
  const all = (text: string, options: Parameters<typeof drawCaption>[1]) =>
    new Set(Array.from({ length: 200 }, (_, seed) => draw(text, options, seed)))

  test("are shuffled behind the parts that stay", () => {
    const found = all("cat, red, on grass,", { shuffle: true, keep: 1 })
    expect(found).toEqual(new Set(["cat, red, on grass", "cat, on grass, red"]))
  })

  test("are dropped, whole or in parts, as often as asked", () => {
    const empty = Array.from({ length: 2000 }, (_, s) => draw("a, b", { dropout: 0.1 }, s)).filter(
      (t) => t === "",
    )
    expect(empty.length).toBeGreaterThan(150)
    expect(empty.length).toBeLessThan(250)
    expect(all("a, b, c", { partDropout: 0.5, keep: 1 })).toEqual(new Set(["a", "a, b", "a, c", "a, b, c"]))
  })

  test("take words of lists, nested, and leave unknown lists alone", async () => {
    const folder = await mkdtemp(join(tmpdir(), "aquatint-words-"))
    await writeFile(join(folder, "animal.txt"), "# animals\nfox\n\nowl\n")
    const wildcards = await readWildcards(folder)
    expect(all("a {red|blue} __animal__ __none__", { wildcards })).toEqual(
      new Set(["a red fox __none__", "a blue fox __none__", "a red owl __none__", "a blue owl __none__"]),
    )
    expect(all("{a|{b|c}}", { wildcards })).toEqual(new Set(["a", "b", "c"]))
    await rm(folder, { recursive: true })
  })

  test("stay as they are without options", () => {
    expect(draw("a {b|c}, __d__ ,e", {}, 1)).toBe("a {b|c}, __d__ ,e")
    expect(draw("cat", { prefix: "sks, " }, 1)).toBe("sks, cat")
    expect([captionsVary({}), captionsVary({ dropout: 0.1 }), captionsVary({ shuffle: true })]).toEqual([
      false,
      false,
      true,
    ])
  })
})
