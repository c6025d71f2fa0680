import { createHash } from "node:crypto"
import { readFileSync } from "node:fs"
import { deflateSync } from "node:zlib"
import fc from "fast-check"
import { describe, expect, test } from "vitest"
import { AquatintError } from "../errors.ts"
import { decodeImage, encodeImage } from "./codec.ts"
import { checkImage, type ImageFormat, readHeader } from "./header.ts"
import { readMetadata } from "./metadata.ts"
import { type Picture, toRgb } from "./pixels.ts"
import { pngChunk } from "./png.ts"

const folder = new URL("../../test/golden/image/", import.meta.url)
const file = (name: string) => new Uint8Array(readFileSync(new URL(name, folder)))
const found: Record<string, { width: number; height: number; rgb: string }> = JSON.parse(
  readFileSync(new URL("files.json", folder), "utf8"),
).data

const sha256 = (data: Uint8ClampedArray) => createHash("sha256").update(data).digest("hex")
const ascii = (text: string) => Uint8Array.from(text, (c) => c.charCodeAt(0))
const join = (...parts: Uint8Array[]) => new Uint8Array(Buffer.concat(parts))

/** A PNG of any claimed size around any pixel data. */
function png(width: number, height: number, body: Uint8Array, extra: Uint8Array[] = []): Uint8Array {
  const header = Buffer.alloc(13)
  header.writeUInt32BE(width, 0)
  header.writeUInt32BE(height, 4)
  header.set([8, 2, 0, 0, 0], 8)
  const signature = ascii("\x89PNG\r\n\x1a\n")
  return join(
    signature,
    pngChunk("IHDR", header),
    ...extra,
    pngChunk("IDAT", body),
    pngChunk("IEND", new Uint8Array(0)),
  )
}

function random(width: number, height: number, channels: Picture["channels"], seed = 1): Picture {
  const data = new Uint8ClampedArray(width * height * channels)
  for (let i = 0, s = seed; i < data.length; i++) data[i] = ((s = (s * 48271) % 2147483647) >> 8) & 255
  return { width, height, channels, data }
}

async function codeOf(run: () => unknown): Promise<string> {
  try {
    await run()
  } catch (error) {
    return error instanceof AquatintError ? error.code : `untyped: ${error}`
  }
  return "none"
}

describe("decodes what diffusers' load_image decodes, to the same bytes", () => {
  for (const [name, want] of Object.entries(found)) {
    test(name, async () => {
      const got = toRgb(await decodeImage(file(name)))
      expect([got.width, got.height, sha256(got.data)]).toEqual([want.width, want.height, want.rgb])
    })
  }
})

describe("encoding", () => {
  test("PNG keeps every byte, in 1, 3 and 4 channels, and is the same each time", async () => {
    const shape = fc.tuple(
      fc.integer({ min: 1, max: 40 }),
      fc.integer({ min: 1, max: 40 }),
      fc.constantFrom(1, 3, 4),
      fc.integer(),
    )
    const check = async ([w, h, channels, seed]: [number, number, number, number]) => {
      const source = random(w, h, channels as Picture["channels"], 1 + (Math.abs(seed) % 1e9))
      const bytes = await encodeImage(source, { format: "png" })
      expect(await encodeImage(source, { format: "png" })).toEqual(bytes)
      const back = await decodeImage(bytes)
      expect(back.data).toEqual(channels === 1 ? toRgb(source).data : source.data)
    }
    await fc.assert(fc.asyncProperty(shape as fc.Arbitrary<[number, number, number, number]>, check), {
      numRuns: 40,
    })
  })

  test("JPEG and WebP keep the picture's look", async () => {
    const smooth: Picture = {
      ...random(32, 24, 3),
      data: Uint8ClampedArray.from({ length: 32 * 24 * 3 }, (_, i) => i / 12 + 20),
    }
    for (const format of ["jpeg", "webp"] as const) {
      const bytes = await encodeImage(smooth, { format, quality: 95 })
      expect(readHeader(bytes)).toMatchObject({ format, width: 32, height: 24, animated: false })
      const back = await decodeImage(bytes)
      const error = back.data.reduce((sum, v, i) => sum + Math.abs(v - smooth.data[i]!), 0) / back.data.length
      expect(error).toBeLessThan(4)
    }
    const clear = random(8, 8, 4)
    expect((await decodeImage(await encodeImage(clear, { format: "webp" }))).channels).toBe(4)
    expect((await decodeImage(await encodeImage(clear, { format: "jpeg" }))).channels).toBe(3)
  })

  test("bad calls are refused", async () => {
    const picture = random(4, 4, 3)
    expect(await codeOf(() => encodeImage(picture, { format: "webp", quality: 0 }))).toBe("IMAGE_QUALITY")
    expect(await codeOf(() => encodeImage({ ...picture, width: 3 }, { format: "png" }))).toBe("IMAGE_SHAPE")
  })
})

