import { type ChildProcess, fork } from "node:child_process"
import { randomBytes } from "node:crypto"
import { readFileSync } from "node:fs"
import type { Server } from "node:http"
import { getPriority, hostname, setPriority } from "node:os"
import { serve as listen } from "@hono/node-server"
import { fail } from "../errors.ts"
import {
  alive,
  countJobs,
  type Database,
  died,
  type Files,
  migrate,
  openDatabase,
  openFiles,
} from "../store/index.ts"
import { createApp } from "./app.ts"
import { Gate, isLoopback, type Token } from "./auth.ts"
import { Keeper, loadChild } from "./keeper.ts"
import { tidy } from "./keeping.ts"
import type { Log } from "./log.ts"
import { Metrics } from "./metrics.ts"
import { type ModelPlaces, Models } from "./models.ts"
import { pageFiles, pageFolders } from "./page.ts"
import { enlargeRoutes } from "./routes/enlarge.ts"
import { galleryRoutes } from "./routes/gallery.ts"
import { jobRoutes } from "./routes/jobs.ts"
import { mcpRoutes } from "./routes/mcp.ts"
import { modelRoutes } from "./routes/models.ts"
import { openAiRoutes } from "./routes/openai.ts"
import { sdapiRoutes } from "./routes/sdapi/index.ts"
import { serverRoutes } from "./routes/server.ts"
import type { Limits } from "./schemas.ts"
import { Service } from "./service.ts"
import { Worker } from "./worker.ts"

export type Role = "api" | "worker" | "all"

export interface ServeOptions extends ModelPlaces {
  role: Role
  host: string
  port: number
  /** `postgres://...` or the path of an SQLite file. */
  database: string
  /** A folder, or `s3://bucket/prefix`. */
  storage: string
  s3?: { id: string; secret: string; session?: string | undefined } | undefined
  tokens: readonly Token[]
  hosts: readonly string[]
  cors: readonly string[]
  limits: Limits
  /** Bytes that models may hold in memory. */
  memory: number
  /** Processes that draw, one job each. */
  workers: number
  lease: number
  deaths: number
  /** Workers load models before the first job. */
  warm: boolean
  log: Log
  /** Starts this program again as a worker, for the role `all`. */
  program: { path: string; args: readonly string[] }
}

/** Milliseconds for which a model that crashed too often is set aside. */
const asideFor = 600_000
const hour = 3_600_000
/** How much later than the server its workers get a processor, as `nice` counts. */
const politeness = 10

const hostId =
  hostname()
    .toLowerCase()
    .replace(/[^a-z0-9-]/g, "-")
    .slice(0, 60) || "host"

/** The moment at which a process began, which tells it from a later one of the same number; 0 where nobody says. */
function startOf(pid: number): string {
  try {
    const text = readFileSync(`/proc/${pid}/stat`, "utf8")
    return text.slice(text.lastIndexOf(")") + 2).split(" ")[19] ?? "0"
  } catch {
    return "0"
  }
}

const workerName = () => `${hostId}:${process.pid}:${startOf(process.pid)}:${randomBytes(4).toString("hex")}`

/** Whether a worker of this name was on this machine and is dead. */
export function isGone(worker: string): boolean {
  const [host, pid, start] = worker.split(":")
  if (host !== hostId) return false
  return !alive(Number(pid))
    ? Number(pid) !== process.pid || start !== startOf(process.pid)
    : startOf(Number(pid)) !== start
}

/** Refuses to be reachable by others without a token. @throws SERVE_TOKEN */
export function checkAddress(host: string, tokens: readonly Token[]): void {
  if (isLoopback(host) || tokens.length > 0) return
  fail("SERVE_TOKEN", `${host} can be reached by others, and no token is set`, {
    hint: "set one with --token, or listen on 127.0.0.1",
  })
}

/** Something that runs until it is stopped. */
export interface Running {
  /** Where it listens, or null for a worker. */
  address: string | null
  service: Service | null
  stop(): Promise<void>
}

interface Base {
  db: Database
  files: Files
  models: Models
}

