import { readFileSync } from "node:fs"
import { join } from "node:path"
import { afterAll, expect, test } from "vitest"
import { type GenerateRequest, inspect, parseInfotext, readRecipe, StableDiffusion } from "../src/index.ts"
import { nodeEngine } from "../src/runtime/node.ts"
import { openSafetensors } from "../src/weights/open-file.ts"

const golden = join(import.meta.dirname, "golden")
const folder = join(golden, "embeddings")
const engine = nodeEngine()
afterAll(() => engine.close())

const path = join(folder, "prompts.safetensors")
const { tensors, metadata } = await openSafetensors(path)
const bytes = readFileSync(path)
const want = (key: string) => {
  const { offset, length } = tensors.get(key)!
  return new Float32Array(new Uint8Array(bytes.subarray(offset, offset + length)).buffer)
}
const { cases } = JSON.parse(metadata.get("about")!) as {
  cases: { name: string; model: string; prompt: string }[]
}
const far = (got: Float32Array, to: Float32Array) =>
  got.reduce((m, v, i) => Math.max(m, Math.abs(v - to[i]!)), 0)
const load = (model: string) => StableDiffusion.load(join(golden, "models", model), { engine, cache: null })

test.each(cases)("$name: the prompt as diffusers embeds it", async ({ name, model, prompt }) => {
  const sd = await load(model)
  // A1111 looks for a word's own ids, which a comma right after a bracket changes
  const bracketed = prompt.includes(">,")
  for (const promptSyntax of bracketed ? (["plain"] as const) : (["plain", "a1111"] as const)) {
    const ask = {
      prompt,
      promptSyntax,
      steps: 1,
      width: 64,
      height: 64,
      embeddings: [join(folder, `${name}.safetensors`)],
    }
    const { trace } = await sd.generate(ask, { trace: true })
    const got = trace!.tensors()
    expect(far(got.get("text.cond")!.data as Float32Array, want(name))).toBeLessThan(2e-4)
    if (tensors.has(`${name}.pooled`))
      expect(far(got.get("text.cond.pooled")!.data as Float32Array, want(`${name}.pooled`))).toBeLessThan(
        2e-4,
      )
  }
  await sd.release()
})

test("pictures name the embeddings whose words they hold by hash, and recipes read that", async () => {
  const sd = await load("sd1-tiny")
  const file = join(folder, "webui.safetensors")
  const sha256 = (await inspect(file)).hashes.sha256!
  const drawn = async (prompt: string, embeddings: GenerateRequest["embeddings"]) => {
    const { images } = await sd.generate({ prompt, steps: 1, width: 64, height: 64, embeddings })
    return images[0]!.infotext
  }
  const written = await drawn("a webui fox", [file])
  expect(written).toContain(`TI hashes: "webui: ${sha256.slice(0, 12)}"`)
  expect(readRecipe({ parameters: written })?.hashes).toEqual({
    embeddings: { webui: sha256.slice(0, 12) },
  })
  expect(await drawn("a webuis fox", [file])).not.toContain("TI hashes")
  // under a word that is not its file's name
  const other = await drawn("a <brush> fox", [{ file, word: "<brush>" }])
  expect(parseInfotext(other).embeddingHashes).toEqual({ "<brush>": sha256.slice(0, 12) })
  await sd.release()
})

test("embeddings of another family, and files that are none, are refused", async () => {
  const sd = await load("sdxl-tiny")
  const ask = (file: string) =>
    sd.generate({ prompt: "x", steps: 1, width: 64, height: 64, embeddings: [join(golden, file)] })
  await expect(ask("embeddings/webui.safetensors")).rejects.toMatchObject({
    code: "EMBEDDING_SHAPE",
    blame: "caller",
  })
  await expect(ask("models/sd1-tiny.safetensors")).rejects.toMatchObject({ blame: "caller" })
  await expect(ask("nowhere")).rejects.toMatchObject({ code: "EMBEDDING_NOT_FOUND" })
  await sd.release()
})
