import { mkdtempSync, rmSync } from "node:fs"
import { tmpdir } from "node:os"
import { join } from "node:path"
import { killing } from "./kills.ts"
import { startPostgres } from "./postgres.ts"

/** The long form of kill.test.ts: `npx vite-node test/server/kill-long.ts sqlite 1000`; prints the toll as JSON. */
const [engine = "sqlite", kills = "100", mean = "700", seed = "7"] = process.argv.slice(2)
const scratch = mkdtempSync(join(tmpdir(), "aquatint-kill-"))
const server = engine === "postgres" ? await startPostgres() : null
const began = Date.now()
try {
  const database = server?.url ?? join(scratch, "a.db")
  const log = (line: string) => process.stderr.write(`${line}\n`)
  const toll = await killing({ kills: +kills, database, folder: scratch, mean: +mean, seed: +seed, log })
  process.stdout.write(`${JSON.stringify({ engine, ...toll, seconds: (Date.now() - began) / 1000 })}\n`)
} finally {
  await server?.stop()
  rmSync(scratch, { recursive: true, force: true })
}
