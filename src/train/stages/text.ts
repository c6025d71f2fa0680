import { concat, input, type Tensor } from "../../graph/index.ts"
import { ClipText, clipConfig } from "../../models/index.ts"
import { bind, Linear, Module, parameters } from "../../nn/index.ts"
import type { Value } from "../../runtime/engine.ts"
import type { ClipTokenizer } from "../../text/bpe.ts"
import {
  COLOURS,
  type Corpus,
  corpus,
  fullCaption,
  PLACES,
  POSITIONS,
  Random,
  type SceneSpec,
  SIZES,
  STYLES,
  SUBJECTS,
  TIMES,
} from "../corpus/index.ts"
import { freshWeights } from "../init.ts"
import { crossEntropy } from "../losses.ts"
import { adamw } from "../optimizer.ts"
import { determining, learningRate, type RateConfig } from "../schedule.ts"
import type { Inputs, Probe, Task } from "../task.ts"
import { idRows } from "./words.ts"

export interface TextConfig {
  /** A text encoder's config.json; `vocab_size` and the special ids come from the tokenizer. */
  readonly model: Readonly<Record<string, unknown>>
  readonly seed: number
  readonly steps: number
  readonly batch: number
  readonly rate: RateConfig
  readonly beta2: number
  readonly decay: number
  readonly clip: number
  readonly average: number
}

/** What a caption tells of a scene, one head each: name, number of answers, answer. */
const questions: readonly { name: string; size: number; answer: (spec: SceneSpec) => number }[] = [
  { name: "style", size: STYLES.length, answer: (s) => STYLES.indexOf(s.style) },
  { name: "place", size: PLACES.length, answer: (s) => PLACES.indexOf(s.place) },
  { name: "time", size: TIMES.length, answer: (s) => TIMES.indexOf(s.time) },
  {
    name: "weather",
    size: 5,
    answer: (s) => ["clear", "cloudy", "rain", "snowfall", "fog"].indexOf(s.weather),
  },
  { name: "subject", size: SUBJECTS.length, answer: (s) => SUBJECTS.indexOf(s.subject.kind) },
  { name: "colour", size: COLOURS.length, answer: (s) => COLOURS.indexOf(s.subject.colour) },
  { name: "count", size: 3, answer: (s) => s.count - 1 },
  { name: "position", size: POSITIONS.length, answer: (s) => POSITIONS.indexOf(s.position) },
  { name: "size", size: SIZES.length, answer: (s) => SIZES.indexOf(s.size) },
  {
    name: "second",
    size: SUBJECTS.length + 1,
    answer: (s) => (s.second ? 1 + SUBJECTS.indexOf(s.second.kind) : 0),
  },
  {
    name: "second colour",
    size: COLOURS.length + 1,
    answer: (s) => (s.second ? 1 + COLOURS.indexOf(s.second.colour) : 0),
  },
]
const answers = questions.reduce((n, q) => n + q.size, 0)

class Heads extends Module<{ size: number }> {
  heads = new Linear({ in: this.c.size, out: answers })
}

/** The encoder's config.json with the tokenizer's numbers. */
export const textModel = (c: Pick<TextConfig, "model">, words: ClipTokenizer): Record<string, unknown> => ({
  ...c.model,
  vocab_size: words.size,
  max_position_embeddings: words.maxLength,
  bos_token_id: words.bos,
  eos_token_id: words.eos,
  pad_token_id: words.pad,
})

/** Last hidden states after the final norm: ids b t -> b t d. */
export function hiddenStates(net: ClipText, ids: Tensor): Tensor {
  const { embeddings, finalLayerNorm } = net.textModel
  return finalLayerNorm.forward(net.hidden(embeddings.forward(ids)).at(-1)!)
}

/**
 * Teaches the text encoder to answer what its captions say, before any picture is seen: heads on the state of the end
 * token, cross-entropy. What a caption leaves out stays a guess, so the loss has a floor; full captions do not.
 */
