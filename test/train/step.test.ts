import { afterAll, describe, expect, test } from "vitest"
import { gradients, input, parameter } from "../../src/graph/index.ts"
import { AutoencoderKL, UNet, unetConfig, vaeConfig } from "../../src/models/index.ts"
import { bind, type Module, parameters } from "../../src/nn/index.ts"
import { f32, type Value } from "../../src/runtime/engine.ts"
import { nodeEngine } from "../../src/runtime/node.ts"
import { compile } from "../../src/runtime/program.ts"
import { posterior } from "../../src/train/losses.ts"
import { blockSize, Machine } from "../../src/train/machine.ts"
import { adafactor, adamw, lion, type Optimizer, scheduleFree, sgd } from "../../src/train/optimizer.ts"
import { stepGraphs } from "../../src/train/step.ts"

const engine = nodeEngine()
afterAll(() => engine.close())

const noise = (n: number, seed: number): Float32Array =>
  Float32Array.from({ length: n }, (_, i) => Math.sin(seed * 91.7 + i * 12.9898) * 1.3)
const sizeOf = (shape: readonly unknown[]) => (shape as number[]).reduce((a, b) => a * b, 1)

/** A U-Net small in depth, with maps from 16 down to 2 places wide and whole blocks of channels. */
const config = unetConfig({
  block_out_channels: [16, 32, 32, 48],
  down_block_types: ["DownBlock2D", "CrossAttnDownBlock2D", "DownBlock2D", "DownBlock2D"],
  up_block_types: ["UpBlock2D", "UpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"],
  layers_per_block: 1,
  cross_attention_dim: 8,
  attention_head_dim: 2,
  norm_num_groups: 8,
})

const unet = () => {
  const net = bind(new UNet(config))
  const feeds = {
    x: f32(noise(2 * 4 * 256, 1), [2, 4, 16, 16]),
    t: f32(Float32Array.of(3, 700), [2]),
    context: f32(noise(2 * 5 * 8, 2), [2, 5, 8]),
  }
  const at = (name: keyof typeof feeds) => input(name, feeds[name].shape)
  return { net, feeds, made: net.forward(at("x"), at("t"), at("context")) }
}

const vae = () => {
  const net = bind(
    new AutoencoderKL(
      vaeConfig({
        block_out_channels: [16, 32, 32],
        down_block_types: Array.from({ length: 3 }, () => "DownEncoderBlock2D"),
        up_block_types: Array.from({ length: 3 }, () => "UpDecoderBlock2D"),
        norm_num_groups: 2,
        mid_block_add_attention: false,
      }),
    ),
  )
  const feeds = { x: f32(noise(2 * 3 * 40 * 24, 1), [2, 3, 40, 24]) }
  const { mean, logvar } = posterior(net.encode(input("x", feeds.x.shape)))
  return { net, feeds, made: net.decode(mean.add(logvar.mul(0.5).exp().mul(0.1))) }
}

test.each([
  ["U-Net", unet],
  ["autoencoder", vae],
])("the training form of a small %s has the gradients of the plain one", async (_name, make) => {
  const { net, feeds, made } = make()
  const loss = made.square().mean([0, 1, 2, 3])
  const params = new Map([...parameters(net as Module)].map(([name, p]) => [name, p.tensor]))
  const values = new Map(
    [...params].map(([name, p], i) => {
      const scale = p.rank > 1 ? 1 / Math.sqrt(sizeOf(p.shape.slice(1))) : 0.1
      return [
        name,
        noise(sizeOf(p.shape), i).map((v) => (p.rank === 1 && name.endsWith("weight") ? 1 : 0) + v * scale),
      ]
    }),
  )
  const grads = gradients(loss, [...params.values()])
  const outputs = Object.fromEntries([...params.keys()].map((name, i) => [`d ${name}`, grads[i]!]))
  const stored = new Map(
    [...values].map(([name, v]) => [
      name,
      { dtype: "f32" as const, shape: params.get(name)!.shape as number[], bytes: new Uint8Array(v.buffer) },
    ]),
  )
  const plain = await compile(engine, { outputs }, stored, { device: "cpu" })
  const want = await plain.run(feeds as Record<string, Value>)
  await plain.release()

  const optimizer = sgd()
  const graphs = stepGraphs({ parameters: params, loss }, { optimizer, block: await blockSize(engine) })
  const machine = await Machine.start(engine, graphs, optimizer, values)
  await machine.step(feeds as Record<string, Value>, 1, 1)
  const after = await machine.read()
  await machine.close()
  for (const [name, before] of values) {
    const grad = want[`d ${name}`]!.data as Float32Array
    const scale = grad.reduce((m, v) => Math.max(m, Math.abs(v)), 1e-4)
    const moved = after.get(name)!
    // a step of rate 1 is the gradient, up to the rounding of the weight it is taken from
    const worst = grad.reduce((m, g, i) => Math.max(m, Math.abs(before[i]! - moved[i]! - g)), 0)
    expect(worst, name).toBeLessThan(1e-4 * scale + 3e-7)
  }
})

