import { fail } from "../errors.ts"
import { INT8_NOTE, pairScales } from "./int8.ts"
import { Fraction, type Json, JsonError, scanJson } from "./json-scan.ts"
import type { ByteSource } from "./source.ts"
import { byteLength, type Dtype, elements, isDtype, showShape, type TensorView, Weights } from "./view.ts"

/** The format's own limit of a header, bytes (safetensors' `MAX_HEADER_SIZE`). */
export const FORMAT_HEADER_LIMIT = 100_000_000
/** What is read by default: a Stable Diffusion XL file needs 0.4 MB, a LoRA with training metadata 2 MB. */
export const DEFAULT_HEADER_LIMIT = 16 * 1024 * 1024

/** A safetensors file's header: tensors in the order of their bytes, and `__metadata__`. */
export interface SafetensorsHeader {
  tensors: Weights
  metadata: Map<string, string>
  /** First byte after the header: where AutoV3 hashes start. */
  dataStart: number
}

type Refuse = (code: string, what: string, hint?: string, tensor?: string) => never

/**
 * Reads and checks a header; no tensor bytes are touched. Checked as the reference does (safetensors'
 * tensor.rs) and beyond: size, header limit, strict UTF-8, `{` first, known dtypes, products within 2^53,
 * offsets that run without hole or overlap to the file's last byte, no key twice, whole numbers only,
 * metadata of strings, scales that fit their codes. Errors: SAFETENSORS_*, WEIGHTS_SCALE, naming file and tensor.
 */
export async function readSafetensorsHeader(
  source: ByteSource,
  options: { headerLimit?: number } = {},
): Promise<SafetensorsHeader> {
  const refuse = refuser(source.name)
  if (source.size < 8)
    refuse("SAFETENSORS_TOO_SMALL", `${source.size} bytes hold no header`, "is the download complete?")
  const head = await source.read(0, Math.min(source.size, 64))
  const size = headerSize(head, source, options.headerLimit ?? DEFAULT_HEADER_LIMIT, refuse)
  const text = decodeHeader(await source.read(8, size), refuse)
  const root = parseHeader(text, refuse)
  const metadata = readMetadata(root.get("__metadata__"), refuse)
  root.delete("__metadata__")
  const dataStart = 8 + size
  const file = source.path ?? source.name
  const found = [...root].map(([name, value]) => readInfo(name, value, file, refuse))
  const tensors = layout(found, dataStart, source.size, refuse)
  pairScales(tensors, metadata.has(INT8_NOTE), (what, tensor) =>
    refuse("WEIGHTS_SCALE", what, "the file is incomplete; convert the model again", tensor),
  )
  return { tensors, metadata, dataStart }
}

function refuser(file: string): Refuse {
  return (code, what, hint, tensor) =>
    fail(code, `${file}: ${tensor === undefined ? "" : `tensor ${JSON.stringify(clip(tensor))}: `}${what}`, {
      file,
      hint: hint ?? "the file is damaged or no safetensors file; fetch it again",
      details: tensor === undefined ? {} : { tensor },
    })
}

const clip = (text: string) => (text.length > 120 ? `${text.slice(0, 120)}...` : text)

function headerSize(head: Uint8Array, source: ByteSource, limit: number, refuse: Refuse): number {
  const bytes = new DataView(head.buffer, head.byteOffset, head.byteLength)
  const declared = bytes.getBigUint64(0, true)
  const look = lookalike(head)
  const most = Math.min(limit, FORMAT_HEADER_LIMIT)
  if (declared + 8n > BigInt(source.size))
    refuse(
      "SAFETENSORS_HEADER_SIZE",
      `says its header has ${declared} bytes, the file has ${source.size}`,
      look,
    )
  if (declared > BigInt(most))
    refuse("SAFETENSORS_HEADER_LIMIT", `its header of ${declared} bytes is over the limit of ${most}`, look)
  if (declared < 2n) refuse("SAFETENSORS_HEADER_SIZE", `a header of ${declared} bytes holds no object`, look)
  return Number(declared)
}

/** A hint for files that are often mistaken for safetensors, told from their first bytes. */
function lookalike(head: Uint8Array): string | undefined {
  const start = String.fromCharCode(...head.subarray(0, 32))
  if (start.startsWith("PK") || start.charCodeAt(0) === 0x80)
    return "this is a pickled checkpoint: run `aquatint convert FILE.ckpt FILE.safetensors` first"
  if (start.startsWith("version https://git-lfs")) return "this is a git-lfs pointer: run `git lfs pull`"
  if (/^\s*<(!doctype|html)/i.test(start)) return "this is a web page: the download failed, fetch it again"
  if (start.startsWith("GGUF")) return "GGUF files are not read; use the safetensors file of the model"
  return undefined
}

function decodeHeader(bytes: Uint8Array, refuse: Refuse): string {
  if (bytes[0] !== 0x7b)
    refuse("SAFETENSORS_HEADER_START", `its header starts with byte ${bytes[0]}, not with "{"`)
  try {
    return new TextDecoder("utf-8", { fatal: true, ignoreBOM: true }).decode(bytes)
  } catch {
    return refuse("SAFETENSORS_UTF8", "its header is no UTF-8")
  }
}

