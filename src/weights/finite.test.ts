import { mkdtempSync, rmSync } from "node:fs"
import { tmpdir } from "node:os"
import { join } from "node:path"
import { afterAll, beforeAll, describe, expect, test } from "vitest"
import { scanFiles } from "./file-scan.ts"
import { hasNonFinite, scanFinite } from "./finite.ts"
import { openSafetensors } from "./open-file.ts"
import { type Dtype, rows } from "./view.ts"
import { type TensorToWrite, writeSafetensors } from "./write.ts"

let dir = ""
beforeAll(() => {
  dir = mkdtempSync(join(tmpdir(), "aquatint-finite-"))
})
afterAll(() => rmSync(dir, { recursive: true, force: true }))

describe("finite scan", () => {
  const bits: [Dtype, number, number[], number[]][] = [
    ["F16", 2, [0x7bff, 0xfbff, 0x0001, 0x83ff], [0x7c00, 0xfc00, 0x7e00, 0xfdff]],
    ["BF16", 2, [0x7f7f, 0xff7f, 0x0001], [0x7f80, 0xff80, 0x7fc0, 0xff81]],
    ["F32", 4, [0x7f7fffff, 0xff7fffff, 1], [0x7f800000, 0xff800000, 0x7f800001, 0xffffffff]],
  ]
  test.each(bits)(
    "%s: the largest numbers pass, infinity and NaN do not, at every place",
    (dtype, width, fine, bad) => {
      for (let n = 1; n <= 9; n++) {
        const bytes = new Uint8Array(n * width)
        const put = (i: number, v: number) => {
          const view = new DataView(bytes.buffer)
          if (width === 2) view.setUint16(2 * i, v, true)
          else view.setUint32(4 * i, v, true)
        }
        for (const v of fine) {
          for (let i = 0; i < n; i++) put(i, v)
          expect(hasNonFinite(dtype, bytes)).toBe(false)
          for (let i = 0; i < n; i++)
            for (const b of bad) {
              put(i, b)
              expect(hasNonFinite(dtype, bytes)).toBe(true)
              put(i, v)
            }
        }
      }
    },
  )

  test("f64 and whole numbers", () => {
    const of = (...v: number[]) => new Uint8Array(new Float64Array(v).buffer)
    expect(hasNonFinite("F64", of(1e308, -0, Number.MAX_VALUE))).toBe(false)
    expect(hasNonFinite("F64", of(0, 0, Number.NaN))).toBe(true)
    expect(hasNonFinite("I64", new Uint8Array(8).fill(255))).toBe(false)
  })

  test("names exactly the tensors at fault, across pieces, files and shared bytes", async () => {
    const path = join(dir, "nan.safetensors")
    const at = (name: string, n: number, bad?: number): TensorToWrite => {
      const values = new Float32Array(n).fill(1)
      if (bad !== undefined) values[bad] = Number.NaN
      return { name, dtype: "F32", shape: [n], bytes: new Uint8Array(values.buffer) }
    }
    await writeSafetensors(path, [at("a", 100), at("b", 33, 32), at("c", 7), at("d", 500, 250), at("e", 1)])
    const { tensors } = await openSafetensors(path)
    for (const chunk of [64, 128, 1024, 1 << 20]) {
      const error = await scanFiles(tensors.values(), { chunk }).catch((e: unknown) => e)
      expect(error).toMatchObject({
        code: "WEIGHTS_NOT_FINITE",
        exitCode: 2,
        details: { tensors: ["b", "d"] },
      })
    }
    const d = tensors.get("d")!
    await scanFiles([tensors.get("a")!, tensors.get("c")!, rows(d, "d1", 0, 250), rows(d, "d2", 251, 249)])
    const upTo: number[] = []
    await scanFiles([tensors.get("a")!], { chunk: 64, progress: (done, total) => upTo.push(done / total) })
    expect(upTo.at(-1)).toBe(1)
  })

  test("an abort stops it, a failing read is reported", async () => {
    const view = { name: "v", dtype: "F16" as const, shape: [1 << 20], file: "v", offset: 0, length: 2 << 20 }
    const stop = new AbortController()
    let reads = 0
    const scan = scanFinite([view], async () => void (++reads === 3 && stop.abort()), {
      chunk: 64,
      signal: stop.signal,
    })
    await expect(scan).rejects.toThrow(/abort/i)
    expect(reads).toBeLessThan(6)
    await expect(scanFinite([view], () => Promise.reject(new Error("disk")))).rejects.toThrow("disk")
  })
})