/** Least squares with a matrix and a vector: the state of each optimiser follows from gradients known in closed form. */
async function descend(optimizer: Optimizer, steps: number, accumulate = 1) {
  const w = parameter("w", [3, 2])
  const b = parameter("b", [3])
  const x = input("x", [4, 2])
  const loss = x
    .linear(w, b)
    .sub(input("y", [4, 3]))
    .square()
    .mean([0, 1])
  const graphs = stepGraphs(
    {
      parameters: new Map([
        ["w", w],
        ["b", b],
      ]),
      loss,
    },
    { optimizer, clip: 0.5, averages: 1, accumulate, block: null, scale: (name) => (name === "b" ? 0.5 : 1) },
  )
  const values = new Map([
    ["w", noise(6, 5)],
    ["b", noise(3, 6)],
  ])
  const machine = await Machine.start(engine, graphs, optimizer, values)
  const losses: number[] = []
  for (let s = 1; s <= steps; s++) {
    const batch = { x: f32(noise(8, 7), [4, 2]), y: f32(noise(12, 8), [4, 3]) }
    for (let part = 0; part < accumulate && accumulate > 1; part++)
      losses.push((await machine.accumulate(batch)).loss)
    const numbers = await machine.step(accumulate > 1 ? {} : batch, s, 0.05, [0.1])
    if (accumulate === 1) losses.push(numbers.loss)
  }
  const state = await machine.read()
  await machine.close()
  return { state, losses }
}

/** The same in plain numbers, for elementwise rules. */
function byHand(
  steps: number,
  rule: (p: number, g: number, s: Record<string, number>, t: number, rate: number) => number,
) {
  const w = Array.from(noise(6, 5))
  const b = Array.from(noise(3, 6))
  const [x, y] = [noise(8, 7), noise(12, 8)]
  const state = Array.from({ length: 9 }, () => ({}) as Record<string, number>)
  for (let t = 1; t <= steps; t++) {
    const g = new Array<number>(9).fill(0)
    for (let n = 0; n < 4; n++)
      for (let o = 0; o < 3; o++) {
        const r = x[2 * n]! * w[2 * o]! + x[2 * n + 1]! * w[2 * o + 1]! + b[o]! - y[3 * n + o]!
        g[2 * o]! += (r * x[2 * n]!) / 6
        g[2 * o + 1]! += (r * x[2 * n + 1]!) / 6
        g[6 + o]! += r / 6
      }
    const norm = Math.sqrt(g.reduce((s, v) => s + v * v, 0))
    const clip = Math.min(1, 0.5 / (norm + 1e-6))
    w.forEach((v, i) => {
      w[i] = rule(v, g[i]! * clip, state[i]!, t, 0.05)
    })
    b.forEach((v, i) => {
      b[i] = rule(v, g[6 + i]! * clip, state[6 + i]!, t, 0.025)
    })
  }
  return { w, b }
}

const near = (got: Float32Array, want: number[]) =>
  want.forEach((v, i) => {
    expect(got[i]).toBeCloseTo(v, 5)
  })

describe("optimisers", () => {
  test("AdamW", async () => {
    const want = byHand(5, (p, g, s, t, rate) => {
      s.m = 0.9 * (s.m ?? 0) + 0.1 * g
      s.v = 0.99 * (s.v ?? 0) + 0.01 * g * g
      const step = s.m / (1 - 0.9 ** t) / (Math.sqrt(s.v / (1 - 0.99 ** t)) + 1e-8)
      return p * (1 - rate * 0.1) - rate * step
    })
    const { state } = await descend(adamw({ beta2: 0.99, decay: 0.1 }), 5)
    near(state.get("w")!, want.w)
    near(state.get("b")!, want.b)
    expect([...state.keys()].sort()).toEqual([
      "b",
      "b.average 0",
      "b.m",
      "b.v",
      "w",
      "w.average 0",
      "w.m",
      "w.v",
    ])
  })

  test("Lion", async () => {
    const want = byHand(5, (p, g, s, _t, rate) => {
      const m = s.m ?? 0
      s.m = 0.99 * m + 0.01 * g
      return p * (1 - rate * 0.1) - rate * Math.sign(0.9 * m + 0.1 * g)
    })
    const { state } = await descend(lion({ decay: 0.1 }), 5)
    near(state.get("w")!, want.w)
    near(state.get("b")!, want.b)
  })

  test("SGD with momentum and decay", async () => {
    const want = byHand(5, (p, g, s, _t, rate) => {
      s.b = 0.9 * (s.b ?? 0) + g + 0.01 * p
      return p - rate * s.b
    })
    const { state } = await descend(sgd({ momentum: 0.9, decay: 0.01 }), 5)
    near(state.get("w")!, want.w)
  })

  test("schedule-free", async () => {
    const want = byHand(5, (y, g, s, t, rate) => {
      s.x ??= y
      s.z ??= y
      s.v = 0.999 * (s.v ?? 0) + 0.001 * g * g
      s.z -= (rate * g) / (Math.sqrt(s.v / (1 - 0.999 ** t)) + 1e-8)
      s.x += (s.z - s.x) / t
      return 0.1 * s.z + 0.9 * s.x
    })
    const { state } = await descend(scheduleFree(), 5)
    near(state.get("w")!, want.w)
    near(state.get("b")!, want.b)
  })

  test.each([adafactor(), adamw(), lion(), scheduleFree()])("$name lowers the loss", async (optimizer) => {
    const { losses } = await descend(optimizer, 60)
    expect(losses.at(-1)).toBeLessThan(losses[0]! * 0.7)
  })

  test("gradients added over equal batches are those of one", async () => {
    const once = await descend(adamw(), 4)
    const twice = await descend(adamw(), 4, 2)
    near(twice.state.get("w")!, Array.from(once.state.get("w")!))
    expect(twice.state.get("w.sum")!.every((v) => v === 0)).toBe(true)
  })

  test("a moving average follows the weights", async () => {
    const { state } = await descend(adamw(), 1)
    const [first, now, mean] = [noise(6, 5), state.get("w")!, state.get("w.average 0")!]
    near(
      mean,
      Array.from(first, (v, i) => v + 0.1 * (now[i]! - v)),
    )
  })
})
