import { type ChildProcess, spawn } from "node:child_process"
import { createHash } from "node:crypto"
import { readdirSync, readFileSync } from "node:fs"
import { createServer } from "node:net"
import { join } from "node:path"
import { tidy } from "../../src/server/keeping.ts"
import { migrate, openDatabase, openFiles } from "../../src/store/index.ts"
import { ask, type JobReply, model, program, root } from "./harness.ts"

/** What a run of kills found. Everything but the first four must be 0. */
export interface Toll {
  kills: number
  /** Of these, at a named moment. */
  named: number
  acknowledged: number
  /** Jobs that were begun more than once. */
  repeated: number
  /** Acknowledged jobs that are not done in the end. */
  lost: number
  /** Jobs whose picture is not the one that an undisturbed server draws. */
  different: number
  /** Files whose bytes are not what the record says. */
  torn: number
  /** Files that no record names, after the server's own tidying. */
  leftovers: number
  /** Keys whose repeats made a second job. */
  doubled: number
}

export interface KillOptions {
  kills: number
  /** An SQLite file or `postgres://...`. */
  database: string
  folder: string
  /** Mean milliseconds between two kills. */
  mean: number
  /** Jobs that wait at a time. */
  waiting?: number
  seed?: number
  log?: (line: string) => void
}

const points = [
  "api:upload-written",
  "api:accepted",
  "worker:claimed",
  "worker:denoising",
  "worker:picture-half",
  "worker:picture-written",
  "worker:thumbnail-written",
  "worker:finished",
] as const

/** Numbers that are the same in every run (mulberry32). */
function numbers(seed: number): () => number {
  let state = seed
  return () => {
    state = (state + 0x6d2b79f5) | 0
    let t = Math.imul(state ^ (state >>> 15), 1 | state)
    t = (t + Math.imul(t ^ (t >>> 7), 61 | t)) ^ t
    return ((t ^ (t >>> 14)) >>> 0) / 2 ** 32
  }
}

const pause = (milliseconds: number) => new Promise((done) => setTimeout(done, milliseconds))
const freePort = () =>
  new Promise<number>((done) => {
    const server = createServer().listen(0, "127.0.0.1", () => {
      const { port } = server.address() as { port: number }
      server.close(() => done(port))
    })
  })

/** A server that is killed and started again, and the process of its worker. */
class Victim {
  readonly url: string
  private readonly args: readonly string[]
  private child: ChildProcess | undefined
  died: Promise<unknown> = Promise.resolve()
  errors = ""

  constructor(port: number, { database, folder }: KillOptions) {
    this.url = `http://127.0.0.1:${port}`
    const place = ["--data", folder, "--database", database, "--port", String(port), "-m", model]
    // the deaths come from outside here and say nothing of a job
    this.args = ["serve", ...place, "--max-deaths", "1000000", "--lease", "3", "--queue-limit", "100000"]
  }

  start(dieAt = ""): void {
    const child = spawn(process.execPath, [program, ...this.args], {
      cwd: root,
      env: { ...process.env, AQUATINT_DIE_AT: dieAt },
      stdio: ["ignore", "ignore", "pipe"],
    })
    child.stderr?.on("data", (text: Buffer) => {
      this.errors = (this.errors + text).slice(-4000)
    })
    this.died = new Promise((done) => child.once("exit", done))
    this.child = child
  }

  /** The processes that the server started. */
  workers(): number[] {
    const { pid } = this.child!
    const text = readFileSync(`/proc/${pid}/task/${pid}/children`, "utf8").trim()
    return text === "" ? [] : text.split(" ").map(Number)
  }

  kill(who: "server" | "worker"): void {
    if (who === "server") this.child?.kill("SIGKILL")
    else for (const pid of this.workers()) process.kill(pid, "SIGKILL")
  }

  async stop(): Promise<void> {
    this.child?.kill("SIGTERM")
    await this.died
  }
}

/** The body of job `n`: a few kinds of pictures, again and again. */
const jobOf = (n: number) => ({
  prompt: `picture ${n % 8}`,
  seed: n % 8,
  steps: 2 + (n % 3),
  width: 64,
  height: n % 2 ? 64 : 128,
})

/** Submits jobs for ever, each with a key until somebody says that it is kept. */
async function submit(
  url: string,
  known: Map<string, number>,
  on: () => boolean,
  waiting: number,
  start: Uint8Array,
): Promise<number> {
  let doubled = 0
  for (let n = 0; on(); n++) {
    const headers = { "idempotency-key": `key-${n}` }
    // every fourth starts from a picture that is sent along
    const body =
      n % 4 === 3 ? { ...jobOf(n), init: { data: Buffer.from(start).toString("base64") } } : jobOf(n)
    let first: string | undefined
    for (let tries = 0; tries < 1000 && on(); tries++) {
      const reply = await ask<JobReply>(`${url}/api/jobs`, body, { headers }).catch(() => null)
      if (reply?.status !== 202 && reply?.status !== 200) {
        await pause(30)
        continue
      }
      if (first !== undefined && first !== reply.body.id) doubled++
      // an answer is an acknowledgement; asking again must give the same job
      if (first === undefined && n % 5 === 0) {
        first = reply.body.id
        known.set(first, n)
        continue
      }
      known.set(reply.body.id, n)
      break
    }
    while (on() && (await waitingNow(url)) >= waiting) await pause(50)
  }
  return doubled
}

