/** The shapes of docs/api.md, as far as the page reads them. */
import type { Facts, Job, JobState, Print, PromptToken, Recipe } from "./types.ts"

export interface WireRequest {
  prompt: string
  negative?: string
  model?: string
  steps?: number
  cfg?: number
  sampler?: string
  schedule?: string
  clipSkip?: number
  seed?: number
  width?: number
  height?: number
  count?: number
  rng?: "cpu" | "cuda"
  strength?: number
  maskBlur?: number
  loras?: { id: string; weight: number }[]
  init?: { upload: string } | { image: string }
  mask?: { upload: string } | { image: string }
  group?: string
  /** Of jobs that do not draw what they are asked for, such as `enlarge`, with what these need. */
  kind?: string
  upscalers?: string[]
  to?: { factor?: number }
}

export interface WireImage {
  id: string
  created: number
  width: number
  height: number
  format: string
  seed: number
  prompt: string
  negative: string
  model: string
  infotext: string
  request: Partial<WireRequest>
  url: string
  thumbnail: string
}

export interface WireJob {
  id: string
  state: JobState | "poisoned"
  /** Which interface it came by. */
  source: string
  position: number | null
  created: number
  progress: number
  phase: string | null
  step: number
  steps: number
  remaining: number | null
  request: WireRequest
  images: WireImage[]
  error: { code: string; message: string; hint?: string } | null
}

export interface WireProgress {
  id: string
  progress: number
  phase: string
  step: number
  steps: number
  remaining: number | null
}

export interface WirePreview {
  id: string
  step: number
  image: string
}

export interface WireStudy {
  width: number
  height: number
  words: { text: string; peak: number; values: string }[]
  steps: { step: number; image: string }[]
}

export interface WireTokens {
  tokens: number
  limit: number
  perChunk: number
  pieces: PromptToken[]
}

export interface WireInfo {
  version: string
  samplers: { id: string; label: string }[]
  schedules: { id: string; label: string }[]
  limits: {
    pixels: number
    side: number
    steps: number
    count: number
    promptLength: number
    uploadPixels: number
  }
  defaultModel: string | null
}

export interface WireModels {
  models: {
    id: string
    name: string
    family: string
    variant: string
    width: number
    height: number
    steps: number
    cfg: number
    factor: number
    default: boolean
    setAside: { until: number; crashes: number } | null
  }[]
  loras: { id: string; name: string }[]
  upscalers: { id: string; name: string }[]
}

const named = ({ id, label }: { id: string; label: string }) => ({ id, name: label })

export function factsOf(info: WireInfo, { models, loras, upscalers }: WireModels): Facts {
  const sorted = [...models].sort((a, b) => Number(b.default) - Number(a.default))
  return {
    version: info.version,
    models: sorted.map((m) => ({ ...m, setAside: m.setAside ? `${m.setAside.crashes}` : null })),
    samplers: info.samplers.map(named),
    schedules: info.schedules.map(named),
    loras,
    upscalers: [{ id: "Lanczos", name: "Lanczos" }, ...upscalers],
    can: { edit: true, feather: true },
    limits: { ...info.limits, prompt: info.limits.promptLength, enlarged: info.limits.uploadPixels },
  }
}

/** A request as the page's recipe; what the page has no field for, start pictures among it, is kept along. */
export function recipeOf(request: Partial<WireRequest>): Recipe {
  const { group: _, kind, ...rest } = request
  const known: Record<string, unknown> = {}
  const more: Record<string, unknown> = {}
  for (const [key, value] of Object.entries(rest))
    if (value !== null) (recipeKeys.has(key) ? known : more)[key] = value
  // an enlarged picture was not drawn by its request
  const kept = kind === undefined && Object.keys(more).length > 0
  return { prompt: "", ...known, ...(kept ? { more } : {}) }
}

const recipeKeys = new Set(
  "prompt negative model sampler schedule steps cfg seed width height count clipSkip strength rng loras".split(
    " ",
  ),
)

export function printOf(image: WireImage): Print {
  const recipe = recipeOf(image.request)
  return {
    id: image.id,
    url: image.url,
    thumb: image.thumbnail,
    width: image.width,
    height: image.height,
    created: image.created,
    recipe: {
      ...recipe,
      prompt: image.prompt,
      negative: image.negative || undefined,
      model: image.model === "-" ? undefined : image.model,
      seed: image.seed,
    },
    infotext: image.infotext,
    format: image.format,
  }
}

const phases = new Set(["load", "text", "encode", "denoise", "decode"])
export const phaseOf = (phase: string | null, state: string): Job["phase"] => {
  if (state === "queued") return "wait"
  return phase !== null && phases.has(phase) ? (phase as Job["phase"]) : "load"
}

export const jobOf = (job: WireJob): Job => ({
  id: job.id,
  state: job.state === "poisoned" ? "failed" : job.state,
  recipe: recipeOf(job.request),
  position: job.position ?? 0,
  progress: job.progress,
  step: job.step,
  steps: job.steps,
  phase: phaseOf(job.phase, job.state),
  left: job.remaining,
  created: job.created,
  prints: job.images.map(({ id }) => id),
  error: job.error,
})
