import type { Dice } from "./dice.ts"

/** A tensor of a safetensors file that is about to be spoilt. */
export interface RawTensor {
  name: string
  dtype: unknown
  shape: unknown
  bytes: Buffer
  /** Said in the header in place of where the bytes lie. */
  offsets?: unknown
}

export function parseSafetensors(file: Buffer): RawTensor[] {
  const size = Number(file.readBigUInt64LE(0))
  const header = JSON.parse(file.toString("utf8", 8, 8 + size)) as Record<
    string,
    { dtype: string; shape: number[]; data_offsets: [number, number] }
  >
  return Object.entries(header)
    .filter(([name]) => name !== "__metadata__")
    .map(
      ([
        name,
        {
          dtype,
          shape,
          data_offsets: [from, to],
        },
      ]) => ({
        name,
        dtype,
        shape,
        bytes: file.subarray(8 + size + from, 8 + size + to),
      }),
    )
}

/** Writes names as they are, so that two tensors may carry the same. */
export function joinSafetensors(tensors: readonly RawTensor[], metadata?: unknown): Buffer {
  let at = 0
  const entries = tensors.map(({ name, dtype, shape, bytes, offsets }) => {
    const info = { dtype, shape, data_offsets: offsets ?? [at, (at += bytes.length)] }
    return `${JSON.stringify(name)}:${JSON.stringify(info)}`
  })
  if (metadata !== undefined) entries.unshift(`"__metadata__":${JSON.stringify(metadata)}`)
  return framed(
    `{${entries.join(",")}}`,
    tensors.map((t) => t.bytes),
  )
}

export function framed(header: string, parts: readonly Buffer[] = []): Buffer {
  const text = Buffer.from(header)
  const size = Buffer.alloc(8)
  size.writeBigUInt64LE(BigInt(text.length))
  return Buffer.concat([size, text, ...parts])
}

type Spoil = (file: Buffer, dice: Dice) => Buffer

/** One tensor changed, the rest written as it was. */
const one =
  (change: (tensor: RawTensor, dice: Dice, all: RawTensor[]) => void): Spoil =>
  (file, dice) => {
    const tensors = parseSafetensors(file)
    if (tensors.length === 0) return Buffer.alloc(0)
    change(dice.pick(tensors), dice, tensors)
    return joinSafetensors(tensors)
  }

const withSize = (file: Buffer, size: bigint): Buffer => {
  const out = Buffer.from(file)
  out.writeBigUInt64LE(size)
  return out
}

const flip = (file: Buffer, from: number, to: number, dice: Dice): Buffer => {
  const out = Buffer.from(file)
  for (let n = 1 + dice.below(8); n > 0 && to > from; n--)
    out[from + dice.below(to - from)]! ^= 1 << dice.below(8)
  return out
}

const headerEnd = (file: Buffer): number => Math.min(file.length, 8 + Number(file.readBigUInt64LE(0)))

/** One value of a float tensor replaced by its bits. */
const value = (bits: Record<string, number | bigint>): Spoil =>
  one((tensor, dice) => {
    const width = { F16: 2, BF16: 2, F32: 4 }[String(tensor.dtype)]
    if (!width || tensor.bytes.length < width) return
    const bytes = Buffer.from(tensor.bytes)
    const all = dice.chance(0.2)
    const count = bytes.length / width
    const only = dice.below(count)
    for (let i = all ? 0 : only; i < (all ? count : only + 1); i++)
      bytes.writeUIntLE(Number(bits[String(tensor.dtype)]), i * width, width)
    tensor.bytes = bytes
  })

const sizes = [0, -1, 1, 1.5, 1e9, 2 ** 53, 2 ** 31, 1e308, "8", null, true, [4], {}]
const dtypes = ["F16", "BF16", "F32", "F64", "I64", "I32", "U8", "BOOL", "F8_E4M3", "f16", "F4", "", null, 7]
const names = [
  "",
  "__proto__",
  "constructor",
  "../../etc/passwd",
  "a\u0000b",
  "\u001b[31mred\u202e",
  "x".repeat(100_000),
  "conv_in.weight",
  "model.diffusion_model.input_blocks.99999999.0.weight",
  "text_model.encoder.layers.1000000000.mlp.fc1.weight",
]

