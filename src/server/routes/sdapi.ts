import { z } from "zod"
import { fail } from "../../errors.ts"
import {
  parseInfotext,
  parseSamplerLabel,
  readMetadata,
  samplerIds,
  scheduleIds,
  version,
} from "../../index.ts"
import { cancelJob, findPreview, imagesOf, type Job, listJobs } from "../../store/index.ts"
import { progressOf } from "../bodies.ts"
import { samplerLabels, scheduleLabels } from "../labels.ts"
import { json, type Route, route } from "../route.ts"
import type { NewJobBody } from "../schemas.ts"
import { bytesOf, type Service, type Who } from "../service.ts"
import { pictureBody } from "./jobs.ts"
import { failed } from "./wait.ts"

const tag = "AUTOMATIC1111"

const text = z.string().nullish()
const number = z.coerce.number().nullish()
const flag = z.boolean().nullish()

/** What A1111's clients send, and SillyTavern's and Open WebUI's extra keys beside it: unknown ones are passed over. */
const drawing = z
  .looseObject({
    prompt: text,
    negative_prompt: text,
    styles: z.array(z.string()).nullish(),
    seed: number,
    steps: number,
    cfg_scale: number,
    width: number,
    height: number,
    batch_size: number,
    n_iter: number,
    sampler_name: text,
    sampler_index: text,
    scheduler: text,
    eta: number,
    clip_skip: number,
    denoising_strength: number,
    init_images: z.array(z.string()).nullish(),
    mask: text,
    mask_blur: number,
    inpainting_mask_invert: z.union([z.number(), z.boolean()]).nullish(),
    resize_mode: number,
    image_cfg_scale: number,
    override_settings: z.record(z.string(), z.unknown()).nullish(),
    send_images: flag,
  })
  .meta({ id: "A1111Request" })
type Asked = z.infer<typeof drawing>

const drawn = z
  .object({ images: z.array(z.string()), parameters: z.record(z.string(), z.unknown()), info: z.string() })
  .meta({ id: "A1111Pictures" })

/** Settings that clients read and write back, for each owner. */
type Settings = Record<string, unknown>
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
    ...listRoutes(service),
  ]
}

function drawRoute(
  service: Service,
  kind: "txt2img" | "img2img",
  optionsOf: (owner: string) => Settings,
): Route {
  return route({
    method: "POST",
    path: `/sdapi/v1/${kind}`,
    tag,
    summary: kind === "txt2img" ? "Draws, and answers when it is done" : "Draws from a picture",
    body: { kind: "json", schema: drawing, limit: pictureBody },
    answers: { 200: { description: "pictures in base64", schema: drawn } },
    handle: async ({ who, body, signal }) => {
      const settings = { ...optionsOf(who.owner), ...body.override_settings }
      const ask = askOf(body, settings, kind)
      const { job } = await service.submit({ who, body: ask, source: "sdapi" })
      const done = await service.finished(job, signal)
      if (done.state !== "cancelled") failed(done)
      return json(await answerOf(service, done, body))
    },
  })
}

const whole = (value: number | null | undefined): number | undefined =>
  value == null ? undefined : Math.trunc(value)

/** A1111's request as a job's. */
function askOf(body: Asked, settings: Settings, kind: "txt2img" | "img2img"): NewJobBody {
  const sampler = body.sampler_name || body.sampler_index || "Euler"
  if (!parseSamplerLabel(sampler))
    fail("SAMPLER", "Sampler not found", { hint: "GET /sdapi/v1/samplers lists them" })
  const seed = whole(body.seed)
  const skip = whole(body.clip_skip) ?? whole(Number(settings.CLIP_stop_at_last_layers ?? 1))
  const ask: NewJobBody = {
    prompt: body.prompt ?? "",
    negative: body.negative_prompt ?? "",
    model: modelName(settings.sd_model_checkpoint),
    steps: whole(body.steps) || 50,
    cfg: body.cfg_scale ?? 7,
    sampler,
    schedule: body.scheduler || "automatic",
    eta: body.eta || undefined,
    clipSkip: skip && skip > 1 ? skip : undefined,
    seed: seed === undefined || seed < 0 ? undefined : seed % 2 ** 32,
    width: whole(body.width),
    height: whole(body.height),
    count: (whole(body.batch_size) || 1) * (whole(body.n_iter) || 1),
    // A1111 draws noise as CUDA does unless it is told otherwise
    rng: settings.randn_source === "CPU" ? "cpu" : "cuda",
    syntax: "a1111",
    imageCfg: body.image_cfg_scale ?? undefined,
    format: "png",
  }
  return kind === "img2img" ? { ...ask, ...inputsOf(body) } : ask
}

