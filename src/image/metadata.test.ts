import { readFileSync } from "node:fs"
import fc from "fast-check"
import { beforeAll, describe, expect, test } from "vitest"
import { AquatintError } from "../errors.ts"
import { decodeImage, encodeImage } from "./codec.ts"
import { buildExif, readExif } from "./exif.ts"
import { type ImageFormat, readHeader } from "./header.ts"
import { type ImageMetadata, readMetadata, readOrientation, writeMetadata } from "./metadata.ts"
import { blank } from "./pixels.ts"
import { pngChunks, textChunk } from "./png.ts"

const folder = new URL("../../test/golden/image/", import.meta.url)
const golden: Record<string, ImageMetadata> = JSON.parse(
  readFileSync(new URL("files.json", folder), "utf8"),
).data
const formats: ImageFormat[] = ["png", "jpeg", "webp"]
const plain = {} as Record<ImageFormat, Uint8Array>

beforeAll(async () => {
  for (const format of formats) plain[format] = await encodeImage(blank(7, 5, 3), { format })
})

describe("reads what other programs write", () => {
  for (const [name, want] of Object.entries(golden)) {
    const fields = Object.fromEntries(
      ["parameters", "prompt", "workflow", "texts"]
        .filter((k) => k in want)
        .map((k) => [k, want[k as keyof ImageMetadata]]),
    )
    if (Object.keys(fields).length === 0) continue
    test(name, async () => {
      expect(await readMetadata(readFileSync(new URL(name, folder)))).toEqual(fields)
    })
  }

  test("orientation from EXIF", async () => {
    for (let o = 1; o <= 8; o++) {
      expect(await readOrientation(readFileSync(new URL(`turn-${o}.jpeg`, folder)))).toBe(o)
    }
  })

  test("orientation from XMP where EXIF has none", async () => {
    for (const format of formats) {
      const turned = writeMetadata(plain[format], { xmp: '<x tiff:Orientation="6"/>' })
      expect(await readOrientation(turned)).toBe(6)
      expect(await decodeImage(turned)).toMatchObject({ width: 5, height: 7 })
    }
  })

  test("UserComment in little-endian files, in either byte order, and without a prefix", () => {
    const comment = (prefix: string, body: Buffer) => {
      const value = Buffer.concat([Buffer.from(prefix, "latin1"), body])
      const head = Buffer.from(
        "II*\0\x08\0\0\0\x01\0\x69\x87\x04\0\x01\0\0\0\x1a\0\0\0\0\0\0\0\x01\0\x86\x92\x07\0",
        "latin1",
      )
      const tail = Buffer.alloc(12)
      tail.writeUInt32LE(value.length, 0)
      tail.writeUInt32LE(44, 4)
      return readExif(Buffer.concat([head, tail, value])).userComment
    }
    const text = "a cat, 猫"
    expect(comment("UNICODE\0", Buffer.from(text, "utf16le"))).toBe(text)
    expect(comment("UNICODE\0", Buffer.from(text, "utf16le").swap16())).toBe(text)
    expect(comment("ASCII\0\0\0", Buffer.from("a cat\0\0"))).toBe("a cat")
    expect(comment("", Buffer.from(text))).toBe(text)
  })
})

