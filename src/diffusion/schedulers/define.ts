import * as z from "zod"
import { fail } from "../../errors.ts"
import type { checkedOptions, Solver } from "./sampling.ts"

export type Asked = ReturnType<typeof checkedOptions>

/** A scheduler class: reads its config, binds it to a number of steps. */
export interface SchedulerClass {
  /** Keys the class knows. */
  readonly keys: readonly string[]
  bind(config: Record<string, unknown>, asked: Asked): Solver
}

const describe = (issue: z.core.$ZodIssue, config: Record<string, unknown>): string => {
  const name = issue.path.join(".")
  const value = JSON.stringify(config[String(issue.path[0])])
  return `${name} is ${value?.slice(0, 60) ?? "missing"}: ${issue.message}`
}

/** Names the first field that does not fit. */
export function parseWith<S extends z.ZodType>(schema: S, config: Record<string, unknown>): z.output<S> {
  const parsed = schema.safeParse(config)
  if (parsed.success) return parsed.data
  const issues = parsed.error.issues.map((issue) => describe(issue, config))
  return fail("SCHEDULER_CONFIG", issues.join("; "), {
    hint: "Correct scheduler_config.json, or choose a sampler with --sampler.",
    details: { fields: parsed.error.issues.map((issue) => issue.path.join(".")) },
  })
}

/** What a config of a shape is after reading. */
export type ShapeKeys<S extends z.ZodRawShape> = z.output<z.ZodObject<S>>

/** A class from the shape of its config and the function that binds it. */
export const define = <S extends z.ZodRawShape>(
  shape: S,
  bind: (keys: ShapeKeys<S>, asked: Asked) => Solver,
): SchedulerClass => ({
  keys: Object.keys(shape),
  bind: (config, asked) => bind(parseWith(z.object(shape), config), asked),
})

/** A combination of keys that has no meaning. */
export const contradiction = (field: string, why: string): never =>
  fail("SCHEDULER_CONFIG", `${field}: ${why}`, {
    hint: "Correct scheduler_config.json, or choose a sampler with --sampler.",
    details: { fields: [field] },
  })

/** At most one spacing of the sigmas. */
export function oneSigmaSpacing(keys: {
  use_karras_sigmas: boolean
  use_exponential_sigmas: boolean
  use_beta_sigmas: boolean
}): void {
  const set = (["use_karras_sigmas", "use_exponential_sigmas", "use_beta_sigmas"] as const).filter(
    (k) => keys[k],
  )
  if (set.length > 1) contradiction(set[1]!, `cannot be combined with ${set[0]}`)
}
