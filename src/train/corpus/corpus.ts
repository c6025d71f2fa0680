import { fail } from "../../errors.ts"
import { caption, fullCaption, type Language, randomLanguage } from "./caption.ts"
import { mixBits, Random } from "./random.ts"
import { drawScene, type Scene } from "./scene.ts"
import { randomSpec, type SceneSpec, type Split } from "./spec.ts"

export interface CorpusOptions {
  /** Any 32-bit integer; another seed is another endless corpus. */
  seed: number
  /** Width and height of the pictures in pixels. */
  size: number
  split: Split
  /** The language of all captions; a mix of three parts English to one part German when absent. */
  language?: Language
}

/** What item i is about, before it is drawn. */
export interface CorpusEntry {
  index: number
  spec: SceneSpec
  caption: string
  language: Language
}

export interface CorpusItem extends CorpusEntry, Scene {}

export interface Corpus extends Iterable<CorpusItem> {
  /** Spec and caption of item i, without drawing it. */
  entry(index: number): CorpusEntry
  /** Item i: always the same for the same options, whatever was asked before. */
  item(index: number): CorpusItem
}

/**
 * The endless corpus of captioned scenes with random access.
 * @throws AquatintError CORPUS_INDEX for an index that is not a whole number from 0 to 2^32 - 1
 * @example for (const { data, caption } of corpus({ seed: 1, size: 128, split: "train" })) learn(data, caption)
 */
export function corpus({ seed, size, split, language }: CorpusOptions): Corpus {
  const entry = (index: number): CorpusEntry => {
    const random = new Random(itemSeed(seed, index, split))
    const spec = randomSpec(random, split)
    const tongue = language ?? randomLanguage(random)
    return { index, spec, caption: caption(spec, random, tongue), language: tongue }
  }
  const item = (index: number): CorpusItem => {
    const e = entry(index)
    return { ...e, ...drawScene(e.spec, size) }
  }
  return {
    entry,
    item,
    *[Symbol.iterator]() {
      for (let i = 0; ; i++) yield item(i)
    },
  }
}

function itemSeed(seed: number, index: number, split: Split): number {
  if (!Number.isInteger(index) || index < 0 || index > 4294967295)
    fail("CORPUS_INDEX", `The corpus has no item ${index}.`, {
      hint: "Items are counted from 0 to 4294967295.",
    })
  return mixBits(mixBits((seed ^ (split === "train" ? 0 : 0x5bd1e995)) >>> 0) + Math.imul(index, 0x9e3779b1))
}

export interface EvaluationPrompt {
  prompt: string
  language: Language
  spec: SceneSpec
}

/**
 * Prompts for combinations that no training picture shows, each stating every fact of its spec.
 * @param n how many
 * @example evaluationPrompts(500, 1, "en")[0]?.prompt
 */
export function evaluationPrompts(n: number, seed: number, language: Language): EvaluationPrompt[] {
  return Array.from({ length: n }, (_, i) => {
    const random = new Random(itemSeed(seed, i, "evaluation"))
    const spec = randomSpec(random, "evaluation")
    return { prompt: fullCaption(spec, random, language), language, spec }
  })
}
