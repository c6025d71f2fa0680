import { afterAll, describe, expect, test } from "vitest"
import { input, type Tensor } from "../../src/graph/index.ts"
import { AutoencoderKL, vaeConfig } from "../../src/models/index.ts"
import { bind, expected } from "../../src/nn/index.ts"
import { f32, type Value } from "../../src/runtime/engine.ts"
import { nodeEngine } from "../../src/runtime/node.ts"
import { compile } from "../../src/runtime/program.ts"
import { corpus } from "../../src/train/corpus/index.ts"
import { freshWeights, passThrough, streamOf, zeroBranches } from "../../src/train/init.ts"
import {
  crossEntropy,
  diffusionLoss,
  levelWeight,
  noised,
  offsetNoise,
  posterior,
  vaeLoss,
} from "../../src/train/losses.ts"
import { contactSheet, cropInto, psnr } from "../../src/train/pictures.ts"
import { averageShare, checkRate, determining, learningRate } from "../../src/train/schedule.ts"
import { itemOfDraw, shuffled } from "../../src/train/shuffle.ts"
import { draws } from "../../src/train/stages/unet.ts"
import { bundledStage, stageConfig, stageNames } from "../../src/train/stages.ts"
import { eigen, foldWhitening, Moments, whitening } from "../../src/train/whiten.ts"

const engine = nodeEngine()
afterAll(() => engine.close())

async function evaluate(outputs: Record<string, Tensor>, feeds: Record<string, Value>): Promise<number[]> {
  const net = await compile(engine, { outputs }, new Map(), { device: "cpu", threads: 1 })
  const out = await net.run(feeds)
  await net.release()
  return Object.keys(outputs).map((key) => Number(out[key]!.data[0]))
}

const mean = (list: ArrayLike<number>) => Array.from(list).reduce((a, b) => a + b, 0) / list.length

