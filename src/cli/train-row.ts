import type { TrainKind, TrainSettings } from "../training.ts"

/** One option of `train`: its field, how it is written, what it means, and which kinds have it (all when not said). */
export interface Row {
  readonly key: keyof TrainSettings
  readonly flag: string
  readonly text: string
  readonly parse?: (text: string, before?: never) => unknown
  readonly choices?: readonly string[]
  readonly kinds?: readonly TrainKind[]
  /** What the default is called where it has no value. */
  readonly absent?: string
}

/** Kinds that leave a LoRA; that train beside or inside the U-Net; that know every loss. */
export const low: readonly TrainKind[] = ["lora", "dreambooth"]
export const unet: readonly TrainKind[] = [
  "lora",
  "text-to-image",
  "dreambooth",
  "textual-inversion",
  "controlnet",
  "distill",
]
export const losses: readonly TrainKind[] = [
  "lora",
  "text-to-image",
  "dreambooth",
  "textual-inversion",
  "controlnet",
]