describe("writes what others read", () => {
  test("PNG text is tEXt in Latin-1, else iTXt, right after IHDR", () => {
    const types = (texts: ImageMetadata) => [...pngChunks(writeMetadata(plain.png, texts))].map((c) => c.type)
    expect(types({ parameters: "a" })).toEqual(["IHDR", "tEXt", "IDAT", "IEND"])
    expect(types({ parameters: "é", prompt: "猫", xmp: "<x/>" })).toEqual([
      "IHDR",
      "tEXt",
      "iTXt",
      "iTXt",
      "IDAT",
      "IEND",
    ])
    expect(Buffer.from(textChunk("parameters", "é")).toString("latin1", 4, 20)).toBe("tEXtparameters\0\xe9")
  })

  test("JPEG puts APP1 after JFIF, WebP gets its extended header", () => {
    const jpeg = writeMetadata(plain.jpeg, { parameters: "a", xmp: "<x/>" })
    expect([jpeg[0], jpeg[1], jpeg[2]]).toEqual([0xff, 0xd8, 0xff])
    const text = Buffer.from(jpeg).toString("latin1")
    expect(text.indexOf("Exif\0\0MM\0*")).toBeGreaterThan(0)
    expect(text.indexOf("http://ns.adobe.com/xap/1.0/\0<x/>")).toBeGreaterThan(text.indexOf("Exif"))
    const webp = Buffer.from(writeMetadata(plain.webp, { parameters: "a", xmp: "<x/>" }))
    expect(webp.toString("latin1", 12, 16)).toBe("VP8X")
    expect(webp.readUInt32LE(4)).toBe(webp.length - 8)
    expect([...webp.subarray(20, 30)]).toEqual([0x0c, 0, 0, 0, 6, 0, 0, 4, 0, 0])
  })

  test("the pixels are untouched and fields are replaced, not doubled", async () => {
    for (const format of formats) {
      const once = writeMetadata(plain[format], { parameters: "one", prompt: "{}", xmp: "<a/>" })
      const twice = writeMetadata(once, { parameters: "two", prompt: "[]", xmp: "<b/>" })
      expect(await readMetadata(twice)).toEqual({ parameters: "two", prompt: "[]", xmp: "<b/>" })
      expect(twice.length).toBe(once.length)
      expect(await decodeImage(twice)).toEqual(await decodeImage(plain[format]))
      expect(readHeader(twice)).toEqual(readHeader(plain[format]))
    }
  })

  test("what does not fit is refused", () => {
    const long = "x".repeat(70_000)
    expect(() => writeMetadata(plain.jpeg, { workflow: long })).toThrow(
      expect.objectContaining({ code: "IMAGE_METADATA_SIZE" }),
    )
    expect(writeMetadata(plain.webp, { workflow: long }).length).toBeGreaterThan(70_000)
    const many = Object.fromEntries(Array.from({ length: 9 }, (_, i) => [`k${i}`, "v"]))
    expect(() => writeMetadata(plain.webp, { texts: many })).toThrow(
      expect.objectContaining({ code: "IMAGE_METADATA_SIZE" }),
    )
    expect(() => writeMetadata(new Uint8Array(9), {})).toThrow(
      expect.objectContaining({ code: "IMAGE_FORMAT" }),
    )
  })
})

describe("properties", () => {
  const point = fc.oneof(
    fc.integer({ min: 0, max: 0xd7ff }),
    fc.integer({ min: 0xe000, max: 0x10ffff }),
    fc.integer({ min: 0, max: 255 }),
  )
  const letter = fc.oneof(
    point.map((code) => String.fromCodePoint(code)),
    fc.constantFrom("Ã©", "é", "\n", "\r", "\0", "a", "猫", "👩‍🚀"),
  )
  const unicode = fc.string({ unit: letter, maxLength: 60 })

  test("metadata comes back equal in all three formats", async () => {
    const run = async (parameters: string, prompt: string, xmp: string) => {
      for (const format of formats) {
        const json = JSON.stringify({ text: prompt })
        const metadata = {
          parameters,
          prompt: json,
          workflow: json,
          xmp: `<x>${xmp}</x>`,
          texts: { note: json },
        }
        expect(await readMetadata(writeMetadata(plain[format], metadata))).toEqual(metadata)
      }
    }
    await fc.assert(fc.asyncProperty(unicode, unicode, unicode, run), { numRuns: 150 })
  })

  test("EXIF readers are total", () => {
    const seed = buildExif(
      "a cat",
      new Map([
        ["prompt", "{}"],
        ["workflow", "[]"],
      ]),
    )!
    const edits = fc.array(fc.tuple(fc.nat(seed.length - 1), fc.integer({ min: 0, max: 255 })), {
      maxLength: 8,
    })
    fc.assert(
      fc.property(edits, fc.boolean(), (changes, little) => {
        const bytes = seed.slice()
        for (const [at, value] of changes) bytes[at] = value
        if (little) bytes.set([0x49, 0x49, 42, 0])
        readExif(bytes)
      }),
      { numRuns: 2000 },
    )
    const loop = Uint8Array.from(
      Buffer.from("MM\0*\0\0\0\x08\0\x01\x87\x69\0\x04\0\0\0\x01\0\0\0\x08\0\0\0\0", "latin1"),
    )
    expect(readExif(loop).texts.size).toBe(0)
  })

  test("any bytes behind a signature give metadata or a typed error, in bounded time", async () => {
    const heads = ["\x89PNG\r\n\x1a\n", "\xff\xd8\xff", "RIFF\xff\xff\xff\0WEBP"]
    const run = async (which: number, body: Uint8Array) => {
      const bytes = Buffer.concat([Buffer.from(heads[which]!, "latin1"), body])
      const outcome = await readMetadata(bytes).catch((error) => error)
      if (outcome instanceof Error) expect(outcome).toBeInstanceOf(AquatintError)
    }
    await fc.assert(fc.asyncProperty(fc.nat(2), fc.uint8Array({ maxLength: 200 }), run), { numRuns: 1000 })
    const flood = Buffer.concat([
      Buffer.from(heads[0]!, "latin1"),
      ...Array.from({ length: 5000 }, () => textChunk("a", "b")),
    ])
    await expect(readMetadata(flood)).rejects.toMatchObject({ code: "IMAGE_METADATA_LIMIT" })
  })
})