describe("losses", () => {
  const shape = [2, 4, 4, 8]
  const n = 256
  const [z, e, predicted] = ["z", "e", "p"].map((name) => streamOf(3, name).normal(n)) as [
    Float32Array,
    Float32Array,
    Float32Array,
  ]
  const rowOf = (i: number) => Math.floor(i / 128)
  const [s, q, weight] = [
    [0.9, 0.3],
    [Math.sqrt(1 - 0.81), Math.sqrt(1 - 0.09)],
    [0.7, 2],
  ]
  const region = Float32Array.from({ length: 64 }, (_, i) => 0.5 + (i % 3))
  const feeds = {
    z: f32(z, shape),
    e: f32(e, shape),
    p: f32(predicted, shape),
    s: f32(Float32Array.from(s!), [2]),
    q: f32(Float32Array.from(q!), [2]),
    weight: f32(Float32Array.from(weight!), [2]),
    region: f32(region, [2, 1, 4, 8]),
  }
  const at = (name: keyof typeof feeds) => input(name, feeds[name].shape)
  const wanted = {
    epsilon: (i: number) => e[i]!,
    flow: (i: number) => e[i]! - z[i]!,
    v_prediction: (i: number) => s![rowOf(i)]! * e[i]! - q![rowOf(i)]! * z[i]!,
  }

  test.each(["epsilon", "v_prediction", "flow"] as const)(
    "%s, weighted by row and place",
    async (prediction) => {
      const { target } = noised(at("z"), at("e"), { signal: at("s"), noise: at("q") }, prediction)
      const loss = diffusionLoss(at("p"), target, { weight: at("weight"), region: at("region") })
      const want = mean(
        predicted.map((p, i) => {
          const place = region[rowOf(i) * 32 + (i % 32)]!
          return (p - wanted[prediction](i)) ** 2 * place * weight![rowOf(i)]!
        }),
      )
      expect((await evaluate({ loss }, feeds))[0]).toBeCloseTo(want, 4)
    },
  )

  test("pseudo-Huber grows like a line far out", async () => {
    const loss = diffusionLoss(at("p"), at("e"), { huber: 0.1 })
    const want = mean(predicted.map((p, i) => 0.2 * (Math.sqrt((p - e[i]!) ** 2 + 0.01) - 0.1)))
    expect((await evaluate({ loss }, feeds))[0]).toBeCloseTo(want, 5)
  })

  test("offset noise moves whole channels", () => {
    const noise = offsetNoise(new Float32Array(12), Float32Array.of(1, -2, 0), 0.1)
    expect(Array.from(noise, (v) => Number(v.toFixed(6)))).toEqual([
      0.1, 0.1, 0.1, 0.1, -0.2, -0.2, -0.2, -0.2, 0, 0, 0, 0,
    ])
  })

  test("min-SNR weights for each prediction", () => {
    const rule = { kind: "min-snr", gamma: 5 } as const
    expect(levelWeight(0.5, "epsilon", rule)).toBeCloseTo(1)
    expect(levelWeight(0.5, "v_prediction", rule)).toBeCloseTo(0.5)
    expect(levelWeight(0.99, "epsilon", rule)).toBeCloseTo(5 / 99)
    expect(levelWeight(0, "v_prediction", rule)).toBe(0)
    expect(levelWeight(0.8, "epsilon", { kind: "debiased" })).toBeCloseTo(0.5)
    expect(levelWeight(0.8, "epsilon", { kind: "none" })).toBe(1)
  })

  test("the autoencoder's: L1, differences, coarse means, KL", async () => {
    const d = predicted.map((p, i) => p - e[i]!)
    const pick = (b: number, c: number, y: number, x: number) => d[((b * 4 + c) * 4 + y) * 8 + x]!
    const cells = Array.from(
      { length: n },
      (_, i) => [Math.floor(i / 128), Math.floor(i / 32) % 4, Math.floor(i / 8) % 4, i % 8] as const,
    )
    const across = cells
      .filter(([, , , x]) => x < 7)
      .map(([b, c, y, x]) => Math.abs(pick(b, c, y, x + 1) - pick(b, c, y, x)))
    const down = cells
      .filter(([, , y]) => y < 3)
      .map(([b, c, y, x]) => Math.abs(pick(b, c, y + 1, x) - pick(b, c, y, x)))
    const coarse = Array.from({ length: 16 }, (_, k) =>
      Math.abs(
        mean(
          cells
            .filter(([b, c, , x]) => b * 8 + c * 2 + Math.floor(x / 4) === k)
            .map(([b, c, y, x]) => pick(b, c, y, x)),
        ),
      ),
    )
    const half = (list: Float32Array, second: boolean) =>
      list.filter((_, i) => Math.floor(i / 64) % 2 === Number(second))
    const [mu, lv] = [half(z, false), half(z, true)]
    const kl = 0.5 * mean(mu.map((m, i) => m * m + Math.exp(lv[i]!) - lv[i]! - 1))
    const { mean: m, logvar } = posterior(at("z"))
    const { loss, metrics } = vaeLoss(at("e"), at("p"), m, logvar, {
      differences: 0.5,
      coarse: 0.25,
      kl: 0.1,
    })
    const got = await evaluate({ loss, kl: metrics.kl }, feeds)
    expect(got[1]).toBeCloseTo(kl, 5)
    expect(got[0]).toBeCloseTo(
      mean(d.map(Math.abs)) + 0.5 * (mean(across) + mean(down)) + 0.25 * mean(coarse) + 0.1 * kl,
      4,
    )
  })

  test("cross-entropy, also of large logits", async () => {
    const logits = input("l", [2, 3])
    const loss = crossEntropy(logits, input("w", [2, 3]))
    const [got] = await evaluate(
      { loss },
      {
        l: f32(Float32Array.of(1, 2, 3, 900, 0, 0), [2, 3]),
        w: f32(Float32Array.of(0, 1, 0, 1, 0, 0), [2, 3]),
      },
    )
    expect(got).toBeCloseTo((Math.log(Math.exp(1) + Math.exp(2) + Math.exp(3)) - 2) / 2, 4)
  })
})

