import { mkdir, mkdtemp, readFile, rm, symlink, truncate, writeFile } from "node:fs/promises"
import { tmpdir } from "node:os"
import { dirname, join } from "node:path"
import { afterAll, beforeAll, describe, expect, test } from "vitest"
import { encodeImage } from "../../image/codec.ts"
import { blank } from "../../image/pixels.ts"
import { pngChunk } from "../../image/png.ts"
import { dataHash, heldOut, openDataset } from "./dataset.ts"
import { judge } from "./report.ts"

const golden = join(import.meta.dirname, "../../../test/golden/train/data")
let root = ""
beforeAll(async () => {
  root = await mkdtemp(join(tmpdir(), "aquatint-data-"))
})
afterAll(() => rm(root, { recursive: true, force: true }))

const png = (width: number, height: number, colour = 0) => {
  const picture = blank(width, height, 3)
  picture.data.fill(colour)
  return encodeImage(picture, { format: "png" })
}
const put = async (path: string, content: string | Uint8Array) => {
  await mkdir(dirname(join(root, path)), { recursive: true })
  await writeFile(join(root, path), content)
}
const captions = async (path: string, options = {}) =>
  Object.fromEntries((await openDataset(path, options)).items.map((i) => [i.where, i.caption]))

/** A PNG whose header promises 60000 x 60000 pixels. */
async function bomb(): Promise<Uint8Array> {
  const small = await png(8, 8)
  const body = small.slice(16, 29)
  new DataView(body.buffer).setUint32(0, 60000)
  new DataView(body.buffer).setUint32(4, 60000)
  return Buffer.concat([small.subarray(0, 8), pngChunk("IHDR", body), small.subarray(33)])
}

describe("a folder", () => {
  test("of pictures with .txt", async () => {
    await put("txt/a.png", await png(8, 8, 1))
    await put("txt/a.txt", "\uFEFFa  small\n card \n")
    await put("txt/sub/b.webp", await encodeImage(blank(9, 7, 3), { format: "webp" }))
    await put("txt/sub/b.txt", "another")
    await put("txt/LICENSE.txt", "CC0")
    expect(await captions(join(root, "txt"))).toEqual({ "a.png": "a small card", "sub/b.webp": "another" })
  })

  test("with metadata.jsonl in it and below", async () => {
    for (const n of [0, 1, 2]) await put(`jsonl/img/${n}.png`, await png(8, 8 + n))
    const line = (n: number) => JSON.stringify({ file_name: `img/${n}.png`, text: `card ${n}` })
    await put("jsonl/metadata.jsonl", `${line(0)}\n\n${line(1)}\nnot json\n[1]\n{"text":"no file"}\n`)
    const data = await openDataset(join(root, "jsonl"))
    expect(data.items.map((i) => i.caption)).toEqual(["card 0", "card 1"])
    expect(data.problems.map((p) => [p.code, p.where])).toEqual([
      ["DATA_METADATA", "metadata.jsonl line 4"],
      ["DATA_METADATA", "metadata.jsonl line 5"],
      ["DATA_METADATA", "metadata.jsonl line 6"],
    ])
  })

  test("with a CSV of any of three separators, quotes and line breaks", async () => {
    for (const [n, s] of [",", ";", "\t"].entries()) {
      await put(`csv${n}/a.png`, await png(8, 8))
      await put(`csv${n}/b.png`, await png(9, 8))
      await put(
        `csv${n}/list.csv`,
        `image${s}caption\r\na.png${s}"one, ""two""\nthree; \tfour"\r\nb.png${s}five\r\n`,
      )
      expect(await captions(join(root, `csv${n}`))).toEqual({
        "a.png": 'one, "two" three; four',
        "b.png": "five",
      })
    }
  })

  test("of classes: the folder's name is the caption", async () => {
    await put("classes/red_fox/1.png", await png(8, 8))
    await put("classes/owl/1.png", await png(8, 9))
    expect(await captions(join(root, "classes"))).toEqual({ "owl/1.png": "owl", "red_fox/1.png": "red fox" })
  })

  test("with other columns, masks and conditions", async () => {
    await put("columns/a.png", await png(8, 8))
    await put("columns/masks/a.png", await png(8, 8, 255))
    await put(
      "columns/metadata.jsonl",
      '{"datei":"a.png","titel":"Karte","mask":"masks/a.png","conditioning_image":"a.png"}',
    )
    const { items } = await openDataset(join(root, "columns"), { imageColumn: "datei", textColumn: "titel" })
    expect(items.map((i) => [i.caption, i.mask?.where, i.condition?.where])).toEqual([
      ["Karte", "masks/a.png", "a.png"],
    ])
    const { items: sides } = await openDataset(join(root, "txt"), { conditions: join(root, "txt") })
    expect((await sides[0]!.condition!.read()).length).toBeGreaterThan(0)
  })
})

