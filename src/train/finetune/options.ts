import { z } from "zod"
import { fail } from "../../errors.ts"

export const kinds = [
  "lora",
  "text-to-image",
  "vae",
  "dreambooth",
  "textual-inversion",
  "controlnet",
  "distill",
] as const
export type TrainKind = (typeof kinds)[number]

const whole = z.number().int()
const count = whole.positive()
const share = z.number().min(0).max(1)

const schema = z.object({
  kind: z.enum(kinds),
  /** Diffusers folder or single file to begin with. */
  model: z.string().min(1),
  /** Folder or file of pictures with captions. */
  data: z.string().min(1),
  /** Folder for checkpoints, samples, report and result. */
  out: z.string().min(1),

  seed: whole.default(1),
  steps: count.default(1000),
  batch: count.default(1),
  accumulate: count.default(1),
  recompute: z.boolean().default(false),
  rate: z.number().positive(),
  warmup: whole.nonnegative().default(0),
  schedule: z.enum(["constant", "cosine"]).default("constant"),
  optimizer: z.enum(["adamw", "adafactor", "lion", "sgd", "schedule-free"]).default("adamw"),
  beta1: share.default(0.9),
  beta2: share.default(0.999),
  weightDecay: z.number().nonnegative().default(0.01),
  clip: z.number().positive().nullable().default(1),
  /** Decays of moving averages; the first is what is saved. */
  ema: z.array(z.number().min(0).max(0.999999)).default([]),

  resolution: count.optional(),
  buckets: z.boolean().default(true),
  flip: z.boolean().default(false),
  validation: z.number().min(0).max(0.5).default(0.05),
  folderRepeats: z.boolean().default(false),
  onBad: z.enum(["skip", "stop"]).default("skip"),
  duplicates: z.enum(["drop", "keep"]).default("drop"),
  imageColumn: z.string().optional(),
  textColumn: z.string().optional(),
  masks: z.string().optional(),
  conditions: z.string().optional(),
  cache: z.string().optional(),

  caption: z.string().optional(),
  captionPrefix: z.string().default(""),
  captionShuffle: z.boolean().default(false),
  captionKeep: whole.nonnegative().default(0),
  captionDropout: share.default(0),
  partDropout: share.default(0),
  wildcards: z.string().optional(),

  prediction: z.enum(["model", "epsilon", "v_prediction", "flow"]).default("model"),
  weighting: z.enum(["none", "min-snr", "debiased"]).default("none"),
  gamma: z.number().positive().default(5),
  loss: z.enum(["l2", "huber"]).default("l2"),
  huber: z.number().positive().default(0.1),
  noiseOffset: z.number().nonnegative().default(0),
  trainText: z.boolean().default(false),
  textRate: z.number().positive().default(1),
  fresh: z.boolean().default(false),
  /** A checkpoint of accelerate's to begin with, and whether one is left for it. */
  fromState: z.string().optional(),
  hfState: z.boolean().default(false),

  rank: whole.nonnegative().default(8),
  alpha: z.number().positive().optional(),
  targets: z.enum(["attention", "linear"]).default("attention"),
  convRank: whole.nonnegative().default(0),
  convAlpha: z.number().positive().optional(),
  blocks: z.record(z.string(), whole.nonnegative()).default({}),
  format: z.enum(["kohya", "diffusers"]).default("kohya"),

  prompt: z.string().optional(),
  classPrompt: z.string().optional(),
  classData: z.string().optional(),
  classCount: count.default(100),
  priorWeight: z.number().nonnegative().default(1),

  word: z.string().optional(),
  start: z.string().optional(),
  vectors: count.max(64).default(1),

  crop: count.default(64),
  kl: z.number().nonnegative().default(1e-6),
  differences: z.number().nonnegative().default(0.5),
  coarse: z.number().nonnegative().default(0.5),
  decoderOnly: z.boolean().default(false),

  guidance: z.number().min(1).default(7.5),
  solverSteps: count.default(50),

  samplePrompts: z.array(z.string()).default([]),
  sampleSteps: count.default(20),
  sampleCfg: z.number().min(0).default(7.5),
  sampleEvery: whole.nonnegative().default(250),
  validateEvery: whole.nonnegative().default(100),
  checkpointEvery: count.default(100),
  logEvery: count.default(10),
  keep: count.min(2).default(2),
  threads: count.optional(),
  dtype: z.enum(["fp32", "fp16", "bf16"]).default("fp32"),
})

/** All settings of a training; `trainOptions` fills in what a kind's defaults say. */
export type TrainSettings = z.infer<typeof schema>
/** What a caller gives: kind, model, data and out, and what shall differ from the defaults. */
export type TrainOptions =
  z.input<typeof schema> extends infer T ? Omit<T, "rate"> & { rate?: number } : never

/** Defaults that differ from kind to kind. */
export const kindDefaults: Record<TrainKind, Partial<TrainSettings> & { rate: number }> = {
  lora: { rate: 1e-4 },
  "text-to-image": { rate: 1e-5 },
  vae: { rate: 1e-4, batch: 4, weightDecay: 0 },
  dreambooth: { rate: 1e-4 },
  "textual-inversion": { rate: 5e-3, weightDecay: 0 },
  controlnet: { rate: 1e-5 },
  distill: { rate: 2e-5, ema: [0.95], sampleSteps: 4, sampleCfg: 1 },
}

/** Every default of a kind, for help texts. */
export const defaultsOf = (kind: TrainKind): TrainSettings =>
  schema.parse({ kind, model: "-", data: "-", out: "-", ...kindDefaults[kind] })

/** Checks and completes settings. @throws TRAIN_CONFIG naming the field. */
export function trainOptions(given: TrainOptions): TrainSettings {
  const own = kindDefaults[given.kind as TrainKind] ?? {}
  const present = Object.fromEntries(Object.entries(given).filter(([, v]) => v !== undefined))
  const done = schema.safeParse({ ...own, ...present })
  if (!done.success) {
    const issue = done.error.issues[0]!
    return fail("TRAIN_CONFIG", `${issue.path.join(".") || "settings"}: ${issue.message}`, {
      hint: "aquatint train KIND --help lists every setting with its default",
    })
  }
  return checked(done.data)
}

function checked(s: TrainSettings): TrainSettings {
  const needs = (field: keyof TrainSettings, why: string) => {
    if (s[field] === undefined)
      fail("TRAIN_CONFIG", `${s.kind} needs ${why}`, {
        hint: `give --${field.replace(/[A-Z]/g, (c) => `-${c.toLowerCase()}`)}`,
      })
  }
  if (s.kind === "dreambooth")
    needs("prompt", "a prompt that names the subject, such as 'a photo of sks dog'")
  if (s.kind === "textual-inversion") {
    needs("word", "a word to learn")
    needs("start", "a known word to start from")
  }
  if (
    (s.fromState !== undefined || s.hfState) &&
    (s.kind !== "text-to-image" || s.trainText || s.optimizer !== "adamw")
  )
    fail("TRAIN_CONFIG", "states of accelerate are those of the whole U-Net with AdamW", {
      hint: "train text-to-image without --train-text",
    })
  if (s.classData !== undefined) needs("classPrompt", "a prompt of the class beside its pictures")
  const logs = Math.min(s.logEvery, s.checkpointEvery)
  return { ...s, logEvery: logs }
}
