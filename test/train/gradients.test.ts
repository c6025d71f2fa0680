import { readFileSync } from "node:fs"
import { join } from "node:path"
import { afterAll, describe, expect, test } from "vitest"
import { concat, constant, gradients, input, type Tensor } from "../../src/graph/index.ts"
import { AutoencoderKL, ClipText, clipConfig, UNet, unetConfig, vaeConfig } from "../../src/models/index.ts"
import { bind, type Module, parameters } from "../../src/nn/index.ts"
import { f32, type Value } from "../../src/runtime/engine.ts"
import { compile } from "../../src/runtime/program.ts"
import { engine, goldenOf, json, weightsOf } from "../models/golden.ts"

afterAll(() => engine.close())

interface Wanted {
  loss: number
  /** Norm of the gradient, and its dot product with cos(0.7 i + 1). */
  parameters: Record<string, [number, number]>
  whole: Record<string, number[]>
}
const golden = JSON.parse(
  readFileSync(join(import.meta.dirname, "../golden/train/gradients.json"), "utf8"),
) as Record<string, Record<"unet" | "vae" | "text", Wanted>>

/** mean(y cos(0.37 i)) + mean(y^2) / 2, as tools/reference/grad_golden.py has it. */
function lossOf(y: Tensor): Tensor {
  const shape = y.shape as number[]
  const n = shape.reduce((a, b) => a * b, 1)
  const weight = constant(
    Float32Array.from({ length: n }, (_, i) => Math.cos(0.37 * i)),
    shape,
    "f32",
  )
  const all = [...shape.keys()]
  return y.mul(weight).mean(all).add(y.square().mean(all).mul(0.5))
}

async function check(
  net: Module,
  y: Tensor,
  files: string[],
  inputs: Record<string, Value>,
  want: Wanted,
  { key = (name: string) => name, remade = false } = {},
) {
  const params = [...parameters(net)].filter(([name]) => want.parameters[key(name)])
  expect(params.length).toBe(Object.keys(want.parameters).length)
  const loss = lossOf(y)
  const tensors = params.map(([, p]) => p.tensor)
  const grads = gradients(loss, tensors)
  const again = remade ? gradients(loss, tensors, { recompute: true }) : []
  const outputs = Object.fromEntries(
    params.flatMap(([name], i) => [
      [`d ${name}`, grads[i]!],
      ...(remade ? [[`again ${name}`, again[i]!] as const] : []),
    ]),
  )
  const program = await compile(engine, { outputs: { loss, ...outputs } }, await weightsOf(...files), {
    device: "cpu",
    threads: 1,
  })
  const out = await program.run(inputs)
  await program.release()
  expect(Math.abs((out.loss!.data[0] as number) - want.loss)).toBeLessThan(1e-5 * Math.abs(want.loss) + 1e-6)
  const scale = Math.max(...Object.values(want.parameters).map(([norm]) => norm))
  for (const [name] of params) {
    const got = out[`d ${name}`]!.data as Float32Array
    // values made again are those that were kept
    if (remade) expect(out[`again ${name}`]!.data, name).toEqual(got)
    const [norm, dot] = want.parameters[key(name)]!
    // a bias before a norm has a gradient of rounding errors only: judged by the scale of the others
    const slack = 1e-3 * norm + 1e-7 * scale
    const gotNorm = Math.sqrt(got.reduce((s, v) => s + v * v, 0))
    const gotDot = got.reduce((s, v, i) => s + v * Math.cos(0.7 * i + 1), 0)
    expect(Math.abs(gotNorm - norm), `${name}: norm ${gotNorm} for ${norm}`).toBeLessThan(slack)
    expect(Math.abs(gotDot - dot), `${name}: dot ${gotDot} for ${dot}`).toBeLessThan(slack)
    const whole = want.whole[key(name)]
    whole?.forEach((v, i) => {
      expect(Math.abs(got[i]! - v), `${name}[${i}]`).toBeLessThan(slack)
    })
  }
}

const inputOf = (name: string, { shape }: Value) => input(name, shape)

