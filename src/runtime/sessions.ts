import type { InferenceSession, Tensor as OrtTensor } from "onnxruntime-common"
import { AquatintError, fail } from "../errors.ts"
import {
  type Engine,
  type Feed,
  isRef,
  type Ref,
  type SessionSpec,
  type Value,
  type ValueData,
} from "./engine.ts"
import { tidy } from "./reasons.ts"

type Ort = Pick<typeof import("onnxruntime-common"), "InferenceSession" | "Tensor">

/** How one platform turns a spec into session options and a model argument. */
export interface Platform {
  load(): Promise<Ort>
  options(spec: SessionSpec): InferenceSession.SessionOptions
}

const types = {
  Float32Array: "float32",
  BigInt64Array: "int64",
  Int32Array: "int32",
  Int8Array: "int8",
  Uint8Array: "bool",
} as const

/** An engine over onnxruntime in this very thread; node.ts and web.ts supply the platform. */
export class Sessions implements Engine {
  private readonly platform: Platform
  private ort: Promise<Ort> | undefined
  private readonly sessions = new Map<number, InferenceSession>()
  private readonly kept = new Map<number, OrtTensor>()
  private next = 1
  // the browser build refuses a second call while one is under way
  private turn: Promise<unknown> = Promise.resolve()

  constructor(platform: Platform) {
    this.platform = platform
  }

  private inTurn<T>(work: () => Promise<T>): Promise<T> {
    const mine = this.turn.then(work)
    this.turn = mine.catch(() => undefined)
    return mine
  }

  create(spec: SessionSpec): Promise<number> {
    return this.inTurn(async () => {
      const { InferenceSession } = await (this.ort ??= this.platform.load())
      try {
        const session = await InferenceSession.create(spec.onnx, {
          ...this.platform.options(spec),
          ...(spec.keep?.length && spec.device === "webgpu"
            ? { preferredOutputLocation: onDevice(spec.keep) }
            : {}),
        })
        this.sessions.set(this.next, session)
        return this.next++
      } catch (cause) {
        throw engineError("ENGINE_CREATE", `the ${spec.device} engine could not build a network`, cause)
      }
    })
  }

  run(
    id: number,
    feeds: Readonly<Record<string, Feed>>,
    keep: readonly string[] = [],
    into: Readonly<Record<string, Ref>> = {},
  ): Promise<Record<string, Feed>> {
    return this.inTurn(async () => {
      const { Tensor } = await this.ort!
      const session =
        this.sessions.get(id) ?? fail("ENGINE_RELEASED", "this network was released", { blame: "here" })
      const given: Record<string, OrtTensor> = {}
      for (const [name, feed] of Object.entries(feeds)) {
        given[name] = isRef(feed)
          ? (this.kept.get(feed.ref) ??
            fail("ENGINE_RELEASED", `value ${name} was released`, { blame: "here" }))
          : new Tensor(
              types[feed.data.constructor.name as keyof typeof types],
              feed.data as never,
              feed.shape,
            )
      }
      try {
        return await this.collect(await session.run(given, this.targets(session, into)), keep, into)
      } catch (cause) {
        const shapes = Object.entries(feeds).map(([name, feed]) => `${name}[${feed.shape}]`)
        throw engineError("ENGINE_RUN", `a network failed on ${shapes.join(", ")}`, cause)
      }
    })
  }

  /** Where each output goes: over a reference given up, else to fresh memory. */
  private targets(
    session: InferenceSession,
    into: Readonly<Record<string, Ref>>,
  ): Record<string, OrtTensor | null> {
    return Object.fromEntries(
      session.outputNames.map((name) => [name, into[name] ? (this.kept.get(into[name].ref) ?? null) : null]),
    )
  }

  private async collect(
    results: InferenceSession.ReturnType,
    keep: readonly string[],
    into: Readonly<Record<string, Ref>>,
  ): Promise<Record<string, Feed>> {
    const out: Record<string, Feed> = {}
    const kept = new Set(keep)
    for (const { ref } of Object.values(into)) this.kept.delete(ref)
    for (const [name, tensor] of Object.entries(results)) {
      if (kept.has(name)) {
        this.kept.set(this.next, tensor)
        out[name] = { ref: this.next++, shape: tensor.dims }
      } else out[name] = { data: (await tensor.getData()) as ValueData, shape: tensor.dims } satisfies Value
    }
    return out
  }

  async free(refs: readonly number[]): Promise<void> {
    for (const ref of refs) {
      this.kept.get(ref)?.dispose()
      this.kept.delete(ref)
    }
  }

  release(id: number): Promise<void> {
    return this.inTurn(async () => {
      const session = this.sessions.get(id)
      this.sessions.delete(id)
      await session?.release()
    })
  }

  async close(): Promise<void> {
    await this.free([...this.kept.keys()])
    for (const id of this.sessions.keys()) await this.release(id)
  }
}

const onDevice = (names: readonly string[]) =>
  Object.fromEntries(names.map((name) => [name, "gpu-buffer" as const]))

function engineError(code: string, what: string, cause: unknown): AquatintError {
  if (cause instanceof AquatintError) return cause
  const text = String((cause as Error)?.message ?? cause)
  const memory = /bad_alloc|alloc.*fail|out of memory|OOM/i.test(text)
  return new AquatintError(memory ? "OUT_OF_MEMORY" : code, `${what}: ${tidy(text)}`, {
    blame: "here",
    cause,
    hint: memory
      ? "try a smaller picture, or close other programs"
      : "run `aquatint doctor` to see what works on this machine",
  })
}
