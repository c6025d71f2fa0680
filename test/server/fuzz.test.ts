import { setFlagsFromString } from "node:v8"
import { runInNewContext } from "node:vm"
import { afterAll, beforeAll, expect, test } from "vitest"
import { newId } from "../../src/store/index.ts"
import { type Local, local } from "./local.ts"

/** Requests made from /openapi.json, right and wrong: every answer is one that the description names. */

type Schema = Record<string, unknown> & {
  type?: string | string[]
  properties?: Record<string, Schema>
  items?: Schema
  anyOf?: Schema[]
  enum?: unknown[]
  $ref?: string
}
interface Operation {
  parameters?: { name: string; in: string; schema: Schema }[]
  requestBody?: { content: Record<string, { schema: Schema }> }
}
interface Description {
  paths: Record<string, Record<string, Operation>>
  components: { schemas: Record<string, Schema> }
}

let server: Local
let description: Description
beforeAll(async () => {
  server = await local({ limits: { queue: 40, clientQueue: 40 } })
  description = (await (await server.fetch("/openapi.json")).json()) as Description
})
afterAll(() => server.close())

let state = 20261122
const random = (): number => {
  state = (Math.imul(state, 1664525) + 1013904223) | 0
  return (state >>> 8) / 2 ** 24
}
const pick = <T>(from: readonly T[]): T => from[Math.floor(random() * from.length)]!

const odd: unknown[] = [
  null,
  true,
  -1,
  0,
  1e308,
  -0.5,
  2 ** 53,
  "",
  "x",
  "\0",
  "\ud800",
  "../../etc/passwd",
  "a".repeat(9000),
  "😀".repeat(100),
  "' OR 1=1 --",
  "$(id)",
  [],
  [[]],
  {},
  { $gt: "" },
  { constructor: 1 },
  "2026-01-01",
  "NaN",
]

/** A value for a schema, now and then a wrong one. */
function value(schema: Schema, depth = 0): unknown {
  if (random() < 0.05 || depth > 5) return pick(odd)
  if (schema.$ref) return value(description.components.schemas[schema.$ref.split("/").at(-1)!]!, depth + 1)
  if (schema.anyOf) return value(pick(schema.anyOf), depth + 1)
  if (schema.enum) return pick(schema.enum)
  if (schema.const !== undefined) return schema.const
  const type = Array.isArray(schema.type) ? pick(schema.type) : schema.type
  if (type === "object") {
    const found = Object.entries(schema.properties ?? {}).filter(() => random() < 0.4)
    const made = Object.fromEntries(found.map(([name, inner]) => [name, value(inner, depth + 1)]))
    if (schema.properties?.prompt && random() < 0.9) made.prompt = "a fox"
    return made
  }
  if (type === "array")
    return Array.from({ length: Math.floor(random() * 3) }, () => value(schema.items ?? {}, depth + 1))
  if (type === "integer" || type === "number") {
    const [low, high] = [Number(schema.minimum ?? 0), Number(schema.maximum ?? 100)]
    const drawn = low + random() * (Math.min(high, 1e9) - low)
    return type === "integer" ? Math.round(drawn) : drawn
  }
  if (type === "boolean") return random() < 0.5
  if (type === "string")
    return schema.pattern ? newId() : pick(["a fox", "sd1-odd", "Euler a", "karras", "64x64", "x"])
  return pick(odd)
}

function body(content: Record<string, { schema: Schema }>): { body: BodyInit; type: string | null } {
  const type = pick(Object.keys(content))
  const { schema } = content[type]!
  if (type === "application/json") {
    const text = JSON.stringify(value(schema)) ?? "null"
    return { body: random() < 0.05 ? text.slice(0, -1) : text, type }
  }
  if (type === "multipart/form-data") {
    const form = new FormData()
    for (const name of ["image", "mask", "prompt", "n", "size", "image[]", "stream", "steps"])
      if (random() < 0.4)
        form.append(
          name,
          random() < 0.5 ? String(pick(odd)) : new Blob([String(pick(odd))], { type: "image/png" }),
        )
    return { body: form, type: null }
  }
  return { body: random() < 0.5 ? `\x89PNG\r\n\x1a\n${pick(odd)}` : String(pick(odd)), type }
}

/** A value as text that an address can hold. */
const whole = (given: unknown): string => String(given).replace(/\p{Cs}/gu, "?")

/** Calls that wait for a worker, of which there is none here: they are left after a moment. */
const waits = /txt2img|img2img|extra-|\/v1\/images|\/mcp|events/

async function once(path: string, method: string, operation: Operation): Promise<number> {
  let at = path.replace(/\{\w+\}/g, () =>
    encodeURIComponent(random() < 0.5 ? newId() : whole(pick(odd)).slice(0, 200)),
  )
  const query = (operation.parameters ?? []).filter((one) => one.in === "query" && random() < 0.5)
  if (query.length > 0)
    at += `?${query.map((one) => `${one.name}=${encodeURIComponent(whole(value(one.schema)))}`).join("&")}`
  const made = operation.requestBody && random() < 0.95 ? body(operation.requestBody.content) : null
  const controller = new AbortController()
  const late = setTimeout(() => controller.abort(), waits.test(path) ? 30 : 20_000)
  try {
    const response = await server.fetch(at, {
      method: method.toUpperCase(),
      ...(made ? { body: made.body } : {}),
      headers: made?.type ? { "content-type": made.type } : {},
      signal: controller.signal,
    })
    await response.body?.cancel()
    return response.status
  } catch (error) {
    if (controller.signal.aborted) return 0
    throw error
  } finally {
    clearTimeout(late)
  }
}

/** The long form: `AQUATINT_FUZZ=1000 npx vitest run test/server/fuzz.test.ts` (docs/reliability.md). */
const rounds = Number(process.env.AQUATINT_FUZZ ?? 20)

async function round(answers: Map<number, number>): Promise<void> {
  for (const [path, methods] of Object.entries(description.paths))
    for (const [method, operation] of Object.entries(methods)) {
      const status = await once(path, method, operation)
      expect([method, path, status, status < 500 || status === 503]).toEqual([method, path, status, true])
      answers.set(status, (answers.get(status) ?? 0) + 1)
    }
}

/** Bytes that this process holds once everything that can go is gone. */
async function held(): Promise<{ live: number; rss: number }> {
  setFlagsFromString("--expose-gc")
  const collect = runInNewContext("gc") as () => void
  for (let i = 0; i < 5; i++) {
    collect()
    await new Promise((done) => setTimeout(done, 50))
  }
  const { heapUsed, external, rss } = process.memoryUsage()
  return { live: heapUsed + external, rss }
}

test("no request makes the server fail, and its memory comes back", {
  timeout: 240_000 + rounds * 15_000,
}, async () => {
  const answers = new Map<number, number>()
  // what is made once is made by the first rounds: compiled code, caches, a full queue
  const first = Math.ceil(rounds / 4)
  for (let n = 0; n < first; n++) await round(answers)
  const before = await held()
  for (let n = first; n < rounds; n++) await round(answers)
  const after = await held()
  const count = [...answers.values()].reduce((a, b) => a + b, 0)
  const [live, rss] = [after.live / before.live, after.rss / before.rss]
  if (rounds > 20) console.log(JSON.stringify({ requests: count, live, rss, answers: [...answers] }))
  expect(live).toBeLessThan(1.05)
  // some of everything, or the requests were no test
  for (const status of [200, 400, 404, 422]) expect(answers.get(status) ?? 0).toBeGreaterThan(0)
})
