import type { Tensor } from "../graph/index.ts"
import { Conv2d, GroupNorm, Linear, Module } from "../nn/index.ts"
import {
  COLOURS,
  PLACES,
  POSITIONS,
  type Position,
  type SceneSpec,
  SIZES,
  STYLES,
  SUBJECTS,
  TIMES,
  WEATHERS,
} from "./corpus/index.ts"

/** One question about a picture: its name, how many answers there are, and the right one. */
export interface Question {
  readonly name: string
  readonly size: number
  readonly answer: (spec: SceneSpec) => number
}

/** What stands at a position: the subject, a second thing on the other side, or nothing. */
export function thingAt(spec: SceneSpec, position: Position): SceneSpec["subject"] | null {
  const { subject, second, count } = spec
  if (second !== null) return position === "centre" ? null : position === spec.position ? subject : second
  if (count === 3) return subject
  if (count === 2) return position === "centre" ? null : subject
  return position === spec.position ? subject : null
}

const slots = POSITIONS.flatMap((position): Question[] => [
  {
    name: `kind ${position}`,
    size: SUBJECTS.length + 1,
    answer: (s) => 1 + SUBJECTS.indexOf(thingAt(s, position)?.kind as (typeof SUBJECTS)[number]),
  },
  {
    name: `colour ${position}`,
    size: COLOURS.length + 1,
    answer: (s) => 1 + COLOURS.indexOf(thingAt(s, position)?.colour as (typeof COLOURS)[number]),
  },
])

/**
 * What the classifier answers of a picture. Things are asked for by their places, since a picture of two does not tell
 * which of them its caption named first; answer 0 of a place is "nothing".
 */
export const pictureQuestions: readonly Question[] = [
  { name: "style", size: STYLES.length, answer: (s) => STYLES.indexOf(s.style) },
  { name: "place", size: PLACES.length, answer: (s) => PLACES.indexOf(s.place) },
  { name: "time", size: TIMES.length, answer: (s) => TIMES.indexOf(s.time) },
  { name: "weather", size: WEATHERS.length, answer: (s) => WEATHERS.indexOf(s.weather) },
  { name: "size", size: SIZES.length, answer: (s) => SIZES.indexOf(s.size) },
  ...slots,
]

export interface ClassifierConfig {
  /** Channels after each halving of the picture. */
  readonly channels: readonly number[]
  readonly groups: number
  /** Side of the pictures in pixels. */
  readonly size: number
}

class Stage extends Module<{ in: number; out: number; groups: number }> {
  down = new Conv2d({ in: this.c.in, out: this.c.out, k: 3, stride: 2 })
  norm1 = new GroupNorm({ channels: this.c.out, groups: this.c.groups, eps: 1e-5 })
  conv = new Conv2d({ in: this.c.out, out: this.c.out, k: 3 })
  norm2 = new GroupNorm({ channels: this.c.out, groups: this.c.groups, eps: 1e-5 })

  forward(x: Tensor): Tensor {
    const h = this.norm1.forward(this.down.forward(x)).silu()
    return h.add(this.norm2.forward(this.conv.forward(h)).silu())
  }
}

/** A small convolutional network over pictures of the corpus: b 3 s s in -1..1 -> features and answers. */
export class Classifier extends Module<ClassifierConfig> {
  stages = this.c.channels.map(
    (out, i) => new Stage({ in: i === 0 ? 3 : this.c.channels[i - 1]!, out, groups: this.c.groups }),
  )
  features = new Linear({ in: this.width, out: featureSize })
  heads = new Linear({ in: featureSize, out: pictureQuestions.reduce((n, q) => n + q.size, 0) })

  /** Numbers of the last map. */
  private get width(): number {
    return this.c.channels.at(-1)! * (this.c.size / 2 ** this.c.channels.length) ** 2
  }

  /** b 3 s s -> b 128: what lies before the answers, for distances between sets of pictures. */
  embed(x: Tensor): Tensor {
    const map = this.stages.reduce((h, stage) => stage.forward(h), x)
    return this.features.forward(map.rearrange("b c h w -> b (c h w)")).silu()
  }

  /** One row of logits per question. */
  answers(features: Tensor): Tensor[] {
    const all = this.heads.forward(features)
    let at = 0
    return pictureQuestions.map(({ size }) => {
      const logits = all.slice(1, at, at + size)
      at += size
      return logits
    })
  }
}

export const featureSize = 128