const answers = async (url: string) => (await ask(`${url}/health`).catch(() => null)) !== null

async function waitingNow(url: string): Promise<number> {
  const reply = await ask<{ queued: number }>(`${url}/health`).catch(() => null)
  return reply?.body.queued ?? 0
}

/** Kills servers and workers, at random times and at named moments, and counts what that did. */
export async function killing(options: KillOptions): Promise<Toll> {
  const { kills, mean, waiting = 4, log = () => {} } = options
  const random = numbers(options.seed ?? 1)
  const victim = new Victim(await freePort(), options)
  const known = new Map<string, number>()
  let on = true
  let named = 0
  const picture = await plainPicture()
  victim.start()
  const submitting = submit(victim.url, known, () => on, waiting, picture)
  for (let done = 0; done < kills; ) {
    const point = points[Math.floor(random() * points.length)]!
    const atPoint = random() < 0.5
    const who = random() < 0.5 ? "server" : "worker"
    if (atPoint && point.startsWith("api:")) {
      victim.kill("server")
      await victim.died
      victim.start(`${point}:${1 + Math.floor(random() * 3)}`)
      await Promise.race([victim.died, pause(20_000)])
      victim.kill("server")
      await victim.died
      victim.start()
      done += 2
      named++
    } else if (atPoint) {
      // a worker that comes to the moment ends itself; the next one goes on
      victim.kill("server")
      await victim.died
      victim.start(`${point}:${1 + Math.floor(random() * 3)}`)
      const deaths = 2
      await workerDeaths(victim, deaths)
      victim.kill("server")
      await victim.died
      victim.start()
      done += 2 + deaths
      named += deaths
    } else {
      // a server that has begun to answer has more to lose than one that is starting
      for (const end = Date.now() + 20_000; Date.now() < end && !(await answers(victim.url)); )
        await pause(30)
      await pause(-Math.log(1 - random()) * mean)
      try {
        victim.kill(who)
        done++
      } catch {
        continue // there was nothing to kill at that moment
      }
      if (who === "server") {
        await victim.died
        victim.start()
      }
    }
    if (done % 10 < 2) log(`${done} kills, ${known.size} jobs acknowledged`)
  }
  on = false
  const doubled = await submitting
  const toll = await count(options, victim, known)
  return { kills, named, acknowledged: known.size, doubled, ...toll }
}

/** Waits until so many of a server's workers have ended, or half a minute. */
async function workerDeaths(victim: Victim, deaths: number): Promise<void> {
  const seen = new Set<number>()
  for (const end = Date.now() + 30_000; Date.now() < end && seen.size <= deaths; await pause(20)) {
    try {
      for (const pid of victim.workers()) seen.add(pid)
    } catch {
      return
    }
  }
}

async function plainPicture(): Promise<Uint8Array> {
  const { encodeImage } = await import("../../src/index.ts")
  const data = Uint8ClampedArray.from({ length: 64 * 64 * 3 }, (_, i) => (i * 5) % 256)
  return encodeImage({ width: 64, height: 64, channels: 3, data }, { format: "png" })
}

const sha256 = (bytes: Uint8Array) => createHash("sha256").update(bytes).digest("hex")

/** Lets everything be drawn, then compares what is there with what should be. */
async function count(
  { database, folder }: KillOptions,
  victim: Victim,
  known: ReadonlyMap<string, number>,
): Promise<Omit<Toll, "kills" | "named" | "acknowledged" | "doubled">> {
  const db = await openDatabase(database)
  await migrate(db)
  for (const end = Date.now() + 300_000; Date.now() < end; await pause(200)) {
    const [row] = await db.query("SELECT count(*) AS n FROM jobs WHERE state IN ('queued', 'running')")
    if (Number(row!.n) === 0) break
  }
  await victim.stop()
  const files = await openFiles(join(folder, "pictures"), "test")
  await tidy(db, files, 0)
  const toll = { repeated: 0, lost: 0, different: 0, torn: 0, leftovers: 0 }
  const first = new Map<string, string>()
  for (const [id, n] of known) {
    const [job] = await db.query("SELECT state, attempts FROM jobs WHERE id = $1", [id])
    const images = await db.query("SELECT file, sha256 FROM images WHERE job = $1", [id])
    if (job?.state !== "done" || images.length !== 1) toll.lost++
    if (Number(job?.attempts) > 1) toll.repeated++
    const bytes = images[0] && (await files.get(String(images[0].file)))
    if (!bytes || sha256(bytes) !== images[0]!.sha256) toll.torn++
    // jobs of one kind are the same picture, whatever happened while they were drawn
    const kind = `${n % 24} ${n % 4 === 3}`
    if (!first.has(kind)) first.set(kind, String(images[0]?.sha256))
    if (first.get(kind) !== images[0]?.sha256) toll.different++
  }
  const recorded = await db.query(
    "SELECT file FROM images UNION SELECT thumbnail FROM images UNION SELECT file FROM uploads",
  )
  const names = new Set(recorded.map((row) => String(row.file)))
  toll.leftovers = readdirSync(join(folder, "pictures")).filter((name) => !names.has(name)).length
  await db.close()
  return toll
}
