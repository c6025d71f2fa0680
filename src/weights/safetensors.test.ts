import fc from "fast-check"
import { describe, expect, test } from "vitest"
import { AquatintError } from "../errors.ts"
import { encodeHeader } from "./encode.ts"
import { JsonError, scanJson } from "./json-scan.ts"
import { readSafetensorsHeader } from "./safetensors.ts"
import { bufferSource } from "./source.ts"

/** A file of this header text and so many data bytes. */
function file(header: string | Uint8Array, data = 0, size?: number | bigint): Uint8Array {
  const json = typeof header === "string" ? new TextEncoder().encode(header) : header
  const out = new Uint8Array(8 + json.length + data)
  new DataView(out.buffer).setBigUint64(0, BigInt(size ?? json.length), true)
  out.set(json, 8)
  return out
}

const read = (bytes: Uint8Array) => readSafetensorsHeader(bufferSource(bytes, "x.safetensors"))
const codeOf = (bytes: Uint8Array) =>
  read(bytes).then(
    () => "read",
    (error: unknown) => (error instanceof AquatintError ? error.code : `untyped ${String(error)}`),
  )
const entry = (dtype: string, shape: string, begin: string | number, end: string | number) =>
  `{"dtype":"${dtype}","shape":${shape},"data_offsets":[${begin},${end}]}`

describe("what the format allows", () => {
  test("two tensors, a scalar, an empty one, metadata, padding", async () => {
    const header = `{"__metadata__":{"format":"pt","__proto__":"x"},"b":${entry("F16", "[2,3]", 4, 16)},"s":${entry("F32", "[]", 0, 4)},"none":${entry("F32", "[0,5]", 16, 16)}}   `
    const { tensors, metadata, dataStart } = await read(file(header, 16))
    expect(dataStart).toBe(8 + header.length)
    expect([...tensors.keys()]).toEqual(["s", "b", "none"])
    expect(tensors.get("b")).toEqual({
      name: "b",
      dtype: "F16",
      shape: [2, 3],
      file: "x.safetensors",
      offset: dataStart + 4,
      length: 12,
    })
    expect([...metadata]).toEqual([
      ["format", "pt"],
      ["__proto__", "x"],
    ])
  })

  test("no tensors at all, and a tensor called __proto__", async () => {
    expect((await read(file("{}"))).tensors.size).toBe(0)
    const { tensors } = await read(file(`{"__proto__":${entry("I8", "[2]", 0, 2)}}`, 2))
    expect(tensors.get("__proto__")?.length).toBe(2)
  })

  test("what encodeHeader writes", async () => {
    const header = encodeHeader(
      [
        { name: "ä/\n", dtype: "BF16", shape: [3] },
        { name: "q", dtype: "F64", shape: [2, 2] },
      ],
      [["key", '"quoted"']],
    )
    const bytes = new Uint8Array(header.length + 38)
    bytes.set(header)
    const { tensors, metadata } = await read(bytes)
    expect(header.length % 8).toBe(0)
    expect([...tensors.values()].map((v) => [v.name, v.offset - header.length, v.length])).toEqual([
      ["ä/\n", 0, 6],
      ["q", 6, 32],
    ])
    expect(metadata.get("key")).toBe('"quoted"')
  })
})

