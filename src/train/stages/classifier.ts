import { concat, input, type Tensor } from "../../graph/index.ts"
import { bind, expected, parameters } from "../../nn/index.ts"
import { f32, type Value } from "../../runtime/engine.ts"
import { Classifier, type ClassifierConfig, pictureQuestions } from "../classifier.ts"
import { type Corpus, corpus, Random } from "../corpus/index.ts"
import { mixBits } from "../corpus/random.ts"
import { freshWeights, streamOf } from "../init.ts"
import { crossEntropy } from "../losses.ts"
import { adamw } from "../optimizer.ts"
import { cropInto } from "../pictures.ts"
import { determining, learningRate, type RateConfig } from "../schedule.ts"
import type { Inputs, Probe, Task } from "../task.ts"

export interface ClassifierStage {
  readonly model: ClassifierConfig
  readonly seed: number
  readonly steps: number
  readonly batch: number
  /** Largest strength of the noise and softness that pictures get, so that generated ones are no surprise. */
  readonly disturb: number
  readonly rate: RateConfig
  readonly beta2: number
  readonly decay: number
  readonly clip: number
  readonly average: number
}

const answers = pictureQuestions.reduce((n, q) => n + q.size, 0)
const validationRows = 64
const validationBatches = 32

/** Learns to answer what a picture of the corpus shows; the judge of generated pictures. */
export function classifierTask(c: ClassifierStage, name: string): Task {
  const net = bind(new Classifier(c.model))
  const side = c.model.size
  const logits = (b: number): Tensor[] => net.answers(net.embed(input("picture", [b, 3, side, side])))
  const wanted = input("wanted", [c.batch, answers])
  let at = 0
  const losses = logits(c.batch).map((l, i) => {
    const from = at
    at += pictureQuestions[i]!.size
    return crossEntropy(l, wanted.slice(1, from, at))
  })
  const shapes = expected(net)
  return {
    name,
    settings: determining(c),
    objective: {
      parameters: new Map([...parameters(net)].map(([key, p]) => [key, p.tensor])),
      loss: losses.reduce((a, b) => a.add(b)).mul(1 / losses.length),
    },
    optimizer: adamw({ beta2: c.beta2, decay: c.decay }),
    steps: c.steps,
    samplesPerStep: c.batch,
    clip: c.clip,
    rate: (step) => learningRate(c.rate, step, c.steps),
    averages: [c.average],
    first: () => freshWeights(shapes, c.seed),
    batch: batches(c),
    probes: {
      answer: {
        answer: concat(
          logits(validationRows).map((l) => l.argmax(1).reshape([validationRows, 1])),
          1,
        ),
      },
    },
    validate: (probe) => accuracy(probe, side),
  }
}

/** New scenes in every batch, a part of them softened and noised. */
function batches(c: ClassifierStage): (index: number) => Inputs {
  const side = c.model.size
  const scenes = corpus({ seed: c.seed, size: side, split: "train" })
  const size = 3 * side * side
  return (index) => {
    const data = new Float32Array(c.batch * size)
    const wanted = new Float32Array(c.batch * answers)
    for (let row = 0; row < c.batch; row++) {
      const scene = scenes.item(index * c.batch + row)
      cropInto(data, row * size, scene, { x: 0, y: 0, size: side, mirror: false })
      const random = new Random(mixBits(mixBits(c.seed + 1) + scene.index))
      if (random.chance(0.5)) soften(data.subarray(row * size, (row + 1) * size), side, random.unit())
      let at = row * answers
      for (const q of pictureQuestions) {
        wanted[at + q.answer(scene.spec)] = 1
        at += q.size
      }
    }
    const noise = streamOf(c.seed, `noise ${index}`).normal(data.length)
    const strength = streamOf(c.seed, `strength ${index}`).normal(c.batch)
    for (let i = 0; i < data.length; i++)
      data[i]! += noise[i]! * c.disturb * Math.max(0, strength[Math.floor(i / size)]!)
    return { picture: f32(data, [c.batch, 3, side, side]), wanted: f32(wanted, [c.batch, answers]) }
  }
}

/** Mixes each place with the mean of its neighbours: what an autoencoder's blur looks like. */
function soften(planes: Float32Array, side: number, share: number): void {
  const from = planes.slice()
  for (let c = 0; c < 3; c++)
    for (let y = 1; y < side - 1; y++)
      for (let x = 1; x < side - 1; x++) {
        const i = (c * side + y) * side + x
        const around = from[i - 1]! + from[i + 1]! + from[i - side]! + from[i + side]!
        planes[i] = (1 - share) * from[i]! + (share * (around + from[i]!)) / 5
      }
}

/** Pictures of scenes in -1..1, b 3 s s. */
export function scenePictures(scenes: Corpus, from: number, rows: number, side: number): Value {
  const data = new Float32Array(rows * 3 * side * side)
  for (let row = 0; row < rows; row++)
    cropInto(data, row * 3 * side * side, scenes.item(from + row), { x: 0, y: 0, size: side, mirror: false })
  return f32(data, [rows, 3, side, side])
}

/** Share of right answers to untouched pictures of combinations that training never shows. */
async function accuracy(probe: Probe, side: number): Promise<Record<string, number>> {
  const scenes = corpus({ seed: 777, size: side, split: "evaluation" })
  const right = pictureQuestions.map(() => 0)
  for (let n = 0; n < validationBatches; n++) {
    const from = n * validationRows
    const { answer } = await probe(
      "answer",
      { picture: scenePictures(scenes, from, validationRows, side) },
      0,
    )
    for (let row = 0; row < validationRows; row++)
      for (const [k, q] of pictureQuestions.entries()) {
        const given = Number(answer!.data[row * pictureQuestions.length + k])
        right[k]! += Number(given === q.answer(scenes.entry(from + row).spec))
      }
  }
  const total = validationRows * validationBatches
  return Object.fromEntries(pictureQuestions.map((q, k) => [q.name, right[k]! / total]))
}
