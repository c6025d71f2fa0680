import { join } from "node:path"
import { afterAll, beforeAll, describe, expect, test } from "vitest"
import { StableDiffusion } from "../../src/index.ts"
import { nodeEngine } from "../../src/runtime/node.ts"
import { worst } from "../runtime/suite.ts"
import { hasChromium, openPage, type TestPage } from "./browser.ts"

const ask = { prompt: "a lighthouse at sunset", steps: 4, seed: 7, width: 64, height: 48 }
const model = join(import.meta.dirname, "../golden/models/sd1-odd")

describe.runIf(hasChromium)("Chromium", () => {
  let browser: TestPage
  beforeAll(async () => {
    browser = await openPage()
  }, 120_000)
  afterAll(() => browser?.close())

  test.each([
    ["sd1-odd", model, ask],
    ["embedded", "embedded", { prompt: "ein rotes Haus am Meer", steps: 3, seed: 5 }],
  ])("draws the picture that Node draws: %s", { timeout: 120_000 }, async (name, path, ask) => {
    const got = await browser.page.evaluate(([name, ask]) => window.draw(name, ask, "wasm"), [
      name,
      ask,
    ] as const)
    const engine = nodeEngine()
    const sd = await StableDiffusion.load(path, { engine, cache: null })
    const { images, trace } = await sd.generate(ask, { trace: true })
    const want = trace!.tensors()
    const tensor = (name: string) => want.get(name)!.data as Float32Array
    expect(worst(got.cond, tensor("text.cond"))).toBeLessThan(1e-4)
    expect(worst(got.latents, tensor("latents"))).toBeLessThan(1e-3)
    const pixels = images[0]!.picture.data
    const off = pixels.reduce((sum, v, i) => sum + Math.abs(v - got.picture.numbers[i]!), 0) / pixels.length
    expect(off).toBeLessThan(1)
    expect(got.parameters).toBe(images[0]!.infotext)
    expect(got.sha256).toBe((await sd.facts).sha256)
    expect(got.type).toBe("image/png")
    expect(got.progress.at(-1)).toBe(1)
    await engine.close()
  })

  test("answers a missing model, and a GPU that is none, with a reason", async () => {
    const code = await browser.page.evaluate(() =>
      window.draw("nothing-here", { prompt: "x" }, "wasm").catch((e) => e.code),
    )
    expect(code).toBe("FOLDER_NO_INDEX")
  })
})