/** Opens the store and finds the models. */
export async function openBase(options: ServeOptions): Promise<Base> {
  const db = await openDatabase(options.database)
  try {
    await migrate(db)
    const files = await openFiles(options.storage, hostId, options.s3)
    const models = await Models.find(options)
    for (const { path, error } of process.send ? [] : models.refused)
      options.log.warn("a model cannot be used", { path, code: error.code, reason: error.message })
    for (const { id, files: names } of process.send ? [] : models.programs)
      options.log.warn("programs in a model's folder are not run", { model: id, files: names.join(" ") })
    return { db, files, models }
  } catch (error) {
    await db.close()
    throw error
  }
}

/** Runs a worker in this process. */
export async function runWorker(options: ServeOptions): Promise<Running> {
  const { db, files, models } = await openBase(options)
  await files.tidy()
  const worker = new Worker({
    name: workerName(),
    db,
    files,
    models,
    keeper: new Keeper({
      budget: options.memory,
      load: loadChild("auto", {
        path: (name) => models.loras.get(name).path,
        any: () => models.loras.all.length > 0,
      }),
    }),
    log: options.log,
    lease: options.lease,
    deaths: options.deaths,
    pause: asideFor,
    warm: options.warm,
    gone: isGone,
  })
  const parent = process.send ? tieToParent(db) : () => {}
  worker.start()
  options.log.info("a worker is ready", { models: models.all.length })
  return {
    address: null,
    service: null,
    stop: async () => {
      parent()
      await worker.stop()
      await db.close()
    },
  }
}

/** What is said in one of two processes with the same file is heard in the other. */
function bridge(
  db: Database,
  other: { send(m: string): void; on(heard: (m: unknown) => void): void },
): () => void {
  let foreign = false
  other.on((message) => {
    if (typeof message !== "string") return
    foreign = true
    db.hear(message)
    foreign = false
  })
  return db.listen((message) => {
    if (!foreign && db.engine === "sqlite") other.send(message)
  })
}

const tieToParent = (db: Database) =>
  bridge(db, {
    send: (message) => process.connected && process.send?.(message),
    on: (heard) => process.on("message", heard),
  })

/** Drawing takes every core there is: whoever asks the server is answered first. */
function behind(pid: number | undefined): void {
  try {
    if (pid) setPriority(pid, Math.min(19, getPriority() + politeness))
  } catch {} // some systems do not let it be said
}

/** Keeps worker processes running. */
class Crew {
  private readonly options: ServeOptions
  private readonly db: Database
  private readonly children = new Set<ChildProcess>()
  private stopping = false

  constructor(options: ServeOptions, db: Database) {
    this.options = options
    this.db = db
  }

  get size(): number {
    return this.children.size
  }

  start(): void {
    for (let i = 0; i < this.options.workers; i++) this.hire(0)
  }

  private hire(failures: number): void {
    const { path, args } = this.options.program
    const began = Date.now()
    const child = fork(path, [...args, "--role", "worker"], { stdio: ["ignore", "ignore", "inherit", "ipc"] })
    this.children.add(child)
    behind(child.pid)
    const untie = bridge(this.db, {
      send: (message) => child.connected && child.send(message, () => {}),
      on: (heard) => child.on("message", heard),
    })
    child.once("exit", (code, signal) => {
      untie()
      this.children.delete(child)
      if (this.stopping) return
      this.options.log.error("a worker ended", { code, signal })
      void this.release(child.pid)
      // one that dies at its start is not started in a hurry
      const again = Date.now() - began > 10_000 ? 0 : failures + 1
      setTimeout(() => !this.stopping && this.hire(again), Math.min(30_000, 100 * 2 ** again)).unref()
    })
  }

  /** Its jobs wait again at once, for the next worker. */
  private async release(pid: number | undefined): Promise<void> {
    try {
      const prefix = `${hostId}:${pid}:`
      const rows = await this.db.query("SELECT id, attempts, worker FROM jobs WHERE state = 'running'")
      for (const row of rows)
        if (String(row.worker).startsWith(prefix))
          await died(this.db, String(row.id), Number(row.attempts), this.options.deaths)
    } catch (error) {
      this.options.log.warn("a dead worker's job waits for its lease", { reason: (error as Error).message })
    }
  }

