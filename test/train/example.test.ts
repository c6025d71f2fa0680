import { execFile } from "node:child_process"
import { join } from "node:path"
import { promisify } from "node:util"
import { expect, test } from "vitest"

const example = (name: string) =>
  promisify(execFile)(process.execPath, [join(import.meta.dirname, "../../examples", name)])

test("the smallest training learns what it is asked", async () => {
  const { stdout } = await example("tiny-diffusion.mjs")
  expect(stdout).toMatch(/(5[89]|6\d) of 64 pictures have their dot on the side/)
})

test("twenty pictures of a style teach it to the model of the package", { timeout: 900_000 }, async () => {
  const { stdout } = await example("style-lora.mjs")
  expect(stdout).toMatch(/[78] of 8 held-out pictures took the style/)
})