const ok = `{"a":${entry("F32", "[2]", 0, 8)}}`
const big = "9007199254740993"
const refused: [string, Uint8Array, string][] = [
  ["seven bytes", new Uint8Array(7), "SAFETENSORS_TOO_SMALL"],
  ["an empty file", new Uint8Array(0), "SAFETENSORS_TOO_SMALL"],
  ["a header longer than the file", file(ok, 8, 10_000), "SAFETENSORS_HEADER_SIZE"],
  ["a header of 2^64 - 1", file(ok, 8, 2n ** 64n - 1n), "SAFETENSORS_HEADER_SIZE"],
  ["a header of 2^63", file(ok, 8, 2n ** 63n), "SAFETENSORS_HEADER_SIZE"],
  ["a header of nothing", file(ok, 8, 0), "SAFETENSORS_HEADER_SIZE"],
  ["a header over the limit", file(" ".repeat(17 * 1024 * 1024)), "SAFETENSORS_HEADER_LIMIT"],
  ["a space first", file(` ${ok}`, 8), "SAFETENSORS_HEADER_START"],
  ["a list", file("[]"), "SAFETENSORS_HEADER_START"],
  ["a byte order mark", file(`\ufeff${ok}`, 8), "SAFETENSORS_HEADER_START"],
  ["broken UTF-8", file(new Uint8Array([0x7b, 0xff, 0x7d])), "SAFETENSORS_UTF8"],
  ["an overlong NUL", file(new Uint8Array([0x7b, 0x22, 0xc0, 0x80, 0x22])), "SAFETENSORS_UTF8"],
  ["broken JSON", file(`{"a":`, 8), "SAFETENSORS_JSON"],
  ["text after the object", file(`${ok}x`, 8), "SAFETENSORS_JSON"],
  ["NUL padding", file(`${ok}\0`, 8), "SAFETENSORS_JSON"],
  ["depth", file(`{"a":${"[".repeat(100_000)}`), "SAFETENSORS_JSON"],
  ["half a surrogate", file(`{"\\ud800":${entry("F32", "[2]", 0, 8)}}`, 8), "SAFETENSORS_JSON"],
  [
    "a key twice",
    file(`{"a":${entry("F32", "[2]", 0, 8)},"a":${entry("F32", "[2]", 0, 8)}}`, 8),
    "SAFETENSORS_DUPLICATE_KEY",
  ],
  [
    "a key twice, once escaped",
    file(`{"a":${entry("F32", "[2]", 0, 8)},"\\u0061":${entry("F32", "[2]", 0, 8)}}`, 8),
    "SAFETENSORS_DUPLICATE_KEY",
  ],
  [
    "a shape twice",
    file(`{"a":{"dtype":"F32","shape":[2],"shape":[2],"data_offsets":[0,8]}}`, 8),
    "SAFETENSORS_DUPLICATE_KEY",
  ],
  ["metadata twice", file(`{"__metadata__":{},"__metadata__":{}}`), "SAFETENSORS_DUPLICATE_KEY"],
  ["a metadata key twice", file(`{"__metadata__":{"x":"1","x":"2"}}`), "SAFETENSORS_DUPLICATE_KEY"],
  ["metadata of numbers", file(`{"__metadata__":{"x":1}}`), "SAFETENSORS_METADATA"],
  ["metadata in a list", file(`{"__metadata__":["x"]}`), "SAFETENSORS_METADATA"],
  ["metadata null", file(`{"__metadata__":null}`), "SAFETENSORS_METADATA"],
  ["a tensor that is a string", file(`{"a":"F32"}`), "SAFETENSORS_TENSOR"],
  ["no dtype", file(`{"a":{"shape":[2],"data_offsets":[0,8]}}`, 8), "SAFETENSORS_DTYPE"],
  ["a strange dtype", file(`{"a":${entry("F33", "[2]", 0, 8)}}`, 8), "SAFETENSORS_DTYPE"],
  ["a dtype of Object.prototype", file(`{"a":${entry("constructor", "[2]", 0, 8)}}`, 8), "SAFETENSORS_DTYPE"],
  ["a dtype list", file(`{"a":{"dtype":["F32"],"shape":[2],"data_offsets":[0,8]}}`, 8), "SAFETENSORS_DTYPE"],
  ["no shape", file(`{"a":{"dtype":"F32","data_offsets":[0,8]}}`, 8), "SAFETENSORS_SHAPE"],
  ["a negative size", file(`{"a":${entry("F32", "[-2]", 0, 8)}}`, 8), "SAFETENSORS_SHAPE"],
  ["a size of -0", file(`{"a":${entry("F32", "[-0]", 0, 0)}}`), "SAFETENSORS_SHAPE"],
  ["a size of 2.0", file(`{"a":${entry("F32", "[2.0]", 0, 8)}}`, 8), "SAFETENSORS_SHAPE"],
  ["a size of 2e0", file(`{"a":${entry("F32", "[2e0]", 0, 8)}}`, 8), "SAFETENSORS_SHAPE"],
  ["a size as text", file(`{"a":${entry("F32", '["2"]', 0, 8)}}`, 8), "SAFETENSORS_SHAPE"],
  ["a size over 2^53", file(`{"a":${entry("F32", `[${big}]`, 0, 8)}}`, 8), "SAFETENSORS_SHAPE"],
  [
    "a size of 1 and 400 zeros",
    file(`{"a":${entry("F32", `[1${"0".repeat(400)}]`, 0, 8)}}`, 8),
    "SAFETENSORS_SHAPE",
  ],
  [
    "a product over 2^53",
    file(`{"a":${entry("F32", "[94906267,94906267]", 0, 8)}}`, 8),
    "SAFETENSORS_OVERFLOW",
  ],
  [
    "a product that wraps at 2^64",
    file(`{"a":${entry("F32", "[4294967296,4294967296,4]", 0, 0)}}`),
    "SAFETENSORS_OVERFLOW",
  ],
  ["bits over 2^53", file(`{"a":${entry("F32", "[9007199254740991]", 0, 8)}}`, 8), "SAFETENSORS_OVERFLOW"],
  ["half a byte", file(`{"a":${entry("F4", "[1]", 0, 1)}}`, 1), "SAFETENSORS_OVERFLOW"],
  ["no offsets", file(`{"a":{"dtype":"F32","shape":[2]}}`, 8), "SAFETENSORS_OFFSETS"],
  ["one offset", file(`{"a":{"dtype":"F32","shape":[2],"data_offsets":[8]}}`, 8), "SAFETENSORS_OFFSETS"],
  ["offsets over 2^53", file(`{"a":${entry("F32", "[2]", big, big)}}`, 8), "SAFETENSORS_OFFSETS"],
  ["an end before the begin", file(`{"a":${entry("F32", "[2]", 8, 0)}}`, 8), "SAFETENSORS_OFFSETS"],
  ["fewer bytes than the shape", file(`{"a":${entry("F32", "[3]", 0, 8)}}`, 8), "SAFETENSORS_SIZE"],
  ["more bytes than the shape", file(`{"a":${entry("F32", "[1]", 0, 8)}}`, 8), "SAFETENSORS_SIZE"],
  ["a hole at the start", file(`{"a":${entry("F32", "[2]", 4, 12)}}`, 12), "SAFETENSORS_OFFSETS"],
  [
    "a hole between",
    file(`{"a":${entry("F32", "[1]", 0, 4)},"b":${entry("F32", "[1]", 8, 12)}}`, 12),
    "SAFETENSORS_OFFSETS",
  ],
  [
    "an overlap",
    file(`{"a":${entry("F32", "[2]", 0, 8)},"b":${entry("F32", "[2]", 4, 12)}}`, 12),
    "SAFETENSORS_OFFSETS",
  ],
  [
    "two tensors of the same bytes",
    file(`{"a":${entry("F32", "[2]", 0, 8)},"b":${entry("F32", "[2]", 0, 8)}}`, 8),
    "SAFETENSORS_OFFSETS",
  ],
  ["a truncated file", file(ok, 7), "SAFETENSORS_INCOMPLETE"],
  ["bytes after the last tensor", file(ok, 9), "SAFETENSORS_TRAILING"],
]