  async stop(): Promise<void> {
    this.stopping = true
    await Promise.all(
      [...this.children].map(async (child) => {
        const ended = new Promise((done) => child.once("exit", done))
        child.kill("SIGTERM")
        const late = setTimeout(() => child.kill("SIGKILL"), 8000)
        await ended
        clearTimeout(late)
      }),
    )
  }
}

/** Runs the HTTP interfaces in this process, and workers in others where the role is `all`. */
export async function runServer(options: ServeOptions): Promise<Running> {
  checkAddress(options.host, options.tokens)
  const { db, files, models } = await openBase(options)
  await files.tidy()
  const { limits, log } = options
  const service = new Service({ db, files, models, limits })
  const crew = new Crew(options, db)
  const pulse = { queued: 0, running: 0, workers: 0 }
  const beat = async () => {
    const counts = await countJobs(db)
    Object.assign(pulse, { queued: counts.queued, running: counts.running, workers: crew.size })
  }
  await beat()
  const every = (milliseconds: number, work: () => Promise<unknown>) =>
    setInterval(
      () => void work().catch((e: Error) => log.warn("housekeeping failed", { reason: e.message })),
      milliseconds,
    )
  const timers = [every(1000, beat), every(hour, () => tidy(db, files))]
  void tidy(db, files).catch((e: Error) => log.warn("housekeeping failed", { reason: e.message }))
  const app = appOf(options, service, () => ({ ...pulse, workers: crew.size }))
  const server = await open(app.fetch, options).catch(async (error) => {
    for (const timer of timers) clearInterval(timer)
    await db.close()
    throw error
  })
  if (options.role === "all") crew.start()
  const { port } = server.address() as { port: number }
  const shown = options.host.includes(":") ? `[${options.host}]` : options.host
  const stop = async () => {
    for (const timer of timers) clearInterval(timer)
    server.close()
    await crew.stop()
    server.closeAllConnections()
    service.close()
    await db.close()
  }
  return { address: `http://${shown}:${port}`, service, stop }
}

export function appOf(
  options: Pick<ServeOptions, "tokens" | "hosts" | "cors" | "log">,
  service: Service,
  pulse: () => { queued: number; running: number; workers: number },
) {
  const gate = new Gate(options.tokens)
  const metrics = new Metrics()
  const routes = [
    ...serverRoutes({ service, gate, metrics, pulse }),
    ...modelRoutes(service),
    ...jobRoutes(service),
    ...enlargeRoutes(service),
    ...galleryRoutes(service),
    ...sdapiRoutes(service),
    ...openAiRoutes(service),
    ...mcpRoutes(service),
  ]
  const { log, hosts, cors } = options
  return createApp({ routes, gate, log, metrics, hosts, cors, page: pageFiles(pageFolders()) })
}

/** Listens; a client that is slow to say what it wants is let go. */
function open(
  fetch: (request: Request) => Response | Promise<Response>,
  options: ServeOptions,
): Promise<Server> {
  return new Promise((done, refuse) => {
    const where = { fetch, hostname: options.host, port: options.port }
    // how often connections are looked at for the times below; Node's own half minute would add to them
    const serverOptions = { connectionsCheckingInterval: 2000 }
    const server = listen({ ...where, serverOptions }, () => done(server)) as Server
    server.headersTimeout = 10_000
    server.requestTimeout = 120_000
    // longer than proxies and clients keep a connection, so that it is not closed under a request on its way
    server.keepAliveTimeout = 65_000
    server.maxConnections = 2000
    server.once("error", (cause: NodeJS.ErrnoException) =>
      refuse(Object.assign(cause, { code: cause.code }) && listenError(cause, options)),
    )
  })
}

function listenError(cause: NodeJS.ErrnoException, { host, port }: ServeOptions): unknown {
  try {
    return fail("SERVE_LISTEN", `cannot listen on ${host}:${port}: ${cause.code}`, {
      cause,
      blame: "here",
      hint: "choose another --port, or end the program that uses it",
    })
  } catch (error) {
    return error
  }
}
