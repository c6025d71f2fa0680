import { readFileSync } from "node:fs"
import { join } from "node:path"
import type { StoredDType, StoredTensor } from "../../src/graph/index.ts"
import { nodeEngine } from "../../src/runtime/node.ts"
import { openSafetensors } from "../../src/weights/open-file.ts"
import type { TensorView } from "../../src/weights/view.ts"

const golden = join(import.meta.dirname, "../golden/models")

export const engine = nodeEngine()
export const modelPath = (...parts: string[]): string => join(golden, ...parts)
export const json = (...parts: string[]): unknown => JSON.parse(readFileSync(modelPath(...parts), "utf8"))

export const stored = (view: TensorView): StoredTensor => ({
  dtype: view.dtype.toLowerCase() as StoredDType,
  shape: view.shape,
  bytes: { location: view.file, offset: view.offset, length: view.length },
})

/** Weights of one safetensors file as the runtime takes them. */
export async function weightsOf(...parts: string[]): Promise<Map<string, StoredTensor>> {
  const { tensors } = await openSafetensors(modelPath(...parts))
  return new Map([...tensors].map(([name, view]) => [name, stored(view)]))
}

export interface Golden {
  f32(name: string): { data: Float32Array; shape: number[] }
  i64(name: string): { data: BigInt64Array; shape: number[] }
}

/** Tensors of a golden file, by name. */
export async function goldenOf(name: string): Promise<Golden> {
  const bytes = readFileSync(modelPath(`${name}.safetensors`))
  const { tensors } = await openSafetensors(modelPath(`${name}.safetensors`))
  const raw = (key: string) => {
    const view = tensors.get(key)
    if (!view) throw new Error(`${name} has no ${key}`)
    return {
      buffer: new Uint8Array(bytes.subarray(view.offset, view.offset + view.length)).buffer,
      shape: view.shape,
    }
  }
  return {
    f32: (key) => ({ data: new Float32Array(raw(key).buffer), shape: raw(key).shape }),
    i64: (key) => ({ data: new BigInt64Array(raw(key).buffer), shape: raw(key).shape }),
  }
}

/** Largest difference, relative to the largest reference value. */
export function worst(got: ArrayLike<number>, want: Float32Array): number {
  if (got.length !== want.length) throw new Error(`${got.length} values for ${want.length}`)
  let error = 0
  let scale = 0
  for (let i = 0; i < want.length; i++) {
    error = Math.max(error, Math.abs(got[i]! - want[i]!))
    scale = Math.max(scale, Math.abs(want[i]!))
  }
  return error / scale
}
