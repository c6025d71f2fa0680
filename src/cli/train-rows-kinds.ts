import { InvalidArgumentError } from "commander"
import { number } from "./options.ts"
import { losses, low, type Row, unet } from "./train-row.ts"

const list = (text: string, before?: readonly string[]): string[] => [...(before ?? []), text]

/** `down_blocks.1=4,mid_block=16` */
function blocks(text: string): Record<string, number> {
  const pairs = text.split(",").map((pair) => /^([\w.]+)=(\d+)$/.exec(pair.trim()))
  if (pairs.some((p) => p === null))
    throw new InvalidArgumentError(`${text} is not of the form down_blocks.1=4,mid_block=16`)
  return Object.fromEntries(pairs.map((p) => [p![1]!, Number(p![2])]))
}

/** Options of losses and single kinds, of samples and of what is written. */
export const kindRows: readonly Row[] = [
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
    absent: "with --class-prompt: drawn by the model",
  },
  {
    key: "classCount",
    flag: "--class-count <n>",
    text: "pictures of the class that the model draws",
    parse: number,
    kinds: ["dreambooth"],
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
