import { readFileSync } from "node:fs"
import { resolve } from "node:path"
import { gunzipSync } from "node:zlib"
import { describe, expect, test } from "vitest"
import { controlNetComponent } from "./controlnet.ts"
import { byteLength, Weights } from "./view.ts"

interface Golden {
  family: string
  ldm: Record<string, number[]>
  want: Record<string, string>
  config: Record<string, unknown>
}

const path = resolve(import.meta.dirname, "../../test/golden/weights/controlnets.gz")
const goldens = JSON.parse(gunzipSync(readFileSync(path)).toString()) as Golden[]

function views(shapes: [string, number[]][]): Weights {
  const out = new Weights()
  let offset = 0
  for (const [name, shape] of shapes) {
    const length = byteLength("F16", shape)
    out.set(name, { name, dtype: "F16", shape, file: "c", offset, length })
    offset += length
  }
  return out
}

/** One number where diffusers has a list of equal numbers, and the other way round, mean the same. */
function same(value: unknown): unknown {
  return Array.isArray(value) && value.every((v) => v === value[0]) ? value[0] : (value ?? null)
}

describe.each(goldens)("ControlNet of $family", ({ ldm, want, config }) => {
  test("LDM keys, as diffusers reads them", () => {
    const from = views(Object.entries(ldm).map(([key, shape]) => [key.slice("control_model.".length), shape]))
    const got = controlNetComponent(from)
    expect([...got.weights.keys()].sort()).toEqual(Object.keys(want).sort())
    for (const [key, source] of Object.entries(want))
      expect(got.weights.get(key)!.offset).toBe(from.get(source.slice("control_model.".length))!.offset)
    for (const [key, value] of Object.entries(config))
      expect([key, same(got.config[key])]).toEqual([key, same(value)])
  })

  test("the same config from diffusers' keys", () => {
    const named = views(Object.entries(want).map(([key, source]) => [key, ldm[source]!]))
    const prefixless = views(
      Object.entries(ldm).map(([key, shape]) => [key.slice("control_model.".length), shape]),
    )
    expect(controlNetComponent(named).config).toEqual(controlNetComponent(prefixless).config)
  })
})
