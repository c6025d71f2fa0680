import { readFile } from "node:fs/promises"
import { join } from "node:path"
import { fileURLToPath } from "node:url"
import { z } from "zod"
import { fail } from "../errors.ts"
import { concat, input, type StoredTensor, symbol } from "../graph/index.ts"
import type { Picture } from "../image/pixels.ts"
import { resize } from "../image/resize.ts"
import { bind, expected } from "../nn/index.ts"
import { type Engine, f32, value } from "../runtime/engine.ts"
import { compile, type Program } from "../runtime/program.ts"
import { fitWeights } from "../weights/fit.ts"
import { openSafetensors } from "../weights/open-file.ts"
import { readState } from "./checkpoint.ts"
import { Classifier, featureSize, pictureQuestions } from "./classifier.ts"
import { type Corpus, corpus } from "./corpus/index.ts"
import { cropInto } from "./pictures.ts"
import { type Answers, type Share, shareOf } from "./score.ts"

/** What the classifier says of one picture. */
export interface Verdict {
  readonly answers: Answers
  readonly features: Float32Array
}

const config = z.object({
  channels: z.array(z.number().int().positive()).min(1),
  groups: z.number().int().positive(),
  size: z.number().int().positive(),
})

/** The classifier that comes with the package. */
const bundled = fileURLToPath(new URL("../../assets/classifier", import.meta.url))
const rows = 16

/** Says what pictures of the corpus' world show: the classifier with its trained weights. */
export class Judge {
  private readonly program: Program
  /** Side of the pictures it looks at. */
  readonly size: number

  private constructor(program: Program, size: number) {
    this.program = program
    this.size = size
  }

  /** @param folder config.json and model.safetensors. @throws CLASSIFIER_MISSING, WEIGHTS_DO_NOT_FIT */
  static async open(engine: Engine, folder = bundled): Promise<Judge> {
    const text = await readFile(join(folder, "config.json"), "utf8").catch(() =>
      fail("CLASSIFIER_MISSING", `${folder} holds no classifier`, {
        hint: "train one: the stage `classifier` of assets/training",
        file: folder,
      }),
    )
    const c = config.parse(JSON.parse(text))
    const net = bind(new Classifier(c))
    const path = join(folder, "model.safetensors")
    const { tensors } = await openSafetensors(path)
    fitWeights(expected(net), tensors, { model: "classifier", file: path })
    const weights = new Map<string, StoredTensor>(
      [...(await readState(path))].map(([name, data]) => [
        name,
        { dtype: "f32", shape: tensors.get(name)!.shape, bytes: new Uint8Array(data.buffer) },
      ]),
    )
    const b = symbol("b")
    const features = net.embed(input("picture", [b, 3, c.size, c.size]))
    const answers = net.answers(features).map((l) => l.argmax(1).reshape([b, 1]))
    const graph = { outputs: { features, answer: concat(answers, 1) } }
    return new Judge(await compile(engine, graph, weights, { device: "cpu" }), c.size)
  }

  /** Answers and features of pictures of any size. */
  async look(pictures: readonly Picture[]): Promise<Verdict[]> {
    const out: Verdict[] = []
    const area = 3 * this.size * this.size
    for (let from = 0; from < pictures.length; from += rows) {
      const part = pictures.slice(from, from + rows)
      const data = new Float32Array(part.length * area)
      part.forEach((picture, row) => {
        const small = resize(picture, this.size, this.size, "box")
        cropInto(data, row * area, small, { x: 0, y: 0, size: this.size, mirror: false })
      })
      const found = await this.program.run({ picture: f32(data, [part.length, 3, this.size, this.size]) })
      const answers = value(found, "answer").data
      const features = value(found, "features").data as Float32Array
      part.forEach((_, row) => {
        const at = row * pictureQuestions.length
        out.push({
          answers: Array.from(answers.slice(at, at + pictureQuestions.length), Number),
          features: features.slice(row * featureSize, (row + 1) * featureSize),
        })
      })
    }
    return out
  }

  release(): Promise<void> {
    return this.program.release()
  }
}

/** Pictures of the corpus that neither training nor the classifier has seen, with what they show. */
export function freshScenes(size: number, seed = 2024): Corpus {
  return corpus({ seed, size, split: "evaluation" })
}

/** One picture of the corpus as pictures are passed about. */
export const scenePicture = ({ width, height, data }: ReturnType<Corpus["item"]>): Picture => ({
  width,
  height,
  channels: 3,
  data: new Uint8ClampedArray(data),
})

/** How often the classifier is right about the corpus' own pictures, question by question. */
export async function judgeItself(judge: Judge, count: number): Promise<Record<string, Share>> {
  const scenes = freshScenes(judge.size)
  const right = pictureQuestions.map(() => 0)
  for (let from = 0; from < count; from += rows) {
    const items = Array.from({ length: Math.min(rows, count - from) }, (_, i) => scenes.item(from + i))
    const verdicts = await judge.look(items.map(scenePicture))
    for (const [i, { answers }] of verdicts.entries())
      for (const [k, q] of pictureQuestions.entries())
        right[k]! += Number(answers[k] === q.answer(items[i]!.spec))
  }
  return Object.fromEntries(pictureQuestions.map((q, k) => [q.name, shareOf(right[k]!, count)]))
}