describe.each(["pax.tar", "gnu.tar", "snappy.parquet", "gzip.parquet"])("%s", (name) => {
  test("gives every picture with its text", async () => {
    const data = await openDataset(join(golden, name))
    expect(data.problems).toEqual([])
    const wanted = ["red", "green", "blue", "yellow", "black"].map((c) => `a ${c} card`)
    expect(data.items.map((i) => i.caption).sort()).toEqual(wanted.sort())
    const blue = data.items.find((i) => i.caption === "a blue card")!
    expect([blue.width, blue.height]).toEqual([16, 12])
    expect((await blue.read()).length).toBeGreaterThan(50)
  })

  test("cut anywhere, it is told and what came before is used", async () => {
    const bytes = await readFile(join(golden, name))
    for (let n = 1; n < 12; n++) {
      await put(`cut/${name}`, bytes)
      await truncate(join(root, "cut", name), Math.floor((bytes.length * n) / 13))
      const found = await openDataset(join(root, "cut", name)).catch((e) => e)
      const problems = found.problems ?? found.details?.problems
      // zeros end an archive, so a cut in its last blocks is none
      if (!(name.endsWith("tar") && found.items?.length === 5)) expect(problems.length).toBeGreaterThan(0)
      for (const { code } of problems) expect(code).toMatch(/^(DATA|IMAGE)_/)
    }
  })
})

describe("bad entries", () => {
  let folder = ""
  beforeAll(async () => {
    folder = join(root, "bad")
    await put("outside.png", await png(5, 5))
    await put("bad/a.png", await png(8, 8, 1))
    await put("bad/bomb.png", await bomb())
    await put("bad/broken.jpg", Uint8Array.of(0xff, 0xd8, 0xff, 0xe0, 0, 16))
    await put("bad/copy.png", await png(8, 8, 1))
    await put("bad/empty.png", new Uint8Array(0))
    await put("bad/film.gif", "GIF89a....")
    await put("bad/mute.png", await png(8, 8, 2))
    await put("bad/mute.txt", " \n")
    for (const n of ["a", "bomb", "broken", "copy", "empty", "film", "lone", "out"])
      await put(`bad/${n}.txt`, n)
    await symlink(join(root, "outside.png"), join(folder, "out.png"))
  })

  test("are each named with code and place, and the rest is used", async () => {
    const { items, problems } = await openDataset(folder)
    expect(items.map((i) => i.where)).toEqual(["a.png"])
    expect(Object.fromEntries(problems.map((p) => [p.where, p.code]))).toEqual({
      "bomb.png": "IMAGE_TOO_LARGE",
      "broken.jpg": "IMAGE_BROKEN",
      "copy.png": "DATA_DUPLICATE",
      "empty.png": "IMAGE_EMPTY",
      "film.gif": "IMAGE_FORMAT",
      "lone.txt": "DATA_NO_PICTURE",
      "mute.png": "DATA_CAPTION_EMPTY",
      "out.png": "DATA_LINK",
    })
    expect(problems.find((p) => p.where === "bomb.png")!.what).toContain("60000x60000")
  })

  test("stop a training where that is asked", async () => {
    const { problems } = await openDataset(folder)
    expect(() => judge(problems, "skip", folder)).not.toThrow()
    expect(() => judge(problems, "stop", folder)).toThrow(
      expect.objectContaining({ code: "DATA_BAD", exitCode: 2 }),
    )
  })

  test.each(["../outside.png", "/etc/passwd", "C:\\x.png", "a/../../outside.png", "x\0.png"])(
    "of a table: %j is not read",
    async (name) => {
      await put("table/a.png", await png(8, 8))
      const lines = [
        { file_name: "a.png", text: "a" },
        { file_name: name, text: "b" },
      ]
      await put("table/metadata.jsonl", lines.map((l) => JSON.stringify(l)).join("\n"))
      const { problems } = await openDataset(join(root, "table"))
      expect(problems.map((p) => p.code)).toEqual(["DATA_OUTSIDE"])
    },
  )

  test("only: an error that says why", async () => {
    await put("none/a.png", await bomb())
    await expect(openDataset(join(root, "none"))).rejects.toMatchObject({ code: "DATA_EMPTY" })
    await expect(openDataset(join(root, "nowhere"))).rejects.toMatchObject({ code: "DATA_NOT_FOUND" })
    await expect(openDataset(join(root, "outside.png"))).rejects.toMatchObject({ code: "DATA_FORMAT" })
  })
})

test("the held-out part follows each picture's hash", async () => {
  const { items } = await openDataset(join(golden, "pax.tar"))
  const { train, validation } = heldOut(items, 0.3)
  expect(train.length + validation.length).toBe(5)
  expect(validation.length).toBeGreaterThan(0)
  const fewer = heldOut(
    items.filter((i) => i !== train[0]),
    0.3,
  )
  expect(validation.map((i) => i.hash)).toEqual(expect.arrayContaining(fewer.validation.map((i) => i.hash)))
  expect(heldOut(items, 0).validation).toEqual([])
  expect(dataHash(items)).not.toBe(dataHash(train))
})
