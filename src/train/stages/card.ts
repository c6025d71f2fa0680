import { readFile } from "node:fs/promises"
import { join } from "node:path"
import type { Evaluation } from "../evaluation.ts"
import type { Share } from "../score.ts"

/** One stage of the training as its folder records it. */
export interface StageRecord {
  readonly name: string
  readonly steps: number
  /** Pictures or captions of all steps together. */
  readonly samples: number
  /** The last figures on held-out data. */
  readonly validation: Readonly<Record<string, number>>
  /** Time spent on two cores, where it was recorded. */
  readonly seconds: number | null
}

export interface CardFacts {
  readonly size: number
  readonly parameters: Readonly<Record<"unet" | "vae" | "text_encoder", number>>
  readonly defaults: { readonly steps: number; readonly cfg: number }
  readonly stages: readonly StageRecord[]
  readonly evaluation: Evaluation | null
  /** The model beside it that draws in few steps. */
  readonly student?: { readonly defaults: CardFacts["defaults"]; readonly evaluation: Evaluation | null }
}

/** Power of a busy core of a server with its share of memory and cooling: an assumption, not a measurement. */
const wattsPerCore = 15
const cores = 2

/** What a stage's folder tells of its training; null where it holds no log. */
export async function stageRecord(root: string, name: string, batch: number): Promise<StageRecord | null> {
  const text = await readFile(join(root, name, "log.jsonl"), "utf8").catch(() => null)
  if (text === null) return null
  const lines = text
    .split("\n")
    .filter(Boolean)
    .map((l) => JSON.parse(l) as { step: number; validation?: Record<string, number> })
  const steps = lines.at(-1)?.step ?? 0
  const validation = lines.findLast((l) => l.validation)?.validation ?? {}
  const time = await readFile(join(root, name, "time.json"), "utf8").catch(() => null)
  const seconds = time === null ? null : (JSON.parse(time) as { seconds: number }).seconds
  return { name, steps, samples: steps * batch, validation, seconds }
}

const thousands = (n: number): string => Math.round(n).toLocaleString("en-US")
const percent = (s: Share): string =>
  `${(100 * s.share).toFixed(1)} % (${(100 * s.low).toFixed(1)} to ${(100 * s.high).toFixed(1)})`

/** The model card of an embedded model, its figures from the records of its training. */
export function embeddedCard(facts: CardFacts): string {
  const { unet, vae, text_encoder: text } = facts.parameters
  return `${frontMatter}
# aquatint's embedded model
A small latent diffusion model that draws flat-vector scenes from English and German sentences, ${facts.size} x ${facts.size} pixels.
It comes inside the package so that the first command of a newcomer draws a picture, offline; it is no general model.

\`\`\`sh
aquatint "a red lighthouse by the sea at night, flat style"
aquatint "ein roter Leuchtturm am Meer bei Nacht, flacher Stil"
\`\`\`

## What it is
Stable Diffusion's layout in small: CLIP text encoder (${thousands(text)} parameters, a vocabulary of its own), conditional
U-Net (${thousands(unet)}), AutoencoderKL (${thousands(vae)}, 8 pixels a latent, 4 channels), v-prediction with zero terminal SNR,
DPM-Solver++ 2M, ${facts.defaults.steps} steps, guidance ${facts.defaults.cfg}. Half precision on disk. It loads in diffusers' StableDiffusionPipeline.

## What it learned from
Scenes that aquatint's own code draws (docs/corpus.md), with captions made by rule: ${subjects}. Public domain (CC0). No photograph, no
person, no work of anybody else, nothing from the internet. 1 of 16 triples of subject, colour and place and 1 of 12 pairs
of kinds never occur in training: evaluation asks for these.

## Training
\`aquatint train embedded\` from the settings in assets/training, from random weights, on two cores of a CPU.

| stage | steps | samples | last figures on held-out data |
| --- | --- | --- | --- |
${facts.stages.map(row).join("\n")}

${cost(facts.stages)}

## Evaluation
${evaluationText(facts.evaluation)}
${studentText(facts)}
## Limits
- It knows the words of its corpus and nothing else: other subjects give something of the corpus' world.
- Captions had one to three things; more, or several attributes for each, get mixed up.
- No people, no text, no photographs. What it draws cannot show anyone.
- Pictures are marked as made by AI, as all of aquatint's are.

Licence: Apache-2.0.
`
}

const frontMatter = `---
license: apache-2.0
language: [en, de]
pipeline_tag: text-to-image
library_name: diffusers
tags: [aquatint, stable-diffusion, vector-art, cc0-data]
---`

const subjects = "16 subjects, 9 colours, 7 places, 4 times of day, 5 kinds of weather, 5 styles"

function row({ name, steps, samples, validation }: StageRecord): string {
  const figures = Object.entries(validation).map(([key, v]) => `${key} ${Number(v.toPrecision(3))}`)
  return `| ${name} | ${thousands(steps)} | ${thousands(samples)} | ${figures.join(", ")} |`
}

function cost(stages: readonly StageRecord[]): string {
  const known = stages.filter((s) => s.seconds !== null)
  const hours = known.reduce((sum, s) => sum + s.seconds!, 0) / 3600
  const missing = stages.length - known.length
  const energy = (hours * cores * wattsPerCore) / 1000
  const rest = missing > 0 ? ` (${missing} stages kept no time and are not in it)` : ""
  return `Time: ${hours.toFixed(1)} hours of ${cores} cores${rest}; at an assumed ${wattsPerCore} W a core that is ${energy.toFixed(2)} kWh.`
}

/** What the student is, and its scores beside the teacher's. */
function studentText({ defaults, evaluation, student }: CardFacts): string {
  if (!student) return ""
  const calls = `${student.defaults.steps} steps of one call instead of ${defaults.steps} of two`
  const rows = Object.entries(student.evaluation?.all ?? {}).map(
    ([name, s]) => `| ${name} | ${percent(s!)} | ${percent(evaluation!.all[name as never])} |`,
  )
  const table = ["", "| attribute | `embedded-fast` | `embedded` |", "| --- | --- | --- |", ...rows, ""]
  return `
## In few steps
\`embedded-fast\` beside it is a second U-Net that learned this one's guided answers (Meng et al. 2023): ${calls}, without
negative prompts. \`aquatint --model embedded-fast "a red lighthouse by the sea"\`. Its folder takes everything but the U-Net
from this one.
${evaluation && rows.length > 0 ? table.join("\n") : ""}`
}

function evaluationText(found: Evaluation | null): string {
  if (found === null) return "Not evaluated yet: this is an early version."
  const lines = Object.entries(found.all).map(([name, s]) => {
    const [en, de] = [found.composition.en[name as never], found.composition.de[name as never]] as Share[]
    return `| ${name} | ${percent(s!)} | ${percent(en!)} | ${percent(de!)} |`
  })
  const refused = found.refused.length
    ? `\nNot judged, because the classifier is right less than 97 % of the time: ${found.refused.join(", ")}.\n`
    : ""
  return `\`aquatint evaluate\`: prompts of held-out combinations, one picture each, read by a classifier that was trained on the
corpus; shares with 95 % intervals.

| attribute | all | English | German |
| --- | --- | --- | --- |
${lines.join("\n")}
${refused}
Fréchet distance of the classifier's features to fresh pictures ${found.frechet.toFixed(2)} (fresh pictures among themselves ${found.frechetFloor.toFixed(2)}).`
}
