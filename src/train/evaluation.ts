import type { Picture } from "../image/pixels.ts"
import type { Engine } from "../runtime/engine.ts"
import { type EvaluationPrompt, evaluationPrompts, type Language } from "./corpus/index.ts"
import { freshScenes, Judge, judgeItself, scenePicture } from "./judge.ts"
import { reconstructionPsnr } from "./reconstruct.ts"
import { type Attribute, frechet, meanOf, type Share, scoreScene, spread, tally } from "./score.ts"

export interface EvaluationOptions {
  /** Prompts in all; an even share in each language. */
  readonly prompts: number
  readonly seed: number
  /** Pictures of the classifier's own examination, and for the autoencoder. */
  readonly own: number
  readonly reconstructions: number
  /** A diffusers folder whose autoencoder is measured; left out where there is none. */
  readonly folder: string | undefined
  /** Side of the model's pictures. */
  readonly size: number
  /** Folder of the classifier; left out for the one in the package. */
  readonly classifier?: string
  /** Makes the picture of a prompt. */
  readonly draw: (prompt: string, seed: number) => Promise<Picture>
  readonly tell?: (
    what: "classifier" | "autoencoder" | "pictures" | "diversity",
    done: number,
    of: number,
  ) => void
}

export interface Evaluation {
  /** The classifier on the corpus' own pictures, question by question. */
  readonly classifier: Readonly<Record<string, Share>>
  /** Questions it answers too seldom to judge with; what rests on them is not reported. */
  readonly refused: readonly string[]
  readonly composition: Readonly<Record<Language, Partial<Record<Attribute, Share>>>>
  readonly all: Partial<Record<Attribute, Share>>
  /** Distance of the features of generated pictures from those of as many fresh ones; 0 is alike. */
  readonly frechet: number
  /** The same between two sets of fresh pictures: what sampling alone gives. */
  readonly frechetFloor: number
  /** Mean feature distance of pictures of one prompt, beside that of pictures of different prompts. */
  readonly diversity: { readonly samePrompt: number; readonly differentPrompts: number }
  readonly reconstruction: Readonly<Record<string, { mean: number; low: number; high: number }>> | null
}

/** A question answered right less often than this judges nobody. */
export const judgesFrom = 0.97

/** Which of the classifier's questions each attribute rests on. */
const rests = (name: Attribute, question: string): boolean => {
  const things = ["subject", "count", "position", "second"].includes(name)
  if (things) return question.startsWith("kind ")
  return name.endsWith("colour") ? /^(kind|colour) /.test(question) : question === name
}

/** Composition, reconstruction, distance and diversity of a model of the corpus' world. @throws CLASSIFIER_MISSING, WEIGHTS_DO_NOT_FIT */
export async function evaluate(engine: Engine, options: EvaluationOptions): Promise<Evaluation> {
  const judge = await Judge.open(engine, options.classifier)
  const { tell } = options
  tell?.("classifier", 0, 1)
  const classifier = await judgeItself(judge, options.own)
  const refused = Object.entries(classifier).flatMap(([name, s]) => (s.share < judgesFrom ? [name] : []))
  const half = Math.ceil(options.prompts / 2)
  const asked = [
    ...evaluationPrompts(half, options.seed, "en"),
    ...evaluationPrompts(options.prompts - half, options.seed + 1, "de"),
  ]
  const { scores, features } = await composition(judge, asked, options)
  const by = (language: Language) => tally(scores.filter((_, i) => asked[i]!.language === language))
  const kept = (shares: Partial<Record<Attribute, Share>>) =>
    Object.fromEntries(
      Object.entries(shares).filter(([name]) => !refused.some((q) => rests(name as Attribute, q))),
    )
  const real = await freshFeatures(judge, 0, features.length)
  const result: Evaluation = {
    classifier,
    refused,
    composition: { en: kept(by("en")), de: kept(by("de")) },
    all: kept(tally(scores)),
    frechet: frechet(features, real),
    frechetFloor: frechet(await freshFeatures(judge, features.length, features.length), real),
    diversity: {
      samePrompt: await samePrompt(judge, asked, options),
      differentPrompts: spread(features.slice(0, 64)),
    },
    reconstruction: await reconstruction(engine, options),
  }
  await judge.release()
  return result
}

async function composition(
  judge: Judge,
  asked: readonly EvaluationPrompt[],
  { draw, seed, tell }: EvaluationOptions,
) {
  const scores: Partial<Record<Attribute, boolean>>[] = []
  const features: Float32Array[] = []
  for (const [i, { prompt, spec }] of asked.entries()) {
    tell?.("pictures", i, asked.length)
    const [verdict] = await judge.look([await draw(prompt, seed + i)])
    scores.push(scoreScene(spec, verdict!.answers))
    features.push(verdict!.features)
  }
  return { scores, features }
}

async function freshFeatures(judge: Judge, from: number, count: number): Promise<Float32Array[]> {
  const scenes = freshScenes(judge.size, 31337)
  const items = Array.from({ length: count }, (_, i) => scenePicture(scenes.item(from + i)))
  return (await judge.look(items)).map((v) => v.features)
}

/** Four pictures of each of eight prompts. */
async function samePrompt(
  judge: Judge,
  asked: readonly EvaluationPrompt[],
  { draw, tell }: EvaluationOptions,
): Promise<number> {
  const [prompts, seeds] = [asked.slice(0, 8), [1, 2, 3, 4]]
  const spreads: number[] = []
  for (const [i, { prompt }] of prompts.entries()) {
    tell?.("diversity", i, prompts.length)
    const pictures: Picture[] = []
    for (const seed of seeds) pictures.push(await draw(prompt, 1e6 + seed))
    spreads.push(spread((await judge.look(pictures)).map((v) => v.features)))
  }
  return meanOf(spreads).mean
}

async function reconstruction(
  engine: Engine,
  { folder, size, reconstructions, tell }: EvaluationOptions,
): Promise<Evaluation["reconstruction"]> {
  if (folder === undefined) return null
  tell?.("autoencoder", 0, 1)
  const all = await reconstructionPsnr(engine, folder, size, reconstructions)
  const styles = [...new Set(all.map((r) => r.style))].sort()
  const of = (style: string) => all.filter((r) => style === "all" || r.style === style).map((r) => r.psnr)
  return Object.fromEntries(["all", ...styles].map((style) => [style, meanOf(of(style))]))
}
