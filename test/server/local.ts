import { mkdtempSync, rmSync } from "node:fs"
import { tmpdir } from "node:os"
import { join } from "node:path"
import { silent } from "../../src/server/log.ts"
import { Models } from "../../src/server/models.ts"
import { defaultLimits, type Limits } from "../../src/server/schemas.ts"
import { appOf } from "../../src/server/serve.ts"
import { Service } from "../../src/server/service.ts"
import { type Database, migrate, openDatabase, openFiles } from "../../src/store/index.ts"
import { model } from "./harness.ts"

/** A server without a port and without workers: one function from requests to responses. */
export interface Local {
  fetch(path: string, init?: RequestInit): Promise<Response>
  db: Database
  service: Service
  folder: string
  close(): Promise<void>
}

export interface LocalOptions {
  tokens?: { name: string; secret: string }[]
  hosts?: string[]
  cors?: string[]
  limits?: Partial<Limits>
}

export async function local(options: LocalOptions = {}): Promise<Local> {
  const folder = mkdtempSync(join(tmpdir(), "aquatint-local-"))
  const db = await openDatabase(join(folder, "a.db"))
  await migrate(db)
  const files = await openFiles(join(folder, "pictures"), "host")
  const models = await Models.find({ folders: [], models: [model] })
  const service = new Service({ db, files, models, limits: { ...defaultLimits, ...options.limits } })
  const { tokens = [], hosts = [], cors = [] } = options
  const app = appOf({ tokens, hosts, cors, log: silent }, service, () => ({
    queued: 0,
    running: 0,
    workers: 0,
  }))
  return {
    db,
    service,
    folder,
    fetch: async (path, init = {}) => {
      const headers = new Headers(init.headers)
      if (!headers.has("host")) headers.set("host", "localhost:7860")
      return app.fetch(new Request(`http://localhost:7860${path}`, { ...init, headers }))
    },
    close: async () => {
      service.close()
      await db.close()
      rmSync(folder, { recursive: true })
    },
  }
}

/** A POST of JSON. */
export const post = (body: unknown, headers: Record<string, string> = {}): RequestInit => ({
  method: "POST",
  body: typeof body === "string" ? body : JSON.stringify(body),
  headers: { "content-type": "application/json", ...headers },
})
