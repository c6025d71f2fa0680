import { halfToFloat } from "./decode.ts"
import type { Dtype } from "./view.ts"

/** What `--dtype` can ask for, as safetensors spells it. */
export const TARGETS = { fp32: "F32", fp16: "F16", bf16: "BF16" } as const satisfies Record<string, Dtype>
export type Target = (typeof TARGETS)[keyof typeof TARGETS]

/** Turns little-endian numbers into others; counts finite numbers that became infinite. */
export interface Cast {
  /** Bytes of one number before and after. */
  from: number
  to: number
  run(input: Uint8Array, output: Uint8Array): number
}

/** Float types that are cast, with the way to float32's bits; everything else keeps its own type. */
const FLOATS: Partial<Record<Dtype, { size: number; bits: (bytes: Uint8Array) => Int32Array }>> = {
  F64: { size: 8, bits: (b) => new Int32Array(Float32Array.from(words(Float64Array, b)).buffer) },
  F32: { size: 4, bits: (b) => words(Int32Array, b) },
  F16: { size: 2, bits: (b) => lookup(halves(), words(Uint16Array, b)) },
  BF16: { size: 2, bits: (b) => raised(words(Uint16Array, b)) },
  F8_E4M3: { size: 1, bits: (b) => lookup(eighths(4), Uint16Array.from(b)) },
  F8_E5M2: { size: 1, bits: (b) => lookup(eighths(5), Uint16Array.from(b)) },
}

/**
 * How numbers of one type become another, rounded to nearest, ties to even, as torch's `.to(dtype)` does:
 * always by way of float32. Undefined where nothing changes: equal types, and types that are no floats.
 */
export function castOf(from: Dtype, to: Target | undefined): Cast | undefined {
  const source = FLOATS[from]
  if (source === undefined || to === undefined || from === to) return undefined
  const run = (input: Uint8Array, output: Uint8Array): number => {
    const bits = source.bits(input)
    if (to === "F32") return wide(bits, words(Int32Array, output))
    return to === "F16" ? half(bits, words(Uint16Array, output)) : brain(bits, words(Uint16Array, output))
  }
  return { from: source.size, to: to === "F32" ? 4 : 2, run }
}

/** The type a tensor is written in. */
export const castType = (from: Dtype, to: Target | undefined): Dtype =>
  to !== undefined && FLOATS[from] !== undefined ? to : from

interface Words<T> {
  new (buffer: ArrayBufferLike, offset: number, length: number): T
  readonly BYTES_PER_ELEMENT: number
}

/** The bytes as numbers, copied only where they do not lie on a boundary. */
function words<T>(kind: Words<T>, bytes: Uint8Array): T {
  const size = kind.BYTES_PER_ELEMENT
  const at = bytes.byteOffset % size === 0 ? bytes : bytes.slice()
  return new kind(at.buffer, at.byteOffset, at.byteLength / size)
}

function lookup(table: Int32Array, indices: Uint16Array): Int32Array {
  const out = new Int32Array(indices.length)
  for (let i = 0; i < out.length; i++) out[i] = table[indices[i]!]!
  return out
}

/** bfloat16 is float32's upper half. */
function raised(values: Uint16Array): Int32Array {
  const out = new Int32Array(values.length)
  for (let i = 0; i < out.length; i++) out[i] = values[i]! << 16
  return out
}

const bitsOf = (count: number, value: (n: number) => number) =>
  new Int32Array(Float32Array.from({ length: count }, (_, n) => value(n)).buffer)

let halfTable: Int32Array | undefined
const halves = () => (halfTable ??= bitsOf(65536, halfToFloat))

/** E4M3 has no infinities and its NaN is all ones; E5M2 is the upper half of a half. */
function eighth(n: number, exponentBits: 4 | 5): number {
  if (exponentBits === 5) return halfToFloat(n << 8)
  const exponent = (n >> 3) & 15
  const fraction = n & 7
  if (exponent === 15 && fraction === 7) return Number.NaN
  const size = exponent === 0 ? fraction * 2 ** -9 : (8 + fraction) * 2 ** (exponent - 10)
  return n & 128 ? -size : size
}

const eighthTables = new Map<4 | 5, Int32Array>()

function eighths(exponentBits: 4 | 5): Int32Array {
  const known = eighthTables.get(exponentBits)
  if (known) return known
  const table = bitsOf(256, (n) => eighth(n, exponentBits))
  eighthTables.set(exponentBits, table)
  return table
}

function wide(bits: Int32Array, out: Int32Array): number {
  out.set(bits)
  return 0
}

const INFINITE = 0x7f800000

/** float32 bits to binary16: infinite from 65520 on, subnormal below 2^-14, zero up to 2^-25. */
function half(bits: Int32Array, out: Uint16Array): number {
  let lost = 0
  for (let i = 0; i < bits.length; i++) {
    const x = bits[i]!
    const size = x & 0x7fffffff
    let h = 0
    if (size >= 0x477ff000) {
      h = size > INFINITE ? 0x7e00 : 0x7c00
      if (size < INFINITE) lost++
    } else if (size >= 0x38800000) h = (size - 0x38000000 + 0xfff + ((size >>> 13) & 1)) >>> 13
    else if (size >= 0x33000000) h = rounded((size & 0x7fffff) | 0x800000, 126 - (size >>> 23))
    out[i] = ((x >>> 16) & 0x8000) | h
  }
  return lost
}

/** n / 2^shift to the nearest whole number, ties to the even one. */
function rounded(n: number, shift: number): number {
  return (n + (1 << (shift - 1)) - 1 + ((n >>> shift) & 1)) >>> shift
}

/** float32 bits to bfloat16: the upper half, rounded. */
function brain(bits: Int32Array, out: Uint16Array): number {
  let lost = 0
  for (let i = 0; i < bits.length; i++) {
    const x = bits[i]!
    const size = x & 0x7fffffff
    if (size > INFINITE) out[i] = ((x >>> 16) & 0x8000) | 0x7fc0
    else {
      out[i] = ((x >>> 16) & 0x8000) | ((size + 0x7fff + ((size >>> 16) & 1)) >>> 16)
      if (size >= 0x7f7f8000 && size < INFINITE) lost++
    }
  }
  return lost
}
