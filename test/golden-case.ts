import { readFileSync } from "node:fs"
import { openSafetensors } from "../src/weights/open-file.ts"

/** A golden file: what was asked (its metadata's `about`), and the float32 tensors that the reference made. */
export async function openGolden<About>(path: string) {
  const { tensors, metadata } = await openSafetensors(path)
  const bytes = readFileSync(path)
  const want = (key: string): Float32Array => {
    const { offset, length } = tensors.get(key)!
    return new Float32Array(new Uint8Array(bytes.subarray(offset, offset + length)).buffer)
  }
  // Python's json writes infinities bare
  return {
    about: JSON.parse(metadata.get("about")!.replaceAll("-Infinity", "null")) as About,
    want,
    has: (key: string) => tensors.has(key),
  }
}

/** Relative distance in the L2 norm. */
export const relativeError = (got: Float32Array, want: Float32Array): number =>
  Math.sqrt(got.reduce((s, v, i) => s + (v - want[i]!) ** 2, 0) / want.reduce((s, v) => s + v * v, 0))
