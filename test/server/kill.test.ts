import { mkdtempSync, rmSync } from "node:fs"
import { tmpdir } from "node:os"
import { join } from "node:path"
import { afterAll, expect, test } from "vitest"
import { killing } from "./kills.ts"
import { startPostgres } from "./postgres.ts"

/** The short form; tools/kill-test.ts runs the long one (docs/reliability.md). */

const scratch = mkdtempSync(join(tmpdir(), "aquatint-kill-"))
afterAll(() => rmSync(scratch, { recursive: true }))

const nothing = { lost: 0, different: 0, torn: 0, leftovers: 0, doubled: 0 }

test("25 kills on SQLite lose nothing, double nothing, tear nothing", async () => {
  const folder = join(scratch, "sqlite")
  const toll = await killing({ kills: 25, database: join(folder, "a.db"), folder, mean: 700 })
  expect(toll).toMatchObject(nothing)
  expect(toll.acknowledged).toBeGreaterThan(5)
}, 300_000)

test("25 kills on PostgreSQL lose nothing, double nothing, tear nothing", async () => {
  const server = await startPostgres()
  try {
    const folder = join(scratch, "postgres")
    const toll = await killing({ kills: 25, database: server.url, folder, mean: 700, seed: 2 })
    expect(toll).toMatchObject(nothing)
    expect(toll.acknowledged).toBeGreaterThan(5)
  } finally {
    await server.stop()
  }
}, 300_000)
