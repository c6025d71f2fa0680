import { z } from "zod"
import { fail } from "../errors.ts"

/** A number for all levels, or one per level. */
export const perLevel = <T extends z.ZodType>(of: T) => z.union([of, z.array(of)])
export const size = z.number().int().positive()
/** A number of layers or levels: far above any network's, and far below what fills a memory. */
export const amount = size.max(64)

/** Keys that savers leave behind and that describe no network. */
const leftovers = new Set([
  "decay",
  "inv_gamma",
  "min_decay",
  "optimization_step",
  "power",
  "update_after_step",
  "use_ema_warmup",
  "sample_size",
  "architectures",
  "dtype",
  "torch_dtype",
  "model_type",
  "transformers_version",
])

/**
 * Reads a component's config.json by its schema. A value out of place, and a key the schema does not know
 * (unless it is null, false or a saver's leftover), is one error that names the fields.
 */
export function readConfig<T extends z.ZodObject>(schema: T, json: unknown, what: string): z.infer<T> {
  const done = schema.safeParse(json)
  if (!done.success) {
    const issues = done.error.issues.map((i) => `${i.path.join(".") || "config"}: ${i.message}`)
    return fail("MODEL_CONFIG", `${what}: ${few(issues, "; ")}`, {
      hint: "compare the config.json with the model's origin",
    })
  }
  const unknown = Object.entries(json as object).filter(
    ([key, value]) =>
      !(key in schema.shape) &&
      !key.startsWith("_") &&
      !leftovers.has(key) &&
      value !== null &&
      value !== false,
  )
  if (unknown.length > 0) {
    const names = unknown.map(([key]) => key)
    refuse(what, names[0]!, `is not a field this version knows (${few(names, ", ")})`)
  }
  return done.data
}

const shown = 8
const few = (items: readonly string[], between: string) =>
  items.slice(0, shown).join(between) + (items.length > shown ? ` and ${items.length - shown} more` : "")

export function refuse(what: string, field: string, why: string): never {
  return fail("MODEL_CONFIG", `${what}: ${field} ${why}`, {
    hint: "this kind of network may need a newer aquatint",
    details: { field },
  })
}

/** Spreads a per-level setting to one value per level. */
export function levels<T>(what: string, field: string, value: T | readonly T[], count: number): readonly T[] {
  if (!Array.isArray(value)) return Array.from({ length: count }, () => value as T)
  if (value.length !== count) refuse(what, field, `has ${value.length} entries for ${count} levels`)
  return value as readonly T[]
}
