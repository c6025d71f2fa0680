import { readdirSync, readFileSync } from "node:fs"
import { join, resolve } from "node:path"
import { gunzipSync } from "node:zlib"
import fc from "fast-check"
import { describe, expect, test } from "vitest"
import { AquatintError } from "../errors.ts"
import { splitCheckpoint } from "./checkpoint.ts"
import { type LdmFacts, parseLdmConfig } from "./ldm-yaml.ts"
import { requireComponents } from "./model-files.ts"
import { byteLength, type Dtype, Weights } from "./view.ts"

interface Golden {
  family: string
  ldm: Record<string, [Dtype, number[]]>
  want: Record<string, Record<string, [key: string, row: number, transposed: boolean, shape: number[]]>>
  configs: Record<string, Record<string, unknown>>
}

const folder = resolve(import.meta.dirname, "../../test/golden/weights")
const names = readdirSync(folder).flatMap((f) => (f.endsWith(".json.gz") ? [f.slice(0, -8)] : []))
const load = (name: string) =>
  JSON.parse(gunzipSync(readFileSync(join(folder, `${name}.json.gz`))).toString()) as Golden

/** Views of a file that holds these tensors one after the other. */
function viewsOf(ldm: Golden["ldm"]): Weights {
  const out = new Weights()
  let offset = 1000
  for (const [name, [dtype, shape]] of Object.entries(ldm)) {
    const length = byteLength(dtype, shape)
    out.set(name, { name, dtype, shape, file: "model.safetensors", offset, length })
    offset += length
  }
  return out
}

const split = (ldm: Golden["ldm"], facts?: LdmFacts) =>
  splitCheckpoint(viewsOf(ldm), { path: "model.safetensors", ldm: facts })

describe.each(names)("single file %s, as diffusers reads it", (name) => {
  const golden = load(name)

  test("names, shapes and byte ranges", async () => {
    const views = viewsOf(golden.ldm)
    const model = await split(golden.ldm)
    expect([...model.components.keys()].sort()).toEqual(Object.keys(golden.want).sort())
    for (const [part, want] of Object.entries(golden.want)) {
      const got = model.components.get(part)!.weights
      expect([...got.keys()].sort()).toEqual(Object.keys(want).sort())
      for (const [key, [from, row, turned, shape]] of Object.entries(want)) {
        const whole = views.get(from)!
        const view = got.get(key)!
        expect({ key, ...view, name: "" }).toMatchObject({
          key,
          shape,
          dtype: whole.dtype,
          offset: whole.offset + (row * whole.length) / (whole.shape[0] ?? 1),
          length: byteLength(whole.dtype, shape),
        })
        expect(view.transposed ?? false).toBe(turned)
        expect(view.name).toBe(key)
      }
    }
  })

  test("family and configs", async () => {
    const model = await split(golden.ldm)
    expect(model.family).toBe(golden.family)
    expect(model.variant).toBe(name.includes("inpaint") ? "inpaint" : "base")
    for (const [part, config] of Object.entries(golden.configs)) {
      // one number and a list of equal numbers mean the same to diffusers, and depths of levels without attention nothing
      const got = model.components.get(part)!.config
      for (const [key, value] of Object.entries(config))
        expect([part, key, spread(got, key)]).toEqual([part, key, spread(config, key, value)])
    }
  })
})

/** A per-level value of a U-Net config as a list; entries of levels without attention are left out. */
function spread(config: Record<string, unknown>, key: string, value = config[key]): unknown {
  if (!["layers_per_block", "attention_head_dim", "transformer_layers_per_block"].includes(key))
    return value ?? null
  const types = config.down_block_types as string[]
  const list = types.map((_, i) => (Array.isArray(value) ? value[i] : value))
  return key === "transformer_layers_per_block" ? list.filter((_, i) => /CrossAttn/.test(types[i]!)) : list
}

test("torn, renamed and reshaped checkpoints are read or refused with a typed error", async () => {
  const ldm = load("sd2-inpaint").ldm
  const keys = Object.keys(ldm)
  const edit = fc.record({
    key: fc.nat(keys.length - 1),
    kind: fc.constantFrom("drop", "reshape", "rename", "tear", "prefix"),
    shape: fc.array(fc.constantFrom(0, 1, 2, 3, 64, 2 ** 40), { maxLength: 5 }),
    name: fc.string({ unit: fc.constantFrom(..."0123456789.ab_"), maxLength: 12 }),
  })
  const run = async (edits: { key: number; kind: string; shape: number[]; name: string }[]) => {
    const torn = { ...ldm }
    for (const { key, kind, shape, name } of edits) {
      const old = keys[key]!
      if (kind === "drop") delete torn[old]
      if (kind === "reshape" && old in torn) torn[old] = ["F16", shape]
      if (kind === "rename") torn[old.replace(/\d+/, name)] = ["F16", shape]
      if (kind === "prefix") torn[old.replace(/^.*?\./, name)] = ["F16", shape]
      if (kind === "tear") for (const k of keys.slice(key, key + 400)) delete torn[k]
    }
    const outcome = await split(torn).then(
      () => "read",
      (error: unknown) => (error instanceof AquatintError ? error.code : `untyped ${String(error)}`),
    )
    expect(outcome).toMatch(/^(read|CHECKPOINT_[A-Z_]+|WEIGHTS_[A-Z_]+)$/)
  }
  await fc.assert(fc.asyncProperty(fc.array(edit, { minLength: 1, maxLength: 6 }), run), {
    numRuns: 200,
    seed: 7,
  })
})

test("what is missing is named with what is there", async () => {
  const unet = Object.entries(load("sd1-one-layer").ldm).filter(([key]) =>
    key.startsWith("model.diffusion_model."),
  )
  const model = await split(Object.fromEntries(unet))
  expect(() => requireComponents(model, ["unet", "vae", "text_encoder"])).toThrow(
    "model.safetensors has no vae, no text_encoder; it has unet",
  )
  expect(requireComponents(model, ["unet"])[0]!.className).toBe("UNet2DConditionModel")
})

test("a config that nests without end is refused before a parser follows it", () => {
  const within = `model: ${"[".repeat(60)}${"]".repeat(60)}`
  expect(parseLdmConfig(within, "a.yaml")).toBeUndefined()
  const flow = `model: ${"[".repeat(20_000)}${"]".repeat(20_000)}`
  const blocks = Array.from({ length: 2000 }, (_, i) => `${" ".repeat(i)}a:`).join("\n")
  for (const text of [flow, blocks, `model: ${"{a: ".repeat(5000)}`, `${"- ".repeat(3000)}a`])
    expect(() => parseLdmConfig(text, "a.yaml")).toThrow(/nests more than 64 levels/)
})
