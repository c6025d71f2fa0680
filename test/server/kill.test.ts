import { mkdtempSync, rmSync } from "node:fs"
import { tmpdir } from "node:os"
import { join } from "node:path"
import { afterAll, expect, test } from "vitest"
import { killing } from "./kills.ts"
import { startPostgres } from "./postgres.ts"

/** The short form; `AQUATINT_KILLS=1000 npx vitest run test/server/kill.test.ts` is the long one (docs/reliability.md). */
const kills = Number(process.env.AQUATINT_KILLS ?? 25)
const patience = 120_000 + kills * 15_000
const tell = (line: string) => kills > 25 && console.log(line)

const scratch = mkdtempSync(join(tmpdir(), "aquatint-kill-"))
afterAll(() => rmSync(scratch, { recursive: true }))

const nothing = { lost: 0, different: 0, torn: 0, leftovers: 0, doubled: 0 }

test(
  "kills on SQLite lose nothing, double nothing, tear nothing",
  async () => {
    const folder = join(scratch, "sqlite")
    const toll = await killing({ kills, database: join(folder, "a.db"), folder, mean: 700, log: tell })
    tell(JSON.stringify(toll))
    expect(toll).toMatchObject(nothing)
    expect(toll.acknowledged).toBeGreaterThan(2)
  },
  patience,
)

test(
  "kills on PostgreSQL lose nothing, double nothing, tear nothing",
  async () => {
    const server = await startPostgres()
    try {
      const folder = join(scratch, "postgres")
      const toll = await killing({ kills, database: server.url, folder, mean: 700, seed: 2, log: tell })
      tell(JSON.stringify(toll))
      expect(toll).toMatchObject(nothing)
      expect(toll.acknowledged).toBeGreaterThan(2)
    } finally {
      await server.stop()
    }
  },
  patience,
)
