import { z } from "zod"
import { fail } from "../../../errors.ts"
import { latentUpscalers, parseInfotext, parseSamplerLabel, version } from "../../../index.ts"
import { imagesOf, type Job } from "../../../store/index.ts"
import type { Models } from "../../models.ts"
import { json, type Route, route } from "../../route.ts"
import type { NewJobBody } from "../../schemas.ts"
import type { Service } from "../../service.ts"
import { pictureBody } from "../jobs.ts"
import { failed } from "../wait.ts"
import { type Settings, stamp, tag, unsupported } from "./common.ts"

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
    alwayson_scripts: z.record(z.string(), z.unknown()).nullish(),
    script_name: text,
    enable_hr: flag,
    restore_faces: flag,
    tiling: flag,
    hr_scale: number,
    hr_upscaler: text,
    hr_second_pass_steps: number,
    hr_resize_x: number,
    hr_resize_y: number,
    hr_sampler_name: text,
    hr_scheduler: text,
    hr_prompt: text,
    hr_negative_prompt: text,
    hr_cfg: number,
    hr_checkpoint_name: text,
    subseed: number,
    subseed_strength: number,
    seed_resize_from_h: number,
    seed_resize_from_w: number,
    refiner_checkpoint: text,
    refiner_switch_at: number,
    s_churn: number,
    s_min_uncond: number,
    inpaint_full_res: z.union([z.number(), z.boolean()]).nullish(),
    inpaint_full_res_padding: number,
    inpainting_fill: number,
    disable_extra_networks: flag,
    infotext: text,
    firstpass_image: text,
    override_settings: z.record(z.string(), z.unknown()).nullish(),
    send_images: flag,
  })
  .meta({ id: "A1111Request" })
type Asked = z.infer<typeof drawing>

const drawn = z
  .object({ images: z.array(z.string()), parameters: z.record(z.string(), z.unknown()), info: z.string() })
  .meta({ id: "A1111Pictures" })

/** Fields that would make another picture than the one asked for: refused where they ask for something. */
const undone: [keyof Asked, (value: NonNullable<unknown>, body: Asked) => boolean, string][] = [
  ["restore_faces", (on) => on === true, "leave it out"],
  ["tiling", (on) => on === true, "leave it out"],
  ["styles", (list) => Array.isArray(list) && list.length > 0, "write their words into the prompt"],
  ["script_name", (name) => name !== "" && name !== "None", "GET /sdapi/v1/scripts lists none"],
  ["alwayson_scripts", (all) => Object.keys(all).length > 0, "GET /sdapi/v1/scripts lists none"],
  [
    "refiner_checkpoint",
    (name, body) => name !== "" && name !== "None" && (body.refiner_switch_at ?? 1) < 1,
    "leave it out",
  ],
  ["s_churn", (value) => Number(value) > 0, "choose a sampler that adds noise, such as Euler a"],
  ["s_min_uncond", (value) => Number(value) > 0, "leave it out"],
  ["disable_extra_networks", (on) => on === true, "take the <lora:...> out of the prompt"],
  ["infotext", (words) => words !== "", "send the fields themselves; png-info reads them"],
  ["firstpass_image", (image) => image !== "", "send it to img2img"],
]

/** @throws REQUEST_UNSUPPORTED */
function refuseUndone(body: Asked, settings: Settings): void {
  for (const [field, asks, hint] of undone) {
    const value = body[field]
    if (value !== null && value !== undefined && asks(value, body)) unsupported(field, hint)
  }
  if (Number(settings.eta_noise_seed_delta ?? 0) !== 0) unsupported("eta_noise_seed_delta", "set it to 0")
  const vae = settings.sd_vae
  if (typeof vae === "string" && !["", "Automatic", "None"].includes(vae))
    unsupported("sd_vae", "set it to Automatic")
}
/** `txt2img` or `img2img`. */
export function drawRoute(
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
      const ask = askOf(service.models, body, settings, kind)
      const { job } = await service.submit({ who, body: ask, source: "sdapi" })
      const done = await service.finished(job, signal)
      if (done.state !== "cancelled") failed(done)
      return json(await answerOf(service, done, body))
    },
  })
}

const whole = (value: number | null | undefined): number | undefined =>
  value == null ? undefined : Math.trunc(value)

const formats = { png: "png", jpg: "jpeg", jpeg: "jpeg", webp: "webp" } as const

