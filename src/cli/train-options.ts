import { type Command, InvalidArgumentError, Option } from "commander"
import type { TrainKind, TrainSettings } from "../training.ts"
import { number } from "./options.ts"

type Key = keyof TrainSettings

/** One option of `train`: its field, how it is written, what it means, and which kinds have it (all when not said). */
interface Row {
  readonly key: Key
  readonly flag: string
  readonly text: string
  readonly parse?: (text: string, before?: never) => unknown
  readonly choices?: readonly string[]
  readonly kinds?: readonly TrainKind[]
  /** What the default is called where it has no value. */
  readonly absent?: string
}

const list = (text: string, before?: readonly string[]): string[] => [...(before ?? []), text]
const decays = (text: string): number[] => text.split(",").map(number)
const clip = (text: string): number | null => (text === "none" ? null : number(text))

/** `down_blocks.1=4,mid_block=16` */
function blocks(text: string): Record<string, number> {
  const pairs = text.split(",").map((pair) => /^([\w.]+)=(\d+)$/.exec(pair.trim()))
  if (pairs.some((p) => p === null))
    throw new InvalidArgumentError(`${text} is not of the form down_blocks.1=4,mid_block=16`)
  return Object.fromEntries(pairs.map((p) => [p![1]!, Number(p![2])]))
}

const low: readonly TrainKind[] = ["lora", "dreambooth"]
const unet: readonly TrainKind[] = [
  "lora",
  "text-to-image",
  "dreambooth",
  "textual-inversion",
  "controlnet",
  "distill",
]
const losses: readonly TrainKind[] = [
  "lora",
  "text-to-image",
  "dreambooth",
  "textual-inversion",
  "controlnet",
]

