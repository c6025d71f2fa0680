import { execFileSync } from "node:child_process"
import { mkdtempSync, readdirSync, readFileSync, rmSync } from "node:fs"
import { tmpdir } from "node:os"
import { join } from "node:path"
import { afterAll, describe, expect, test } from "vitest"
import { AquatintError, type Generation } from "../../src/index.ts"
import { Keeper, type Resident } from "../../src/server/keeper.ts"
import { silent } from "../../src/server/log.ts"
import type { KnownModel } from "../../src/server/models.ts"
import { isGone } from "../../src/server/serve.ts"
import { Worker } from "../../src/server/worker.ts"
import { openDatabase } from "../../src/store/index.ts"
import { ask, type JobReply, model, over, serve, work } from "./harness.ts"
import { local, post } from "./local.ts"
import { startPostgres } from "./postgres.ts"

const scratch = mkdtempSync(join(tmpdir(), "aquatint-workers-"))
afterAll(() => rmSync(scratch, { recursive: true, force: true }))
const small = { prompt: "a fox", steps: 1, width: 64, height: 64 }

test("two workers on one PostgreSQL share 200 jobs without doing one twice; one is killed in the middle", async () => {
  const pg = await startPostgres()
  const place = ["--data", join(scratch, "pg"), "--database", pg.url, "-m", model, "--queue-limit", "300"]
  const server = await serve([...place, "--role", "api"])
  const workers = await Promise.all([work([...place, "--lease", "3"]), work([...place, "--lease", "3"])])
  try {
    const ids: string[] = []
    for (let seed = 0; seed < 200; seed++)
      ids.push((await ask<JobReply>(`${server.url}/api/jobs`, { ...small, seed })).body.id)
    const done = async () => {
      const text = await (await fetch(`${server.url}/metrics`)).text()
      return Number(/aquatint_jobs\{state="done"\} (\d+)/.exec(text)![1])
    }
    await expect.poll(done, { timeout: 120_000, interval: 100 }).toBeGreaterThan(60)
    await workers[0]!.stop("SIGKILL")
    await expect.poll(done, { timeout: 120_000, interval: 200 }).toBe(200)
    const db = await openDatabase(pg.url)
    const [again] = await db.query("SELECT count(*) AS n FROM jobs WHERE attempts > 1")
    const [images] = await db.query("SELECT count(*) AS n, count(DISTINCT job) AS jobs FROM images")
    await db.close()
    // the one that was being drawn by the worker that was killed, and no other
    expect(Number(again!.n)).toBeLessThanOrEqual(1)
    expect(images).toMatchObject({ n: 200, jobs: 200 })
    expect(ids.length).toBe(200)
  } finally {
    for (const worker of workers) await worker.stop()
    await server.stop()
    await pg.stop()
  }
}, 300_000)

describe("the engine's process", () => {
  test("may be killed: the server answers on, the job is drawn again with the same bytes", async () => {
    const server = await serve(["--data", join(scratch, "engine"), "-m", model])
    try {
      const submit = async (body: object) => (await ask<JobReply>(`${server.url}/api/jobs`, body)).body.id
      const long = { ...small, steps: 40, width: 128, height: 128, seed: 3 }
      const undisturbed = await over(server.url, await submit(long))
      const id = await submit(long)
      const state = async () => (await ask<JobReply>(`${server.url}/api/jobs/${id}`)).body
      await expect
        .poll(async () => (await state()).progress, { interval: 20, timeout: 20_000 })
        .toBeGreaterThan(0)
      for (const worker of childrenOf(server.child.pid!))
        for (const engine of childrenOf(worker)) process.kill(engine, "SIGKILL")
      expect((await fetch(`${server.url}/health`)).status).toBe(200)
      const done = await over(server.url, id)
      expect(done).toMatchObject({ state: "done", attempts: 2 })
      expect(done.images[0]!.sha256).toBe(undisturbed.images[0]!.sha256)
    } finally {
      expect(await server.stop()).toBe(0)
    }
    expect(readdirSync(join(scratch, "engine", "pictures")).filter((name) => name.endsWith(".tmp"))).toEqual(
      [],
    )
  }, 120_000)
})

const childrenOf = (pid: number): number[] =>
  readFileSync(`/proc/${pid}/task/${pid}/children`, "utf8").trim().split(" ").filter(Boolean).map(Number)

const card = {
  family: "sd1",
  variant: "base",
  size: 64,
  step: 8,
  factor: 8,
  steps: 20,
  cfg: 7.5,
  bytes: 100,
} as const
const known = (id: string): KnownModel => ({ id, name: id, path: id, card })

