import { spawn } from "node:child_process"
import { join } from "node:path"

const program = join(import.meta.dirname, "..", "..", "dist", "bin", "aquatint.js")

export interface Ran {
  code: number | null
  out: string
  err: string
  seconds: number
}

/** The real program, ended after a minute. */
export function aquatint(args: readonly string[], cwd: string): Promise<Ran> {
  const began = performance.now()
  const child = spawn(process.execPath, [program, ...args], {
    cwd,
    env: { ...process.env, XDG_CACHE_HOME: join(cwd, "cache") },
    stdio: ["ignore", "pipe", "pipe"],
    timeout: 60_000,
    killSignal: "SIGKILL",
  })
  let [out, err] = ["", ""]
  child.stdout.on("data", (text) => (out += text))
  child.stderr.on("data", (text) => (err += text))
  return new Promise((done) =>
    child.on("close", (code) => done({ code, out, err, seconds: (performance.now() - began) / 1000 })),
  )
}

/** What is wrong with the way a run ended, or null: 0, or 2 with one error of ours, without a stack or endless words. */
export function complaint({ code, err }: Ran): string | null {
  if (code === 0) return null
  if (code !== 2) return `exit code ${code}: ${err.slice(0, 500)}`
  if (!/^error\[[A-Z0-9_-]+\]: ./.test(err)) return `no error of ours: ${err.slice(0, 500)}`
  if (/\n\s+at .+:\d+/.test(err)) return `a stack trace: ${err.slice(0, 500)}`
  if (err.length > 20_000) return `${err.length} characters of error`
  return null
}

/** Does all of the work, two pieces at a time; results in the order of the work. */
export async function twoAtATime<A, B>(work: readonly A[], each: (item: A) => Promise<B>): Promise<B[]> {
  const results: B[] = []
  let next = 0
  const lane = async () => {
    while (next < work.length) {
      const at = next++
      results[at] = await each(work[at]!)
    }
  }
  await Promise.all([lane(), lane()])
  return results
}
