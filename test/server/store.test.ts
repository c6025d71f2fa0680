import { existsSync, mkdtempSync, readdirSync, rmSync, writeFileSync } from "node:fs"
import { tmpdir } from "node:os"
import { join } from "node:path"
import { afterAll, beforeAll, describe, expect, test } from "vitest"
import {
  addUpload,
  cancelJob,
  changedSince,
  claim,
  countJobs,
  type Database,
  died,
  enqueue,
  failJob,
  findJob,
  finish,
  forgetJobs,
  forgetUploads,
  giveBack,
  type Hold,
  idPattern,
  type Job,
  listImages,
  listJobs,
  markImage,
  migrate,
  modelCrashed,
  modelsSetAside,
  modelWorks,
  move,
  type NewJob,
  newId,
  note,
  openDatabase,
  openFiles,
  purgeImages,
  reclaim,
} from "../../src/store/index.ts"
import { type Postgres, startPostgres } from "./postgres.ts"

const scratch = mkdtempSync(join(tmpdir(), "aquatint-store-"))
let server: Postgres
beforeAll(async () => {
  server = await startPostgres()
})
afterAll(async () => {
  await server.stop()
  rmSync(scratch, { recursive: true })
})

const limits = { total: 1000, client: 1000 }
const job = (more: Partial<NewJob> = {}): NewJob => ({
  owner: "ann",
  client: "ann",
  source: "api",
  model: "m",
  request: { prompt: "a fox", seed: 1 },
  fingerprint: "f",
  ...more,
})
const worker = { worker: "w1", lease: 30_000, models: ["m"] }
const hold = (of: Job, by = "w1"): Hold => ({ id: of.id, attempt: of.attempts, worker: by })
const image = (number = 0, more = {}) => ({
  number,
  file: `${newId()}.png`,
  thumbnail: `${newId()}.webp`,
  format: "png",
  width: 64,
  height: 64,
  bytes: 10,
  sha256: "0",
  seed: 1 + number,
  infotext: "a fox",
  ...more,
})

