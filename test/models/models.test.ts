import { afterAll, describe, expect, test } from "vitest"
import { symbol } from "../../src/graph/index.ts"
import {
  clipConfig,
  clipGraph,
  decoderGraph,
  encoderGraph,
  endPosition,
  unetConfig,
  unetGraph,
  vaeConfig,
} from "../../src/models/index.ts"
import { i64, type Value } from "../../src/runtime/engine.ts"
import { compile } from "../../src/runtime/program.ts"
import { engine, goldenOf, json, weightsOf, worst } from "./golden.ts"

afterAll(() => engine.close())

const device = { device: "cpu" } as const
const latentSizes = { b: symbol("b"), h: symbol("h"), w: symbol("w") }
const models = ["sd1-tiny", "sd1-odd", "sd2-tiny", "sdxl-tiny", "sd1-inpaint"]

/** One row of a batch, as a batch of one. */
const row = (v: Value, r: number): Value => {
  const size = v.data.length / v.shape[0]!
  return { data: (v.data as Float32Array).slice(r * size, (r + 1) * size), shape: [1, ...v.shape.slice(1)] }
}

describe.each(models)("%s gives diffusers' numbers", (name) => {
  test("text encoder", async () => {
    const golden = await goldenOf(name)
    const c = clipConfig(json(name, "text_encoder/config.json"))
    const { graph } = clipGraph(c, { skip: 1, norm: true })
    const net = await compile(engine, graph, await weightsOf(name, "text_encoder/model.safetensors"), device)
    const out = await net.run({ ids: golden.i64("text.ids") })
    expect(worst(out.hidden!.data as Float32Array, golden.f32("text.last").data)).toBeLessThan(1e-5)
    await net.release()
  })

  test("U-Net, also at a size that no power of two divides", async () => {
    const golden = await goldenOf(name)
    const c = unetConfig(json(name, "unet/config.json"))
    const { graph } = unetGraph(c, { ...latentSizes, tokens: symbol("t") })
    const weights = await weightsOf(name, "unet/diffusion_pytorch_model.safetensors")
    const net = await compile(engine, graph, weights, {
      ...device,
      slow: [["context", "text_embeds", "time_ids", "guidance"], ["timestep"]],
    })
    for (const n of [0, 1]) {
      const of = (key: string): Value => golden.f32(`unet.${n}.${key}`)
      const [x, t, context, out] = [of("x"), of("t"), of("context"), of("out")]
      for (let r = 0; r < x.shape[0]!; r++) {
        const inputs: Record<string, Value> = {
          latents: row(x, r),
          timestep: { data: (t.data as Float32Array).slice(r, r + 1), shape: [1] },
          context: row(context, r),
        }
        if (c.addition_embed_type)
          Object.assign(inputs, {
            text_embeds: row(golden.f32(`unet.${n}.pooled`), r),
            time_ids: row(golden.f32(`unet.${n}.time_ids`), r),
          })
        const got = await net.run(inputs)
        expect(worst(got.out!.data as Float32Array, row(out, r).data as Float32Array)).toBeLessThan(2e-5)
      }
    }
    await net.release()
  })

  test("VAE, both ways", async () => {
    const golden = await goldenOf(name)
    const c = vaeConfig(json(name, "vae/config.json"))
    const weights = await weightsOf(name, "vae/diffusion_pytorch_model.safetensors")
    const encoder = await compile(engine, encoderGraph(c, latentSizes).graph, weights, device)
    const { moments } = await encoder.run({ image: golden.f32("vae.image") })
    expect(worst(moments!.data as Float32Array, golden.f32("vae.moments").data)).toBeLessThan(2e-5)
    const decoder = await compile(engine, decoderGraph(c, latentSizes).graph, weights, device)
    const { image } = await decoder.run({ latents: golden.f32("vae.latents") })
    expect(worst(image!.data as Float32Array, golden.f32("vae.decoded").data)).toBeLessThan(2e-5)
    await encoder.release()
    await decoder.release()
  })
})

test("SDXL's second encoder: projected state of the end token", async () => {
  const golden = await goldenOf("sdxl-tiny")
  const c = clipConfig(json("sdxl-tiny", "text_encoder_2/config.json"))
  const { graph } = clipGraph(c, { skip: 2, norm: false })
  const net = await compile(
    engine,
    graph,
    await weightsOf("sdxl-tiny", "text_encoder_2/model.safetensors"),
    device,
  )
  const ids = golden.i64("text2.ids")
  const [rows, tokens] = ids.shape as [number, number]
  const ends = Array.from(
    { length: rows },
    (_, r) =>
      r * tokens + endPosition(Array.from(ids.data.subarray(r * tokens, (r + 1) * tokens), Number), c),
  )
  const out = await net.run({ ids, ends: i64(ends, [rows]) })
  const states = c.num_hidden_layers - 1
  expect(worst(out.hidden!.data as Float32Array, golden.f32(`text2.hidden.${states}`).data)).toBeLessThan(
    1e-5,
  )
  expect(worst(out.pooled!.data as Float32Array, golden.f32("text2.embeds").data)).toBeLessThan(1e-5)
})
