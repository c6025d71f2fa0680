import { type ChildProcess, spawn } from "node:child_process"
import { readFileSync } from "node:fs"
import { createInterface } from "node:readline"
import { AquatintError } from "../index.ts"

/** A command line to measure. */
export interface Command {
  readonly argv: readonly [string, ...string[]]
  readonly env?: Readonly<Record<string, string>>
}

/** Bytes of memory that a process and its children hold, or undefined where the system does not tell (Linux does). */
export function memoryOf(pid: number, what: "VmRSS" | "VmHWM"): number | undefined {
  try {
    const status = readFileSync(`/proc/${pid}/status`, "utf8")
    const own = Number(new RegExp(`^${what}:\\s+(\\d+) kB`, "m").exec(status)?.[1] ?? 0) * 1024
    const children = readFileSync(`/proc/${pid}/task/${pid}/children`, "utf8")
      .trim()
      .split(/\s+/)
      .filter(Boolean)
    return children.reduce((sum, child) => sum + (memoryOf(Number(child), what) ?? 0), own)
  } catch {
    return undefined
  }
}

const alive = new Set<ChildProcess>()
process.once("exit", () => {
  for (const child of alive) child.kill("SIGKILL")
})

function start({ argv, env }: Command, stdin: "pipe" | "ignore"): ChildProcess {
  const [program, ...args] = argv
  const child = spawn(program, args, { env: { ...process.env, ...env }, stdio: [stdin, "pipe", "pipe"] })
  alive.add(child)
  child.once("close", () => alive.delete(child))
  return child
}

const failed = (argv: readonly string[], words: string) =>
  new AquatintError(
    "BENCH_PROCESS",
    `${argv.slice(0, 3).join(" ")} failed: ${words.trim().split("\n").at(-1)}`,
    {
      blame: "here",
      hint: "run the command by hand to see why",
      details: { argv, words },
    },
  )

/** Runs a command to its end: seconds from its start, the largest memory of its process tree, its output. */
export async function runToEnd(
  command: Command,
): Promise<{ seconds: number; peak: number | undefined; out: string }> {
  const began = performance.now()
  const child = start(command, "ignore")
  let [out, words] = ["", ""]
  child.stdout!.on("data", (text) => (out += text))
  child.stderr!.on("data", (text) => (words += text))
  let peak: number | undefined
  const look = setInterval(() => {
    const now = child.pid === undefined ? undefined : memoryOf(child.pid, "VmHWM")
    if (now !== undefined) peak = Math.max(peak ?? 0, now)
  }, 100)
  try {
    const code = await new Promise<number | null>((done, refuse) => {
      child.once("error", refuse)
      child.once("close", done)
    })
    if (code !== 0) throw failed(command.argv, words || `exit code ${code}`)
    return { seconds: (performance.now() - began) / 1000, peak, out }
  } finally {
    clearInterval(look)
  }
}

/** A process that answers lines of stdin, one at a time, with lines of JSON; the first line tells its versions. */
export class Resident {
  private readonly child: ChildProcess
  private readonly argv: readonly string[]
  private readonly lines: AsyncIterator<string>
  private readonly began = performance.now()
  private words = ""

  constructor(command: Command) {
    this.argv = command.argv
    this.child = start(command, "pipe")
    this.child.stderr!.on("data", (text) => (this.words = (this.words + text).slice(-4000)))
    this.child.on("error", (error) => (this.words += error.message))
    this.child.stdin!.on("error", () => {}) // the answer that does not come tells
    this.lines = createInterface({ input: this.child.stdout! })[Symbol.asyncIterator]()
  }

  /** Seconds since the process was started. */
  get age(): number {
    return (performance.now() - this.began) / 1000
  }

  memory(what: "VmRSS" | "VmHWM"): number | undefined {
    return this.child.pid === undefined ? undefined : memoryOf(this.child.pid, what)
  }

  private async answer(): Promise<Record<string, unknown>> {
    const { value, done } = await this.lines.next()
    if (done) throw failed(this.argv, this.words || "it ended")
    return JSON.parse(value) as Record<string, unknown>
  }

  async versions(): Promise<Record<string, string>> {
    return (await this.answer()).versions as Record<string, string>
  }

  /** One measured piece of work: its seconds, by the process's own clock; undefined where it cannot do that. */
  async ask(line: string): Promise<number | undefined> {
    this.child.stdin!.write(`${line}\n`)
    const { seconds } = await this.answer()
    return typeof seconds === "number" ? seconds : undefined
  }

  async end(): Promise<void> {
    if (!alive.has(this.child)) return
    const closed = new Promise((done) => this.child.once("close", done))
    this.child.kill("SIGTERM")
    await closed
  }
}