describe.each(["sqlite", "postgres"] as const)("%s", (engine) => {
  let db: Database
  let second: Database
  const name = () => (engine === "sqlite" ? join(scratch, "a.db") : server.url)
  beforeAll(async () => {
    db = await openDatabase(name())
    second = await openDatabase(name())
    await Promise.all([migrate(db), migrate(second)])
  })
  afterAll(async () => {
    await db.close()
    await second.close()
  })
  const empty = async () => {
    for (const table of ["jobs", "images", "uploads", "inputs", "models"])
      await db.query(`DELETE FROM ${table}`)
  }
  const add = async (more: Partial<NewJob> = {}) => (await enqueue(db, job(more), limits)).job

  test("a job goes from queued to done with its pictures", async () => {
    await empty()
    const made = await add({ group: "g" })
    expect(made).toMatchObject({ state: "queued", position: 1, attempts: 0, group: "g", error: null })
    expect(made.id).toMatch(idPattern)
    const begun = (await claim(db, worker))!
    expect(begun).toMatchObject({ id: made.id, state: "running", position: 0, attempts: 1, worker: "w1" })
    expect(await claim(second, worker)).toBeNull()
    const progress = { phase: "denoise", picture: 0, step: 1, steps: 2, progress: 0.5, remaining: 1 }
    expect(await note(db, hold(begun), 1000, progress, "cGljdHVyZQ==")).toBe(true)
    expect((await findJob(second, made.id))!.progress).toEqual(progress)
    expect(await finish(db, hold(begun), begun, [image(0), image(1)])).toBe(true)
    expect(await finish(db, hold(begun), begun, [image(0)])).toBe(false)
    expect(await findJob(db, made.id)).toMatchObject({ state: "done", position: null })
    expect(await findJob(db, made.id, "bob")).toBeNull()
    const { images } = await listImages(db, { owner: "ann", limit: 10 })
    expect(images.map((i) => i.seed).sort()).toEqual([1, 2])
    expect(images[0]!.request).toMatchObject({ prompt: "a fox", count: 1 })
  })

  test("priority goes first, then clients take turns, then the order of arrival", async () => {
    await empty()
    const ids = new Map<string, string>()
    for (const [label, client, priority] of [
      ["a1", "a", 0],
      ["a2", "a", 0],
      ["a3", "a", 0],
      ["b1", "b", 0],
      ["b2", "b", 0],
      ["c1", "c", 0],
      ["a!", "a", 5],
    ] as const)
      ids.set((await add({ client, priority })).id, label)
    const { jobs } = await listJobs(db, { owner: "ann", limit: 20 })
    expect(jobs.map((j) => ids.get(j.id))).toEqual(["a!", "a1", "b1", "c1", "a2", "b2", "a3"])
    expect(jobs.map((j) => j.position)).toEqual([1, 2, 3, 4, 5, 6, 7])
    const order: string[] = []
    for (let next = await claim(db, worker); next; next = await claim(db, worker))
      order.push(ids.get(next.id)!)
    expect(order).toEqual(["a!", "a1", "b1", "c1", "a2", "b2", "a3"])
  })

  test("among jobs of one turn the model in memory goes first, and workers take what they can draw", async () => {
    await empty()
    await add({ client: "a", model: "x" })
    const y = await add({ client: "b", model: "y" })
    await add({ client: "a", model: "y" })
    const both = { ...worker, models: ["x", "y"], resident: "y" }
    expect((await claim(db, both))!.id).toBe(y.id)
    expect((await claim(db, both))!.model).toBe("x")
    expect(await claim(db, { ...worker, models: ["x"] })).toBeNull()
    expect(await claim(db, { ...worker, models: [] })).toBeNull()
    expect((await claim(db, both))!.model).toBe("y")
  })

  test("keys make repeats one job, also when they come at once", async () => {
    await empty()
    const all = await Promise.all(
      Array.from({ length: 20 }, (_, i) => enqueue(i % 2 ? db : second, job({ key: "k" }), limits)),
    )
    expect(new Set(all.map((one) => one.job.id)).size).toBe(1)
    expect(all.filter((one) => one.fresh).length).toBe(1)
    await expect(enqueue(db, job({ key: "k", fingerprint: "other" }), limits)).rejects.toMatchObject({
      code: "IDEMPOTENCY_KEY",
    })
    expect((await enqueue(db, job({ key: "k", owner: "bob" }), limits)).fresh).toBe(true)
  })

  test("a full queue and a client's full share are refused with a time", async () => {
    await empty()
    await add({ client: "a" })
    await expect(enqueue(db, job({ client: "a" }), { total: 5, client: 1 })).rejects.toMatchObject({
      code: "QUEUE_FULL",
      details: { retryAfter: 1 },
    })
    await add({ client: "b" })
    await expect(enqueue(db, job({ client: "c" }), { total: 2, client: 2 })).rejects.toMatchObject({
      code: "QUEUE_FULL",
    })
    expect((await countJobs(db)).queued).toBe(2)
  })

  test("an owner moves jobs among their own", async () => {
    await empty()
    const [a1, b1, a2, a3] = [
      await add({ client: "a" }),
      await add({ owner: "bob", client: "b" }),
      await add({ client: "a" }),
      await add({ client: "a" }),
    ]
    const order = async () =>
      (await db.query("SELECT id FROM jobs ORDER BY turn, place")).map((row) => row.id)
    expect(await order()).toEqual([a1.id, b1.id, a2.id, a3.id])
    expect(await move(db, "ann", a3.id, { to: "first" })).toBe(true)
    expect(await order()).toEqual([a3.id, b1.id, a1.id, a2.id])
    expect(await move(db, "ann", a2.id, { before: a1.id })).toBe(true)
    expect(await order()).toEqual([a3.id, b1.id, a2.id, a1.id])
    expect(await move(db, "ann", a3.id, { to: "last" })).toBe(true)
    expect(await order()).toEqual([a2.id, b1.id, a1.id, a3.id])
    expect(await move(db, "ann", a3.id, { before: b1.id })).toBe(false)
    expect(await move(db, "bob", a3.id, { to: "first" })).toBe(false)
  })

  test("cancelling ends waiting and running jobs, and the worker learns of it", async () => {
    await empty()
    const waiting = await add()
    expect(await cancelJob(db, waiting.id, "bob")).toBeNull()
    expect((await cancelJob(db, waiting.id, "ann"))!.state).toBe("cancelled")
    await add()
    const running = (await claim(db, worker))!
    expect((await cancelJob(second, running.id, "ann"))!.state).toBe("cancelled")
    expect(await note(db, hold(running), 1000, null, null)).toBe(false)
    expect(await finish(db, hold(running), running, [image()])).toBe(false)
    expect((await listImages(db, { owner: "ann", limit: 1 })).images).toEqual([])
    expect((await cancelJob(db, running.id, "ann"))!.state).toBe("cancelled")
  })

  test("a job whose worker is gone runs again, and is poisoned at the third death", async () => {
    await empty()
    const made = await add()
    for (let attempt = 1; attempt <= 3; attempt++) {
      const begun = (await claim(db, { ...worker, lease: attempt === 1 ? -1 : 60_000 }))!
      expect(begun.attempts).toBe(attempt)
      expect(await reclaim(second, 3, attempt === 1 ? undefined : (w) => w === "w1")).toBe(1)
      expect(await note(db, hold(begun), 1000, null, null)).toBe(false)
    }
    expect(await findJob(db, made.id)).toMatchObject({ state: "poisoned", deaths: 3, attempts: 3 })
    expect((await findJob(db, made.id))!.error!.code).toBe("JOB_POISONED")
    expect(await claim(db, worker)).toBeNull()
  })

  test("a job that is given back keeps its place and its record", async () => {
    await empty()
    const made = await add()
    await add()
    const begun = (await claim(db, worker))!
    await giveBack(db, hold(begun))
    expect(await findJob(db, made.id)).toMatchObject({ state: "queued", deaths: 0, position: 1 })
    const again = (await claim(db, worker))!
    expect(again.id).toBe(made.id)
    // the first hold is worth nothing any more
    await died(db, made.id, begun.attempts, 3)
    expect((await findJob(db, made.id))!.state).toBe("running")
    expect(await failJob(db, hold(again), { code: "X", message: "no" })).toBe(true)
    expect(await findJob(db, made.id)).toMatchObject({ state: "failed", error: { code: "X" } })
  })

  test("two connections share 200 jobs, each once", async () => {
    await empty()
    for (let i = 0; i < 200; i++) await add({ client: `c${i % 7}` })
    const taken: string[] = []
    const work = async (on: Database, as: string) => {
      for (let next: Job | null; (next = await claim(on, { ...worker, worker: as })); ) {
        taken.push(next.id)
        expect(await finish(on, hold(next, as), next, [image()])).toBe(true)
      }
    }
    await Promise.all([work(db, "w1"), work(second, "w2"), work(db, "w3"), work(second, "w4")])
    expect(taken.length).toBe(200)
    expect(new Set(taken).size).toBe(200)
    expect((await countJobs(db)).done).toBe(200)
  })

  test("the gallery pages, searches, deletes and restores", async () => {
    await empty()
    for (let i = 0; i < 5; i++) {
      await add({ request: { prompt: i % 2 ? "A Red_fox" : "blue 100% house", negative: "ÄRGER" } })
      const begun = (await claim(db, worker))!
      await finish(db, hold(begun), begun, [image(0, { seed: i })])
    }
    const page = (more: object) => listImages(db, { owner: "ann", limit: 2, ...more })
    const first = await page({})
    const then = await page({ after: first.next! })
    const last = await page({ after: then.next! })
    expect([...first.images, ...then.images, ...last.images].map((i) => i.seed)).toEqual([4, 3, 2, 1, 0])
    expect(last.next).toBeNull()
    const found = async (search: string) => (await page({ search, limit: 9 })).images.length
    expect(await found("red_ fox")).toBe(2)
    expect(await found("100%")).toBe(3)
    expect(await found("%")).toBe(3)
    expect(await found("house fox")).toBe(0)
    expect(await found("ärger")).toBe(5)
    const { id } = first.images[0]!
    expect(await markImage(db, id, "bob", true)).toBeNull()
    expect((await markImage(db, id, "ann", true))!.deleted).toBeGreaterThan(0)
    expect((await page({ limit: 9 })).images.length).toBe(4)
    expect((await page({ limit: 9, deleted: true })).images.map((i) => i.id)).toEqual([id])
    expect((await markImage(db, id, "ann", false))!.deleted).toBeNull()
    await markImage(db, id, "ann", true)
    expect(await purgeImages(db, 60_000)).toEqual([])
    expect((await purgeImages(db, -1)).length).toBe(2)
    expect((await page({ limit: 9, deleted: true })).images).toEqual([])
  })

  test("uploads are kept once, and as long as a job names them", async () => {
    await empty()
    const upload = { owner: "ann", file: "u.png", format: "png", width: 1, height: 1, bytes: 1, sha256: "s" }
    const one = await addUpload(db, upload)
    expect((await addUpload(db, upload)).id).toBe(one.id)
    const made = await add({ inputs: [one.id, one.id] })
    await forgetUploads(db, -1)
    expect((await db.query("SELECT id FROM uploads")).length).toBe(1)
    await cancelJob(db, made.id)
    await forgetJobs(db, 60_000)
    expect(await findJob(db, made.id)).not.toBeNull()
    await forgetJobs(db, -1)
    await forgetUploads(db, -1)
    expect((await db.query("SELECT id FROM uploads")).length).toBe(0)
  })

  test("a model is set aside at the third crash in a row", async () => {
    await empty()
    const crash = () => modelCrashed(db, "m", 3, 60_000)
    await crash()
    await modelWorks(db, "m")
    await crash()
    await crash()
    expect((await modelsSetAside(db)).size).toBe(0)
    await crash()
    expect((await modelsSetAside(db)).get("m")).toMatchObject({ crashes: 3 })
    await modelWorks(db, "m")
    expect((await modelsSetAside(db)).size).toBe(0)
  })

  test("what changed is found by the database's clock, and what is told is heard", async () => {
    await empty()
    const heard: string[] = []
    const stop = (engine === "sqlite" ? db : second).listen((m) => heard.push(m))
    await new Promise((done) => setTimeout(done, 200))
    const { now } = await changedSince(db, 0)
    const made = await add()
    expect((await changedSince(db, now)).jobs).toEqual([{ id: made.id, version: 1 }])
    await expect.poll(() => heard).toContain("queued")
    stop()
  })

  test("a newer program's database is refused", async () => {
    await db.query("INSERT INTO aquatint (version) VALUES (99)")
    await expect(migrate(db)).rejects.toMatchObject({ code: "DATABASE_VERSION" })
    await db.query("DELETE FROM aquatint WHERE version = 99")
  })
})