/** A model that is none, for what happens around it. */
const fake = (bytes: number, closed: () => void = () => {}, generate?: () => Generation): Resident => ({
  generate: generate ?? (() => expect.fail("nothing is drawn here")),
  memory: async () => bytes,
  close: async () => closed(),
})

test("a model that ends its process three times is set aside, and its job is poisoned", async () => {
  const server = await local()
  const { db, service } = server
  const crash = () =>
    (async function* () {
      yield* []
      throw new AquatintError("ENGINE_GONE", "the engine process ended: signal SIGSEGV", { blame: "here" })
    })() as unknown as Generation
  let loads = 0
  const load = async () => {
    loads++
    return fake(1, () => {}, crash)
  }
  const { files, models } = service
  const keeper = new Keeper({ budget: 1000, load })
  const options = {
    name: "w",
    db,
    files,
    models,
    keeper,
    log: silent,
    lease: 30_000,
    deaths: 3,
    pause: 60_000,
  }
  const worker = new Worker(options)
  try {
    const { id } = (await (await server.fetch("/api/jobs", post(small))).json()) as JobReply
    worker.start()
    const state = async () => (await (await server.fetch(`/api/jobs/${id}`)).json()) as JobReply
    await expect.poll(async () => (await state()).state, { timeout: 20_000 }).toBe("poisoned")
    expect(await state()).toMatchObject({ attempts: 3, error: { code: "JOB_POISONED" } })
    expect(loads).toBe(3)
    const refused = await server.fetch("/api/jobs", post(small))
    expect(refused.status).toBe(503)
    expect(Number(refused.headers.get("retry-after"))).toBeGreaterThan(0)
    const { models } = (await (await server.fetch("/api/models")).json()) as {
      models: { setAside: object }[]
    }
    expect(models[0]!.setAside).toMatchObject({ crashes: 3 })
    expect((await server.fetch("/api/models/sd1-odd/retry", post({}))).status).toBe(204)
    expect((await server.fetch("/api/jobs", post(small))).status).toBe(202)
  } finally {
    await worker.stop()
    await server.close()
  }
})

test("the least recently used model makes room", async () => {
  const closed: string[] = []
  const keeper = new Keeper({ budget: 1000, load: async ({ id }) => fake(400, () => closed.push(id)) })
  const a = await keeper.use(known("a"))
  await keeper.settle("a")
  await keeper.use(known("b"))
  await keeper.settle("b")
  expect(await keeper.use(known("a"))).toBe(a)
  expect(keeper.residents).toEqual(["b", "a"])
  await keeper.use(known("c"))
  await keeper.settle("c")
  expect(closed).toEqual(["b"])
  expect(keeper.latest).toBe("c")
  await keeper.drop("c")
  await keeper.close()
  expect(closed).toEqual(["b", "c", "a"])
})

test("models are warm before the first job: as many as there is room for, the first one last", async () => {
  const drawn: string[] = []
  const closed: string[] = []
  const result = (async function* () {
    yield* []
  })() as unknown as Generation
  const load = async ({ id }: KnownModel) => {
    if (id === "broken") throw new AquatintError("SAFETENSORS_HEADER", "torn")
    return fake(
      400,
      () => closed.push(id),
      () => {
        drawn.push(id)
        return result
      },
    )
  }
  const keeper = new Keeper({ budget: 1000, load })
  const models = [known("a"), known("broken"), known("b"), known("c")]
  expect(await keeper.warm(models, new AbortController().signal)).toEqual(["b", "a"])
  expect([drawn, closed, keeper.residents]).toEqual([["c", "b", "a"], ["c"], ["b", "a"]])
})

test("one model may hold more than there is, alone", async () => {
  const closed: string[] = []
  const keeper = new Keeper({ budget: 10, load: async ({ id }) => fake(400, () => closed.push(id)) })
  await keeper.use(known("a"))
  await keeper.settle("a")
  expect(keeper.residents).toEqual(["a"])
  await keeper.use(known("b"))
  expect(closed).toEqual(["a"])
})

test("a worker is known to be dead by its process and its beginning", () => {
  const host = execFileSync("hostname")
    .toString()
    .trim()
    .toLowerCase()
    .replace(/[^a-z0-9-]/g, "-")
    .slice(0, 60)
  expect(isGone(`${host}:999999999:1:x`)).toBe(true)
  expect(isGone(`${host}:${process.ppid}:1:x`)).toBe(true)
  expect(isGone("elsewhere:999999999:1:x")).toBe(false)
})
