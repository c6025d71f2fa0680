import { createHash } from "node:crypto"
import { mkdtempSync, rmSync } from "node:fs"
import { tmpdir } from "node:os"
import { join } from "node:path"
import { afterAll, beforeAll, expect, test } from "vitest"
import { encodeImage } from "../../src/index.ts"
import { ask, events, type JobReply, model, over, type Served, serve, work } from "./harness.ts"
import { type Postgres, startPostgres } from "./postgres.ts"
import { type Store, startStore } from "./s3-server.ts"

/** The section "Several machines" of docs/serving.md, done to the letter: two servers, two workers, PostgreSQL and S3. */

const keys = { id: "AKIAIOSFODNN7EXAMPLE", secret: "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY" }
const token = "ann-secret-0123456789"
const scratch = mkdtempSync(join(tmpdir(), "aquatint-machines-"))
let pg: Postgres
let store: Store
let servers: Served[]
let workers: Awaited<ReturnType<typeof work>>[]
beforeAll(async () => {
  pg = await startPostgres()
  store = await startStore("bucket", keys)
  const env = { DATABASE_URL: pg.url, AWS_ACCESS_KEY_ID: keys.id, AWS_SECRET_ACCESS_KEY: keys.secret }
  const place = ["--storage", `s3://bucket/pictures?endpoint=${store.endpoint}`, "-m", model]
  // machines share nothing but the database and the store
  const on = (machine: string) => ["--data", join(scratch, machine), ...place]
  servers = await Promise.all(
    ["a", "b"].map((name) => serve(["--role", "api", "--token", `ann:${token}`, ...on(name)], env)),
  )
  workers = await Promise.all(["c", "d"].map((name) => work(["--lease", "3", ...on(name)], env)))
})
afterAll(async () => {
  for (const one of [...servers, ...workers]) await one.stop()
  store.close()
  await pg.stop()
  rmSync(scratch, { recursive: true, force: true })
})

const headers = { authorization: `Bearer ${token}` }
const small = { prompt: "a fox", steps: 2, width: 64, height: 64 }
const submit = async (body: object) => {
  const reply = await ask<JobReply>(`${servers[0]!.url}/api/jobs`, { ...small, ...body }, { headers })
  expect(reply.status).toBe(202)
  return reply.body.id
}
const sha256 = (bytes: Uint8Array) => createHash("sha256").update(bytes).digest("hex")

test("jobs are shared, pictures are seen from every machine, and one worker's end loses nothing", async () => {
  const [here, there] = servers.map(({ url }) => url) as [string, string]
  const grey = {
    width: 64,
    height: 64,
    channels: 3 as const,
    data: new Uint8ClampedArray(64 * 64 * 3).fill(90),
  }
  const sent = await ask<{ id: string }>(`${here}/api/uploads`, undefined, {
    method: "POST",
    body: (await encodeImage(grey, { format: "png" })) as Uint8Array<ArrayBuffer>,
    headers: { ...headers, "content-type": "image/png" },
  })
  const leave = new AbortController()
  const stream = events(await fetch(`${there}/api/events`, { headers, signal: leave.signal }))
  const ids = [await submit({ init: { upload: sent.body.id }, strength: 0.5, seed: 0 })]
  for (let seed = 1; seed < 16; seed++) ids.push(await submit({ seed }))
  await over(here, ids[1]!, 120, headers)
  await workers[0]!.stop("SIGKILL")
  for (const [seed, id] of ids.entries()) {
    const job = await over(there, id, 120, headers)
    expect([id, job.state]).toEqual([id, "done"])
    const image = job.images[0]!
    expect(image.seed).toBe(seed)
    const file = await fetch(there + image.url, { headers })
    expect(sha256(new Uint8Array(await file.arrayBuffer()))).toBe(image.sha256)
  }
  // the other server tells of jobs that it was not given
  const told = new Set<string>()
  for await (const { event, data } of stream) {
    if (event === "state" && data.state === "done") told.add(String(data.id))
    if (told.size >= 10) break
  }
  leave.abort()
  expect(ids.filter((id) => told.has(id)).length).toBe(told.size)
  // a picture and a small one of each job, and the one that was sent, all under the prefix
  const names = [...store.objects.keys()]
  expect(names.every((name) => name.startsWith("pictures/"))).toBe(true)
  expect(names.length).toBe(2 * ids.length + 1)
}, 240_000)

test("a model that no machine has, and a wrong token, are refused on each of them", async () => {
  for (const { url } of servers) {
    const unknown = await ask(`${url}/api/jobs`, { ...small, model: "nowhere" }, { headers })
    expect(unknown.status).toBe(422)
    expect((await fetch(`${url}/api/jobs`)).status).toBe(401)
    expect(await (await fetch(`${url}/metrics`, { headers })).text()).toContain(
      'aquatint_jobs{state="done"} 16',
    )
  }
})
