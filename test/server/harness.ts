import { type ChildProcess, spawn } from "node:child_process"
import { join } from "node:path"

export const root = join(import.meta.dirname, "../..")
export const program = join(root, "dist", "bin", "aquatint.js")
/** A model of random weights that draws 64x64 in a moment. */
export const model = join(root, "test", "golden", "models", "sd1-odd")

/** The built program as a server of a test's own. */
export interface Served {
  url: string
  child: ChildProcess
  errors(): string
  /** Ends it in good order, or at once. @returns its exit code */
  stop(signal?: NodeJS.Signals): Promise<number | null>
}

/** Starts `aquatint serve` on any free port. */
export function serve(args: readonly string[], env: Record<string, string> = {}): Promise<Served> {
  const child = spawn(process.execPath, [program, "serve", "--port", "0", ...args], {
    cwd: root,
    env: { ...process.env, ...env },
    stdio: ["ignore", "pipe", "pipe"],
  })
  let errors = ""
  child.stderr.on("data", (text: Buffer) => {
    errors = (errors + text).slice(-20_000)
  })
  const ended = new Promise<number | null>((done) => child.once("exit", (code) => done(code)))
  const stop = (signal: NodeJS.Signals = "SIGTERM") => {
    child.kill(signal)
    return ended
  }
  return new Promise((done, refuse) => {
    let out = ""
    child.stdout.on("data", (text: Buffer) => {
      out += text
      const url = /listens on (\S+)/.exec(out)?.[1]
      if (url) done({ url, child, errors: () => errors, stop })
    })
    void ended.then((code) => refuse(new Error(`the server ended with ${code}: ${errors}`)))
  })
}

/** A worker without a server; it is ready when it says so. */
export function work(
  args: readonly string[],
  env: Record<string, string> = {},
): Promise<Omit<Served, "url">> {
  const child = spawn(process.execPath, [program, "serve", "--role", "worker", ...args], {
    cwd: root,
    env: { ...process.env, ...env },
    stdio: ["ignore", "ignore", "pipe"],
  })
  let errors = ""
  const ended = new Promise<number | null>((done) => child.once("exit", (code) => done(code)))
  const stop = (signal: NodeJS.Signals = "SIGTERM") => {
    child.kill(signal)
    return ended
  }
  return new Promise((done, refuse) => {
    child.stderr.on("data", (text: Buffer) => {
      errors = (errors + text).slice(-20_000)
      if (errors.includes("a worker is ready")) done({ child, errors: () => errors, stop })
    })
    void ended.then((code) => refuse(new Error(`the worker ended with ${code}: ${errors}`)))
  })
}

export interface Reply<T> {
  status: number
  headers: Headers
  body: T
}

/** One request with JSON in and out. */
export async function ask<T = Record<string, unknown>>(
  url: string,
  body?: unknown,
  init: RequestInit = {},
): Promise<Reply<T>> {
  const response = await fetch(url, {
    method: body === undefined ? "GET" : "POST",
    ...(body === undefined ? {} : { body: JSON.stringify(body) }),
    ...init,
    headers: { ...(body === undefined ? {} : { "content-type": "application/json" }), ...init.headers },
  })
  const text = await response.text()
  return { status: response.status, headers: response.headers, body: (text ? JSON.parse(text) : null) as T }
}

export interface JobReply {
  id: string
  state: string
  position: number | null
  attempts: number
  progress: number
  request: Record<string, unknown>
  images: { id: string; sha256: string; seed: number; url: string; thumbnail: string; infotext: string }[]
  error: { code: string } | null
}

/** A job that is over. */
export async function over(url: string, id: string, seconds = 60, headers = {}): Promise<JobReply> {
  for (const end = Date.now() + seconds * 1000; ; ) {
    const { body } = await ask<JobReply>(`${url}/api/jobs/${id}`, undefined, { headers })
    if (!["queued", "running"].includes(body.state)) return body
    if (Date.now() > end) throw new Error(`job ${id} is still ${body.state}`)
    await new Promise((done) => setTimeout(done, 50))
  }
}

/** Server-sent events as they come. */
export async function* events(
  response: Response,
): AsyncGenerator<{ event: string; data: Record<string, unknown> }> {
  let text = ""
  for await (const piece of response.body!.pipeThrough(new TextDecoderStream())) {
    text += piece
    const blocks = text.split("\n\n")
    text = blocks.pop()!
    for (const block of blocks) {
      const event = /^event: (.*)$/m.exec(block)?.[1] ?? "message"
      const data = /^data: (.*)$/m.exec(block)?.[1]
      if (data !== undefined) yield { event, data: JSON.parse(data) }
    }
  }
}