/** A1111's request as a job's. */
function askOf(models: Models, body: Asked, settings: Settings, kind: "txt2img" | "img2img"): NewJobBody {
  refuseUndone(body, settings)
  const sampler = body.sampler_name || body.sampler_index || "Euler"
  if (!parseSamplerLabel(sampler))
    fail("SAMPLER", "Sampler not found", { hint: "GET /sdapi/v1/samplers lists them" })
  const seed = whole(body.seed)
  const skip = whole(body.clip_skip) ?? whole(Number(settings.CLIP_stop_at_last_layers ?? 1))
  const model = modelName(settings.sd_model_checkpoint)
  const ask: NewJobBody = {
    prompt: body.prompt ?? "",
    negative: body.negative_prompt ?? "",
    model,
    steps: whole(body.steps) || 50,
    cfg: body.cfg_scale ?? 7,
    sampler,
    schedule: body.scheduler || "automatic",
    eta: body.eta || undefined,
    // A1111 leaves SDXL's text encoders as they are
    clipSkip: skip && skip > 1 && !/^sdxl/.test(models.get(model).card.family) ? skip : undefined,
    seed: seed === undefined || seed < 0 ? undefined : seed % 2 ** 32,
    width: whole(body.width),
    height: whole(body.height),
    count: (whole(body.batch_size) || 1) * (whole(body.n_iter) || 1),
    // A1111 draws noise as CUDA does unless it is told otherwise
    rng: settings.randn_source === "CPU" ? "cpu" : "cuda",
    syntax: "a1111",
    imageCfg: body.image_cfg_scale ?? undefined,
    ...variationOf(body),
    format: formats[settings.samples_format as keyof typeof formats] ?? "png",
  }
  return { ...ask, ...(kind === "img2img" ? inputsOf(body) : hiresOf(body, models)) }
}

function variationOf(body: Asked): Partial<NewJobBody> {
  const { subseed_strength: share, seed_resize_from_w: width, seed_resize_from_h: height } = body
  const seed = whole(body.subseed) ?? -1
  return {
    ...(share ? { variationStrength: share, variationSeed: seed < 0 ? undefined : seed % 2 ** 32 } : {}),
    ...(width && height && width > 0 && height > 0 ? { seedFrom: { width, height } } : {}),
  }
}

/** A1111's hires fix; what a second pass leaves out is as in the first. */
function hiresOf(body: Asked, models: Models): Partial<NewJobBody> {
  if (!body.enable_hr) return {}
  const other = (name: string | null | undefined) => (name && !/^use same/i.test(name) ? name : undefined)
  if (other(body.hr_checkpoint_name)) unsupported("hr_checkpoint_name", "leave it out")
  const label = (body.hr_upscaler || "Latent").toLowerCase()
  const known = Object.entries(latentUpscalers).find(
    ([id, one]) => id === label || one.label.toLowerCase() === label,
  )
  const upscaler =
    known?.[0] ??
    ["lanczos", "nearest"].find((name) => name === label) ??
    models.upscalers.named(body.hr_upscaler ?? "")?.id ??
    fail("UPSCALER", `there is no upscaler ${label.slice(0, 80)}`, {
      hint: "GET /sdapi/v1/latent-upscale-modes and /sdapi/v1/upscalers list them",
    })
  const [width, height] = [whole(body.hr_resize_x) || undefined, whole(body.hr_resize_y) || undefined]
  return {
    hires: {
      scale: body.hr_scale ?? 2,
      width,
      height,
      upscaler,
      steps: whole(body.hr_second_pass_steps) || undefined,
      strength: body.denoising_strength ?? 0.75,
      sampler: other(body.hr_sampler_name),
      schedule: other(body.hr_scheduler),
      prompt: body.hr_prompt || undefined,
      negative: body.hr_negative_prompt || undefined,
      cfg: body.hr_cfg || undefined,
    },
  }
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
          inpaintArea: (body.inpaint_full_res ?? true) ? "masked" : "whole",
          maskPadding: whole(body.inpaint_full_res_padding) ?? 0,
          fill: (["fill", "original", "latent-noise", "latent-nothing"] as const)[
            whole(body.inpainting_fill) ?? 0
          ],
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
    subseed: ask.variationSeed ?? ask.seed,
    all_subseeds: seeds.map((seed, i) =>
      ask.variationSeed === undefined ? seed : Number(ask.variationSeed) + i,
    ),
    subseed_strength: ask.variationStrength ?? 0,
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
