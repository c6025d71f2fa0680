import { execFile } from "node:child_process"
import { join } from "node:path"
import { promisify } from "node:util"
import { expect, test } from "vitest"

test("the smallest training learns what it is asked", async () => {
  const path = join(import.meta.dirname, "../../examples/tiny-diffusion.mjs")
  const { stdout } = await promisify(execFile)(process.execPath, [path])
  expect(stdout).toMatch(/(5[89]|6\d) of 64 pictures have their dot on the side/)
})
