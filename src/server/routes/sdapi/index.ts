import { z } from "zod"
import { fail } from "../../../errors.ts"
import { parseInfotext, readMetadata } from "../../../index.ts"
import { cancelJob, findPreview, type Job, listJobs } from "../../../store/index.ts"
import { progressOf } from "../../bodies.ts"
import { json, type Route, route } from "../../route.ts"
import { bytesOf, type Service, type Who } from "../../service.ts"
import { pictureBody } from "../jobs.ts"
import { type Settings, stamp, tag } from "./common.ts"
import { drawRoute } from "./draw.ts"
import { extrasRoutes } from "./extras.ts"
import { listRoutes } from "./lists.ts"
import { memoryRoutes } from "./memory.ts"

const settingsSize = 64_000

/** `/sdapi/v1/*`: A1111's API, answered by the job service. */
export function sdapiRoutes(service: Service): Route[] {
  const kept = new Map<string, Settings>()
  const optionsOf = (owner: string): Settings => ({
    samples_format: "png",
    sd_vae: "Automatic",
    CLIP_stop_at_last_layers: 1,
    eta_noise_seed_delta: 0,
    randn_source: "GPU",
    ...kept.get(owner),
    sd_model_checkpoint: kept.get(owner)?.sd_model_checkpoint ?? service.models.standard ?? null,
    sd_checkpoint_hash: "",
  })
  return [
    drawRoute(service, "txt2img", optionsOf),
    drawRoute(service, "img2img", optionsOf),
    ...settingsRoutes(service, kept, optionsOf),
    progressRoute(service),
    ...["interrupt", "skip"].map((name) => interruptRoute(service, name)),
    pngInfoRoute(),
    ...extrasRoutes(service),
    ...memoryRoutes(service),
    ...listRoutes(service),
  ]
}

function settingsRoutes(
  service: Service,
  kept: Map<string, Settings>,
  optionsOf: (owner: string) => Settings,
): Route[] {
  return [
    route({
      method: "GET",
      path: "/sdapi/v1/options",
      tag,
      summary: "Settings",
      answers: { 200: { description: "all of them", schema: z.record(z.string(), z.unknown()) } },
      handle: ({ who }) => json(optionsOf(who.owner)),
    }),
    route({
      method: "POST",
      path: "/sdapi/v1/options",
      tag,
      summary: "Changes settings; sd_model_checkpoint chooses the model. Unknown ones are kept",
      body: { kind: "json", schema: z.record(z.string(), z.unknown()), limit: settingsSize },
      answers: { 200: { description: "changed" } },
      handle: ({ who, body }) => {
        const changed = { ...kept.get(who.owner), ...body }
        if (typeof body.sd_model_checkpoint === "string" && body.sd_model_checkpoint !== "")
          changed.sd_model_checkpoint = service.models.get(body.sd_model_checkpoint).id
        if (JSON.stringify(changed).length > settingsSize)
          fail("BODY_TOO_LARGE", "these are too many settings", { hint: "send those that change" })
        kept.set(who.owner, changed)
        return json(null)
      },
    }),
  ]
}

/** An owner's jobs that came by this interface and are not over. */
async function active({ db }: Service, { owner }: Who): Promise<Job[]> {
  const { jobs } = await listJobs(db, { owner, states: ["running", "queued"], limit: 200 })
  return jobs.filter((job) => job.source === "sdapi")
}

function progressRoute(service: Service): Route {
  return route({
    method: "GET",
    path: "/sdapi/v1/progress",
    tag,
    summary: "How far the picture is that is being drawn",
    query: z.object({ skip_current_image: z.string().max(10).optional() }),
    answers: { 200: { description: "where it stands", schema: z.looseObject({ progress: z.number() }) } },
    handle: async ({ who, query }) => {
      const jobs = await active(service, who)
      const job = jobs.find((one) => one.state === "running")
      const at = job ? progressOf(job) : null
      const skip = /^(true|1|yes|on)$/i.test(query.skip_current_image ?? "")
      return json({
        progress: at?.progress ?? 0,
        eta_relative: at?.remaining ?? 0,
        state: {
          skipped: false,
          interrupted: false,
          stopping_generation: false,
          job: job?.id ?? "",
          job_count: jobs.length,
          job_timestamp: stamp(job?.created ?? 0),
          job_no: at?.picture ?? 0,
          sampling_step: at?.step ?? 0,
          sampling_steps: at?.steps ?? 0,
        },
        current_image: job && !skip ? await findPreview(service.db, job.id) : null,
        textinfo: null,
      })
    },
  })
}

function interruptRoute(service: Service, name: string): Route {
  return route({
    method: "POST",
    path: `/sdapi/v1/${name}`,
    tag,
    summary: "Stops what is being drawn for you by this interface",
    body: { kind: "json", schema: z.looseObject({}), limit: 10_000, optional: true },
    answers: { 200: { description: "stopped", schema: z.looseObject({}) } },
    handle: async ({ who }) => {
      for (const job of await active(service, who))
        if (job.state === "running") await cancelJob(service.db, job.id, who.owner)
      return json({})
    },
  })
}

function pngInfoRoute(): Route {
  return route({
    method: "POST",
    path: "/sdapi/v1/png-info",
    tag,
    summary: "Generation parameters of a picture",
    body: { kind: "json", schema: z.looseObject({ image: z.string() }), limit: pictureBody },
    answers: { 200: { description: "what its file says", schema: z.looseObject({ info: z.string() }) } },
    handle: async ({ body }) => {
      const { parameters = "", xmp: _, texts, ...rest } = await readMetadata(bytesOf(body.image))
      return json({
        info: parameters,
        items: { ...texts, ...rest, parameters },
        parameters: fieldsOf(parameters),
      })
    },
  })
}

const fieldsOf = (infotext: string): Record<string, unknown> => {
  if (infotext === "") return {}
  const { prompt, negativePrompt, steps, sampler, cfgScale, seed, width, height, model, modelHash } =
    parseInfotext(infotext)
  return {
    Prompt: prompt,
    "Negative prompt": negativePrompt,
    Steps: steps,
    Sampler: sampler,
    "CFG scale": cfgScale,
    Seed: seed,
    "Size-1": width,
    "Size-2": height,
    Model: model,
    "Model hash": modelHash,
  }
}
