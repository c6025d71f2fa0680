import { createHash } from "node:crypto"
import { expect, test } from "vitest"
import { Sha256 } from "./sha256.ts"

test("SHA-256 is Node's, whatever the pieces", () => {
  for (let length = 0; length < 300; length += length < 140 ? 1 : 37) {
    const bytes = Uint8Array.from({ length }, (_, i) => (i * 31 + length) & 255)
    const cut = (length * 7) % (length + 1)
    const got = new Sha256().update(bytes.subarray(0, cut)).update(bytes.subarray(cut)).hex()
    expect(got).toBe(createHash("sha256").update(bytes).digest("hex"))
  }
})
