import { jobBodies } from "../bodies.ts"
import { json, type Route, route } from "../route.ts"
import { enlarging, jobBody } from "../schemas.ts"
import type { Service } from "../service.ts"
import { upscalerNamed } from "../upscale.ts"
import { pictureBody } from "./jobs.ts"

/** `/api/enlarge`: larger pictures without drawing. */
export function enlargeRoutes(service: Service): Route[] {
  return [
    route({
      method: "POST",
      path: "/api/enlarge",
      tag: "jobs",
      summary: "Queues the enlarging of a picture, by a filter or a network",
      body: { kind: "json", schema: enlarging, limit: pictureBody },
      answers: { 202: { description: "it waits, or runs", schema: jobBody } },
      handle: async ({ who, body: { picture, factor = 2, upscaler } }) => {
        const ask = {
          upscalers: [upscalerNamed(service.models, upscaler ?? "Lanczos")],
          blend: 0,
          to: { factor },
        }
        const job = await service.enlarge(who, picture, ask, "api")
        const [made] = await jobBodies(service.db, [job])
        return json(made, 202, { location: `/api/jobs/${job.id}` })
      },
    }),
  ]
}
