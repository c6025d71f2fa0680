import { sortedKeys } from "./convert-plan.ts"
import type { Component, Config, ModelFiles } from "./model-files.ts"

/** Metadata key under which a single file keeps the configs of the folder it came from. */
export const CONFIGS_KEY = "aquatint.configs"

/** Entries that a component's shapes decide: a kept config counts only where it agrees with all of them. */
const SHAPED = [
  "in_channels",
  "out_channels",
  "block_out_channels",
  "cross_attention_dim",
  "use_linear_projection",
  "latent_channels",
  "hidden_size",
  "intermediate_size",
  "num_hidden_layers",
  "vocab_size",
  "max_position_embeddings",
  "time_cond_proj_dim",
]
const LIMIT = 1 << 20

type Kept = Pick<ModelFiles, "components" | "scheduler" | "index">

/** Entries of model_index.json that no tensor tells. */
const SAID = ["_class_name", "force_zeros_for_empty_prompt", "requires_aesthetics_score"]

/** A folder's configs as the metadata of a single file keeps them. */
export function keptConfigs({ index, scheduler, components }: Kept): string {
  const said = SAID.flatMap((key) => (index[key] === undefined ? [] : [[key, index[key]] as const]))
  const configs = [...components].map(([name, { config }]) => [name, sortedKeys(config)] as const)
  const all = {
    model_index: Object.fromEntries(said),
    scheduler: sortedKeys(scheduler),
    ...Object.fromEntries(configs),
  }
  return JSON.stringify(all)
}

/**
 * A single file's configs: those of the folder that aquatint made it of, where its metadata keeps them and they fit the
 * tensors, else the derived ones.
 */
export function restoredConfigs(model: ModelFiles): Kept {
  const kept = parse(model.metadata.get(CONFIGS_KEY))
  const components = new Map<string, Component>()
  for (const [name, component] of model.components)
    components.set(name, { ...component, config: fitting(kept[name], component.config) })
  const scheduler = kept.scheduler
  const named = /^\w+Scheduler$/.test(String(scheduler?._class_name))
  const same =
    scheduler !== undefined && named && (scheduler.prediction_type ?? "epsilon") === model.prediction
  const index = { ...model.index }
  const { model_index: old } = kept
  if (/^StableDiffusion\w*Pipeline$/.test(String(old?._class_name))) index._class_name = old?._class_name
  for (const key of ["force_zeros_for_empty_prompt", "requires_aesthetics_score"])
    if (typeof old?.[key] === "boolean") index[key] = old[key]
  return { components, scheduler: same ? scheduler : model.scheduler, index }
}

function parse(text: string | undefined): Record<string, Config | undefined> {
  if (text === undefined || text.length > LIMIT) return {}
  try {
    const value: unknown = JSON.parse(text)
    const isObject = (v: unknown): v is object => typeof v === "object" && v !== null && !Array.isArray(v)
    if (!isObject(value)) return {}
    return Object.fromEntries(Object.entries(value).filter(([, config]) => isObject(config)))
  } catch {
    return {} // a stranger's note under our key
  }
}

function fitting(kept: Config | undefined, derived: Config): Config {
  if (kept === undefined) return derived
  const says = (config: Config, key: string) => JSON.stringify(config[key] ?? null)
  const agree = SHAPED.every(
    (key) => !(key in derived) || !(key in kept) || says(kept, key) === says(derived, key),
  )
  const cls = (c: Config) => JSON.stringify(c._class_name ?? c.architectures)
  return agree && cls(kept) === cls(derived) ? kept : derived
}
