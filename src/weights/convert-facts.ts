import type { LdmFacts } from "./ldm-yaml.ts"
import type { Config, ModelFiles } from "./model-files.ts"

/** Config entries that decide a picture, with diffusers' and transformers' defaults where a config leaves them out. */
const ENTRIES: Record<string, Record<string, unknown>> = {
  unet: {
    in_channels: 4,
    out_channels: 4,
    block_out_channels: [320, 640, 1280, 1280],
    layers_per_block: 2,
    cross_attention_dim: 1280,
    transformer_layers_per_block: 1,
    use_linear_projection: false,
    norm_num_groups: 32,
    norm_eps: 1e-5,
    act_fn: "silu",
    flip_sin_to_cos: true,
    freq_shift: 0,
    mid_block_scale_factor: 1,
    time_cond_proj_dim: null,
    class_embed_type: null,
    addition_embed_type: null,
    addition_time_embed_dim: null,
    num_class_embeds: null,
  },
  vae: {
    block_out_channels: [64],
    latent_channels: 4,
    norm_num_groups: 32,
    act_fn: "silu",
    scaling_factor: 0.18215,
    shift_factor: null,
    latents_mean: null,
    latents_std: null,
  },
  text_encoder: { num_attention_heads: 12, hidden_act: "quick_gelu", layer_norm_eps: 1e-5 },
  text_encoder_2: { num_attention_heads: 12, hidden_act: "quick_gelu", layer_norm_eps: 1e-5 },
}
/** diffusers' schedulers have these defaults, which Stable Diffusion's folders overrule. */
const SCHEDULE = { beta_start: 0.0001, beta_end: 0.02, beta_schedule: "linear", num_train_timesteps: 1000 }

const levels = (config: Config): number[] =>
  Array.isArray(config.block_out_channels) ? config.block_out_channels : []

/** A scalar of a per-level entry, spelled out; [2, 2, 2] and 2 are the same. */
function same(a: unknown, b: unknown, count: number): boolean {
  const list = (v: unknown) => JSON.stringify(Array.isArray(v) ? v : Array<unknown>(count).fill(v ?? null))
  return list(a) === list(b) || JSON.stringify(a ?? null) === JSON.stringify(b ?? null)
}

/** Heads of each level: diffusers' `attention_head_dim` means their number unless `num_attention_heads` says it. */
function heads(config: Config): number[] {
  const said = config.num_attention_heads ?? config.attention_head_dim ?? 8
  return levels(config).map((_, i) => Number(Array.isArray(said) ? said[i] : said))
}

const number = (value: unknown, otherwise: number): number => (typeof value === "number" ? value : otherwise)

/**
 * What a folder's configs say and its tensors under LDM keys do not, as far as an LDM config can say it: undefined where
 * the readers' own rules give the same. The prediction type alone is in the metadata.
 */
export function ldmFactsOf(model: ModelFiles, plain: ModelFiles): LdmFacts | undefined {
  const facts: LdmFacts = {}
  const [unet, guess] = [model, plain].map((m) => m.components.get("unet")?.config ?? {}) as [Config, Config]
  const count = heads(unet)
  if (count.join() !== heads(guess).join()) {
    const widths = levels(unet).map((width, i) => width / count[i]!)
    if (count.every((n) => n === count[0])) facts.heads = count[0]!
    else if (widths.every((n) => n === widths[0] && Number.isInteger(n))) facts.headWidth = widths[0]!
  }
  const size = number(unet.sample_size, Number(guess.sample_size))
  if (size !== guess.sample_size && Number.isSafeInteger(size)) facts.imageSize = size
  const scales = [model, plain].map((m) => number(m.components.get("vae")?.config.scaling_factor, 0.18215))
  if (scales[0] !== scales[1]) facts.scaleFactor = scales[0]!
  const schedule = { ...SCHEDULE, ...model.scheduler }
  if (schedule.beta_start !== plain.scheduler.beta_start)
    facts.betaStart = number(schedule.beta_start, 0.00085)
  if (schedule.beta_end !== plain.scheduler.beta_end) facts.betaEnd = number(schedule.beta_end, 0.012)
  if (schedule.num_train_timesteps !== plain.scheduler.num_train_timesteps)
    facts.timesteps = number(schedule.num_train_timesteps, 1000)
  if (Object.keys(facts).length === 0 && model.prediction === plain.prediction) return undefined
  return { ...facts, prediction: model.prediction }
}

/** An LDM config with these facts, as CompVis' v1-inference.yaml is laid out. */
export function yamlOf(facts: LdmFacts): string {
  const words = { v_prediction: "v", epsilon: "eps", sample: "x0" }
  const rows: [string, unknown][] = [
    ["linear_start", facts.betaStart],
    ["linear_end", facts.betaEnd],
    ["timesteps", facts.timesteps],
    ["image_size", facts.imageSize],
    ["scale_factor", facts.scaleFactor],
    ["parameterization", facts.prediction && `"${words[facts.prediction]}"`],
  ]
  const unet: [string, unknown][] = [
    ["num_heads", facts.heads],
    ["num_head_channels", facts.headWidth],
  ]
  const lines = (list: [string, unknown][], indent: string) =>
    list.filter(([, value]) => value !== undefined).map(([key, value]) => `${indent}${key}: ${value}`)
  const inner = lines(unet, "        ")
  const head = inner.length > 0 ? ["    unet_config:", "      params:", ...inner] : []
  return `${["model:", "  params:", ...lines(rows, "    "), ...head].join("\n")}\n`
}

/** Where a reader of the single file would take another value than the folder's configs say, in words. */
export function configNotes(model: ModelFiles, said: ModelFiles): string[] {
  const notes: string[] = []
  for (const [name, component] of model.components) {
    const read = said.components.get(name)?.config ?? {}
    const count = levels(component.config).length
    for (const [key, otherwise] of Object.entries(ENTRIES[name] ?? {})) {
      const ours = component.config[key] ?? otherwise
      const theirs = read[key] ?? otherwise
      if (!same(ours, theirs, count)) notes.push(note(`${name}.${key}`, ours, theirs))
    }
    if (name === "unet" && heads(component.config).join() !== heads(read).join())
      notes.push(note("unet.attention_head_dim", heads(component.config), heads(read)))
  }
  const schedule: Config = { ...SCHEDULE, ...model.scheduler }
  if (schedule.beta_schedule !== said.scheduler.beta_schedule)
    notes.push(note("scheduler.beta_schedule", schedule.beta_schedule, said.scheduler.beta_schedule))
  return notes
}

const note = (key: string, ours: unknown, theirs: unknown) =>
  `a single file cannot say ${key} ${JSON.stringify(ours)}: readers will take ${JSON.stringify(theirs)}`
