import { dpmSolverFamily } from "./samplers/dpm-solver.ts"
import { dpmppFamily } from "./samplers/dpmpp.ts"
import { eulerFamily } from "./samplers/euler.ts"
import { multistepFamily } from "./samplers/multistep.ts"
import { restartFamily } from "./samplers/restart.ts"
import type { KSampler } from "./samplers/run.ts"
import { unipcFamily } from "./samplers/unipc.ts"

/** Every `--sampler` over Karras' denoiser: how it runs, and what is known of its calls before. */
export const samplers = {
  ...eulerFamily,
  ...dpmppFamily,
  ...dpmSolverFamily,
  ...multistepFamily,
  ...unipcFamily,
  ...restartFamily,
} satisfies Record<string, KSampler>

export type SamplerId = keyof typeof samplers

export const samplerIds = Object.keys(samplers) as readonly SamplerId[]

export type { KRun, KSampler, KStep, Plan, SamplerOptions } from "./samplers/run.ts"