describe("schedules", () => {
  test("warm-up, then constant or half a cosine", () => {
    const constant = { rate: 2, warmup: 4, shape: "constant" } as const
    expect([1, 2, 4, 9].map((s) => learningRate(constant, s, 10))).toEqual([0.5, 1, 2, 2])
    const cosine = { rate: 2, shape: "cosine", floor: 0.1 } as const
    expect(learningRate(cosine, 1, 11)).toBeCloseTo(2)
    expect(learningRate(cosine, 6, 11)).toBeCloseTo(1.1)
    expect(learningRate(cosine, 11, 11)).toBeCloseTo(0.2)
    expect(() => checkRate({ rate: -1, shape: "constant" })).toThrow(/learning rate -1/)
  })

  test("a constant rate leaves the end open", () => {
    const c = { seed: 1, steps: 10, every: { log: 1 }, rate: { rate: 1, shape: "constant" } } as const
    expect(determining(c)).toEqual(determining({ ...c, steps: 20, every: { log: 2 } } as never))
    const falling = { ...c, rate: { rate: 1, shape: "cosine" } } as const
    expect(determining(falling)).not.toEqual(determining({ ...falling, steps: 20 }))
  })

  test("an average starts close and slows to its decay", () => {
    expect(averageShare(0.99, 1)).toBeCloseTo(1 / 1.1)
    expect(averageShare(0.99, 1e6)).toBeCloseTo(0.01)
  })
})

describe("data", () => {
  test("every item is drawn once a round, in another order each", () => {
    for (const count of [1, 2, 17, 64, 1000]) {
      const rounds = [0, 1].map((r) =>
        Array.from({ length: count }, (_, i) => itemOfDraw(r * count + i, count, 7)),
      )
      for (const round of rounds) expect(new Set(round).size).toBe(count)
      if (count > 10) expect(rounds[0]).not.toEqual(rounds[1])
    }
    expect(Array.from({ length: 50 }, (_, i) => shuffled(i, 50, 1))).not.toEqual(
      Array.from({ length: 50 }, (_, i) => i),
    )
  })

  test("crops, mirrored, and back to a sheet", () => {
    const data = Uint8Array.from({ length: 4 * 3 * 3 }, (_, i) => 7 * i)
    const out = new Float32Array(12)
    cropInto(out, 0, { width: 4, height: 3, data }, { x: 1, y: 1, size: 2, mirror: true })
    const sheet = contactSheet([f32(out, [1, 3, 2, 2])], 1)
    expect(Array.from(sheet.data.slice(0, 6))).toEqual(
      Array.from([6, 5].flatMap((p) => Array.from(data.slice(3 * p, 3 * p + 3)))),
    )
    expect(
      psnr(
        f32(out, [1, 3, 2, 2]),
        f32(
          out.map((v) => v * 0.999),
          [1, 3, 2, 2],
        ),
      )[0],
    ).toBeGreaterThan(55)
  })
})