test.each(refused)("refused: %s", async (_, bytes, code) => {
  expect(await codeOf(bytes)).toBe(code)
})

test("errors name file, tensor and a hint", async () => {
  const error = await read(file(`{"block.weight":${entry("F32", "[3]", 0, 8)}}`, 8)).catch((e: unknown) => e)
  expect(error).toMatchObject({
    code: "SAFETENSORS_SIZE",
    message: 'x.safetensors: tensor "block.weight": F32[3] needs 12 bytes, has 8',
    file: "x.safetensors",
    details: { tensor: "block.weight" },
    exitCode: 2,
  })
})

test.each([
  ["PK\x03\x04 a zip of pickles", /aquatint convert/],
  ["\x80\x02 a pickle ........", /aquatint convert/],
  ["version https://git-lfs.github.com/spec/v1", /git lfs pull/],
  ["<!DOCTYPE html><html>", /web page/],
  ["GGUF\x03\0\0\0\0\0\0\0", /GGUF/],
])("a lookalike gets its hint: %s", async (start, hint) => {
  const bytes = Uint8Array.from(start.padEnd(64, "."), (c) => c.charCodeAt(0))
  expect(await read(bytes).catch((e: unknown) => e)).toMatchObject({ hint: expect.stringMatching(hint) })
})

