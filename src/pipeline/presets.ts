import type { ModelFiles } from "../weights/model-files.ts"
import type { GenerateRequest } from "./request.ts"

/** Settings that a distilled model was trained for; what the caller says goes before them. */
export interface Preset {
  /** The method, for people: `SDXL-Turbo`, `Lightning, 4 steps`. */
  readonly name: string
  /** What told it. */
  readonly from: string
  readonly steps: number
  readonly cfg: number
  readonly sampler?: string
  readonly schedule?: string
  readonly eta?: number
  /** What goes over the model's scheduler config, as model cards do it by diffusers' `from_config`. */
  readonly config?: Readonly<Record<string, unknown>>
}

type Rule = [RegExp, (steps: number | undefined) => Omit<Preset, "from">]

const cfgKept = /cfg/i

const ddimTrailing = {
  _class_name: "DDIMScheduler",
  timestep_spacing: "trailing",
  clip_sample: false,
  set_alpha_to_one: false,
}

/**
 * How each way of distilling is run, by the names its files go under (model cards of ByteDance's SDXL-Lightning and
 * Hyper-SD, Stability's Turbo models, latent-consistency/lcm, DMD2, PCM, SDXS, VegaRT). First match counts.
 */
const RULES: readonly Rule[] = [
  [
    /lightning/i,
    (steps = 4) => ({
      name: `Lightning, ${steps} steps`,
      steps,
      cfg: 1,
      sampler: "euler",
      schedule: "trailing",
      // the file of one step predicts the picture itself
      ...(steps === 1 ? { config: { prediction_type: "sample" } } : {}),
    }),
  ],
  [
    /hyper[-_. ]?sd|hyper[-_ ]?(xl|sdxl)/i,
    (steps = 8) =>
      steps === 1
        ? { name: "Hyper-SD, 1 step", steps, cfg: 1, sampler: "tcd", schedule: "trailing", eta: 1 }
        : { name: `Hyper-SD, ${steps} steps`, steps, cfg: 1, config: ddimTrailing },
  ],
  [
    /dmd2?(?![a-z])/i,
    (steps = 4) => ({ name: "DMD2", steps, cfg: 1, sampler: "lcm", schedule: "sgm-uniform" }),
  ],
  [/sdxs/i, () => ({ name: "SDXS", steps: 1, cfg: 1, sampler: "euler", schedule: "trailing" })],
  [
    /vega[-_ ]?rt/i,
    (steps = 4) => ({ name: "VegaRT", steps, cfg: 1, sampler: "lcm", schedule: "sgm-uniform" }),
  ],
  [
    /(?<![a-z])lcm(?![a-z])/i,
    (steps = 4) => ({ name: "LCM", steps, cfg: 1.5, sampler: "lcm", schedule: "sgm-uniform" }),
  ],
  [
    /(?<![a-z])tcd(?![a-z])/i,
    (steps = 4) => ({ name: "TCD", steps, cfg: 1, sampler: "tcd", schedule: "trailing", eta: 0.3 }),
  ],
  [/(?<![a-z])pcm(?![a-z])/i, (steps = 4) => ({ name: "PCM", steps, cfg: 1.5, config: ddimTrailing })],
  [
    /sd(xl)?[-_ ]?turbo|(?<![a-z])turbo/i,
    (steps = 1) => ({ name: "Turbo", steps, cfg: 1, sampler: "euler-a", schedule: "trailing" }),
  ],
]

const stepsIn = (text: string): number | undefined => {
  const found = /(?<!\d)(\d{1,2})[-_ ]?steps?/i.exec(text)
  const steps = Number(found?.[1])
  return steps >= 1 && steps <= 50 ? steps : undefined
}

/** The preset that a text names. */
export function presetNamed(text: string, from: string): Preset | null {
  for (const [pattern, make] of RULES) {
    if (!pattern.test(text)) continue
    const preset = make(stepsIn(text))
    // Hyper-SD's CFG-preserved files keep their guidance
    const keeps = /^Hyper/.test(preset.name) && cfgKept.test(text)
    return { ...preset, ...(keeps ? { cfg: 5 } : {}), from }
  }
  return null
}

const noted = ["modelspec.title", "modelspec.usage_hint", "ss_output_name", "modelspec.description"] as const

/**
 * The preset of a model, from its U-Net (an embedding of the guidance scale is a consistency model's), its notes and its
 * name; null for models that are not distilled. A folder's own scheduler config stays in force.
 */
export function presetOf(files: ModelFiles, name: string): Preset | null {
  const unet = files.components.get("unet")
  const own = files.format === "diffusers" || files.scheduler._class_name === "LCMScheduler"
  const keep = (preset: Preset | null): Preset | null => {
    if (!preset || !own) return preset
    const { sampler: _s, schedule: _h, eta: _e, config: _c, ...rest } = preset
    return rest
  }
  if (files.variant === "lcm" || typeof unet?.config.time_cond_proj_dim === "number") {
    const from = "its U-Net reads the guidance scale"
    return keep({ name: "LCM", from, steps: 4, cfg: 8.5, sampler: "lcm", schedule: "sgm-uniform" })
  }
  for (const key of noted) {
    const text = files.metadata.get(key)
    const preset = text === undefined ? null : presetNamed(text.slice(0, 200), `${key} in the file`)
    if (preset) return keep(preset)
  }
  const origin = unet?.config._name_or_path
  if (typeof origin === "string" && files.format === "diffusers") {
    const preset = presetNamed(origin.split(/[\\/]/).slice(-2).join("/"), "the origin in its config")
    if (preset) return keep(preset)
  }
  return keep(presetNamed(name, "its name"))
}

/** A file's name without folders and ending. */
export const nameOf = (file: string): string =>
  file
    .split(/[\\/]/)
    .at(-1)!
    .replace(/\.[^.]+$/, "")

/** The preset of a request: its adapters' (an LCM or Lightning LoRA makes any model a distilled one), else the model's. */
export function presetFor(
  { loras = [], prompt }: GenerateRequest,
  files: ModelFiles,
  name: string,
): Preset | null {
  const tags =
    typeof prompt === "string" ? [...prompt.matchAll(/<(?:lora|lyco):([^:>]+)/g)].map(([, tag]) => tag!) : []
  const named = [...loras.flatMap(({ file }) => (typeof file === "string" ? [file] : [])), ...tags]
  for (const adapter of named) {
    const preset = presetNamed(nameOf(adapter), `the adapter ${nameOf(adapter)}`)
    if (preset) return preset
  }
  return presetOf(files, name)
}
