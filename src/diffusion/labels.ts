import { type SamplerId, samplerIds } from "./samplers.ts"
import type { KSamplingOptions } from "./sampling.ts"
import { type Dialect, type ScheduleId, scheduleIds } from "./schedules.ts"

/** What a sampler's label says: settings for kSampling, to be spread over the caller's own. */
export interface SamplerRecipe
  extends Pick<
    KSamplingOptions,
    "brownian" | "discardPenultimate" | "solver" | "dialect" | "eta" | "method"
  > {
  readonly sampler: SamplerId
  /** The schedule the label names; absent where it names none. */
  readonly schedule?: ScheduleId
  /** What A1111's schedule type "Automatic" means for this sampler. */
  readonly automatic?: ScheduleId
}

type Row = Omit<SamplerRecipe, "schedule" | "dialect"> & { readonly aliases?: readonly string[] }

/** A1111 1.10's table: label, k-diffusion alias, automatic schedule, flags. */
const a1111: Record<string, Row> = {
  "dpm++ 2m": { sampler: "dpmpp-2m", automatic: "karras", aliases: ["k_dpmpp_2m"] },
  "dpm++ sde": { sampler: "dpmpp-sde", automatic: "karras", brownian: true, aliases: ["k_dpmpp_sde"] },
  "dpm++ 2m sde": {
    sampler: "dpmpp-2m-sde",
    automatic: "exponential",
    brownian: true,
    aliases: ["k_dpmpp_2m_sde"],
  },
  "dpm++ 2m sde heun": {
    sampler: "dpmpp-2m-sde",
    automatic: "exponential",
    brownian: true,
    solver: "heun",
    aliases: ["k_dpmpp_2m_sde_heun"],
  },
  "dpm++ 2s a": { sampler: "dpmpp-2s-a", automatic: "karras", aliases: ["k_dpmpp_2s_a"] },
  "dpm++ 3m sde": {
    sampler: "dpmpp-3m-sde",
    automatic: "exponential",
    brownian: true,
    discardPenultimate: true,
    aliases: ["k_dpmpp_3m_sde"],
  },
  "euler a": { sampler: "euler-a", automatic: "normal", aliases: ["k_euler_a", "k_euler_ancestral"] },
  euler: { sampler: "euler", automatic: "normal", aliases: ["k_euler"] },
  lms: { sampler: "lms", automatic: "normal", aliases: ["k_lms"] },
  heun: { sampler: "heun", automatic: "normal", aliases: ["k_heun"] },
  dpm2: { sampler: "dpm2", automatic: "karras", discardPenultimate: true, aliases: ["k_dpm_2"] },
  "dpm2 a": { sampler: "dpm2-a", automatic: "karras", discardPenultimate: true, aliases: ["k_dpm_2_a"] },
  "dpm fast": { sampler: "dpm-fast", automatic: "normal", eta: 1, aliases: ["k_dpm_fast"] },
  "dpm adaptive": { sampler: "dpm-adaptive", automatic: "normal", eta: 1, aliases: ["k_dpm_ad"] },
  restart: { sampler: "restart", automatic: "karras" },
  ddim: { sampler: "ddim", method: "compvis" },
  plms: { sampler: "plms", method: "compvis" },
  unipc: { sampler: "unipc", method: "compvis" },
  lcm: { sampler: "lcm", automatic: "normal", method: "consistency", aliases: ["k_lcm"] },
  ddpm: { sampler: "ddpm", automatic: "normal" },
  deis: { sampler: "deis", automatic: "normal" },
  ipndm: { sampler: "ipndm", automatic: "normal" },
  tcd: { sampler: "tcd", automatic: "normal" },
}