describe("fuzz", () => {
  const sound = new TextEncoder().encode(
    `{"__metadata__":{"k":"v"},"a.weight":${entry("F16", "[2,3]", 0, 12)},"b":${entry("F32", "[4]", 12, 28)},"s":${entry("I64", "[]", 28, 36)}}`,
  )
  const interesting = [
    "0",
    "1",
    "-1",
    "-0",
    "1.5",
    "1e999",
    "255",
    "256",
    "65536",
    "4294967295",
    "4294967296",
    "9007199254740991",
    "9007199254740992",
    "18446744073709551615",
    "null",
    "true",
    '""',
    "[]",
    "{}",
    '"\\u0000"',
    '"\\ud834"',
    "[[]]",
  ]

  test("edited headers are read or refused with a typed error, never anything else", async () => {
    const edit = fc.record({
      at: fc.nat(sound.length - 1),
      kind: fc.constantFrom("flip", "insert", "delete", "value", "repeat", "size", "cut"),
      byte: fc.nat(255),
      value: fc.constantFrom(...interesting),
      span: fc.nat(40),
    })
    await fc.assert(
      fc.asyncProperty(fc.array(edit, { minLength: 1, maxLength: 4 }), async (edits) => {
        let json = [...sound]
        let size: bigint | undefined
        let data = 36
        for (const { at, kind, byte, value, span } of edits) {
          if (kind === "flip") json[at % json.length] = byte
          if (kind === "insert") json.splice(at, 0, byte)
          if (kind === "delete") json.splice(at, span)
          if (kind === "value") json = replaceNumber(json, at, value)
          if (kind === "repeat") json.splice(at, 0, ...json.slice(at, at + span))
          if (kind === "size") size = BigInt(json.length) + BigInt(byte) - 128n
          if (kind === "cut") data = span
          if (json.length === 0) json = [0x7b]
        }
        const declared = BigInt.asUintN(64, size ?? BigInt(json.length))
        expect(await codeOf(file(Uint8Array.from(json), data, declared))).toMatch(
          /^(read|SAFETENSORS_[A-Z0-9_]+)$/,
        )
      }),
      { numRuns: 1500, seed: 7 },
    )
  })

  test("the JSON scanner agrees with JSON.parse where that is strict enough", () => {
    fc.assert(
      fc.property(fc.jsonValue({ maxDepth: 3, noUnicodeString: false }), fc.nat(3), (value, indent) => {
        const text = JSON.stringify(value, null, indent)
        expect(toPlain(scanJson(text))).toEqual(JSON.parse(text))
      }),
      { numRuns: 100, seed: 7 },
    )
    fc.assert(
      fc.property(fc.string({ unit: fc.constantFrom(...'{}[]",:\\u0123eE.-+tfn \n\t\u0000') }), (text) => {
        let strict = true
        try {
          scanJson(text)
        } catch (error) {
          if (!(error instanceof JsonError)) throw error
          strict = false
        }
        if (strict) JSON.parse(text)
      }),
      { numRuns: 3000, seed: 7 },
    )
  })

  test("a header of a million characters in one string takes no time", () => {
    const text = `{"${"x\\n".repeat(2_000_000)}":"${"y".repeat(8_000_000)}"}`
    const start = performance.now()
    scanJson(text)
    expect(performance.now() - start).toBeLessThan(3000)
  })
})

/** Puts a value in place of the first number at or after `at`. */
function replaceNumber(json: number[], at: number, value: string): number[] {
  const text = String.fromCharCode(...json)
  const hit = /\d+/.exec(text.slice(at))
  if (!hit) return json
  const start = at + hit.index
  return Array.from(text.slice(0, start) + value + text.slice(start + hit[0].length), (c) => c.charCodeAt(0))
}

function toPlain(value: ReturnType<typeof scanJson>): unknown {
  if (value instanceof Map) return Object.fromEntries([...value].map(([k, v]) => [k, toPlain(v)]))
  if (Array.isArray(value)) return value.map(toPlain)
  return typeof value === "object" && value !== null ? value.value : value
}
