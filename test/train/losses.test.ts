import { join } from "node:path"
import { afterAll, beforeAll, expect, test } from "vitest"
import { trainingSchedule } from "../../src/diffusion/betas.ts"
import { gradients, input, toOnnx } from "../../src/graph/index.ts"
import { f32, value } from "../../src/runtime/engine.ts"
import { nodeEngine } from "../../src/runtime/node.ts"
import { readState } from "../../src/train/checkpoint.ts"
import { levelsAt } from "../../src/train/finetune/noise.ts"
import { diffusionLoss, noised, type Prediction } from "../../src/train/losses.ts"

const engine = nodeEngine()
const shape = [3, 4, 6, 5]
let golden = new Map<string, Float32Array>()
beforeAll(async () => {
  golden = await readState(join(import.meta.dirname, "../golden/train/losses/losses.safetensors"))
})
afterAll(() => engine.close())

const alphas = trainingSchedule({
  beta_start: 0.00085,
  beta_end: 0.012,
  beta_schedule: "scaled_linear",
}).alphasCumprod
const times = [3, 420, 987]

const cases = (["epsilon", "v_prediction", "flow"] as const).flatMap((prediction) =>
  (["none", "min-snr", "debiased"] as const).flatMap((rule) =>
    prediction === "flow" && rule !== "none"
      ? []
      : (["l2", "huber"] as const).flatMap((loss) =>
          [false, true].map((masked) => ({ prediction: prediction as Prediction, rule, loss, masked })),
        ),
  ),
)

test.each(cases)("$prediction $rule $loss, masked: $masked, equals PyTorch with its gradient", async (c) => {
  const levels = levelsAt(
    times.map((t) => (c.prediction === "flow" ? t / 1000 : (t + 0.5) / 1000)),
    alphas,
    c.prediction,
    { weighting: c.rule, gamma: 5 },
  )
  const row = (name: string) => input(name, [3])
  const { x, target } = noised(
    input("latents", shape),
    input("noise", shape),
    { signal: row("signal"), noise: row("sigma") },
    c.prediction,
  )
  const w = input("w", [4, 6, 5])
  const loss = diffusionLoss(x.mul(w).tanh(), target, {
    weight: row("weight"),
    ...(c.masked ? { region: input("region", [3, 1, 6, 5]) } : {}),
    ...(c.loss === "huber" ? { huber: 0.1 } : {}),
  })
  const onnx = toOnnx({ outputs: { loss, gradient: gradients(loss, [w])[0]! } })
  const session = await engine.create({ onnx, externals: [], device: "cpu" })
  const { timestep: _, ...given } = levels
  const out = await engine.run(session, {
    ...given,
    latents: f32(golden.get("latents")!, shape),
    noise: f32(golden.get("noise")!, shape),
    w: f32(golden.get("w")!, [4, 6, 5]),
    ...(c.masked ? { region: f32(golden.get("region")!, [3, 1, 6, 5]) } : {}),
  })
  const name = `${c.prediction} ${c.rule} ${c.loss} ${c.masked ? "masked" : "whole"}`
  const wanted = golden.get(`${name} loss`)![0]!
  expect(Math.abs(Number(value(out, "loss").data[0]) / wanted - 1)).toBeLessThan(2e-5)
  const gradient = golden.get(`${name} gradient`)!
  const largest = Math.max(...gradient.map(Math.abs))
  const found = value(out, "gradient").data
  expect(Math.max(...gradient.map((g, i) => Math.abs(g - Number(found[i])))) / largest).toBeLessThan(2e-5)
})
