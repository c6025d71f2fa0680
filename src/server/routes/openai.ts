import { createHmac, randomBytes, timingSafeEqual } from "node:crypto"
import { z } from "zod"
import { fail } from "../../errors.ts"
import { findImage, imagesOf, type Job } from "../../store/index.ts"
import { eventStream, json, notFound, type Route, route } from "../route.ts"
import { id, type NewJobBody, type PictureRef } from "../schemas.ts"
import type { Service, Who } from "../service.ts"
import type { WatchEvent } from "../watch.ts"
import { pictureBody } from "./jobs.ts"
import { failed } from "./wait.ts"

const tag = "OpenAI"

const number = z.coerce.number().nullish()
const text = z.string().nullish()
/** A form sends true as a word. */
const flag = z.union([z.boolean(), z.enum(["true", "false"]).transform((word) => word === "true")]).nullish()

/** What all three calls take; `seed` and what follows it are ours, sent as extra fields. */
const common = {
  model: text,
  n: number,
  size: text,
  quality: text,
  background: text,
  output_format: z.enum(["png", "jpeg", "webp"]).nullish(),
  output_compression: number,
  response_format: z.enum(["url", "b64_json"]).nullish(),
  stream: flag,
  partial_images: number,
  user: text,
  seed: number,
  steps: number,
  negative_prompt: text,
  guidance_scale: number,
  sampler: text,
  schedule: text,
}

const generation = z
  .looseObject({ prompt: z.string(), style: text, moderation: text, ...common })
  .meta({ id: "OpenAiGeneration" })

const file = z.custom<Blob>((value) => value instanceof Blob, "is no file")
const edit = z.looseObject({
  image: z.union([file, z.array(file)]).optional(),
  "image[]": z.array(file).optional(),
  mask: file.nullish(),
  prompt: z.string(),
  input_fidelity: text,
  strength: number,
  ...common,
})
const variation = z.looseObject({ image: file, strength: number, ...common })

interface Common {
  model?: string | null | undefined
  n?: number | null | undefined
  size?: string | null | undefined
  quality?: string | null | undefined
  background?: string | null | undefined
  output_format?: "png" | "jpeg" | "webp" | null | undefined
  output_compression?: number | null | undefined
  response_format?: "url" | "b64_json" | null | undefined
  stream?: boolean | null | undefined
  partial_images?: number | null | undefined
  seed?: number | null | undefined
  steps?: number | null | undefined
  negative_prompt?: string | null | undefined
  guidance_scale?: number | null | undefined
  sampler?: string | null | undefined
  schedule?: string | null | undefined
}

const answer = {
  200: {
    description: "pictures, or with `stream` server-sent events",
    schema: z
      .looseObject({
        created: z.int(),
        data: z.array(z.object({ b64_json: z.string().optional(), url: z.string().optional() })),
      })
      .meta({ id: "OpenAiImages" }),
  },
}

/** `/v1/images/*` as the `openai` client calls them. */
export function openAiRoutes(service: Service): Route[] {
  const links = new Links(service)
  return [
    route({
      method: "POST",
      path: "/v1/images/generations",
      tag,
      summary: "Text to image",
      body: { kind: "json", schema: generation, limit: service.limits.bodyBytes },
      answers: answer,
      handle: ({ who, body, request, signal }) =>
        draw(
          service,
          links,
          "image_generation",
          who,
          body,
          { ...askOf(service, body), prompt: body.prompt },
          request,
          signal,
        ),
    }),
    editRoute(service, links),
    route({
      method: "POST",
      path: "/v1/images/variations",
      tag,
      summary: "Others like a picture",
      body: { kind: "multipart", schema: variation, limit: pictureBody },
      answers: answer,
      handle: async ({ who, body, request, signal }) => {
        const init = await held(service, who, body.image)
        const ask = { ...askOf(service, body), prompt: "", init, strength: body.strength ?? 0.6 }
        return draw(service, links, "image_generation", who, body, ask, request, signal)
      },
    }),
    modelsRoute(service),
    links.route,
  ]
}