export const rows: readonly Row[] = [
  { key: "steps", flag: "--steps <n>", text: "steps in all", parse: number },
  { key: "batch", flag: "--batch <n>", text: "pictures a batch", parse: number },
  {
    key: "accumulate",
    flag: "--accumulate <n>",
    text: "batches whose gradients make one step",
    parse: number,
  },
  { key: "rate", flag: "--rate <n>", text: "learning rate", parse: number },
  {
    key: "schedule",
    flag: "--schedule <name>",
    text: "how the rate goes on",
    choices: ["constant", "cosine"],
  },
  { key: "warmup", flag: "--warmup <steps>", text: "steps of rise to the learning rate", parse: number },
  {
    key: "optimizer",
    flag: "--optimizer <name>",
    text: "update rule",
    choices: ["adamw", "adafactor", "lion", "sgd", "schedule-free"],
  },
  { key: "beta1", flag: "--beta1 <share>", text: "memory of the gradient", parse: number },
  { key: "beta2", flag: "--beta2 <share>", text: "memory of its square", parse: number },
  {
    key: "weightDecay",
    flag: "--weight-decay <n>",
    text: "decay per step, as a share of the rate",
    parse: number,
  },
  { key: "clip", flag: "--clip <norm>", text: "largest norm of all gradients, or none", parse: clip },
  {
    key: "ema",
    flag: "--ema <decays>",
    text: "moving averages of the weights, comma-separated; the first is saved",
    parse: decays,
    absent: "none",
  },
  { key: "seed", flag: "--seed <n>", text: "of everything drawn at random", parse: number },

  {
    key: "resolution",
    flag: "--resolution <pixels>",
    text: "side of the square whose area pictures are brought to",
    parse: number,
    absent: "the model's",
  },
  {
    key: "buckets",
    flag: "--no-buckets",
    text: "cut all pictures to one square (default: sizes by aspect ratio)",
  },
  { key: "flip", flag: "--flip", text: "mirror half of the pictures (default: off)" },
  { key: "validation", flag: "--validation <share>", text: "share of pictures held out", parse: number },
  { key: "onBad", flag: "--on-bad <what>", text: "what bad entries do", choices: ["skip", "stop"] },
  {
    key: "duplicates",
    flag: "--duplicates <what>",
    text: "pictures that are there twice",
    choices: ["drop", "keep"],
  },
  {
    key: "folderRepeats",
    flag: "--folder-repeats",
    text: "a folder called 10_NAME is drawn ten times a round (default: off)",
  },
  {
    key: "imageColumn",
    flag: "--image-column <name>",
    text: "of tables",
    absent: "file_name, image and the like",
  },
  {
    key: "textColumn",
    flag: "--text-column <name>",
    text: "of tables",
    absent: "text, caption and the like",
  },
  {
    key: "cache",
    flag: "--cache <folder>",
    text: "where latents and text states are kept",
    absent: "OUT/cache",
    kinds: unet,
  },

  {
    key: "caption",
    flag: "--caption <text>",
    text: "of pictures without one",
    absent: "they are bad entries",
  },
  {
    key: "captionPrefix",
    flag: "--caption-prefix <text>",
    text: "put before every caption",
    absent: "none",
    kinds: unet,
  },
  {
    key: "captionShuffle",
    flag: "--caption-shuffle",
    text: "shuffle a caption's comma-separated parts (default: off)",
    kinds: unet,
  },
  {
    key: "captionKeep",
    flag: "--caption-keep <n>",
    text: "parts that stay in front",
    parse: number,
    kinds: unet,
  },
  {
    key: "captionDropout",
    flag: "--caption-dropout <share>",
    text: "captions replaced by the empty one",
    parse: number,
    kinds: unet,
  },
  { key: "partDropout", flag: "--part-dropout <share>", text: "parts left out", parse: number, kinds: unet },
  {
    key: "wildcards",
    flag: "--wildcards <folder>",
    text: "fill in {a|b} and __LIST__ from LIST.txt",
    absent: "off",
    kinds: unet,
  },

  {
    key: "prediction",
    flag: "--prediction <what>",
    text: "what the network predicts",
    choices: ["model", "epsilon", "v_prediction", "flow"],
    kinds: losses,
  },
  {
    key: "weighting",
    flag: "--weighting <rule>",
    text: "how much noise levels count",
    choices: ["none", "min-snr", "debiased"],
    kinds: losses,
  },
  { key: "gamma", flag: "--gamma <n>", text: "of min-snr", parse: number, kinds: losses },
  { key: "loss", flag: "--loss <name>", text: "distance", choices: ["l2", "huber"], kinds: losses },
  {
    key: "huber",
    flag: "--huber <n>",
    text: "where errors begin to count linearly",
    parse: number,
    kinds: losses,
  },
  {
    key: "noiseOffset",
    flag: "--noise-offset <n>",
    text: "noise shared by all places of a channel",
    parse: number,
    kinds: losses,
  },
  {
    key: "masks",
    flag: "--masks <folder>",
    text: "pictures of the same names, white where the loss counts",
    absent: "none",
    kinds: losses,
  },
  {
    key: "trainText",
    flag: "--train-text",
    text: "train the text encoder too (default: off)",
    kinds: ["lora", "text-to-image", "dreambooth"],
  },
  {
    key: "textRate",
    flag: "--text-rate <share>",
    text: "its learning rate, relative to the U-Net's",
    parse: number,
    kinds: ["lora", "text-to-image", "dreambooth"],
  },
  {
    key: "fresh",
    flag: "--fresh",
    text: "begin with random weights of the model's shape (default: off)",
    kinds: ["text-to-image", "vae"],
  },

  {
    key: "fromState",
    flag: "--from-state <folder>",
    text: "begin with a checkpoint-N of accelerate's",
    absent: "the model",
    kinds: ["text-to-image"],
  },
  {
    key: "hfState",
    flag: "--hf-state",
    text: "leave data and optimiser state for Hugging Face's scripts (default: off)",
    kinds: ["text-to-image"],
  },
  { key: "rank", flag: "--rank <n>", text: "of the low-rank parts", parse: number, kinds: low },
  {
    key: "alpha",
    flag: "--alpha <n>",
    text: "their scale is alpha / rank",
    parse: number,
    absent: "the rank",
    kinds: low,
  },
  {
    key: "targets",
    flag: "--targets <which>",
    text: "linear layers that are adapted",
    choices: ["attention", "linear"],
    kinds: low,
  },
  {
    key: "convRank",
    flag: "--conv-rank <n>",
    text: "rank for convolutions, 0 for none",
    parse: number,
    kinds: low,
  },
  {
    key: "convAlpha",
    flag: "--conv-alpha <n>",
    text: "alpha for convolutions",
    parse: number,
    absent: "their rank",
    kinds: low,
  },
  {
    key: "blocks",
    flag: "--blocks <ranks>",
    text: "other ranks: down_blocks.1=4,mid_block=0",
    parse: blocks,
    absent: "none",
    kinds: low,
  },
  {
    key: "format",
    flag: "--format <name>",
    text: "names in the file",
    choices: ["kohya", "diffusers"],
    kinds: low,
  },

  {
    key: "prompt",
    flag: "--prompt <text>",
    text: "caption of all pictures: a photo of sks dog",
    kinds: ["dreambooth"],
    absent: "required",
  },
  {
    key: "classPrompt",
    flag: "--class-prompt <text>",
    text: "the subject's class: a photo of a dog",
    kinds: ["dreambooth"],
    absent: "none",
  },
  {
    key: "classData",
    flag: "--class-data <folder>",
    text: "pictures of the class, whose prior is preserved",
    kinds: ["dreambooth"],
    absent: "none",
  },
  {
    key: "priorWeight",
    flag: "--prior-weight <n>",
    text: "how much they count",
    parse: number,
    kinds: ["dreambooth"],
  },

  {
    key: "word",
    flag: "--word <word>",
    text: "new word to learn",
    kinds: ["textual-inversion"],
    absent: "required",
  },
  {
    key: "start",
    flag: "--start <word>",
    text: "known word it begins as",
    kinds: ["textual-inversion"],
    absent: "required",
  },
  {
    key: "vectors",
    flag: "--vectors <n>",
    text: "vectors of the word",
    parse: number,
    kinds: ["textual-inversion"],
  },
  {
    key: "conditions",
    flag: "--conditions <folder>",
    text: "pictures to be conditioned on, of the same names",
    kinds: ["controlnet"],
    absent: "column conditioning_image",
  },

  {
    key: "crop",
    flag: "--crop <pixels>",
    text: "side of the pieces that are learned",
    parse: number,
    kinds: ["vae"],
  },
  {
    key: "kl",
    flag: "--kl <n>",
    text: "weight of the distance to a standard normal",
    parse: number,
    kinds: ["vae"],
  },
  { key: "differences", flag: "--differences <n>", text: "weight of edges", parse: number, kinds: ["vae"] },
  { key: "coarse", flag: "--coarse <n>", text: "weight of flat colours", parse: number, kinds: ["vae"] },
  {
    key: "decoderOnly",
    flag: "--decoder-only",
    text: "leave latents as they are (default: off)",
    kinds: ["vae"],
  },

  {
    key: "guidance",
    flag: "--guidance <scale>",
    text: "guidance of the teacher, built into the student",
    parse: number,
    kinds: ["distill"],
  },
  {
    key: "solverSteps",
    flag: "--solver-steps <n>",
    text: "steps of the teacher's way from noise to picture",
    parse: number,
    kinds: ["distill"],
  },

  {
    key: "samplePrompts",
    flag: "--sample-prompt <text>",
    text: "prompt of a sample picture; repeatable",
    parse: list as Row["parse"],
    absent: "captions of the data",
    kinds: unet,
  },
  {
    key: "sampleSteps",
    flag: "--sample-steps <n>",
    text: "denoising steps of samples",
    parse: number,
    kinds: unet,
  },
  {
    key: "sampleCfg",
    flag: "--sample-cfg <scale>",
    text: "their guidance scale",
    parse: number,
    kinds: unet,
  },
  {
    key: "sampleEvery",
    flag: "--sample-every <steps>",
    text: "sample pictures, 0 for the end only",
    parse: number,
  },
  {
    key: "validateEvery",
    flag: "--validate-every <steps>",
    text: "validation, 0 for the end only",
    parse: number,
  },
  { key: "checkpointEvery", flag: "--checkpoint-every <steps>", text: "checkpoints", parse: number },
  { key: "logEvery", flag: "--log-every <steps>", text: "lines of the log", parse: number },
  { key: "keep", flag: "--keep <n>", text: "checkpoints kept, 2 at least", parse: number },
  { key: "threads", flag: "--threads <n>", text: "of the processor", parse: number, absent: "2" },
  {
    key: "dtype",
    flag: "--dtype <type>",
    text: "numbers in the result's files",
    choices: ["fp32", "fp16", "bf16"],
  },
]

