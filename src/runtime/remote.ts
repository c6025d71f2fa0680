import { AquatintError } from "../errors.ts"
import { type Engine, type Feed, isRef, type Ref, type SessionSpec } from "./engine.ts"

/** One end of a channel to another process or worker; messages are structured clones. */
export interface Port {
  /** @param moved buffers of the message that the sender gives away, where the channel can move memory */
  post(message: unknown, moved: readonly ArrayBuffer[]): void
  /** `end` is called once, with the reason, when the other side is gone. */
  listen(message: (m: unknown) => void, end: (why: string) => void): void
  close(): void
}

type Method = "create" | "run" | "free" | "release" | "close"

interface Call {
  id: number
  method: Method
  args: unknown[]
}

interface Answer {
  id: number
  result?: unknown
  error?: { code: string; message: string; hint?: string; blame: "caller" | "here" }
}

interface Waiting {
  resolve(value: unknown): void
  reject(error: unknown): void
}

/** An engine at the other end of a port: the caller's event loop stays free while networks run. */
export class RemoteEngine implements Engine {
  private readonly port: Port
  private readonly waiting = new Map<number, Waiting>()
  private next = 1
  private ended: string | undefined

  constructor(port: Port) {
    this.port = port
    port.listen(
      (message) => this.settle(message as Answer),
      (why) => this.end(why),
    )
  }

  private settle({ id, result, error }: Answer): void {
    const waiting = this.waiting.get(id)
    this.waiting.delete(id)
    if (error) waiting?.reject(new AquatintError(error.code, error.message, error))
    else waiting?.resolve(result)
  }

  private end(why: string): void {
    this.ended ??= why
    const pending = [...this.waiting.values()]
    this.waiting.clear()
    for (const { reject } of pending) reject(gone(why))
  }

  private call<T>(method: Method, args: unknown[], moved: readonly ArrayBuffer[] = []): Promise<T> {
    if (this.ended !== undefined) return Promise.reject(gone(this.ended))
    const id = this.next++
    return new Promise<T>((resolve, reject) => {
      this.waiting.set(id, { resolve: resolve as (v: unknown) => void, reject })
      this.port.post({ id, method, args } satisfies Call, moved)
    })
  }

  create(spec: SessionSpec): Promise<number> {
    const bytes = spec.externals.flatMap((e) => ("data" in e ? [e.data] : []))
    return this.call("create", [spec], whole([spec.onnx, ...bytes]))
  }

  run(
    session: number,
    feeds: Readonly<Record<string, Feed>>,
    keep?: readonly string[],
    into?: Readonly<Record<string, Ref>>,
  ): Promise<Record<string, Feed>> {
    return this.call("run", [session, feeds, keep, into])
  }

  free(refs: readonly number[]): Promise<void> {
    return this.call("free", [refs])
  }

  release(session: number): Promise<void> {
    return this.call("release", [session])
  }

  /** Ends the other side at once, also in the middle of a run; its memory goes back to the system. */
  async close(): Promise<void> {
    this.end("it was closed")
    this.port.close()
  }
}

/** Buffers that hold one of these arrays and nothing else, each once. */
const whole = (arrays: readonly { buffer: ArrayBufferLike; byteLength: number }[]): ArrayBuffer[] => [
  ...new Set(
    arrays.flatMap(({ buffer, byteLength }) =>
      buffer instanceof ArrayBuffer && buffer.byteLength === byteLength ? [buffer] : [],
    ),
  ),
]

/** Arrays in the results of a run, which nobody else reads. */
const arraysOf = (method: Method, result: unknown): ArrayBuffer[] =>
  method === "run"
    ? whole(Object.values(result as Record<string, Feed>).flatMap((feed) => (isRef(feed) ? [] : [feed.data])))
    : []

const gone = (why: string) =>
  new AquatintError("ENGINE_GONE", `the engine process ended: ${why}`, {
    blame: "here",
    hint: "a machine short of memory ends processes; try a smaller picture or model",
  })

/** Set where the process was started with --expose-gc. */
type Collector = { gc?: () => void }

/** Answers calls that come through a port with a real engine. */
export function serveEngine(engine: Engine, port: Port): void {
  port.listen(
    async (message) => {
      const { id, method, args } = message as Call
      try {
        const run = engine[method] as (...a: unknown[]) => Promise<unknown>
        const result = await run.apply(engine, args)
        port.post({ id, result } satisfies Answer, arraysOf(method, result))
      } catch (thrown) {
        const e =
          thrown instanceof AquatintError
            ? thrown
            : new AquatintError("ENGINE", String(thrown), { blame: "here" })
        port.post({ id, error: { ...e.toJSON(), blame: e.blame } } satisfies Answer, [])
      }
      // weights that came in a message are hundreds of megabytes which a small heap sees no need to give back
      if (method === "create" || method === "release") setTimeout(() => (globalThis as Collector).gc?.())
    },
    () => port.close(),
  )
}
