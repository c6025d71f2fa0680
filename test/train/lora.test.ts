import { join } from "node:path"
import { afterAll, beforeAll, describe, expect, test } from "vitest"
import { input, type StoredTensor, type Tensor } from "../../src/graph/index.ts"
import { f32, i64 } from "../../src/runtime/engine.ts"
import { nodeEngine } from "../../src/runtime/node.ts"
import { compile } from "../../src/runtime/program.ts"
import { readState } from "../../src/train/checkpoint.ts"
import {
  downName,
  factorShapes,
  freshLora,
  type LoraOptions,
  loraParameters,
  loraParts,
  upName,
  withLora,
} from "../../src/train/finetune/lora.ts"
import { openTrainModel, readWeights, type TrainModel } from "../../src/train/finetune/model.ts"
import { denoiserOf, givenText } from "../../src/train/finetune/networks.ts"
import { loraTensors } from "../../src/train/finetune/save.ts"
import { textInGraph, textNets } from "../../src/train/finetune/texts.ts"

const golden = join(import.meta.dirname, "../golden")
const engine = nodeEngine()
let model: TrainModel
let answers = new Map<string, Float32Array>()
beforeAll(async () => {
  model = await openTrainModel(join(golden, "models/sd1-odd"))
  answers = await readState(join(golden, "train/lora/answers.safetensors"))
})
afterAll(() => engine.close())

const shapes = () =>
  new Map([...model.views].filter(([n]) => !n.startsWith("vae.")).map(([n, v]) => [n, v.shape]))
const plain: LoraOptions = {
  rank: 2,
  alpha: 2,
  targets: "attention",
  convRank: 0,
  convAlpha: 1,
  blocks: new Map(),
}
const made = {
  kohya: { ...plain, alpha: 1, targets: "linear", convRank: 2, convAlpha: 4 },
  diffusers: { ...plain, alpha: 3 },
} as const satisfies Record<string, LoraOptions>

/** The two networks' answers to the golden inputs, adapted. */
async function run(
  adapt: (o: Record<string, Tensor>) => Record<string, Tensor>,
  more: ReadonlyMap<string, Float32Array>,
  sizes: ReadonlyMap<string, readonly number[]>,
) {
  const shape = [2, 4, 8, 12]
  const { predict } = denoiserOf(model, givenText)
  const part = model.texts[0]!
  const tokens = part.config.max_position_embeddings
  const net = textNets(model)[0]!
  const outputs = adapt({
    out: predict(input("x", shape), input("timestep", [2])),
    hidden: textInGraph(part, net, net.textModel.embeddings.forward(input("ids", [1, tokens], "i64"))).hidden,
  })
  // all in memory: an engine maps files or takes bytes, not both
  const own = await readWeights(model, shapes().keys())
  const weights = new Map<string, StoredTensor>()
  for (const [name, data] of [...own, ...more]) {
    const bytes = new Uint8Array(data.buffer, data.byteOffset, data.byteLength)
    weights.set(name, { dtype: "f32", shape: sizes.get(name) ?? shapes().get(name)!, bytes })
  }
  const program = await compile(engine, { outputs }, weights, { device: "cpu" })
  const given = {
    x: f32(answers.get("x")!, shape),
    timestep: f32(answers.get("timestep")!, [2]),
    context: f32(answers.get("context")!, [2, tokens, part.config.hidden_size]),
    ids: i64(answers.get("ids")!, [1, tokens]),
  }
  const result = await program.run(given)
  await program.release()
  return { out: result.out!.data as Float32Array, hidden: result.hidden!.data as Float32Array }
}

const sizesOf = (parts: ReturnType<typeof loraParts>) =>
  new Map(
    parts.flatMap(
      (p) =>
        [
          [downName(p.layer), factorShapes(p).down],
          [upName(p.layer), factorShapes(p).up],
        ] as const,
    ),
  )
const furthest = (a: Float32Array, b: Float32Array) =>
  a.reduce((m, v, i) => Math.max(m, Math.abs(v - b[i]!)), 0)

describe.each(["kohya", "diffusers"] as const)("a LoRA written with %s' names", (format) => {
  test("means in diffusers what it means in our graph", async () => {
    const parts = loraParts(shapes(), made[format])
    const file = await readState(join(golden, `train/lora/lora-${format}.safetensors`))
    const values = new Map<string, Float32Array>()
    for (const part of parts) {
      // names and places as the writer has them
      const [a, b] = loraTensors([part], zeros(part), format, "fp32").filter(
        (t) => !t.name.endsWith(".alpha"),
      )
      values.set(downName(part.layer), file.get(a!.name)!)
      const scale = format === "kohya" ? 1 : part.rank / part.alpha
      values.set(
        upName(part.layer),
        file.get(b!.name)!.map((v) => v * scale),
      )
    }
    const learned = loraParameters(parts)
    const found = await run((o) => withLora(o, parts, learned), values, sizesOf(parts))
    for (const key of ["out", "hidden"] as const) {
      const wanted = answers.get(`lora-${format} ${key}`)!
      expect(furthest(found[key], wanted)).toBeLessThan(2e-5)
      expect(furthest(wanted, answers.get(`plain ${key}`)!)).toBeGreaterThan(0.1)
    }
    const written = loraTensors(parts, values, format, "fp32").map((t) => t.name)
    expect(written.sort()).toEqual([...file.keys()].sort())
  })
})

const zeros = (part: ReturnType<typeof loraParts>[number]) =>
  new Map([
    [downName(part.layer), new Float32Array(factorShapes(part).down.reduce((a, b) => a * b, 1))],
    [upName(part.layer), new Float32Array(factorShapes(part).up.reduce((a, b) => a * b, 1))],
  ])

test("a fresh one changes no bit", async () => {
  const parts = loraParts(shapes(), made.kohya)
  const learned = loraParameters(parts)
  const none = await run((o) => o, new Map(), new Map())
  const fresh = await run((o) => withLora(o, parts, learned), freshLora(parts, 1), sizesOf(parts))
  for (const key of ["out", "hidden"] as const)
    expect(Buffer.from(fresh[key].buffer).equals(Buffer.from(none[key].buffer))).toBe(true)
  expect(furthest(none.out, answers.get("plain out")!)).toBeLessThan(2e-5)
})

test("ranks of blocks, and layers that are none of the targets", () => {
  const parts = loraParts(shapes(), {
    ...plain,
    alpha: 1,
    blocks: new Map([
      ["mid_block", 0],
      ["down_blocks", 6],
      ["down_blocks.2", 3],
    ]),
  })
  const rank = (layer: string) => parts.find((p) => p.layer.startsWith(`unet.${layer}`))
  expect(rank("mid_block")).toBeUndefined()
  expect(rank("down_blocks.1")).toMatchObject({ rank: 6, alpha: 3 })
  expect(rank("down_blocks.2")).toMatchObject({ rank: 3, alpha: 1.5 })
  expect(rank("up_blocks.0")).toMatchObject({ rank: 2, alpha: 1 })
  expect(parts.every((p) => /attn[12]\.to_|self_attn/.test(p.layer))).toBe(true)
})