function editRoute(service: Service, links: Links): Route {
  return route({
    method: "POST",
    path: "/v1/images/edits",
    tag,
    summary: "Image to image, and inpainting where the mask is transparent",
    body: { kind: "multipart", schema: edit, limit: pictureBody },
    answers: answer,
    handle: async ({ who, body, request, signal }) => {
      const [image, ...more] = [body.image ?? [], body["image[]"] ?? []].flat()
      if (!image) fail("REQUEST_INIT", "image is missing", { hint: "send one picture as image" })
      if (more.length > 0)
        fail("REQUEST_INIT", "only one picture can be edited at a time", {
          hint: "send one picture as image",
        })
      const ask: NewJobBody = {
        ...askOf(service, body),
        prompt: body.prompt,
        init: await held(service, who, image!),
        ...(body.strength == null ? {} : { strength: body.strength }),
        ...(body.mask
          ? {
              mask: await held(service, who, body.mask),
              maskFrom: "transparent",
              strength: body.strength ?? 1,
            }
          : {}),
      }
      return draw(service, links, "image_edit", who, body, ask, request, signal)
    },
  })
}

async function held(service: Service, who: Who, blob: Blob): Promise<PictureRef> {
  const upload = await service.upload(who, new Uint8Array(await blob.arrayBuffer()))
  return { upload: upload.id }
}

/** OpenAI's own names mean this server's standard model. */
const theirs = /^(dall-e|gpt-image|chatgpt-image)/

function askOf(service: Service, body: Common): Omit<NewJobBody, "prompt"> {
  const size = /^(\d{1,5})x(\d{1,5})$/.exec(body.size ?? "auto")
  if (!size && !["auto", ""].includes(body.size ?? ""))
    fail("REQUEST_SIZE", "size is neither WIDTHxHEIGHT nor auto", { hint: "for example 512x512" })
  if (
    body.n != null &&
    !(Number.isInteger(body.n) && body.n >= 1 && body.n <= Math.min(10, service.limits.count))
  )
    fail("REQUEST_RANGE", "n is out of range", { hint: "use 1 to 10" })
  const ask: Omit<NewJobBody, "prompt"> = {
    model: !body.model || theirs.test(body.model) ? undefined : body.model,
    count: body.n ?? 1,
    format: body.output_format ?? "png",
    quality:
      body.output_format && body.output_format !== "png" ? (body.output_compression ?? undefined) : undefined,
    seed: body.seed ?? undefined,
    steps: body.steps ?? undefined,
    negative: body.negative_prompt ?? undefined,
    cfg: body.guidance_scale ?? undefined,
    sampler: body.sampler ?? undefined,
    schedule: body.schedule ?? undefined,
  }
  return size ? { ...ask, width: Number(size[1]), height: Number(size[2]) } : ask
}

async function draw(
  service: Service,
  links: Links,
  kind: "image_generation" | "image_edit",
  who: Who,
  body: Common,
  ask: NewJobBody,
  request: Request,
  signal: AbortSignal,
): Promise<Response> {
  const { job } = await service.submit({ who, body: ask, source: "openai" })
  if (body.stream) return streamed(service, kind, body, job, signal)
  const done = await service.finished(job, signal)
  failed(done)
  const data = (await pictures(service, done)).map(({ image, file }) =>
    body.response_format === "url"
      ? { url: links.to(request, image.id, who.owner) }
      : { b64_json: Buffer.from(file).toString("base64") },
  )
  return json({ created: Math.floor(done.created / 1000), data, ...told(body, done), usage })
}

/** Nothing here is counted in tokens that cost. */
const usage = {
  total_tokens: 0,
  input_tokens: 0,
  output_tokens: 0,
  input_tokens_details: { text_tokens: 0, image_tokens: 0 },
}

