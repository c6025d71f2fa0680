import { fail } from "../../errors.ts"
import type { Graph, Tensor } from "../../graph/index.ts"
import { ClipText, clipGraph, endPosition } from "../../models/index.ts"
import { bind } from "../../nn/index.ts"
import { type Engine, f32, i64, type Value } from "../../runtime/engine.ts"
import { compile, type Program } from "../../runtime/program.ts"
import { sha256Of } from "../data/dataset.ts"
import { partHash, storedWeights, type TextPart, type TrainModel } from "./model.ts"
import type { ArrayStore } from "./store.ts"

/** What a U-Net reads of one text: t d, and for SDXL the pooled state. */
export interface TextStates {
  readonly context: Value
  readonly pooled: Value | null
}

/** Ids of one text as one chunk: begin, what fits, end, padding. */
export function idsOf({ tokenizer, config }: TextPart, text: string): number[] {
  const length = config.max_position_embeddings
  const own = [tokenizer.bos, ...tokenizer.encode(text).slice(0, length - 2), tokenizer.eos]
  return [...own, ...Array.from({ length: length - own.length }, () => tokenizer.pad)]
}

/** Whether a text has more tokens than one chunk holds: its end is not learned. */
export const isLong = ({ tokenizer, config }: TextPart, text: string): boolean =>
  tokenizer.encode(text).length > config.max_position_embeddings - 2

/** A model's text encoders, bound once: names begin with the part's. */
export const textNets = (model: TrainModel): ClipText[] =>
  model.texts.map((part) => bind(new ClipText(part.config), part.name))

/** A text encoder inside a training's graph: embeddings b t d -> every state, and the one its U-Net reads. */
export function textInGraph(
  part: TextPart,
  net: ClipText,
  embedded: Tensor,
): { hidden: Tensor; states: readonly Tensor[] } {
  const states = net.hidden(embedded)
  const chosen = states.at(-part.skip)!
  return { states, hidden: part.norm ? net.textModel.finalLayerNorm.forward(chosen) : chosen }
}

const kept = 4096

/** Runs a model's text encoders, and remembers what they said: in memory, and on the disk where texts repeat. */
export class TextEncoder {
  private readonly model: TrainModel
  private readonly programs: readonly Program[]
  private readonly key: string
  private readonly store: ArrayStore | null
  private readonly memory = new Map<string, TextStates>()

  private constructor(
    model: TrainModel,
    programs: readonly Program[],
    key: string,
    store: ArrayStore | null,
  ) {
    this.model = model
    this.programs = programs
    this.key = key
    this.store = store
  }

  static async open(
    engine: Engine,
    model: TrainModel,
    store: ArrayStore | null,
    threads?: number,
  ): Promise<TextEncoder> {
    const programs: Program[] = []
    const keys: string[] = []
    for (const { name, config, skip, norm } of model.texts) {
      const { graph } = clipGraph(config, { skip, norm }) as { graph: Graph }
      const weights = new Map(
        [...storedWeights(model, (n) => n.startsWith(`${name}.`))].map(([n, t]) => [
          n.slice(name.length + 1),
          t,
        ]),
      )
      programs.push(await compile(engine, graph, weights, { device: "cpu", threads }))
      keys.push(await partHash(model, name))
    }
    return new TextEncoder(model, programs, keys.join(), store)
  }

  async encode(text: string): Promise<TextStates> {
    const known = this.memory.get(text)
    if (known) return known
    const ids = this.model.texts.map((part) => idsOf(part, text))
    const key = sha256Of(`text ${this.key} ${JSON.stringify(ids)}`)
    const stored = await this.store?.get(key)
    const states = stored ? { context: stored.context!, pooled: stored.pooled ?? null } : await this.run(ids)
    if (!stored)
      await this.store?.set(
        key,
        states.pooled ? { context: states.context, pooled: states.pooled } : { context: states.context },
      )
    if (this.memory.size >= kept) this.memory.delete(this.memory.keys().next().value!)
    this.memory.set(text, states)
    return states
  }

  private async run(ids: readonly (readonly number[])[]): Promise<TextStates> {
    const parts: Value[] = []
    let pooled: Value | null = null
    for (const [i, { config }] of this.model.texts.entries()) {
      const inputs = {
        ids: i64(ids[i]!, [1, ids[i]!.length]),
        ...(config.projection ? { ends: i64([endPosition(ids[i]!, config)], [1]) } : {}),
      }
      const out = await this.programs[i]!.run(inputs)
      parts.push(out.hidden!)
      if (out.pooled) pooled = f32(out.pooled.data as Float32Array, [out.pooled.shape[1]!])
    }
    return { context: joined(parts), pooled }
  }

  async release(): Promise<void> {
    for (const program of this.programs) await program.release()
  }
}

/** States of several encoders side by side: t d1 and t d2 to t d1+d2. */
function joined(parts: readonly Value[]): Value {
  const tokens = parts[0]!.shape[1]!
  if (parts.some((p) => p.shape[1] !== tokens))
    fail("MODEL_CONFIG", "the text encoders read chunks of different lengths")
  const width = parts.reduce((n, p) => n + p.shape[2]!, 0)
  const out = new Float32Array(tokens * width)
  let at = 0
  for (const { data, shape } of parts) {
    const own = shape[2]!
    for (let t = 0; t < tokens; t++)
      out.set((data as Float32Array).subarray(t * own, (t + 1) * own), t * width + at)
    at += own
  }
  return f32(out, [tokens, width])
}

/** Rows of equal shape as one array. */
export function stackValues(rows: readonly Value[]): Value {
  const size = rows[0]!.data.length
  const data = new Float32Array(size * rows.length)
  rows.forEach((row, i) => {
    data.set(row.data as Float32Array, i * size)
  })
  return f32(data, [rows.length, ...rows[0]!.shape])
}