export function textTask(c: TextConfig, words: ClipTokenizer): Task {
  const config = clipConfig(textModel(c, words))
  const net = bind(new ClipText(config))
  const heads = bind(new Heads({ size: config.hidden_size }))
  const context = config.max_position_embeddings
  const logits = (b: number): Tensor[] => {
    const states = hiddenStates(net, input("ids", [b, context], "i64")).rearrange("b t d -> (b t) d")
    const all = heads.heads.forward(states.gather(input("ends", [b], "i64")))
    let at = 0
    return questions.map(({ size }) => all.slice(1, at, (at += size)))
  }
  const wanted = input("wanted", [c.batch, answers])
  let at = 0
  const losses = logits(c.batch).map((l, i) =>
    crossEntropy(l, wanted.slice(1, at, (at += questions[i]!.size))),
  )
  const all = new Map([...parameters(net), ...parameters(heads)])
  const scenes = corpus({ seed: c.seed, size: 256, split: "train" })
  return {
    name: "text",
    settings: determining(c),
    objective: {
      parameters: new Map([...all].map(([name, p]) => [name, p.tensor])),
      loss: losses.reduce((a, b) => a.add(b)).mul(1 / losses.length),
    },
    optimizer: adamw({ beta2: c.beta2, decay: c.decay }),
    steps: c.steps,
    samplesPerStep: c.batch,
    clip: c.clip,
    rate: (step) => learningRate(c.rate, step, c.steps),
    averages: [c.average],
    first: () => freshWeights(new Map([...all].map(([name, p]) => [name, p.shape])), c.seed),
    batch: (index) => batchOf(scenes, index, c.batch, words, context),
    probes: {
      answer: {
        answer: concat(
          logits(validationRows).map((l) => l.argmax(1).reshape([validationRows, 1])),
          1,
        ),
      },
    },
    validate: (probe) => accuracy(probe, words, context),
  }
}

function batchOf(
  scenes: Corpus,
  index: number,
  batch: number,
  words: ClipTokenizer,
  context: number,
): Inputs {
  const entries = Array.from({ length: batch }, (_, i) => scenes.entry(index * batch + i))
  const wanted = new Float32Array(batch * answers)
  entries.forEach(({ spec }, row) => {
    let at = row * answers
    for (const { size, answer } of questions) {
      wanted[at + answer(spec)] = 1
      at += size
    }
  })
  return {
    ...textInputs(
      words,
      entries.map((e) => e.caption),
      context,
    ),
    wanted: { data: wanted, shape: [batch, answers] },
  }
}

/** `ids` and `ends` of texts. */
export function textInputs(
  words: ClipTokenizer,
  texts: readonly string[],
  context: number,
): Record<string, Value> {
  const { ids, ends } = idRows(words, texts, context)
  return { ids: { data: ids, shape: [texts.length, context] }, ends: { data: ends, shape: [texts.length] } }
}

const validationRows = 128
const validationBatches = 8

/** Share of right answers to captions that state every fact, of combinations that training never shows. */
async function accuracy(
  probe: Probe,
  words: ClipTokenizer,
  context: number,
): Promise<Record<string, number>> {
  const scenes = corpus({ seed: 4242, size: 256, split: "evaluation" })
  const right = questions.map(() => 0)
  for (let n = 0; n < validationBatches; n++) {
    const entries = Array.from({ length: validationRows }, (_, i) => scenes.entry(n * validationRows + i))
    const texts = entries.map((e) => fullCaption(e.spec, new Random(e.index), e.language))
    const { answer } = await probe("answer", textInputs(words, texts, context), 0)
    for (const [row, { spec }] of entries.entries())
      for (const [k, q] of questions.entries())
        right[k]! += Number(Number(answer!.data[row * questions.length + k]) === q.answer(spec))
  }
  const total = validationRows * validationBatches
  return Object.fromEntries(questions.map((q, k) => [q.name, right[k]! / total]))
}
