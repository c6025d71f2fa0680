import { readdirSync, readFileSync } from "node:fs"
import { join } from "node:path"
import { afterAll, expect, test } from "vitest"
import { StableDiffusion, wordMaps } from "../src/index.ts"
import { nodeEngine } from "../src/runtime/node.ts"
import { openSafetensors } from "../src/weights/open-file.ts"

/** Attention maps against an attention processor of diffusers that keeps them (tools/reference/attention_golden.py). */

const golden = join(import.meta.dirname, "golden")
const engine = nodeEngine()
afterAll(() => engine.close())

interface Case {
  model: string
  prompt: string
  steps: number
  cfg: number
  seed: number
  width: number
  height: number
}

const words = (prompt: string) => prompt.match(/\p{L}+|[^\p{L}\s]/gu)

test.each(readdirSync(join(golden, "attention")))(
  "%s: where the network looked for each token",
  async (file) => {
    const path = join(golden, "attention", file)
    const { tensors, metadata } = await openSafetensors(path)
    const { model, ...ask } = JSON.parse(metadata.get("case")!) as Case
    const { offset, length, shape } = tensors.get("maps")!
    const want = new Float32Array(new Uint8Array(readFileSync(path).subarray(offset, offset + length)).buffer)
    const sd = await StableDiffusion.load(join(golden, "models", model), { engine, cache: null })
    const { attention, images } = await sd.generate({ ...ask, promptSyntax: "plain" }, { attention: true })
    expect([attention!.tokens.length, attention!.height, attention!.width]).toEqual(shape)
    const pieces = sd.tokens(ask.prompt, "plain").pieces.map(({ text, end }) => ({ text, end }))
    expect(attention!.tokens.map(({ text, end }) => ({ text, end }))).toEqual(pieces)
    expect(wordMaps(attention!).map(({ text }) => text)).toEqual(words(ask.prompt))
    const size = attention!.height * attention!.width
    const off = attention!.tokens.flatMap(({ values }, t) =>
      Array.from(values, (v, i) => Math.abs(v - want[t * size + i]!)),
    )
    expect(Math.max(...off)).toBeLessThan(2e-5)
    expect(Math.max(...want) - Math.min(...want)).toBeGreaterThan(1e-3)
    const plain = await sd.generate({ ...ask, promptSyntax: "plain" })
    expect(plain.attention).toBeNull()
    const difference = images[0]!.picture.data.reduce(
      (most, v, i) => Math.max(most, Math.abs(v - plain.images[0]!.picture.data[i]!)),
      0,
    )
    expect(difference).toBeLessThanOrEqual(1)
    await sd.release()
  },
)