/** Ways to spoil a safetensors file, by what they aim at. */
export const spoilWeights: Record<string, Spoil> = {
  "header size": (file, dice) => {
    const real = file.readBigUInt64LE(0)
    return withSize(
      file,
      dice.pick([0n, 1n, 2n, real - 1n, real + 1n, real * 2n, 2n ** 31n, 2n ** 53n, 2n ** 64n - 1n]),
    )
  },
  "header bits": (file, dice) => flip(file, 8, headerEnd(file), dice),
  "data bits": (file, dice) => flip(file, headerEnd(file), file.length, dice),
  "cut short": (file, dice) => file.subarray(0, dice.below(file.length)),
  "bytes after the end": (file, dice) => Buffer.concat([file, dice.bytes(1 + dice.below(64))]),
  "bytes missing in front": (file, dice) => file.subarray(1 + dice.below(16)),
  dtype: one((t, dice) => (t.dtype = dice.pick(dtypes))),
  "one size": one((t, dice) => {
    if (!Array.isArray(t.shape)) return
    const shape = [...(t.shape as number[])] as unknown[]
    const i = dice.below(Math.max(1, shape.length))
    const old = Number(shape[i] ?? 1)
    shape[i] = dice.pick([...sizes, old + 1, old * 2, old / 2, -old])
    t.shape = shape
  }),
  "shape turned round": one((t) => Array.isArray(t.shape) && (t.shape = [...t.shape].reverse())),
  "shape made flat": one((t) => {
    if (Array.isArray(t.shape)) t.shape = [(t.shape as number[]).reduce((a, b) => a * b, 1)]
  }),
  "shape of another kind": one((t, dice) => (t.shape = dice.pick([null, "1,2", {}, [[1]], 4, true]))),
  "very many sizes": one((t) => (t.shape = Array.from({ length: 10_000 }, () => 1))),
  offsets: one((t, dice, all) => {
    const end = all.reduce((n, { bytes }) => n + bytes.length, 0)
    t.offsets = dice.pick([
      [0, t.bytes.length],
      [-8, 0],
      [end, end + 8],
      [8, 0],
      [0, 2 ** 53],
      [0.5, 1.5],
      ["0", "4"],
      [0],
      [0, 1, 2],
      null,
      {},
    ])
  }),
  "a tensor gone": one((t, _dice, all) => all.splice(all.indexOf(t), 1)),
  "a tensor twice": one((t, _dice, all) => all.push({ ...t })),
  "a tensor more": one((t, dice, all) => all.push({ ...t, name: `${t.name}.${dice.below(1000)}` })),
  "another name": one((t, dice, all) => {
    t.name = dice.pick([...names, dice.pick(all).name, `${t.name} `, t.name.toUpperCase(), t.name.slice(1)])
  }),
  "two names changed over": one((t, dice, all) => {
    const other = dice.pick(all)
    ;[t.name, other.name] = [other.name, t.name]
  }),
  "no tensors": () => framed("{}"),
  "very many tensors": () =>
    joinSafetensors(
      Array.from({ length: 50_000 }, (_, i) => ({
        name: `down_blocks.${i}.resnets.0.conv1.weight`,
        dtype: "F16",
        shape: [0],
        bytes: Buffer.alloc(0),
      })),
    ),
  "NaN weights": value({ F16: 0x7e00, BF16: 0x7fc0, F32: 0x7fc00000 }),
  "infinite weights": value({ F16: 0x7c00, BF16: 0xff80, F32: 0xff800000 }),
  "largest weights": value({ F16: 0x7bff, BF16: 0x7f7f, F32: 0x7f7fffff }),
  "smallest weights": value({ F16: 1, BF16: 1, F32: 1 }),
  "no weights but zeros": one((t, dice, all) => {
    for (const each of dice.chance(0.5) ? all : [t]) each.bytes = Buffer.alloc(each.bytes.length)
  }),
  metadata: (file, dice) =>
    joinSafetensors(
      parseSafetensors(file),
      dice.pick([null, [], "x", { a: 1 }, { a: { b: "c" } }, { "\u001b[2J": "\u0007" }]),
    ),
  "long metadata": (file) => joinSafetensors(parseSafetensors(file), { notes: "x".repeat(20_000_000) }),
  "deep header": (_file, dice) => framed(dice.pick(['{"a":', "[", '{"a":['].map((s) => s.repeat(100_000)))),
  "another document": (_file, dice) =>
    framed(dice.pick(["[]", "null", '"text"', "{", "{]", "{}{}", "\ufeff{}", '{"a":1}', '{"a":{}}'])),
  "another format": (_file, dice) =>
    Buffer.concat([
      Buffer.from(
        dice.pick([
          "PK\x03\x04",
          "\x80\x02}q",
          "GGUF\x03\0\0\0",
          "<!DOCTYPE html>",
          "version https://git-lfs",
        ]),
        "latin1",
      ),
      dice.bytes(dice.below(200)),
    ]),
  noise: (_file, dice) => dice.bytes(dice.below(4000)),
  nothing: () => Buffer.alloc(0),
}
