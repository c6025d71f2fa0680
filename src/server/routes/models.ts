import { z } from "zod"
import { fail } from "../../errors.ts"
import { modelsSetAside, modelWorks } from "../../store/index.ts"
import { json, type Route, route } from "../route.ts"
import type { Service } from "../service.ts"
import type { Shelf } from "../shelf.ts"

const tag = "server"
const nothing = { 204: { description: "done" } }
const none = () => new Response(null, { status: 204 })

/** `/api/models`: what requests may name. */
export const modelRoutes = (service: Service): Route[] => [
  listRoute(service),
  refreshRoute(service),
  retryRoute(service),
]

const modelBody = z
  .object({
    id: z.string(),
    name: z.string(),
    family: z.string(),
    variant: z.string(),
    width: z.int(),
    height: z.int(),
    steps: z.int().meta({ description: "steps where none are asked for" }),
    cfg: z.number().meta({ description: "guidance scale where none is asked for" }),
    factor: z.int().meta({ description: "pixels per latent along a side" }),
    default: z.boolean(),
    setAside: z.object({ until: z.number(), crashes: z.int() }).nullable(),
  })
  .meta({ id: "Model" })

const named = z.array(z.object({ id: z.string(), name: z.string() }))
const namesOf = ({ all }: Shelf) => all.map(({ id, name }) => ({ id, name }))

function listRoute({ db, models }: Service): Route {
  return route({
    method: "GET",
    path: "/api/models",
    tag,
    summary: "Models, LoRAs, embeddings and upscalers that requests may name",
    answers: {
      200: {
        description: "what there is",
        schema: z.object({ models: z.array(modelBody), loras: named, embeddings: named, upscalers: named }),
      },
    },
    handle: async () => {
      const aside = await modelsSetAside(db)
      const all = models.all.map(({ id: modelId, name, card }) => {
        const found = aside.get(modelId)
        return {
          id: modelId,
          name,
          family: card.family,
          variant: card.variant,
          width: card.size,
          height: card.size,
          steps: card.steps,
          cfg: card.cfg,
          factor: card.factor,
          default: modelId === models.standard,
          setAside: found ? { until: found.until, crashes: found.crashes } : null,
        }
      })
      const { loras, embeddings, upscalers } = models
      return json({
        models: all,
        loras: namesOf(loras),
        embeddings: namesOf(embeddings),
        upscalers: namesOf(upscalers),
      })
    },
  })
}

function refreshRoute(service: Service): Route {
  return route({
    method: "POST",
    path: "/api/models/refresh",
    tag,
    summary: "Looks again for models, LoRAs and embeddings",
    body: { kind: "json", schema: z.strictObject({}), limit: 1000, optional: true },
    answers: nothing,
    handle: async () => {
      await service.refresh()
      return none()
    },
  })
}

function retryRoute({ db, models }: Service): Route {
  return route({
    method: "POST",
    path: "/api/models/{model}/retry",
    tag,
    summary: "Takes back a model that was set aside",
    params: { model: z.string().max(200) },
    body: { kind: "json", schema: z.strictObject({}), limit: 1000, optional: true },
    answers: nothing,
    handle: async ({ params }) => {
      const known = models.ids.includes(params.model!)
      if (!known) fail("NOT_FOUND", "there is no such model here", { hint: "GET /api/models" })
      await modelWorks(db, params.model!)
      await db.notify("queued")
      return none()
    },
  })
}