test("databases that are none are refused without their password", async () => {
  await expect(openDatabase("mysql://a:secret@b/c")).rejects.toMatchObject({ code: "DATABASE_URL" })
  const refused = openDatabase("postgres://a:secret@127.0.0.1:1/c")
  await expect(refused).rejects.toMatchObject({ code: "DATABASE_OPEN" })
  await expect(refused).rejects.not.toThrow(/secret/)
  await expect(openDatabase("/dev/null/x.db")).rejects.toMatchObject({ code: "DATABASE_OPEN" })
})

describe("files in a folder", () => {
  test("are whole, listed and removed; names are no paths", async () => {
    const folder = join(scratch, "files")
    const files = await openFiles(folder, "host")
    await files.put("a.png", new Uint8Array([1, 2, 3]))
    await files.put("a.png", new Uint8Array([4]))
    expect([...(await files.get("a.png"))!]).toEqual([4])
    expect((await files.list()).map((f) => f.name)).toEqual(["a.png"])
    for (const name of ["../a.png", "a/b", "", ".x", "a\0", "A.PNG", "..", "a\\b"])
      await expect(files.get(name)).rejects.toMatchObject({ code: "STORAGE_NAME" })
    await files.remove("a.png")
    expect(await files.get("a.png")).toBeNull()
    await files.remove("a.png")
  })

  test("of processes that ended half-way are tidied away, others' are left", async () => {
    const folder = join(scratch, "half")
    const files = await openFiles(folder, "host")
    const parent = process.ppid
    for (const name of [
      "a.png.host.999999999.01234567.tmp",
      `b.png.host.${parent}.01234567.tmp`,
      "c.png.other.5.01234567.tmp",
    ])
      writeFileSync(join(folder, name), "x")
    await files.tidy()
    expect(readdirSync(folder).sort()).toEqual([
      `b.png.host.${parent}.01234567.tmp`,
      "c.png.other.5.01234567.tmp",
    ])
  })

  test("that cannot be written leave nothing behind", async () => {
    const folder = join(scratch, "gone")
    const files = await openFiles(folder, "host")
    rmSync(folder, { recursive: true })
    await expect(files.put("a.png", new Uint8Array(1))).rejects.toMatchObject({ code: "STORAGE_WRITE" })
    expect(existsSync(folder)).toBe(false)
  })
})
