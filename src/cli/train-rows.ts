import { number } from "./options.ts"
import { type Row, unet } from "./train-row.ts"

const decays = (text: string): number[] => text.split(",").map(number)
const clip = (text: string): number | null => (text === "none" ? null : number(text))

/** Options of optimiser, data and captions. */
export const sharedRows: readonly Row[] = [
  { key: "steps", flag: "--steps <n>", text: "steps in all", parse: number },
  { key: "batch", flag: "--batch <n>", text: "pictures a batch", parse: number },
  {
    key: "accumulate",
    flag: "--accumulate <n>",
    text: "batches whose gradients make one step",
    parse: number,
  },
  {
    key: "recompute",
    flag: "--recompute",
    text: "gradient checkpointing: half of a batch's memory or less, a third more time (default: off)",
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
]
