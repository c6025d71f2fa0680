import * as z from "zod"

/**
 * Building blocks of the schemas for scheduler_config.json. A missing or null key takes the class's default, as in
 * diffusers' constructors.
 */

type Fallback<S extends z.ZodType> = z.ZodType<Exclude<z.output<S>, null | undefined>>

const key = <S extends z.ZodType>(schema: S, fallback: Exclude<z.output<S>, null | undefined>): Fallback<S> =>
  schema.nullish().transform((value) => value ?? fallback) as unknown as Fallback<S>

export const flag = (fallback: boolean) => key(z.boolean(), fallback)
export const real = (fallback: number) => key(z.number(), fallback)
export const whole = (fallback: number) => key(z.int(), fallback)
export const positive = (fallback: number) => key(z.int().min(1), fallback)
export const choice = <const T extends readonly [string, ...string[]]>(options: T, fallback: T[number]) =>
  key(z.enum(options), fallback)

/** An enum that also knows names of sibling classes, which diffusers maps to one of its own. */
export const mapped = <const T extends readonly [string, ...string[]], F extends T[number]>(
  options: T,
  siblings: readonly [string, ...string[]],
  fallback: F,
) =>
  z
    .enum([...options, ...siblings] as [string, ...string[]])
    .nullish()
    .transform((value): T[number] =>
      (options as readonly string[]).includes(value ?? "") ? (value as T[number]) : fallback,
    )

export const maybe = z
  .number()
  .nullish()
  .transform((value) => value ?? null)
/** A Python-only key that a saved file can hold as null only. */
export const absent = z.null().optional()

/** A number or minus infinity: Python writes the bare word, other tools keep it as a string. */
const infinite = z.union([
  z.number(),
  z.custom<number>((value) => value === -Infinity),
  z.enum(["-Infinity", "-inf"]).transform(() => -Infinity),
])
export const lambdaMinClipped = key(infinite, -Infinity)

const betaSchedules: readonly string[] = ["linear", "scaled_linear", "squaredcos_cap_v2"]

/** The noise schedule a network was trained on; a class may know `further` names of beta schedules. */
export const training = (
  start = 0.0001,
  end = 0.02,
  schedule = "linear",
  further: readonly string[] = [],
) => ({
  num_train_timesteps: positive(1000),
  beta_start: real(start),
  beta_end: real(end),
  beta_schedule: key(z.enum([...betaSchedules, ...further]), schedule),
  trained_betas: z
    .array(z.number())
    .nullish()
    .transform((value) => value ?? null),
})

/** Defaults of the classes that came from k-diffusion. */
export const karrasTraining = () => training(0.00085, 0.012)

export const prediction = <const T extends readonly [string, ...string[]]>(...kinds: T) => ({
  prediction_type: choice(kinds, kinds[0]),
})

export const spacing = (fallback: "linspace" | "leading" | "trailing") => ({
  timestep_spacing: choice(["linspace", "leading", "trailing"], fallback),
  steps_offset: whole(0),
})

/** Spacings of the sigmas, of which at most one; the ends are read wherever a file holds them. */
export const sigmaSpacing = {
  use_karras_sigmas: flag(false),
  use_exponential_sigmas: flag(false),
  use_beta_sigmas: flag(false),
  sigma_min: maybe,
  sigma_max: maybe,
}

export const thresholding = {
  thresholding: flag(false),
  dynamic_thresholding_ratio: real(0.995),
  sample_max_value: real(1),
}

export const clipping = (fallback: boolean) => ({ clip_sample: flag(fallback), clip_sample_range: real(1) })

export const flow = { use_flow_sigmas: flag(false), flow_shift: real(1) }
export const dynamicShift = {
  use_dynamic_shifting: flag(false),
  time_shift_type: choice(["exponential"], "exponential"),
}
export const zeroSnr = { rescale_betas_zero_snr: flag(false) }
export const finalSigma = { final_sigmas_type: choice(["zero", "sigma_min"], "zero") }
export const learnedVariance = {
  variance_type: z
    .enum(["learned", "learned_range"])
    .nullish()
    .transform((value) => value ?? null),
}
export const indices = z
  .array(z.int())
  .nullish()
  .transform((value) => value ?? [])

export const upToFour = (fallback: number) => key(z.int().min(1).max(4), fallback)
