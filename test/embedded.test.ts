import { readdirSync, readFileSync, statSync } from "node:fs"
import { join } from "node:path"
import { afterAll, describe, expect, test } from "vitest"
import {
  decodeImage,
  embeddedFolder,
  type GenerateRequest,
  type Picture,
  StableDiffusion,
  toRgb,
} from "../src/index.ts"
import { nodeEngine } from "../src/runtime/node.ts"

const engine = nodeEngine()
afterAll(() => engine.close())

type Case = GenerateRequest & { prompt: string; seed: number }
const golden = join(import.meta.dirname, "golden", "embedded")
const { cases } = JSON.parse(readFileSync(join(golden, "cases.json"), "utf8")) as { cases: Case[] }

describe("the model that comes with the package", async () => {
  const sd = await StableDiffusion.load("embedded", { device: "cpu", engine, cache: null })
  const draw = async (ask: GenerateRequest): Promise<Picture> => (await sd.generate(ask)).images[0]!.picture

  test.each(cases.map((ask, n) => ({ n, ask })))("case $n is diffusers' picture", async ({ n, ask }) => {
    const made = await draw({ ...ask, promptSyntax: "plain" })
    const theirs = toRgb(await decodeImage(readFileSync(join(golden, `${n}.png`))))
    expect([made.width, made.height]).toEqual([theirs.width, theirs.height])
    const off = made.data.reduce((sum, v, i) => sum + Math.abs(v - theirs.data[i]!), 0)
    expect(off / made.data.length).toBeLessThan(0.5)
  })

  test("takes less than 40 MB", () => {
    const sizes = readdirSync(embeddedFolder, { recursive: true, encoding: "utf8" }).map(
      (name) => statSync(join(embeddedFolder, name)).size,
    )
    expect(sizes.reduce((a, b) => a + b)).toBeLessThan(40e6)
  })

  const mean = (p: Picture, channel?: number) =>
    p.data.reduce((sum, v, i) => sum + (channel === undefined || i % 3 === channel ? v : 0), 0) /
    (p.data.length / (channel === undefined ? 1 : 3))

  test.each([
    ["a house in the hills at night", "a house in the hills by day"],
    ["ein Haus in den Hügeln bei Nacht", "ein Haus in den Hügeln am Tag"],
  ])("%s is darker than %s", async (dark, light) => {
    for (const seed of [1, 2, 3])
      expect(mean(await draw({ prompt: dark, seed }))).toBeLessThan(
        mean(await draw({ prompt: light, seed })) - 20,
      )
  })

  test("what is called red is redder than what is called blue", async () => {
    const warmth = (p: Picture) => mean(p, 0) - mean(p, 2)
    for (const seed of [1, 2, 3]) {
      const [red, blue] = [
        await draw({ prompt: "a large red house in the hills by day, flat style", seed }),
        await draw({ prompt: "a large blue house in the hills by day, flat style", seed }),
      ]
      expect(warmth(red)).toBeGreaterThan(warmth(blue))
    }
  })
})
