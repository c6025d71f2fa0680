import { z } from "zod"
import { findImage, findJob, type Image, listImages, markImage } from "../../store/index.ts"
import { imageBodyOf, jobBodies } from "../bodies.ts"
import { json, notFound, type Route, route } from "../route.ts"
import { id, imageBody, jobBody } from "../schemas.ts"
import type { Service } from "../service.ts"
import { isStudy, studyBody, studyFile } from "../study.ts"

const tag = "gallery"
const one = { 200: { description: "the picture's record", schema: imageBody } }
const file = { 200: { description: "the file", type: "image/*" } }

/** `/api/images`: what was drawn. Files are named by id, never by path. */
export function galleryRoutes(service: Service): Route[] {
  return [listRoute(service), ...recordRoutes(service), ...fileRoutes(service), ...studyRoutes(service)]
}

const finder =
  ({ db }: Service) =>
  async (image: string, owner: string): Promise<Image> =>
    (await findImage(db, image, owner)) ?? notFound()

function recordRoutes(service: Service): Route[] {
  const { db } = service
  const find = finder(service)
  return [
    route({
      method: "GET",
      path: "/api/images/{id}",
      tag,
      summary: "What is known of a picture",
      params: { id },
      answers: one,
      handle: async ({ who, params }) => json(imageBodyOf(await find(params.id!, who.owner))),
    }),
    route({
      method: "DELETE",
      path: "/api/images/{id}",
      tag,
      summary: "Deletes a picture; for a day it can be restored",
      params: { id },
      answers: one,
      handle: async ({ who, params }) =>
        json(imageBodyOf((await markImage(db, params.id!, who.owner, true)) ?? notFound())),
    }),
    route({
      method: "POST",
      path: "/api/images/{id}/restore",
      tag,
      summary: "Takes a deletion back",
      params: { id },
      body: { kind: "json", schema: z.strictObject({}), limit: 1000, optional: true },
      answers: one,
      handle: async ({ who, params }) =>
        json(imageBodyOf((await markImage(db, params.id!, who.owner, false)) ?? notFound())),
    }),
  ]
}

/** How a picture came about: it is drawn again, with the same seed, and looked at. */
function studyRoutes(service: Service): Route[] {
  const { db, files } = service
  const find = finder(service)
  return [
    route({
      method: "POST",
      path: "/api/images/{id}/study",
      tag,
      summary: "Draws a picture again to see how it comes about; the result is the job's study",
      params: { id },
      body: { kind: "json", schema: z.strictObject({}), limit: 1000, optional: true },
      answers: { 202: { description: "the job", schema: jobBody } },
      handle: async ({ who, params }) => {
        const job = await service.study(who, await find(params.id!, who.owner))
        return json((await jobBodies(db, [job]))[0], 202, { location: `/api/jobs/${job.id}` })
      },
    }),
    route({
      method: "GET",
      path: "/api/jobs/{id}/study",
      tag,
      summary: "Steps and attention maps, for an hour after the job is done",
      params: { id },
      answers: { 200: { description: "the study", schema: studyBody } },
      handle: async ({ who, params }) => {
        const job = await findJob(db, params.id!, who.owner)
        const bytes = job?.state === "done" && isStudy(job) ? await files.get(studyFile(job.id)) : null
        return json(JSON.parse(Buffer.from(bytes ?? notFound()).toString()))
      },
    }),
  ]
}

function fileRoutes(service: Service): Route[] {
  const find = finder(service)
  return [
    route({
      method: "GET",
      path: "/api/images/{id}/file",
      tag,
      summary: "The picture",
      params: { id },
      query: z.object({ download: z.string().max(10).optional() }),
      answers: file,
      handle: async ({ who, params, query }) => {
        const image = await find(params.id!, who.owner)
        const name =
          query.download === undefined ? undefined : `aquatint-${image.seed}-${image.id}.${image.format}`
        return send(service, image.file, `image/${image.format}`, image, name)
      },
    }),
    route({
      method: "GET",
      path: "/api/images/{id}/thumbnail",
      tag,
      summary: "The picture, longest side 320",
      params: { id },
      answers: file,
      handle: async ({ who, params }) => {
        const image = await find(params.id!, who.owner)
        return send(service, image.thumbnail, "image/webp", image)
      },
    }),
  ]
}

function listRoute({ db }: Service): Route {
  return route({
    method: "GET",
    path: "/api/images",
    tag,
    summary: "Your pictures, newest first",
    query: z.object({
      search: z.string().max(500).optional(),
      model: z.string().max(200).optional(),
      limit: z.coerce.number().int().min(1).max(200).optional(),
      after: id.optional(),
      deleted: z.enum(["true", "false"]).optional(),
    }),
    answers: {
      200: {
        description: "a page of pictures",
        schema: z.object({ images: z.array(imageBody), next: id.nullable() }),
      },
    },
    handle: async ({ who, query }) => {
      const { limit = 60, deleted, ...rest } = query
      const page = await listImages(db, { owner: who.owner, limit, deleted: deleted === "true", ...rest })
      return json({ images: page.images.map(imageBodyOf), next: page.next })
    },
  })
}

async function send(
  { files }: Service,
  name: string,
  type: string,
  image: Image,
  download?: string,
): Promise<Response> {
  const bytes = (await files.get(name)) ?? notFound()
  return new Response(bytes as Uint8Array<ArrayBuffer>, {
    headers: {
      "content-type": type,
      "content-length": String(bytes.length),
      "content-disposition": download ? `attachment; filename="${download}"` : "inline",
      // an id never means other bytes
      "cache-control": "private, max-age=31536000, immutable",
      etag: `"${image.sha256.slice(0, 32)}"`,
    },
  })
}