function inputsOf(body: Asked): Partial<NewJobBody> {
  const [init] = body.init_images ?? []
  if (!init) fail("REQUEST_INIT", "Init image not found", { hint: "init_images: [base64]" })
  return {
    init: { data: init },
    strength: body.denoising_strength ?? 0.75,
    fit: (["stretch", "crop", "fill"] as const)[whole(body.resize_mode) ?? 0] ?? "stretch",
    ...(body.mask
      ? {
          mask: { data: body.mask },
          maskBlur: body.mask_blur ?? 4,
          invertMask: !!body.inpainting_mask_invert,
        }
      : {}),
  }
}

const modelName = (title: unknown): string | undefined =>
  typeof title === "string" && title !== "" ? title : undefined

async function answerOf(service: Service, job: Job, body: Asked): Promise<z.infer<typeof drawn>> {
  const images = (await imagesOf(service.db, [job.id])).get(job.id) ?? []
  const files = body.send_images === false ? [] : images
  const encoded = await Promise.all(
    files.map(async (image) => Buffer.from((await service.files.get(image.file)) ?? []).toString("base64")),
  )
  const { init_images: _i, mask: _m, ...parameters } = body
  return { images: encoded, parameters, info: JSON.stringify(infoOf(job, body, images)) }
}

function infoOf(job: Job, body: Asked, images: readonly { seed: number; infotext: string }[]) {
  const ask = job.request
  const seeds = images.map((image) => image.seed)
  return {
    prompt: ask.prompt,
    all_prompts: images.map(() => ask.prompt),
    negative_prompt: ask.negative,
    all_negative_prompts: images.map(() => ask.negative),
    seed: ask.seed,
    all_seeds: seeds,
    subseed: ask.seed,
    all_subseeds: seeds,
    subseed_strength: 0,
    width: ask.width,
    height: ask.height,
    sampler_name: ask.sampler,
    cfg_scale: ask.cfg,
    steps: ask.steps,
    batch_size: body.batch_size ?? 1,
    restore_faces: false,
    face_restoration_model: null,
    sd_model_name: job.model,
    sd_model_hash: parsedHash(images[0]?.infotext),
    sd_vae_name: null,
    sd_vae_hash: null,
    seed_resize_from_w: -1,
    seed_resize_from_h: -1,
    denoising_strength: ask.strength ?? null,
    extra_generation_params: {},
    index_of_first_image: 0,
    infotexts: images.map((image) => image.infotext),
    styles: [],
    job_timestamp: stamp(job.created),
    clip_skip: ask.clipSkip ?? 1,
    is_using_inpainting_conditioning: false,
    version: `aquatint ${version}`,
  }
}

const parsedHash = (infotext: string | undefined) => (infotext && parseInfotext(infotext).modelHash) || null
const stamp = (time: number) => new Date(time).toISOString().replace(/\D/g, "").slice(0, 14)

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

/** Lists that clients fill their menus from. */
function listsOf({ models }: Service): Record<string, () => unknown> {
  const upscaler = (name: string) => ({ name, model_name: null, model_path: null, model_url: null, scale: 4 })
  return {
    samplers: () => samplerIds.map((id) => ({ name: samplerLabels[id] ?? id, aliases: [id], options: {} })),
    schedulers: () =>
      ["automatic", ...scheduleIds].map((name) => ({
        name,
        label: scheduleLabels[name] ?? "Automatic",
        aliases: null,
        default_rho: name === "karras" ? 7 : -1,
        need_inner_model: false,
      })),
    "sd-models": () =>
      models.all.map(({ id, name }) => ({
        title: id,
        model_name: name,
        hash: null,
        sha256: null,
        filename: name,
        config: null,
      })),
    upscalers: () => [upscaler("None")],
    "latent-upscale-modes": () => [],
    "sd-vae": () => [],
    "sd-modules": () => [],
    hypernetworks: () => [],
    "face-restorers": () => [],
    "realesrgan-models": () => [],
    "prompt-styles": () => [],
    embeddings: () => ({ loaded: {}, skipped: {} }),
    loras: () => [],
    scripts: () => ({ txt2img: [], img2img: [] }),
    "script-info": () => [],
    extensions: () => [],
    "cmd-flags": () => ({ api: true, listen: null, port: null }),
  }
}

function listRoutes(service: Service): Route[] {
  return Object.entries(listsOf(service)).map(([name, make]) =>
    route({
      method: "GET",
      path: `/sdapi/v1/${name}`,
      tag,
      summary: `A1111's list of ${name}`,
      answers: {
        200: { description: "the list", schema: z.union([z.array(z.unknown()), z.looseObject({})]) },
      },
      handle: () => json(make()),
    }),
  )
}
