import { Hono } from "hono"
import { z } from "zod"
import { AquatintError, fail } from "../errors.ts"
import { checkHost, checkOrigin, type Gate } from "./auth.ts"
import type { Log } from "./log.ts"
import type { Metrics } from "./metrics.ts"
import { openApi } from "./openapi.ts"
import { checked, json, parseJson, type Route, readBody, retryHeader, route, statusOf } from "./route.ts"
import type { Who } from "./service.ts"
import { outward } from "./worker.ts"

export interface AppOptions {
  routes: readonly Route[]
  gate: Gate
  log: Log
  metrics: Metrics
  /** Names that this server goes by beside addresses and localhost. */
  hosts: readonly string[]
  /** Origins whose pages may ask. */
  cors: readonly string[]
  /** Files of the web page, for paths that no route has. */
  page: (path: string) => Promise<Response | null>
}

/** Sent with every answer: nothing is guessed, framed, or told to other sites. */
const guards: Record<string, string> = {
  "x-content-type-options": "nosniff",
  "x-frame-options": "DENY",
  "referrer-policy": "no-referrer",
  "cross-origin-opener-policy": "same-origin",
  "cross-origin-embedder-policy": "require-corp",
  "cross-origin-resource-policy": "same-origin",
  "content-security-policy":
    "default-src 'self'; script-src 'self' 'wasm-unsafe-eval'; style-src 'self'; img-src 'self' blob: data:; connect-src 'self' blob: data:; worker-src 'self' blob:; object-src 'none'; base-uri 'none'; form-action 'self'; frame-ancestors 'none'",
}

/**
 * Lets requests in one by one, and the event loop go round between two: a crowd that comes at once would otherwise be
 * read and checked in one go, with everybody behind it waiting.
 */
function oneByOne(): () => Promise<void> {
  const waiting: (() => void)[] = []
  const next = () => {
    waiting.shift()?.()
    if (waiting.length > 0) setImmediate(next)
  }
  return () =>
    new Promise((done) => {
      if (waiting.push(done) === 1) setImmediate(next)
    })
}

/** How errors look to clients of other programs' interfaces. */
export function errorAnswer(error: AquatintError, path: string): Response {
  const status = statusOf(error)
  const { code, message, hint } = outward(error)
  const headers = {
    ...retryHeader(error),
    // the page asks for a token itself; with this header its browser would, too
    ...(status === 401 && !path.startsWith("/api/") ? { "www-authenticate": 'Basic realm="aquatint"' } : {}),
  }
  if (path.startsWith("/v1/"))
    return json(
      {
        error: { message, type: status < 500 ? "invalid_request_error" : "server_error", param: null, code },
      },
      status,
      headers,
    )
  if (path.startsWith("/sdapi/"))
    return json(
      {
        error: code,
        detail: hint === undefined ? message : `${message}; ${hint}`,
        body: "",
        errors: message,
      },
      status,
      headers,
    )
  return json({ error: { code, message, ...(hint === undefined ? {} : { hint }) } }, status, headers)
}

/** The server as one function from requests to responses. */
export function createApp(options: AppOptions): Hono {
  const { metrics, cors } = options
  const app = new Hono({ strict: true })
  const turn = oneByOne()
  app.use(async (c, next) => {
    const began = performance.now()
    await next()
    for (const [name, value] of Object.entries(guards)) c.res.headers.set(name, value)
    const origin = c.req.header("origin")
    if (origin && cors.includes(origin)) {
      c.res.headers.set("access-control-allow-origin", origin)
      c.res.headers.append("vary", "Origin")
    }
    metrics.answered(c.req.method, c.res.status, performance.now() - began)
  })
  app.use(async (c, next) => {
    checkHost(c.req.header("host") ?? null, options.hosts)
    checkOrigin(c.req.raw, cors)
    if (c.req.method === "OPTIONS" && cors.includes(c.req.header("origin") ?? "")) return preflight()
    // who looks after the server asks whether it is well while it is in a crowd
    if (c.req.path !== "/health") await turn()
    await next()
  })
  const described: Route = description(() => all)
  const all: Route[] = [...options.routes, described]
  for (const row of all)
    app.on(row.method, row.path.replace(/\{(\w+)\}/g, ":$1"), (c) =>
      serve(row, c.req.raw, c.req.param() as Record<string, string>, options),
    )
  answerTheRest(app, all, options)
  return app
}

