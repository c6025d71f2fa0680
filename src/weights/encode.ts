import { fail } from "../errors.ts"
import { byteLength, isDtype, showShape, type TensorView } from "./view.ts"

/** The 8-byte length and the JSON header, padded with spaces to a multiple of 8, tensors in the order given. */
export function encodeHeader(
  tensors: readonly { name: string; dtype: TensorView["dtype"]; shape: readonly number[] }[],
  metadata: Iterable<readonly [string, string]> = [],
): Uint8Array {
  const parts: string[] = []
  const meta = [...metadata].map(([key, value]) => `${quoted(key)}:${quoted(value)}`)
  if (meta.length > 0) parts.push(`"__metadata__":{${meta.join(",")}}`)
  let at = 0
  const seen = new Set(["__metadata__"])
  for (const { name, dtype, shape } of tensors) {
    const length = isDtype(dtype) ? byteLength(dtype, shape) : Number.NaN
    if (seen.has(name)) fail("SAFETENSORS_DUPLICATE_KEY", `tensor ${name} is given twice`, { blame: "here" })
    if (Number.isNaN(length))
      fail("SAFETENSORS_SIZE", `tensor ${name}: ${dtype}${showShape(shape)} has no byte length`, {
        blame: "here",
      })
    seen.add(name)
    parts.push(
      `${quoted(name)}:{"dtype":"${dtype}","shape":[${shape.join(",")}],"data_offsets":[${at},${at + length}]}`,
    )
    at += length
  }
  const json = new TextEncoder().encode(`{${parts.join(",")}}`)
  const padded = Math.ceil(json.length / 8) * 8
  const out = new Uint8Array(8 + padded).fill(0x20)
  new DataView(out.buffer).setBigUint64(0, BigInt(padded), true)
  out.set(json, 8)
  return out
}

/** A JSON string; half a surrogate pair, which UTF-8 cannot hold, becomes U+FFFD. */
const quoted = (text: string) => JSON.stringify(text.replace(/\p{Surrogate}/gu, "\ufffd"))
