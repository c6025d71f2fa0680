import { z } from "zod"
import { fail } from "../../errors.ts"
import { samplerIds, scheduleIds, version } from "../../index.ts"
import type { Gate } from "../auth.ts"
import { samplerLabels, scheduleLabels } from "../labels.ts"
import type { Metrics } from "../metrics.ts"
import { json, type Route, route } from "../route.ts"
import { id } from "../schemas.ts"
import type { Service } from "../service.ts"

const tag = "server"
const nothing = { 204: { description: "done" } }
const none = (headers: Record<string, string> = {}) => new Response(null, { status: 204, headers })

export interface ServerParts {
  service: Service
  gate: Gate
  metrics: Metrics
  /** Counts of jobs and workers, read a moment ago: the answer never waits for the database. */
  pulse(): { queued: number; running: number; workers: number }
}

/** What the server is and has, and who asks it. */
export function serverRoutes(parts: ServerParts): Route[] {
  const { service, metrics, pulse } = parts
  return [
    route({
      method: "GET",
      path: "/health",
      tag,
      summary: "Whether the server is well; answered at once, whatever is being drawn",
      open: true,
      answers: {
        200: {
          description: "it is",
          schema: z.object({
            status: z.literal("ok"),
            version: z.string(),
            queued: z.int(),
            running: z.int(),
            workers: z.int(),
          }),
        },
      },
      handle: () => json({ status: "ok", version, ...pulse() }),
    }),
    route({
      method: "GET",
      path: "/metrics",
      tag,
      summary: "Counts for Prometheus",
      answers: { 200: { description: "Prometheus text", type: "text/plain" } },
      handle: async () =>
        new Response(await metrics.text(service.db), {
          headers: { "content-type": "text/plain; version=0.0.4" },
        }),
    }),
    infoRoute(service),
    tokensRoute(service),
    uploadRoute(service),
    ...sessionRoutes(parts),
  ]
}

const named = (ids: readonly string[], labels: Record<string, string>) =>
  ids.map((one) => ({ id: one, label: labels[one] ?? one }))

function infoRoute({ limits, models }: Service): Route {
  const choice = z.array(z.object({ id: z.string(), label: z.string() }))
  return route({
    method: "GET",
    path: "/api/info",
    tag,
    summary: "Samplers, schedules, formats and limits",
    answers: {
      200: {
        description: "what can be asked for",
        schema: z.object({
          version: z.string(),
          samplers: choice,
          schedules: choice,
          formats: z.array(z.string()),
          syntaxes: z.array(z.string()),
          limits: z.record(z.string(), z.number()),
          defaultModel: z.string().nullable(),
        }),
      },
    },
    handle: () =>
      json({
        version,
        samplers: named(samplerIds, samplerLabels),
        schedules: named(scheduleIds, scheduleLabels),
        formats: ["png", "jpeg", "webp"],
        syntaxes: ["a1111", "comfy", "plain"],
        limits,
        defaultModel: models.standard ?? null,
      }),
  })
}

const pieceBody = z
  .object({
    id: z.int(),
    text: z.string(),
    end: z.boolean().meta({ description: "it ends a word" }),
    weight: z.number(),
    chunk: z.int(),
  })
  .meta({ id: "Token" })

function tokensRoute({ models, limits }: Service): Route {
  return route({
    method: "POST",
    path: "/api/tokens",
    tag,
    summary: "A prompt as its model reads it: its tokens, and how many there is room for",
    body: {
      kind: "json",
      schema: z.strictObject({
        text: z.string().max(limits.promptLength),
        syntax: z.enum(["a1111", "comfy", "plain"]).optional(),
        model: z.string().max(200).optional(),
      }),
      limit: 100_000,
    },
    answers: {
      200: {
        description: "tokens, and how many the chunks in use hold",
        schema: z.object({
          tokens: z.int(),
          limit: z.int(),
          chunks: z.int(),
          perChunk: z.int().meta({ description: "what one chunk holds" }),
          pieces: z.array(pieceBody),
        }),
      },
    },
    handle: async ({ body }) => {
      const read = await models.reader(body.model)
      const words = await models.words(body.text, body.model)
      const { room, ...counted } = read(body.text, body.syntax, words)
      return json({ ...counted, limit: room })
    },
  })
}

function uploadRoute(service: Service): Route {
  return route({
    method: "POST",
    path: "/api/uploads",
    tag: "gallery",
    summary: "Sends a picture that jobs can start from",
    body: { kind: "image", schema: z.unknown(), limit: service.limits.uploadBytes },
    answers: {
      201: {
        description: "it is kept; unused it goes after a day",
        schema: z.object({ id, width: z.int(), height: z.int(), format: z.string(), bytes: z.int() }),
      },
    },
    handle: async ({ who, body }) => {
      const upload = await service.upload(who, body as Uint8Array)
      const { width, height, format, bytes } = upload
      return json({ id: upload.id, width, height, format, bytes }, 201)
    },
  })
}

function sessionRoutes({ gate }: ServerParts): Route[] {
  const secure = (request: Request) => new URL(request.url).protocol === "https:"
  return [
    route({
      method: "GET",
      path: "/api/session",
      tag,
      summary: "Whether a token is needed, and whose this request's is",
      open: true,
      answers: {
        200: {
          description: "who asks",
          schema: z.object({ required: z.boolean(), client: z.string().nullable() }),
        },
      },
      handle: ({ request }) =>
        json({ required: gate.required, client: gate.whoIs(request.headers)?.client ?? null }),
    }),
    route({
      method: "POST",
      path: "/api/session",
      tag,
      summary: "Gives a browser a cookie for a token",
      open: true,
      body: { kind: "json", schema: z.strictObject({ token: z.string().max(1000) }), limit: 2000 },
      answers: nothing,
      handle: ({ body, request }) => {
        if (!gate.required) return none()
        const name = gate.nameOf(body.token)
        if (name === null)
          fail("TOKEN", "that is not a token of this server", { hint: "the server printed it" })
        return none({ "set-cookie": gate.cookie(name, secure(request)) })
      },
    }),
    route({
      method: "DELETE",
      path: "/api/session",
      tag,
      summary: "Takes the cookie back",
      open: true,
      answers: nothing,
      handle: () => none({ "set-cookie": gate.noCookie }),
    }),
  ]
}