describe.each(["sd1-odd", "sdxl-tiny"])("%s: gradients are PyTorch's", (name) => {
  test("U-Net", async () => {
    const g = await goldenOf(name)
    const c = unetConfig(json(name, "unet/config.json"))
    const net = bind(new UNet(c))
    const keys = c.addition_embed_type ? ["x", "t", "context", "pooled", "time_ids"] : ["x", "t", "context"]
    const inputs = Object.fromEntries(keys.map((key) => [key, g.f32(`unet.0.${key}`)]))
    const [x, t, context, textEmbeds, timeIds] = keys.map((key) => inputOf(key, inputs[key]!)) as [
      Tensor,
      Tensor,
      Tensor,
      Tensor | undefined,
      Tensor | undefined,
    ]
    const y = net.forward(x, t, context, { textEmbeds, timeIds })
    await check(net, y, [name, "unet/diffusion_pytorch_model.safetensors"], inputs, golden[name]!.unet, {
      remade: name === "sd1-odd",
    })
  })

  test("VAE", async () => {
    const g = await goldenOf(name)
    const c = vaeConfig(json(name, "vae/config.json"))
    const net = bind(new AutoencoderKL(c))
    const inputs = { image: g.f32("vae.image") }
    const mean = net.encode(inputOf("image", inputs.image)).slice(1, 0, c.latent_channels)
    const files = [name, "vae/diffusion_pytorch_model.safetensors"]
    await check(net, net.decode(mean), files, inputs, golden[name]!.vae, { remade: true })
  })

  test("text encoder", async () => {
    const g = await goldenOf(name)
    const c = clipConfig(json(name, "text_encoder/config.json"))
    const net = bind(new ClipText(c))
    const ids = g.i64("text.ids")
    const { embeddings, finalLayerNorm } = net.textModel
    const states = net.hidden(embeddings.forward(input("ids", ids.shape, "i64")))
    const y = finalLayerNorm.forward(states.at(-1)!)
    const files = [name, "text_encoder/model.safetensors"]
    const key = (full: string) => full.replace(/^text_model\./, "")
    await check(net, y, files, { ids }, golden[name]!.text, { key, remade: true })
  })
})

test("the gradient of an attention with many places is that of its heads alone", async () => {
  const [s, width, heads] = [2048, 16, 4]
  const values = (seed: number) =>
    f32(
      Float32Array.from({ length: s * width }, (_, i) => Math.sin(seed + i * 0.37)),
      [1, s, width],
    )
  const inputs = { q: values(1), k: values(2), v: values(3), g: values(4) }
  const [q, k, v, g] = Object.entries(inputs).map(([name, value]) => inputOf(name, value)) as Four
  const whole = gradients(q.attention(k, v, { heads }).mul(g).sum([0, 1, 2]), [q, k, v])
  const part = (t: Tensor, h: number) => t.slice(2, h * 4, h * 4 + 4)
  const alone = Array.from({ length: heads }, (_, h) => {
    const own = [q, k, v].map((t) => part(t, h)) as [Tensor, Tensor, Tensor]
    return gradients(own[0].attention(own[1], own[2], { heads: 1 }).mul(part(g, h)).sum([0, 1, 2]), own)
  })
  const outputs = Object.fromEntries(
    whole.flatMap((t, i) => [
      [`whole ${i}`, t],
      [
        `alone ${i}`,
        concat(
          alone.map((own) => own[i]!),
          2,
        ),
      ],
    ]),
  )
  const program = await compile(engine, { outputs }, new Map(), { device: "cpu" })
  const out = await program.run(inputs)
  await program.release()
  for (const i of [0, 1, 2]) {
    const [a, b] = ["whole", "alone"].map((name) => out[`${name} ${i}`]!.data as Float32Array) as [
      Float32Array,
      Float32Array,
    ]
    const scale = b.reduce((m, x) => Math.max(m, Math.abs(x)), 0)
    expect(scale).toBeGreaterThan(0)
    expect(a.reduce((m, x, n) => Math.max(m, Math.abs(x - b[n]!)), 0) / scale).toBeLessThan(1e-5)
  }
})

type Four = [Tensor, Tensor, Tensor, Tensor]