describe("first weights", () => {
  const config = vaeConfig({
    block_out_channels: [16, 32],
    down_block_types: ["DownEncoderBlock2D", "DownEncoderBlock2D"],
    up_block_types: ["UpDecoderBlock2D", "UpDecoderBlock2D"],
    norm_num_groups: 2,
    mid_block_add_attention: false,
  })
  const net = bind(new AutoencoderKL(config))
  const shapes = expected(net)

  const pass = async (weights: ReadonlyMap<string, Float32Array>, picture: Value) => {
    const { mean: z } = posterior(net.encode(input("picture", picture.shape)))
    const stored = new Map(
      [...weights].map(([k, d]) => [
        k,
        { dtype: "f32" as const, shape: shapes.get(k)!, bytes: new Uint8Array(d.buffer) },
      ]),
    )
    const program = await compile(engine, { outputs: { z, made: net.decode(z) } }, stored, { device: "cpu" })
    const out = await program.run({ picture })
    await program.release()
    return { z: out.z!, made: out.made! }
  }
  // smooth colours, as a thumbnail can hold them
  const picture = f32(
    Float32Array.from(
      { length: 2 * 3 * 1024 },
      (_, i) => 0.8 * Math.sin((i % 32) / 9 + Math.floor(i / 1024)),
    ),
    [2, 3, 32, 32],
  )

  test("the pass-through start shows the picture at step 0", async () => {
    const { made } = await pass(passThrough(freshWeights(shapes, 1), shapes, 2), picture)
    expect(Math.min(...psnr(made, picture))).toBeGreaterThan(14)
  })

  test("whitening changes the latents and not the picture", async () => {
    const weights = passThrough(freshWeights(shapes, 1), shapes, 2)
    const before = await pass(weights, picture)
    const moments = new Moments(4)
    moments.add(before.z.data as Float32Array, 2)
    const after = await pass(foldWhitening(weights, whitening(moments.result(), 1e9)), picture)
    expect(Math.min(...psnr(after.made, before.made))).toBeGreaterThan(50)
    const again = new Moments(4)
    again.add(after.z.data as Float32Array, 2)
    const { mean: middle, covariance } = again.result()
    for (const [i, row] of covariance.entries())
      for (const [j, v] of row.entries()) expect(v).toBeCloseTo(Number(i === j), 2)
    for (const v of middle) expect(v).toBeCloseTo(0, 3)
  })

  test("eigenvalues and vectors", () => {
    const a = [
      [2, 1, 0],
      [1, 3, -1],
      [0, -1, 1],
    ]
    const { values, vectors } = eigen(a)
    vectors.forEach((v, k) => {
      a.forEach((row, i) => {
        expect(row.reduce((s, x, j) => s + x * v[j]!, 0)).toBeCloseTo(values[k]! * v[i]!, 10)
      })
    })
  })

  test("branches that end in zero, everything else as PyTorch begins", () => {
    const made = zeroBranches(
      freshWeights(
        new Map([
          ["a.conv2.weight", [2, 3, 1, 1]],
          ["a.conv1.weight", [64, 16, 3, 3]],
          ["norm.weight", [4]],
          ["norm.bias", [4]],
        ]),
        1,
      ),
    )
    expect(made.get("a.conv2.weight")!.every((v) => v === 0)).toBe(true)
    expect(Math.max(...made.get("a.conv1.weight")!)).toBeCloseTo(1 / 12, 3)
    expect(Array.from(made.get("norm.weight")!)).toEqual([1, 1, 1, 1])
    expect(Array.from(made.get("norm.bias")!)).toEqual([0, 0, 0, 0])
  })
})

describe("stages", () => {
  test.each(stageNames)("%s has settings that hold", async (name) => {
    expect((await bundledStage(name)).kind).toBeTruthy()
  })

  test("a wrong setting is named", () => {
    expect(() =>
      stageConfig({ kind: "words", size: -1, context: 40, captions: 1, seed: 1 }, "words"),
    ).toThrow(/size/)
    expect(() => stageConfig({ kind: "poem" }, "x")).toThrow(/kind/)
  })
})

test("scenes of two subjects are drawn as often as asked, and every scene in its turn", () => {
  const scenes = corpus({ seed: 1, size: 16, split: "train" })
  const [count, n] = [500, 3000]
  const two = (i: number) => scenes.entry(i).spec.second !== null && scenes.entry(i).spec.second !== undefined
  const share = (items: number[]) => items.filter(two).length / items.length
  const items = (every?: number) => {
    const drawn = draws({ seed: 3, pairsEvery: every }, count, scenes)
    return Array.from({ length: n }, (_, i) => drawn(i))
  }
  const [plain, more] = [items(), items(3)]
  expect(share(more)).toBeCloseTo(1 / 3 + (2 / 3) * share(plain), 1)
  expect(new Set(plain).size).toBe(count)
  expect(new Set(more).size).toBe(count)
  expect(items(3)).toEqual(more)
})