const told = (body: Common, job: Job) => ({
  background: "opaque",
  output_format: body.output_format ?? "png",
  quality: body.quality && body.quality !== "auto" ? body.quality : "high",
  size: `${job.request.width}x${job.request.height}`,
})

async function pictures(service: Service, job: Job) {
  const images = (await imagesOf(service.db, [job.id])).get(job.id) ?? []
  return Promise.all(
    images.map(async (image) => ({ image, file: (await service.files.get(image.file)) ?? notFound() })),
  )
}

function streamed(
  service: Service,
  kind: "image_generation" | "image_edit",
  body: Common,
  job: Job,
  signal: AbortSignal,
): Response {
  const wanted = Math.min(3, Math.max(0, body.partial_images ?? 0))
  const created = Math.floor(job.created / 1000)
  return eventStream(signal, async (send, end) => {
    const left = new AbortController()
    const say = (type: string, more: object) =>
      send(type, { type, created_at: created, ...told(body, job), ...more })
    let sent = 0
    let progress = 0
    const heard = (event: WatchEvent) => {
      if (event.event === "progress") progress = event.data.progress
      // partial pictures are spread over the run
      if (event.event !== "preview" || sent >= wanted || progress * (wanted + 1) < sent + 0.5) return
      const b64_json = event.data.image.slice(event.data.image.indexOf(",") + 1)
      say(`${kind}.partial_image`, { b64_json, partial_image_index: sent++ })
    }
    const finish = async () => {
      const done = await service.finished(job, left.signal, heard)
      failed(done)
      for (const { file } of await pictures(service, done))
        say(`${kind}.completed`, { b64_json: Buffer.from(file).toString("base64"), usage })
    }
    void finish()
      .catch((error: Error) => {
        const { code = "server_error" } = error as { code?: string }
        send("error", {
          type: "error",
          error: { code, message: error.message, type: "server_error", param: null },
        })
      })
      .finally(end)
    return () => left.abort()
  })
}

function modelsRoute({ models }: Service): Route {
  return route({
    method: "GET",
    path: "/v1/models",
    tag,
    summary: "Models",
    answers: { 200: { description: "the list", schema: z.looseObject({ object: z.literal("list") }) } },
    handle: () =>
      json({
        object: "list",
        data: models.all.map(({ id: model }) => ({
          id: model,
          object: "model",
          created: 0,
          owned_by: "aquatint",
        })),
      }),
  })
}

const linkMinutes = 60

/** Addresses of pictures that need no token, for an hour. */
class Links {
  private readonly key = randomBytes(32)
  readonly route: Route

  constructor(service: Service) {
    this.route = route({
      method: "GET",
      path: "/v1/images/files/{id}",
      tag,
      summary: "A picture by the address that a call gave",
      open: true,
      params: { id },
      query: z.object({ until: z.coerce.number(), owner: z.string().max(300), key: z.string().max(100) }),
      answers: { 200: { description: "the file", type: "image/*" } },
      handle: async ({ params, query }) => {
        const right = Buffer.from(this.sign(params.id!, query.owner, query.until))
        const given = Buffer.from(query.key)
        if (given.length !== right.length || !timingSafeEqual(given, right) || query.until < Date.now())
          notFound()
        const image = (await findImage(service.db, params.id!, query.owner)) ?? notFound()
        const bytes = (await service.files.get(image.file)) ?? notFound()
        return new Response(bytes as Uint8Array<ArrayBuffer>, {
          headers: { "content-type": `image/${image.format}`, "cache-control": "private, max-age=3600" },
        })
      },
    })
  }

  private sign(image: string, owner: string, until: number): string {
    return createHmac("sha256", this.key)
      .update(JSON.stringify([image, owner, until]))
      .digest("base64url")
  }

  to(request: Request, image: string, owner: string): string {
    const until = Date.now() + linkMinutes * 60_000
    const url = new URL(`/v1/images/files/${image}`, request.url)
    url.search = String(
      new URLSearchParams({ until: String(until), owner, key: this.sign(image, owner, until) }),
    )
    return url.href
  }
}
