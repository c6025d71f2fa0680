import { copyFileSync, mkdirSync, mkdtempSync, rmSync, utimesSync } from "node:fs"
import { tmpdir } from "node:os"
import { dirname, join } from "node:path"
import { afterAll, beforeAll, expect, test } from "vitest"
import { convert, inspect, type Recipe, readRecipe, recipeFiles } from "../src/index.ts"
import { findByHash } from "../src/pipeline/by-hash.ts"

/** Files that pictures name, found again in a library whose owner has renamed them. */
const golden = join(import.meta.dirname, "golden")
const scratch = mkdtempSync(join(tmpdir(), "aquatint-renamed-"))
const library = join(scratch, "library")
const places = {
  model: ["models/sd1-tiny", "checkpoints/mine/fine.safetensors"],
  style: ["adapters/kohya/style.safetensors", "loras/brush.safetensors"],
  other: ["adapters/sdxl-sgm/xl.safetensors", "loras/pen.safetensors"],
  word: ["embeddings/webui.safetensors", "embeddings/ink.safetensors"],
} as const
const at = (name: keyof typeof places) => join(library, places[name][1])
const hashes = async (name: keyof typeof places) =>
  (await inspect(at(name))).hashes as { sha256: string; autov2: string; autov3: string }

const before = { ...process.env }
beforeAll(async () => {
  Object.assign(process.env, { AQUATINT_MODELS: library, XDG_CACHE_HOME: join(scratch, "cache") })
  process.env.HF_HOME = join(scratch, "hub")
  for (const [from, to] of Object.values(places)) {
    mkdirSync(dirname(join(library, to)), { recursive: true })
    if (from === "models/sd1-tiny") await convert(join(golden, from), join(library, to))
    else copyFileSync(join(golden, from), join(library, to))
  }
})
afterAll(() => {
  for (const key of ["AQUATINT_MODELS", "XDG_CACHE_HOME", "HF_HOME"])
    if (before[key] === undefined) delete process.env[key]
    else process.env[key] = before[key]
  rmSync(scratch, { recursive: true })
})

const recipe = (line: string, prompt = "a fox"): Recipe =>
  readRecipe({ parameters: `${prompt}\nSteps: 2, Seed: 1, Size: 64x64, ${line}, Version: v1.10.1` })!

test("a file is found by any of its hashes, and read once", async () => {
  const { sha256, autov2, autov3 } = await hashes("style")
  const read: string[] = []
  const find = async (hash: string) =>
    (await findByHash(hash, "lora", { reading: (path) => read.push(path) }))?.path ?? null
  expect(await find(autov3)).toBe(at("style"))
  expect(read).toContain(at("style"))
  read.splice(0)
  for (const hash of [autov2, sha256, sha256.toUpperCase(), `sha256:${sha256}`, autov3])
    expect(await find(hash), hash).toBe(at("style"))
  expect(read).toEqual([])
  // of another kind of file, of another kind of hash, and none
  expect(await findByHash(autov2, "model")).toBeNull()
  for (const hash of [`blake3:${sha256}`, "", "abc", "e3b0c442", "0".repeat(10)])
    expect(await find(hash)).toBeNull()
  // a file that was changed is read anew
  read.splice(0)
  copyFileSync(at("other"), at("style"))
  expect(await find(autov2)).toBeNull()
  copyFileSync(join(golden, places.style[0]), at("style"))
  utimesSync(at("style"), 1, 1)
  expect(await find(autov2)).toBe(at("style"))
  expect(read).toContain(at("style"))
})

test("what a picture names is taken by its name, else by its hash", async () => {
  const [model, style, word] = [await hashes("model"), await hashes("style"), await hashes("word")]
  const found = await recipeFiles(
    recipe(
      `Model hash: ${model.autov2}, Model: dream, Lora hashes: "thin line: ${style.autov3}", TI hashes: "dot: ${word.sha256.slice(0, 12)}"`,
      "a dot <lora:thin line:0.5>",
    ),
    "embedded",
  )
  expect(found.model).toBe(at("model"))
  expect(found.renamed).toEqual(new Map([["thin line", at("style")]]))
  expect(found.embeddings).toEqual([{ file: at("word"), word: "dot" }])
  expect(found.missing).toEqual([])
  expect(found.said).toEqual([
    `model dream: found by its hash as ${at("model")}`,
    `LoRA thin line: found by its hash as ${at("style")}`,
    `textual inversion dot: found by its hash as ${at("word")}`,
  ])
})

test("a LoRA beside the model is found by its hash without being in any library", async () => {
  const near = mkdtempSync(join(tmpdir(), "aquatint-near-"))
  try {
    mkdirSync(join(near, "Lora"))
    const path = join(near, "Lora", "new name.safetensors")
    copyFileSync(join(golden, "adapters/loha/loha.safetensors"), path)
    const { autov3 } = (await inspect(path)).hashes as { autov3: string }
    const asked = recipe(`Model: any, Lora hashes: "old name: ${autov3}"`, "a fox <lora:old name:1>")
    const at = (model: string) => recipeFiles(asked, model, { chosen: true })
    expect((await at(near)).renamed).toEqual(new Map([["old name", path]]))
    expect((await at(join(near, "gone.safetensors"))).renamed.size).toBe(0)
  } finally {
    rmSync(near, { recursive: true })
  }
})

test("another file of the name is told, and what is nowhere is missing", async () => {
  const { autov3 } = await hashes("other")
  const line = `Model: fine, Lora hashes: "brush: ${autov3}", TI hashes: "nowhere: 0123456789ab", VAE hash: 0123456789, VAE: gone.safetensors, Refiner: finer [0123456789]`
  const found = await recipeFiles(recipe(line, "a fox <lora:brush:1>"), "embedded")
  expect(found).toMatchObject({ model: "fine", vae: null, refiner: null, embeddings: [] })
  expect(found.renamed.get("brush")).toBe(at("style"))
  expect(found.said).toEqual([`LoRA brush: the file here has another hash than the picture's, ${autov3}`])
  expect(found.missing).toEqual(["VAE: gone.safetensors", "Refiner: finer", "textual inversion nowhere"])
  // the caller's own model, and the built-in one, look for nothing
  expect((await recipeFiles(recipe("Model: fine"), "mine", { chosen: true })).model).toBeNull()
  expect((await recipeFiles(recipe("Model: embedded, Model hash: 0123456789"), "embedded")).model).toBe(
    "embedded",
  )
})
