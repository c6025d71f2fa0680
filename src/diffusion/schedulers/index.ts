import { fail } from "../../errors.ts"
import type { Sampling } from "../types.ts"
import { lcm, tcd } from "./consistency.ts"
import { ddim } from "./ddim.ts"
import { ddpm } from "./ddpm.ts"
import type { SchedulerClass } from "./define.ts"
import { deis } from "./deis.ts"
import { dpmMultistep } from "./dpm-multistep.ts"
import { dpmSde } from "./dpm-sde.ts"
import { dpmSinglestep } from "./dpm-singlestep.ts"
import { edmEuler, edmMultistep } from "./edm.ts"
import { euler, eulerAncestral } from "./euler.ts"
import { flowMatchEuler, flowMatchHeun } from "./flow-match.ts"
import { heun, kdpm2, kdpm2Ancestral } from "./heun.ts"
import { ipndm } from "./ipndm.ts"
import { lms } from "./lms.ts"
import { pndm } from "./pndm.ts"
import { saSolver } from "./sa-solver.ts"
import { checkedOptions, type SchedulerOptions, samplingOf } from "./sampling.ts"
import { unipc } from "./unipc.ts"

export type { SchedulerOptions } from "./sampling.ts"

/** Classes of diffusers by the `_class_name` they are saved under. */
const classes: Record<string, SchedulerClass> = {
  DDIMScheduler: ddim,
  DDIMParallelScheduler: ddim,
  DDPMScheduler: ddpm,
  DDPMParallelScheduler: ddpm,
  PNDMScheduler: pndm,
  LMSDiscreteScheduler: lms,
  EulerDiscreteScheduler: euler,
  EulerAncestralDiscreteScheduler: eulerAncestral,
  HeunDiscreteScheduler: heun,
  KDPM2DiscreteScheduler: kdpm2,
  KDPM2AncestralDiscreteScheduler: kdpm2Ancestral,
  DPMSolverMultistepScheduler: dpmMultistep,
  DPMSolverSinglestepScheduler: dpmSinglestep,
  DPMSolverSDEScheduler: dpmSde,
  DEISMultistepScheduler: deis,
  UniPCMultistepScheduler: unipc,
  LCMScheduler: lcm,
  TCDScheduler: tcd,
  IPNDMScheduler: ipndm,
  SASolverScheduler: saSolver,
  EDMEulerScheduler: edmEuler,
  EDMDPMSolverMultistepScheduler: edmMultistep,
  FlowMatchEulerDiscreteScheduler: flowMatchEuler,
  FlowMatchHeunDiscreteScheduler: flowMatchHeun,
}

export const schedulerNames: readonly string[] = Object.keys(classes)

/** A sampling from a scheduler_config.json. */
export interface SchedulerSampling extends Sampling {
  /** The class it was saved under. */
  readonly name: string
  /** Keys of the config that this class does not know; diffusers warns of them. */
  readonly ignored: readonly string[]
}

const isRecord = (value: unknown): value is Record<string, unknown> =>
  typeof value === "object" && value !== null && !Array.isArray(value)

function classOf(config: Record<string, unknown>): { name: string; scheduler: SchedulerClass } {
  const name = config._class_name
  const scheduler = typeof name === "string" && Object.hasOwn(classes, name) ? classes[name] : undefined
  if (scheduler && typeof name === "string") return { name, scheduler }
  return fail("SCHEDULER_CONFIG", `_class_name is ${JSON.stringify(name) ?? "missing"}`, {
    hint: `Known are ${schedulerNames.join(", ")}. Or choose a sampler with --sampler.`,
    details: { fields: ["_class_name"] },
  })
}

/**
 * The sampling a diffusers folder describes: StableDiffusionPipeline's loop over the scheduler of its
 * scheduler_config.json, every key as written, missing keys by the class's defaults. One `Step` per network call.
 * @param config the parsed file, see `parseSchedulerConfig`.
 * @throws SCHEDULER_CONFIG naming the field; STEPS, STRENGTH, ETA for options the schedule cannot serve.
 */
export function schedulerSampling(config: unknown, options: SchedulerOptions): SchedulerSampling {
  if (!isRecord(config)) fail("SCHEDULER_CONFIG", "the scheduler config is not a JSON object", {})
  const { name, scheduler } = classOf(config)
  const asked = checkedOptions(options)
  const defaulted = Array.isArray(config._use_default_values) ? config._use_default_values : []
  const given = Object.entries(config).filter(([key]) => !key.startsWith("_") && !defaulted.includes(key))
  const solver = scheduler.bind(Object.fromEntries(given), asked)
  const ignored = given.map(([key]) => key).filter((key) => !scheduler.keys.includes(key))
  const trained = typeof config.num_train_timesteps === "number" ? config.num_train_timesteps : 1000
  return { ...samplingOf(solver, asked, trained), name, ignored }
}

/**
 * Reads the text of a scheduler_config.json. Python writes infinities as bare words, which are no JSON.
 * @throws SCHEDULER_CONFIG for text that is not JSON.
 */
export function parseSchedulerConfig(text: string, file?: string): unknown {
  const words: Record<string, string> = { Infinity: "1e999", "-Infinity": "-1e999", NaN: "null" }
  const json = text.replace(/"(?:\\.|[^"\\])*"|-?Infinity|NaN/g, (token) => words[token] ?? token)
  try {
    return JSON.parse(json)
  } catch (cause) {
    return fail("SCHEDULER_CONFIG", `${file ?? "scheduler_config.json"} is not JSON`, { file, cause })
  }
}