describe("refusals", () => {
  const animation = new Uint8Array(8)
  animation[3] = 2
  const riff = (type: string, body: number[]) => {
    const out = Buffer.alloc(20 + body.length)
    out.write(`RIFF\0\0\0\0WEBP${type}`, "latin1")
    out.writeUInt32LE(12 + body.length, 4)
    out.writeUInt32LE(body.length, 16)
    out.set(body, 20)
    return new Uint8Array(out)
  }
  const files: [code: string, what: string, bytes: Uint8Array][] = [
    ["IMAGE_EMPTY", "no bytes", new Uint8Array(0)],
    ["IMAGE_FORMAT", "text", ascii("hello world")],
    ["IMAGE_FORMAT", "gif", ascii("GIF89a\x01\0\x01\0")],
    ["IMAGE_FORMAT", "svg", ascii("<svg xmlns='http://www.w3.org/2000/svg'/>")],
    ["IMAGE_FORMAT", "avif", ascii("\0\0\0\x20ftypavif")],
    ["IMAGE_FORMAT", "tiff", ascii("II*\0\x08\0\0\0")],
    ["IMAGE_BROKEN", "png of the signature alone", ascii("\x89PNG\r\n\x1a\n")],
    ["IMAGE_BROKEN", "png without area", png(0, 4, new Uint8Array(0))],
    ["IMAGE_BROKEN", "png with too little data", png(4, 4, deflateSync(Buffer.alloc(20)))],
    ["IMAGE_BROKEN", "png with wrong filter", png(1, 1, deflateSync(Buffer.alloc(4, 9)))],
    ["IMAGE_BROKEN", "png that is no zlib", png(4, 4, ascii("not zlib at all"))],
    ["IMAGE_TOO_LARGE", "png of 20000 x 20000", png(20000, 20000, deflateSync(Buffer.alloc(1000)))],
    ["IMAGE_TOO_LARGE", "png of one long line", png(8193, 1, deflateSync(Buffer.alloc(1000)))],
    ["IMAGE_TOO_LARGE", "png of 17 MP", png(4097, 4096, deflateSync(Buffer.alloc(1000)))],
    ["IMAGE_TOO_LARGE", "33 MiB", new Uint8Array(33 * 1024 * 1024)],
    ["IMAGE_ANIMATED", "apng", png(2, 2, deflateSync(Buffer.alloc(14)), [pngChunk("acTL", animation)])],
    ["IMAGE_ANIMATED", "animated webp", riff("VP8X", [2, 0, 0, 0, 1, 0, 0, 1, 0, 0])],
    ["IMAGE_BROKEN", "webp without picture", riff("VP8X", [0, 0, 0, 0, 1, 0, 0, 1, 0, 0])],
    ["IMAGE_BROKEN", "jpeg of three bytes", ascii("\xff\xd8\xff")],
    ["IMAGE_BROKEN", "jpeg without frame", ascii("\xff\xd8\xff\xda\0\x02\xff\xd9")],
    [
      "IMAGE_TOO_LARGE",
      "jpeg of 65535 x 65535",
      ascii("\xff\xd8\xff\xc0\0\x0b\x08\xff\xff\xff\xff\x01\x01\x11\0\xff\xda\0\x02\0\xff\xd9"),
    ],
    [
      "IMAGE_BROKEN",
      "jpeg of 200 scans",
      join(
        ascii("\xff\xd8\xff\xc2\0\x0b\x08\0\x08\0\x08\x01\x01\x11\0"),
        ascii("\xff\xda\0\x02\x01".repeat(200)),
        ascii("\xff\xd9"),
      ),
    ],
  ]
  for (const [code, what, bytes] of files) {
    test(`${what} is ${code}, fast`, async () => {
      const times: number[] = []
      for (let i = 0; i < 5; i++) {
        const start = performance.now()
        expect(await codeOf(() => decodeImage(bytes))).toBe(code)
        times.push(performance.now() - start)
      }
      // the best of five, for a machine that is busy
      expect(Math.min(...times)).toBeLessThan(50)
    })
  }

  test("limits can be set, and the error carries the figures", async () => {
    const bytes = await encodeImage(random(20, 10, 3), { format: "png" })
    expect(() => checkImage(bytes, { pixels: 199 }, "a.png")).toThrow(
      expect.objectContaining({
        code: "IMAGE_TOO_LARGE",
        file: "a.png",
        details: { width: 20, height: 10, limit: 199 },
      }),
    )
    expect(checkImage(bytes, { pixels: 200, side: 20 })).toMatchObject({ width: 20, height: 10 })
  })

  test("a bomb behind an honest header stops where the picture is full", async () => {
    const before = process.memoryUsage().rss
    const bomb = png(8, 8, deflateSync(Buffer.alloc(48 * 1024 * 1024)))
    expect((await decodeImage(bomb)).data.every((v) => v === 0)).toBe(true)
    const text = join(ascii("parameters\0\0"), deflateSync(Buffer.alloc(8 * 1024 * 1024, 65)))
    const zip = png(8, 8, deflateSync(Buffer.alloc(200)), [pngChunk("zTXt", text)])
    expect(await codeOf(() => readMetadata(zip))).toBe("IMAGE_METADATA_LIMIT")
    expect((await decodeImage(zip)).width).toBe(8)
    expect(process.memoryUsage().rss - before).toBeLessThan(300e6)
  })

  test("every cut of a file is a typed error", async () => {
    for (const format of ["png", "jpeg", "webp"] as ImageFormat[]) {
      const bytes = await encodeImage(random(9, 7, 3), { format })
      for (let end = 0; end < bytes.length; end += 1 + Math.floor(end / 40)) {
        expect(await codeOf(() => decodeImage(bytes.subarray(0, end))), `${format} ${end}`).toMatch(
          /^IMAGE_(EMPTY|FORMAT|BROKEN)$/,
        )
      }
    }
  })

  test("flipped bytes decode or give a typed error", async () => {
    const seeds = ["turn-3.jpeg", "a1111-2.png", "lossless.webp", "palette.png", "comfy.webp"].map(file)
    const edit = fc.tuple(fc.nat(), fc.integer({ min: 0, max: 255 }))
    const input = fc.tuple(fc.nat(seeds.length - 1), fc.array(edit, { minLength: 1, maxLength: 6 }))
    const run = async ([which, edits]: [number, [number, number][]]) => {
      const bytes = seeds[which]!.slice()
      for (const [at, value] of edits) bytes[at % bytes.length] = value
      expect(await codeOf(() => decodeImage(bytes, { pixels: 1e6 }))).not.toMatch(/^untyped/)
      expect(await codeOf(() => readMetadata(bytes))).not.toMatch(/^untyped/)
    }
    await fc.assert(fc.asyncProperty(input, run), { numRuns: 400 })
  })
})
