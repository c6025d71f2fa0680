import { readdirSync, readFileSync } from "node:fs"
import { join, resolve } from "node:path"
import { gunzipSync } from "node:zlib"
import { describe, expect, test } from "vitest"
import { splitCheckpoint } from "./checkpoint.ts"
import { planSingleFile } from "./convert-single.ts"
import { isLeftover } from "./model-files.ts"
import { byteLength, type Dtype, type TensorView, Weights } from "./view.ts"

const folder = resolve(import.meta.dirname, "../../test/golden/weights")
const names = readdirSync(folder).flatMap((f) => (f.endsWith(".json.gz") ? [f.slice(0, -8)] : []))

/** A file's views by its header alone. */
function viewsOf(name: string): Weights {
  const text = gunzipSync(readFileSync(join(folder, `${name}.json.gz`))).toString()
  const { ldm } = JSON.parse(text) as { ldm: Record<string, [Dtype, number[]]> }
  const out = new Weights()
  let offset = 0
  for (const [key, [dtype, shape]] of Object.entries(ldm)) {
    const length = byteLength(dtype, shape)
    out.set(key, { name: key, dtype, shape, file: "model.safetensors", offset, length })
    offset += length
  }
  return out
}

/** The run of bytes that parts make up, or undefined where they do not follow each other. */
function span(parts: readonly TensorView[]): { offset: number; length: number } | undefined {
  let end = parts[0]?.offset ?? 0
  for (const { offset, length } of parts) {
    if (offset !== end) return undefined
    end = offset + length
  }
  return { offset: parts[0]?.offset ?? 0, length: end - (parts[0]?.offset ?? 0) }
}

describe.each(names)("layout %s", (name) => {
  test("goes to diffusers' names and back to the same bytes under the same keys", async () => {
    const views = viewsOf(name)
    const model = await splitCheckpoint(views, { path: "model" })
    const kept = new Map(model.ignored.map((view) => [view.name, view]))
    const plan = await planSingleFile({ ...model, format: "diffusers" }, "model.yaml", {
      tensors: kept,
      metadata: new Map(),
    })
    const file = plan.files.find(({ path }) => path === "")!
    const tensors = "tensors" in file ? file.tensors : []
    expect(tensors.map((t) => t.name).sort()).toEqual([...views.keys()].sort())
    for (const { name: key, dtype, shape, parts } of tensors) {
      const { offset, length, ...view } = views.get(key)!
      expect({ key, dtype, shape, ...span(parts) }).toEqual({
        key,
        dtype: view.dtype,
        shape: view.shape,
        offset,
        length,
      })
      expect(parts.some((part) => part.transposed)).toBe(false)
    }
    expect(plan.notes).toEqual([])
  })

  test("without the leftovers only what no network reads is missing", async () => {
    const views = viewsOf(name)
    const model = await splitCheckpoint(views, { path: "model" })
    const plan = await planSingleFile({ ...model, format: "diffusers" }, "model.yaml")
    const made = new Set(
      plan.files.flatMap((file) => ("tensors" in file ? file.tensors.map((t) => t.name) : [])),
    )
    const missing = [...views.keys()].filter(
      (key) => !made.has(key) && !isLeftover(key.replace(/^.*model\.(?=logit_scale)/, "")),
    )
    expect(missing.filter((key) => !key.endsWith(".text_projection"))).toEqual([])
  })
})
