import { existsSync, mkdtempSync, readdirSync, rmSync, writeFileSync } from "node:fs"
import { tmpdir } from "node:os"
import { join } from "node:path"
import { afterAll, beforeAll, describe, expect, test } from "vitest"
import { AquatintError, convert } from "../../src/index.ts"
import { type Evil, evilCalls, evilOpcodes } from "./evil.ts"
import { evilArchives } from "./evil-archives.ts"
import { evilMachine } from "./evil-machine.ts"
import { Opcodes, torchLegacy, torchZip, zip } from "./pickler.ts"

let folder = ""
beforeAll(() => {
  folder = mkdtempSync(join(tmpdir(), "aquatint-evil-"))
})
afterAll(() => rmSync(folder, { recursive: true, force: true }))

/** Converts to a file and to a folder; both must be refused, quickly, and leave nothing. */
async function refused({ name, bytes, code }: Evil): Promise<void> {
  const path = join(folder, "evil.ckpt")
  writeFileSync(path, bytes)
  // one in five to a folder as well: the reading is the same
  const destinations = bytes.length % 5 === 0 ? ["out.safetensors", "out"] : ["out.safetensors"]
  for (const destination of destinations) {
    const began = performance.now()
    const error: unknown = await convert(path, join(folder, destination)).then(
      () => "was converted",
      (e: unknown) => e,
    )
    const took = performance.now() - began
    expect(error, name).toBeInstanceOf(AquatintError)
    if (!(error instanceof AquatintError)) return
    expect(error.exitCode, name).toBe(2)
    if (error.code !== "CONVERT_NO_FOLDER") expect(error.code, `${name}: ${error.message}`).toMatch(code)
    expect(error.message + error.hint, name).not.toMatch(/(?!\n)[\p{Cc}\p{Cf}]/u)
    expect(took, name).toBeLessThan(3000)
  }
  expect(readdirSync(folder), name).toEqual(["evil.ckpt"])
}

const groups: [what: string, least: number, files: () => Iterable<Evil>][] = [
  ["calls of other people's code", 180, () => evilCalls(join(folder, "canary"))],
  ["opcodes that make objects", 50, () => evilOpcodes(join(folder, "canary"))],
  ["pickles, tensors and old files that do not add up", 105, evilMachine],
  ["archives that can be read in two ways", 80, evilArchives],
]

describe("pickled files are data", () => {
  test.each(groups)(
    "%s are refused, %i of them",
    async (_, least, files) => {
      const before = process.memoryUsage.rss()
      let count = 0
      for (const evil of files()) {
        await refused(evil)
        count++
      }
      expect(count).toBeGreaterThanOrEqual(least)
      expect(existsSync(join(folder, "canary"))).toBe(false)
      expect((process.memoryUsage.rss() - before) / 1e6).toBeLessThan(500)
    },
    120_000,
  )

  test("the same writer's honest files are read, in every protocol and both forms", async () => {
    for (let protocol = 0; protocol < 6; protocol++) {
      const pickle = new Opcodes(protocol).state()
      for (const [form, bytes] of [
        ["zip", zip(torchZip(pickle))],
        ["wide", zip(torchZip(pickle), { zip64: {} })],
        ["legacy", torchLegacy(pickle)],
      ] as const) {
        const [from, to] = [join(folder, "good.ckpt"), join(folder, `${form}-${protocol}.safetensors`)]
        writeFileSync(from, bytes)
        expect((await convert(from, to)).tensors).toBe(1)
      }
    }
  })
})