/** ComfyUI's names; its SDE samplers draw from a Brownian tree, and four samplers lose their penultimate level. */
const comfy: Record<string, Row> = {
  euler: { sampler: "euler" },
  euler_ancestral: { sampler: "euler-a" },
  heun: { sampler: "heun" },
  dpm_2: { sampler: "dpm2", discardPenultimate: true },
  dpm_2_ancestral: { sampler: "dpm2-a", discardPenultimate: true },
  lms: { sampler: "lms" },
  dpm_fast: { sampler: "dpm-fast" },
  dpm_adaptive: { sampler: "dpm-adaptive" },
  dpmpp_2s_ancestral: { sampler: "dpmpp-2s-a" },
  dpmpp_sde: { sampler: "dpmpp-sde", brownian: true, aliases: ["dpmpp_sde_gpu"] },
  dpmpp_2m: { sampler: "dpmpp-2m" },
  dpmpp_2m_sde: { sampler: "dpmpp-2m-sde", brownian: true, aliases: ["dpmpp_2m_sde_gpu"] },
  dpmpp_2m_sde_heun: {
    sampler: "dpmpp-2m-sde",
    brownian: true,
    solver: "heun",
    aliases: ["dpmpp_2m_sde_heun_gpu"],
  },
  dpmpp_3m_sde: { sampler: "dpmpp-3m-sde", brownian: true, aliases: ["dpmpp_3m_sde_gpu"] },
  ddpm: { sampler: "ddpm" },
  lcm: { sampler: "lcm" },
  ipndm: { sampler: "ipndm" },
  deis: { sampler: "deis" },
  ddim: { sampler: "ddim" },
  uni_pc: { sampler: "unipc", solver: "bh1", discardPenultimate: true },
  uni_pc_bh2: { sampler: "unipc", solver: "bh2", discardPenultimate: true },
}

/** Schedule names of both programs beside our ids. */
const scheduleNames: Record<string, ScheduleId> = {
  ...Object.fromEntries(scheduleIds.map((id) => [id, id])),
  uniform: "normal",
  "sgm uniform": "sgm-uniform",
  sgmuniform: "sgm-uniform",
  sgm_uniform: "sgm-uniform",
  "kl optimal": "kl-optimal",
  kl_optimal: "kl-optimal",
  "align your steps": "ays",
  align_your_steps: "ays",
  ddim: "ddim-uniform",
  ddim_uniform: "ddim-uniform",
  ka: "karras",
}

const tidy = (label: string): string => label.trim().toLowerCase().replace(/\s+/g, " ")

/** A schedule by our id, or by A1111's or ComfyUI's name; undefined when none is meant ("Automatic") or known. */
export const parseScheduleLabel = (label: string): ScheduleId | undefined =>
  Object.hasOwn(scheduleNames, tidy(label)) ? scheduleNames[tidy(label)] : undefined

function rowOf(table: Record<string, Row>, name: string): Row | undefined {
  if (Object.hasOwn(table, name)) return table[name]
  return Object.values(table).find((row) => row.aliases?.includes(name))
}

/** A label without a schedule's name at its end. */
function named(name: string, origin: Dialect | undefined): SamplerRecipe | undefined {
  if (origin === undefined && (samplerIds as readonly string[]).includes(name))
    return { sampler: name as SamplerId }
  for (const [dialect, table] of [
    ["a1111", a1111],
    ["comfy", comfy],
  ] as const) {
    if (origin !== undefined && origin !== dialect) continue
    const row = rowOf(table, name)
    if (row) {
      const { aliases: _, ...recipe } = row
      return { ...recipe, dialect }
    }
  }
  return undefined
}

/**
 * A sampler by our id or by the label that A1111 or ComfyUI prints, with a schedule's name at its end or not:
 * "euler-a", "DPM++ 2M Karras", "dpmpp_2m", "k_dpmpp_2m_ka". Upper and lower case are the same.
 * @param origin the program a label comes from, where one word means different things; without it our ids come first.
 * @returns undefined for a label nobody prints.
 */
export function parseSamplerLabel(label: string, origin?: Dialect): SamplerRecipe | undefined {
  const name = tidy(label)
  const whole = named(name, origin)
  if (whole) return whole
  for (const [suffix, schedule] of Object.entries(scheduleNames)) {
    if (!name.endsWith(` ${suffix}`) && !name.endsWith(`_${suffix}`)) continue
    const recipe = named(name.slice(0, -suffix.length - 1), origin)
    if (!recipe) continue
    const { method: _, ...settings } = recipe
    return { ...(recipe.method === "compvis" ? settings : recipe), schedule }
  }
  return undefined
}
