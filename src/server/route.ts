import type { z } from "zod"
import { AquatintError, fail } from "../errors.ts"
import type { Who } from "./service.ts"

/** A request that passed its route's schemas. */
export interface Call {
  who: Who
  params: Record<string, string>
  query: Record<string, unknown>
  body: unknown
  request: Request
  /** Ends with the client's connection. */
  signal: AbortSignal
}

export interface Answer {
  description: string
  schema?: z.ZodType
  /** Default `application/json`. */
  type?: string
}

/** One row: what is routed, checked and described. */
export interface Route {
  method: "GET" | "POST" | "DELETE"
  /** As OpenAPI writes it: `/api/jobs/{id}`. */
  path: string
  tag: string
  summary: string
  /** Works without a token. */
  open?: boolean
  params?: Record<string, z.ZodType>
  query?: z.ZodObject
  headers?: Record<string, string>
  body?: { kind: "json" | "multipart" | "image"; schema: z.ZodType; limit: number; optional?: boolean }
  answers: Record<number, Answer>
  handle(call: Call): Promise<Response>
}

/** A row whose handler knows the types that its schemas give. */
export function route<B extends z.ZodType = z.ZodUnknown, Q extends z.ZodObject = z.ZodObject>(
  row: Omit<Route, "handle" | "body" | "query"> & {
    query?: Q
    body?: { kind: "json" | "multipart" | "image"; schema: B; limit: number; optional?: boolean }
    handle(
      call: Omit<Call, "body" | "query"> & { body: z.output<B>; query: z.output<Q> },
    ): Promise<Response> | Response
  },
): Route {
  return { ...row, handle: async (call) => row.handle(call as never) }
}

export const json = (body: unknown, status = 200, headers: Record<string, string> = {}): Response =>
  Response.json(body, { status, headers: { "cache-control": "no-store", ...headers } })

const deepest = 32
const mostPieces = 200_000

/** A body up to a limit, whatever its length is said to be. @throws BODY_TOO_LARGE, BODY_CUT */
export async function readBody(request: Request, limit: number): Promise<Uint8Array> {
  const tooLarge = () =>
    fail("BODY_TOO_LARGE", `the body is longer than ${limit} bytes`, { hint: "send less" })
  if (Number(request.headers.get("content-length") ?? 0) > limit) tooLarge()
  if (!request.body) return new Uint8Array()
  const pieces: Uint8Array[] = []
  let length = 0
  try {
    for await (const piece of request.body) {
      length += piece.length
      if (length > limit || pieces.length > mostPieces) tooLarge()
      pieces.push(piece)
    }
  } catch (error) {
    if (error instanceof AquatintError) throw error
    fail("BODY_CUT", "the body ended too early", { hint: "send it again" })
  }
  return Buffer.concat(pieces)
}

/** JSON from a body. @throws JSON, JSON_DEPTH */
export function parseJson(bytes: Uint8Array): unknown {
  let value: unknown
  try {
    value = JSON.parse(new TextDecoder("utf-8", { fatal: true }).decode(bytes))
  } catch {
    return fail("JSON", "the body is not JSON in UTF-8", { hint: "Content-Type: application/json" })
  }
  checkDepth(value)
  return value
}

function checkDepth(value: unknown): void {
  let level: unknown[] = [value]
  for (let depth = 0; level.length > 0; depth++) {
    if (depth > deepest)
      fail("JSON_DEPTH", `the body is nested deeper than ${deepest}`, { hint: "send less" })
    level = level.flatMap((one) => (typeof one === "object" && one !== null ? Object.values(one) : []))
  }
}

/** A value that fits a schema, or one error that names the place. @throws REQUEST_SCHEMA */
export function checked<T extends z.ZodType>(schema: T, value: unknown, where: string): z.output<T> {
  const result = schema.safeParse(value, { reportInput: false })
  if (result.success) return result.data
  const [issue] = result.error.issues
  const path = issue!.path.map(String).join(".")
  return fail("REQUEST_SCHEMA", `${where}${path ? ` ${path}` : ""}: ${issue!.message}`.slice(0, 300), {
    hint: "see /openapi.json",
    details: { field: path },
  })
}

const statuses: Record<string, number> = {
  TOKEN: 401,
  ORIGIN: 403,
  NOT_FOUND: 404,
  METHOD: 405,
  STATE: 409,
  BODY_TOO_LARGE: 413,
  IMAGE_TOO_LARGE: 413,
  CONTENT_TYPE: 415,
  HOST: 421,
  JSON: 400,
  JSON_DEPTH: 400,
  REQUEST_SCHEMA: 400,
  MULTIPART: 400,
  BODY_CUT: 400,
  QUEUE_FULL: 429,
  MODEL_SET_ASIDE: 503,
  MODEL_NONE: 503,
  NO_WORKER: 503,
  CANCELLED: 499,
}

/** The HTTP status that an error stands for. */
export const statusOf = (error: AquatintError): number =>
  statuses[error.code] ?? (error.blame === "caller" ? 422 : 503)

/** Seconds after which it makes sense to ask again, as a header. */
export const retryHeader = (error: AquatintError): Record<string, string> => {
  const after = error.details.retryAfter ?? (statusOf(error) === 503 ? 5 : undefined)
  return after === undefined ? {} : { "retry-after": String(after) }
}

export const notFound = (): never =>
  fail("NOT_FOUND", "there is no such thing here", { hint: "see /openapi.json" })

/** Server-sent events; `begin` gets what sends one, and returns what to do when the client leaves. */
export function eventStream(
  signal: AbortSignal,
  begin: (send: (event: string | null, data: unknown) => void, end: () => void) => Promise<() => void>,
): Response {
  const encoder = new TextEncoder()
  let stop = () => {}
  let over = false
  const body = new ReadableStream<Uint8Array>({
    async start(controller) {
      const write = (text: string) => {
        if (over) return
        // a reader that does not read is left behind rather than stored up for
        if ((controller.desiredSize ?? 0) < -1000) return end()
        controller.enqueue(encoder.encode(text))
      }
      const end = () => {
        if (over) return
        over = true
        clearInterval(beat)
        stop()
        controller.close()
      }
      const beat = setInterval(() => write(": still here\n\n"), 15_000).unref()
      signal.addEventListener("abort", end, { once: true })
      const send = (event: string | null, data: unknown) =>
        write(
          `${event === null ? "" : `event: ${event}\n`}data: ${typeof data === "string" ? data : JSON.stringify(data)}\n\n`,
        )
      try {
        stop = await begin(send, end)
        if (over) stop()
      } catch (error) {
        over = true
        clearInterval(beat)
        controller.error(error)
      }
    },
    cancel() {
      over = true
      stop()
    },
  })
  return new Response(body, {
    headers: {
      "content-type": "text/event-stream; charset=utf-8",
      "cache-control": "no-store",
      "x-accel-buffering": "no",
    },
  })
}
