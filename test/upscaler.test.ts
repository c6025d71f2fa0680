import { readFileSync } from "node:fs"
import { join } from "node:path"
import { afterAll, expect, test } from "vitest"
import { combineTiles, cutTiles, tileGrid } from "../src/image/tiles.ts"
import { convert, decodeImage, type Picture, StableDiffusion, toRgb } from "../src/index.ts"
import { UpscaleNet } from "../src/pipeline/upscaler.ts"
import { openUpscalerFile } from "../src/pipeline/upscaler-files.ts"
import { nodeEngine } from "../src/runtime/node.ts"

/** Upscalers against PyTorch (tools/reference/upscaler_golden.py), and what generate does with them. */
const golden = join(import.meta.dirname, "golden")
const folder = join(golden, "upscalers")
const engine = nodeEngine()
afterAll(() => engine.close())
const picture = (name: string) => decodeImage(readFileSync(join(folder, name)))
const { factors } = JSON.parse(readFileSync(join(folder, "factors.json"), "utf8")) as {
  factors: Record<string, number>
}
const worst = (a: Picture, b: Picture) => a.data.reduce((m, v, i) => Math.max(m, Math.abs(v - b.data[i]!)), 0)

test.each(Object.entries(factors))("%s enlarges by %i as PyTorch does", async (name, factor) => {
  const net = new UpscaleNet(await openUpscalerFile(join(folder, name)), engine, "cpu")
  expect(net.factor).toBe(factor)
  const made = await net.enlarge(await picture("picture.png"))
  const want = toRgb(await picture(`${name.split(".")[0]}.out.png`))
  expect([made.width, made.height]).toEqual([want.width, want.height])
  expect(worst(made, want)).toBeLessThanOrEqual(1)
  await net.release()
})

test("what is no upscaler, and what is damaged, is refused", async () => {
  const other = join(golden, "tiny-vae", "taesd.safetensors")
  await expect(openUpscalerFile(other)).rejects.toMatchObject({ code: "UPSCALER_NOT_ONE", blame: "caller" })
  const notes = join(folder, "factors.json")
  await expect(openUpscalerFile(notes)).rejects.toMatchObject({ blame: "caller" })
})

test("a .pth is read as data, other pickled files are for convert, which writes the same network", async () => {
  const { mkdtempSync, rmSync, copyFileSync } = await import("node:fs")
  const { tmpdir } = await import("node:os")
  const scratch = mkdtempSync(join(tmpdir(), "aquatint-upscaler-"))
  const renamed = join(scratch, "real-x2.pt")
  copyFileSync(join(folder, "real-x2.pth"), renamed)
  await expect(openUpscalerFile(renamed)).rejects.toMatchObject({
    code: "MODEL_PICKLE",
    hint: expect.stringContaining("aquatint convert real-x2.pt real-x2.safetensors"),
  })
  const written = join(scratch, "real-x2.safetensors")
  await convert(renamed, written)
  const nets = await Promise.all(
    [join(folder, "real-x2.pth"), written].map(
      async (path) => new UpscaleNet(await openUpscalerFile(path), engine, "cpu"),
    ),
  )
  const [first, second] = [
    await nets[0]!.enlarge(await picture("picture.png")),
    await nets[1]!.enlarge(await picture("picture.png")),
  ]
  expect(second.data).toEqual(first.data)
  for (const net of nets) await net.release()
  rmSync(scratch, { recursive: true })
})

test("tiles of a picture put together give it back", async () => {
  const source = toRgb(await picture("new-x4.out.png"))
  const grid = tileGrid(source, { width: 40, height: 32 }, 12)
  expect(grid.rows.map((row) => row.map(([x]) => x))).toEqual([
    [0, 26, 52],
    [0, 26, 52],
    [0, 26, 52],
  ])
  expect(combineTiles(grid, cutTiles(source, grid)).data).toEqual(source.data)
})

test("generate enlarges what it drew, between its passes, and tile by tile", async () => {
  const sd = await StableDiffusion.load(join(golden, "models", "sd1-tiny"), { engine, cache: null })
  const upscaler = join(folder, "compact-x4.safetensors")
  const ask = { prompt: "a fox", steps: 2, seed: 1, sampler: "euler", width: 32, height: 32 }
  const after = await sd.generate({ ...ask, upscale: 2, upscaler })
  expect([after.images[0]!.width, after.images[0]!.infotext]).toEqual([
    64,
    expect.stringContaining("Size: 32x32"),
  ])
  const between = await sd.generate({ ...ask, hires: { scale: 1.5, upscaler, strength: 0.5 } })
  expect(between.images[0]!.width).toBe(48)
  expect(between.images[0]!.infotext).toContain("Hires upscaler: compact-x4")
  const init = after.images[0]!.picture
  const tiles = await sd.generate({
    ...ask,
    init,
    strength: 0.5,
    upscaler,
    sdUpscale: { scale: 1.5, overlap: 8 },
  })
  expect([tiles.images[0]!.width, tiles.images[0]!.height]).toEqual([96, 96])
  expect(tiles.images[0]!.infotext).toContain("SD upscale overlap: 8, SD upscale upscaler: compact-x4")
  const none = { prompt: "x", upscale: 2, steps: 2, upscaler: "nonesuch" }
  await expect(Promise.resolve(sd.generate(none))).rejects.toMatchObject({ code: "UPSCALER_NOT_FOUND" })
  await sd.release()
})