function parseHeader(text: string, refuse: Refuse): Map<string, Json> {
  try {
    const root = scanJson(text)
    if (root instanceof Map) return root
  } catch (error) {
    if (!(error instanceof JsonError)) throw error
    if (error.duplicate !== undefined)
      refuse(
        "SAFETENSORS_DUPLICATE_KEY",
        `its header has the key ${JSON.stringify(clip(error.duplicate))} twice`,
      )
    refuse("SAFETENSORS_JSON", `its header is no JSON: ${error.message} at character ${error.at}`)
  }
  return refuse("SAFETENSORS_JSON", "its header is no JSON object")
}

function readMetadata(value: Json | undefined, refuse: Refuse): Map<string, string> {
  if (value === undefined) return new Map()
  if (!(value instanceof Map)) refuse("SAFETENSORS_METADATA", "__metadata__ is no object")
  const out = new Map<string, string>()
  for (const [key, entry] of value) {
    if (typeof entry !== "string")
      refuse("SAFETENSORS_METADATA", `__metadata__ ${JSON.stringify(clip(key))} is no string`)
    out.set(key, entry)
  }
  return out
}

interface Info extends TensorView {
  begin: number
  end: number
}

function readInfo(name: string, value: Json, file: string, refuse: Refuse): Info {
  if (!(value instanceof Map)) refuse("SAFETENSORS_TENSOR", "its entry is no object", undefined, name)
  const dtype = value.get("dtype")
  if (typeof dtype !== "string" || !isDtype(dtype))
    refuse("SAFETENSORS_DTYPE", `dtype ${clip(plain(dtype))} is not one of the format's`, undefined, name)
  const shape = integers(value.get("shape"))
  if (!shape)
    refuse(
      "SAFETENSORS_SHAPE",
      `shape ${clip(plain(value.get("shape")))} is no list of sizes`,
      undefined,
      name,
    )
  const offsets = integers(value.get("data_offsets"))
  if (offsets?.length !== 2)
    refuse(
      "SAFETENSORS_OFFSETS",
      `data_offsets ${clip(plain(value.get("data_offsets")))} are no two offsets`,
      undefined,
      name,
    )
  const [begin, end] = offsets as [number, number]
  const length = sizeOf(name, dtype, shape, refuse)
  if (end < begin)
    refuse("SAFETENSORS_OFFSETS", `ends at ${end}, before it begins at ${begin}`, undefined, name)
  if (end - begin !== length)
    refuse(
      "SAFETENSORS_SIZE",
      `${dtype}${showShape(shape)} needs ${length} bytes, has ${end - begin}`,
      undefined,
      name,
    )
  return { name, dtype, shape, file, offset: begin, length, begin, end }
}

function sizeOf(name: string, dtype: Dtype, shape: number[], refuse: Refuse): number {
  if (Number.isNaN(elements(shape)))
    refuse(
      "SAFETENSORS_OVERFLOW",
      `shape ${showShape(shape)} has more elements than can be counted`,
      undefined,
      name,
    )
  const length = byteLength(dtype, shape)
  if (Number.isNaN(length))
    refuse(
      "SAFETENSORS_OVERFLOW",
      `${dtype}${showShape(shape)} is no whole number of bytes below 2^53`,
      undefined,
      name,
    )
  return length
}

/** A list of whole numbers from 0 to 2^53 - 1; `1.0`, `-0` and larger ones are none. */
function integers(value: Json | undefined): number[] | undefined {
  if (!Array.isArray(value)) return undefined
  const ok = value.every(
    (n) => typeof n === "number" && Number.isSafeInteger(n) && n >= 0 && !Object.is(n, -0),
  )
  return ok ? (value as number[]) : undefined
}

function plain(value: Json | undefined): string {
  if (value === undefined) return "(absent)"
  if (value instanceof Fraction) return String(value.value)
  if (Array.isArray(value)) return `[${value.slice(0, 9).map(plain).join(", ")}]`
  return value instanceof Map ? "{...}" : JSON.stringify(value)
}

/** Sorted by offset, each tensor must begin where the last ended, and the last must end the file. */
function layout(found: Info[], dataStart: number, fileSize: number, refuse: Refuse): Weights {
  found.sort((a, b) => a.begin - b.begin || a.end - b.end)
  const tensors = new Weights()
  let at = 0
  for (const { begin, end, ...view } of found) {
    if (begin !== at) {
      const what =
        begin < at ? `overlaps the one before it, which ends at ${at}` : `leaves a hole after byte ${at}`
      refuse("SAFETENSORS_OFFSETS", `begins at ${begin} and ${what}`, undefined, view.name)
    }
    at = end
    tensors.set(view.name, { ...view, offset: dataStart + begin })
  }
  if (dataStart + at > fileSize)
    refuse(
      "SAFETENSORS_INCOMPLETE",
      `${dataStart + at - fileSize} bytes are missing at its end`,
      "the download is not complete; fetch it again",
    )
  if (dataStart + at < fileSize)
    refuse("SAFETENSORS_TRAILING", `${fileSize - dataStart - at} bytes follow the last tensor`)
  return tensors
}
