import { AquatintError } from "../errors.ts"
import type { StoredTensor } from "../graph/index.ts"
import type { SessionSpec } from "./engine.ts"

/** Reads a range of a weight file that the engine cannot map. */
export type ReadWeights = (location: string, offset: number, length: number) => Promise<Uint8Array>

export interface Gathered {
  /** The weights as the ONNX file names them. */
  readonly weights: Map<string, StoredTensor>
  readonly externals: SessionSpec["externals"]
}

/** The name under which the gathered bytes go beside the ONNX file. */
const besides = "weights"
/** Weights of fewer bytes go into the ONNX file itself. */
const small = 256
/** GPUs copy whole words, the CPU reads whole vectors. */
const alignment = 64

/** File paths as the engine names them: relative to the root of the file system. */
const fromRoot = (path: string): string => path.replace(/^([A-Za-z]:)?[\\/]+/, "").replaceAll("\\", "/")

/**
 * Makes a network's weights ready for an engine: files are mapped where they lie; what is in memory, or comes through
 * `read`, is laid into one buffer beside the ONNX file, equal ranges once.
 * @throws OUT_OF_MEMORY
 */
export async function gather(
  used: ReadonlyMap<string, StoredTensor>,
  read: ReadWeights | undefined,
): Promise<Gathered> {
  const weights = new Map<string, StoredTensor>()
  const mapped = new Set<string>()
  const loose: { key: unknown; name: string; tensor: StoredTensor }[] = []
  for (const [name, tensor] of [...used, ...scalesOf(used)]) {
    const { bytes } = tensor
    if (bytes instanceof Uint8Array) {
      if (bytes.length < small) weights.set(name, tensor)
      else loose.push({ key: bytes, name, tensor })
    } else if (read) {
      loose.push({ key: `${bytes.location} ${bytes.offset} ${bytes.length}`, name, tensor })
    } else {
      mapped.add(bytes.location)
      weights.set(name, { ...tensor, bytes: { ...bytes, location: fromRoot(bytes.location) } })
    }
  }
  const externals = [...mapped].map((path) => ({ path }))
  if (loose.length === 0) return { weights: withScales(weights), externals }
  const places = new Map<unknown, number>()
  let size = 0
  for (const { key, tensor } of loose) {
    if (places.has(key)) continue
    places.set(key, size)
    size += Math.ceil(tensor.bytes.length / alignment) * alignment
  }
  const data = allocate(size)
  const filled = new Set<unknown>()
  for (const { key, name, tensor } of loose) {
    const { bytes } = tensor
    const offset = places.get(key)!
    weights.set(name, { ...tensor, bytes: { location: besides, offset, length: bytes.length } })
    if (filled.has(key)) continue
    filled.add(key)
    data.set(
      bytes instanceof Uint8Array ? bytes : await read!(bytes.location, bytes.offset, bytes.length),
      offset,
    )
  }
  return { weights: withScales(weights), externals: [...externals, { path: besides, data }] }
}

const scaleOf = (name: string) => `${name} row scales`

/** Scales of codes go the way of other weights, under names of their own. */
const scalesOf = (used: ReadonlyMap<string, StoredTensor>): [string, StoredTensor][] =>
  [...used].flatMap(([name, { scale }]) => (scale ? [[scaleOf(name), scale]] : []))

function withScales(weights: Map<string, StoredTensor>): Map<string, StoredTensor> {
  for (const [name, tensor] of weights)
    if (tensor.scale) weights.set(name, { ...tensor, scale: weights.get(scaleOf(name))! })
  return weights
}

function allocate(size: number): Uint8Array {
  try {
    return new Uint8Array(size)
  } catch (cause) {
    throw new AquatintError("OUT_OF_MEMORY", `there is no room for ${Math.round(size / 1e6)} MB of weights`, {
      blame: "here",
      hint: "try a smaller model, or close other programs",
      cause,
    })
  }
}