/** Adds a kind's options, each with its default in the help. */
export function addOptions(command: Command, kind: TrainKind, defaults: TrainSettings): void {
  for (const row of rows) {
    if (row.kinds && !row.kinds.includes(kind)) continue
    const value = defaults[row.key]
    const plain = typeof value === "string" || typeof value === "number" ? String(value) : ""
    const shown = row.text.includes("(default:")
      ? ""
      : ` (default: ${plain === "" ? (row.absent ?? "none") : plain})`
    const option = new Option(row.flag, `${row.text}${shown}`)
    if (row.choices) option.choices([...row.choices])
    else if (row.parse) option.argParser(row.parse as (text: string, before: unknown) => unknown)
    command.addOption(option)
  }
}

/** The settings among parsed flags: fields by the names commander gives their flags. */
export function settingsFrom(flags: Readonly<Record<string, unknown>>): Partial<TrainSettings> {
  const found = rows.map(({ key, flag }) => {
    const long = /--([a-z0-9-]+)/.exec(flag)![1]!.replace(/^no-/, "")
    return [key, flags[long.replace(/-([a-z0-9])/g, (_, c: string) => c.toUpperCase())]] as const
  })
  return Object.fromEntries(found.filter(([, v]) => v !== undefined)) as Partial<TrainSettings>
}