/** Files of the page, and errors of all kinds. */
function answerTheRest(app: Hono, all: readonly Route[], { log, page }: AppOptions): void {
  const paths = new Set(all.map((row) => row.path.replace(/\{\w+\}/g, "*")))
  app.notFound(async (c) => {
    if (c.req.method === "GET" || c.req.method === "HEAD") {
      const found = await page(c.req.path)
      if (found) return found
    }
    const known = [...paths].some((path) => matches(path, c.req.path))
    const what = known ? "METHOD" : "NOT_FOUND"
    return errorAnswer(
      new AquatintError(what, known ? "not by this method" : "there is no such thing here", {
        hint: "see /openapi.json",
      }),
      c.req.path,
    )
  })
  app.onError((thrown, c) => {
    const error =
      thrown instanceof AquatintError
        ? thrown
        : new AquatintError("INTERNAL", String(thrown), { blame: "here", cause: thrown })
    if (error.blame === "here")
      log.error("a request failed", {
        method: c.req.method,
        path: c.req.path,
        code: error.code,
        reason: error.message,
      })
    return errorAnswer(error, c.req.path)
  })
}

const matches = (pattern: string, path: string): boolean => {
  const [a, b] = [pattern.split("/"), path.split("/")]
  return a.length === b.length && a.every((part, i) => part === "*" || part === b[i])
}

const preflight = () =>
  new Response(null, {
    status: 204,
    headers: {
      "access-control-allow-methods": "GET, POST, DELETE",
      "access-control-allow-headers": "authorization, content-type, idempotency-key, x-client-id",
      "access-control-max-age": "600",
    },
  })

function description(routes: () => readonly Route[]): Route {
  let text: string | undefined
  return route({
    method: "GET",
    path: "/openapi.json",
    tag: "server",
    summary: "This description",
    open: true,
    answers: { 200: { description: "OpenAPI 3.1", schema: z.record(z.string(), z.unknown()) } },
    handle: () => {
      text ??= JSON.stringify(openApi(routes()))
      return new Response(text, { headers: { "content-type": "application/json" } })
    },
  })
}

async function serve(
  row: Route,
  request: Request,
  given: Record<string, string>,
  { gate }: AppOptions,
): Promise<Response> {
  const who = gate.whoIs(request.headers)
  if (!who && !row.open)
    fail("TOKEN", "a token is needed", { hint: "Authorization: Bearer TOKEN, as the server printed it" })
  const params = Object.fromEntries(
    Object.entries(row.params ?? {}).map(([name, schema]) => {
      // what cannot be an id is not there
      const result = schema.safeParse(given[name])
      if (!result.success) fail("NOT_FOUND", "there is no such thing here", { hint: "see /openapi.json" })
      return [name, String(result.data)]
    }),
  )
  const search = Object.fromEntries(new URL(request.url).searchParams)
  const query = row.query ? checked(row.query, search, "query") : {}
  const body = row.body ? await bodyOf(row.body, request) : undefined
  const nobody: Who = { owner: "", client: "" }
  return row.handle({ who: who ?? nobody, params, query, body, request, signal: request.signal })
}

async function bodyOf(body: NonNullable<Route["body"]>, request: Request): Promise<unknown> {
  const type = (request.headers.get("content-type") ?? "").split(";")[0]!.trim().toLowerCase()
  const right =
    body.kind === "json"
      ? type === "application/json"
      : body.kind === "multipart"
        ? type === "multipart/form-data"
        : /^image\/(png|jpeg|webp)$/.test(type)
  if (!right && !(body.optional && type === "" && !Number(request.headers.get("content-length") ?? 0)))
    fail("CONTENT_TYPE", `a body of ${type || "no type"} is not read here`, {
      hint: {
        json: "application/json",
        multipart: "multipart/form-data",
        image: "image/png, image/jpeg or image/webp",
      }[body.kind],
    })
  const bytes = await readBody(request, body.limit)
  if (body.kind === "image") return bytes
  if (body.kind === "json")
    return checked(body.schema, bytes.length === 0 && body.optional ? {} : parseJson(bytes), "body")
  const form = await new Response(bytes as Uint8Array<ArrayBuffer>, {
    headers: { "content-type": request.headers.get("content-type")! },
  })
    .formData()
    .catch(() =>
      fail("MULTIPART", "the form cannot be read", { hint: "multipart/form-data with a boundary" }),
    )
  return checked(body.schema, fields(form), "form")
}

/** A form as an object; names that come more than once, or end in [], are lists. */
function fields(form: FormData): Record<string, unknown> {
  const found: Record<string, unknown> = Object.create(null)
  for (const name of new Set(form.keys())) {
    const all = form.getAll(name)
    found[name] = name.endsWith("[]") || all.length > 1 ? all : all[0]
  }
  return { ...found }
}
