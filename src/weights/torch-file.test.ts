import { readFileSync } from "node:fs"
import { resolve } from "node:path"
import fc from "fast-check"
import { expect, test } from "vitest"
import { AquatintError } from "../errors.ts"
import { crc32, tableCrc32 } from "./crc32.ts"
import { bufferSource } from "./source.ts"
import { openTorchFile, verifyChecksums } from "./torch-file.ts"

const golden = resolve(import.meta.dirname, "../../test/golden/convert")
const files = ["zip-2.pt", "zip-4.pt", "legacy-2.pt", "legacy-5.pt", "nested.ckpt"].map((name) =>
  readFileSync(resolve(golden, name)),
)

/** Reads everything there is to read; the tensors' byte ranges lie in the file. */
async function readAll(bytes: Uint8Array): Promise<void> {
  const source = bufferSource(bytes, "mutant.ckpt")
  const file = await openTorchFile(source)
  for await (const _ of verifyChecksums(source, file));
  for (const { offset, length } of file.tensors.values()) {
    expect(offset).toBeGreaterThanOrEqual(0)
    expect(offset + length).toBeLessThanOrEqual(bytes.length)
  }
}

test("honest files are read", async () => {
  for (const bytes of files) await readAll(bytes)
})

test("changed and cut files are read within their bounds, or refused with a typed error", async () => {
  const change = fc.record({
    at: fc.nat(),
    value: fc.oneof(fc.constantFrom(0, 255, 0x2e, 0x52, 0x71), fc.nat(255)),
  })
  const mutant = fc.record({
    file: fc.constantFrom(...files),
    changes: fc.array(change, { minLength: 1, maxLength: 4 }),
    cut: fc.option(fc.nat()),
  })
  await fc.assert(
    fc.asyncProperty(mutant, async ({ file, changes, cut }) => {
      const bytes = new Uint8Array(file)
      for (const { at, value } of changes) bytes[at % bytes.length] = value
      const kept = cut === null ? bytes : bytes.subarray(0, cut % bytes.length)
      await readAll(kept).catch((error: unknown) => {
        if (!(error instanceof AquatintError)) throw error
        expect(error.exitCode).toBe(2)
        expect(error.code).toMatch(/^(TORCH|PICKLE|ZIP)_[A-Z_]+$/)
      })
    }),
    { numRuns: 600, seed: 5 },
  )
}, 120_000)

test("the checksum without Node's help is the same", () => {
  const bytes = files[0]!
  expect(tableCrc32(bytes)).toBe(crc32(bytes))
  expect(tableCrc32(bytes.subarray(100), tableCrc32(bytes.subarray(0, 100)))).toBe(crc32(bytes))
})
