// one training of many small steps, to be killed: node kill-child.mjs FOLDER STEPS
import { input, parameter } from "../../dist/graph/index.js"
import { f32 } from "../../dist/runtime/engine.js"
import { nodeEngine } from "../../dist/runtime/node.js"
import { streamOf } from "../../dist/train/init.js"
import { adamw } from "../../dist/train/optimizer.js"
import { train } from "../../dist/train/trainer.js"

const [folder, steps] = process.argv.slice(2)
const size = 64
const w = parameter("w", [size, size])
const b = parameter("b", [size])
const x = input("x", [16, size])
const loss = x.linear(w, b).silu().sub(x).square().mean([0, 1])
const task = {
  name: "killed",
  settings: { steps },
  objective: {
    parameters: new Map([
      ["w", w],
      ["b", b],
    ]),
    loss,
  },
  optimizer: adamw(),
  steps: Number(steps),
  samplesPerStep: 16,
  clip: 1,
  rate: () => 0.003,
  averages: [0.99],
  first: () =>
    new Map([
      [
        "w",
        streamOf(1, "w")
          .normal(size * size)
          .map((v) => v * 0.1),
      ],
      ["b", new Float32Array(size)],
    ]),
  batch: (index) => ({ x: f32(streamOf(2, `${index}`).normal(16 * size), [16, size]) }),
}
const engine = nodeEngine()
const every = { checkpoint: 6, log: 3, validate: 0, sample: 0 }
for await (const { step } of train(engine, task, { folder, every, threads: 2 }))
  if (step === 1 || step % 20 === 0) process.stderr.write(`${step}\n`)
await engine.close()
