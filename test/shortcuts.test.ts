import { join } from "node:path"
import { afterAll, beforeAll, expect, test } from "vitest"
import { type GenerateRequest, StableDiffusion } from "../src/index.ts"
import { Networks } from "../src/pipeline/networks.ts"
import { readRecipe } from "../src/pipeline/recipe/recipe.ts"
import { openModel } from "../src/pipeline/stable-diffusion.ts"
import { f32, isRef, value } from "../src/runtime/engine.ts"
import { nodeEngine } from "../src/runtime/node.ts"
import { noise } from "./conformance/operands.ts"
import { openGolden, relativeError } from "./golden-case.ts"

const models = join(import.meta.dirname, "golden/models")
const engine = nodeEngine()
let sd: StableDiffusion
beforeAll(async () => {
  sd = await StableDiffusion.load(join(models, "sd1-odd"), { engine, cache: null })
})
afterAll(async () => {
  await sd.release()
  await engine.close()
})

const ask: GenerateRequest = {
  prompt: "a red fox",
  steps: 6,
  seed: 5,
  width: 64,
  height: 64,
  sampler: "euler",
}
async function latents(request: Partial<GenerateRequest>): Promise<Float32Array> {
  const { trace } = await sd.generate({ ...ask, ...request }, { trace: true })
  return trace!.tensors().get("latents")!.data as Float32Array
}

const inputs = (shape: readonly number[], seed: number) =>
  f32(
    Float32Array.from({ length: shape.reduce((a, b) => a * b, 1) }, (_, i) => noise(seed * 7919 + i)),
    shape,
  )

test.each(["sd1-odd", "sd2-tiny", "sdxl-tiny"])(
  "%s: the last layer on what comes up to it is the whole network",
  async (name) => {
    const networks = new Networks(await openModel(join(models, name)), engine, "cpu")
    const { unet } = networks
    const [whole, last] = [
      await networks.denoiser(8, 16, { deep: "told" }),
      await networks.denoiser(8, 16, { deep: "given" }),
    ]
    const width = unet.down.find((l) => l.attention)!.context
    const feeds = {
      latents: inputs([2, unet.in_channels, 8, 16], 1),
      timestep: f32(Float32Array.of(421), [1]),
      context: inputs([2, 77, width], 2),
      ...(unet.addition_embed_type
        ? {
            text_embeds: inputs(
              [2, unet.projection_class_embeddings_input_dim! - unet.sizeIds * unet.addition_time_embed_dim!],
              3,
            ),
            time_ids: inputs([2, unet.sizeIds], 4),
          }
        : {}),
    }
    const { deep, ...rest } = await whole.runKeeping(feeds, ["deep"])
    expect(deep && isRef(deep)).toBe(true)
    const again = await last.run({ ...feeds, deep: deep! })
    const [a, b] = [value(again, "out").data, value(rest, "out").data] as [Float32Array, Float32Array]
    expect(relativeError(a, b)).toBeLessThan(1e-6)
    await networks.release()
  },
)

test("a cache of one step and guidance all the way change nothing", async () => {
  const plain = await latents({})
  expect(await latents({ stepCache: 1, guidanceStart: 0, guidanceEnd: 1, guidanceHold: 1 })).toEqual(plain)
  expect(await latents({ speed: "exact" })).toEqual(plain)
})

test("without any guidance on the way the picture is that of guidance scale 1", async () => {
  expect(await latents({ guidanceEnd: 0 })).toEqual(await latents({ cfg: 1 }))
  expect(await latents({ guidanceStart: 1 })).toEqual(await latents({ cfg: 1 }))
  expect(relativeError(await latents({ guidanceEnd: 0.5 }), await latents({}))).toBeGreaterThan(1e-4)
})

test("guidance that is held stays nearer to the picture than guidance that ends", async () => {
  expect(await latents({ cfg: 1, guidanceHold: 0 })).toEqual(await latents({ cfg: 1 }))
  const own = await StableDiffusion.load("embedded", { device: "cpu", engine, cache: null })
  const draw = async (request: Partial<GenerateRequest>) => {
    const { trace } = await own.generate(
      { prompt: "a red house by the sea", seed: 3, ...request },
      { trace: true },
    )
    return trace!.tensors().get("latents")!.data as Float32Array
  }
  const [plain, held, ended] = [
    await draw({}),
    await draw({ guidanceHold: 0.8 }),
    await draw({ guidanceEnd: 0.8 }),
  ]
  expect(held).not.toEqual(plain)
  expect(relativeError(held, plain)).toBeLessThan(relativeError(ended, plain) / 2)
  await own.release()
})

test("what is held belongs to one picture and to its texts", async () => {
  const both = await sd.generate({ ...ask, seed: 4, count: 2, guidanceHold: 0.3 })
  const alone = await sd.generate({ ...ask, guidanceHold: 0.3 })
  expect(await both.images[1]!.encode()).toEqual(await alone.images[0]!.encode())
  // texts that change at every call leave nothing to hold
  const prompt = "a [fox|cat]"
  expect(await latents({ prompt, guidanceHold: 0.3 })).toEqual(await latents({ prompt }))
})

test("a step cache changes the picture a little, and a picture of a batch is the picture made alone", async () => {
  const plain = await latents({})
  const cached = await latents({ stepCache: 2 })
  expect(cached).not.toEqual(plain)
  expect(relativeError(cached, plain)).toBeLessThan(0.5)
  const both = await sd.generate({ ...ask, seed: 4, count: 2, stepCache: 2 })
  const alone = await sd.generate({ ...ask, stepCache: 2 })
  expect(await both.images[1]!.encode()).toEqual(await alone.images[0]!.encode())
})

test("shortcuts go with prompts of several parts and with parts of the way without guidance", async () => {
  for (const prompt of ["a fox AND a hill :0.5", "a [fox|cat]", "a [fox:cat:0.5]"])
    expect((await latents({ prompt, speed: "fast" })).every(Number.isFinite)).toBe(true)
})

const merged = await openGolden<{
  cases: { model: string; share: number; width: number; height: number; seed: number }[]
}>(join(models, "../token-merging.safetensors"))

test.each(merged.about.cases.map((c, n) => ({ n, ...c })))(
  "merging $share of the tokens of $model is tomesd's",
  async ({ n, model, share, ...size }) => {
    const net = await StableDiffusion.load(join(models, model), { engine, cache: null })
    const asked = {
      prompt: "a fox in the snow",
      steps: 4,
      cfg: 6,

      promptSyntax: "plain",
    } as const
    const draw = async (tokenMerge: number) => {
      const { trace } = await net.generate({ ...asked, ...size, tokenMerge }, { trace: true })
      return trace!.tensors().get("latents")!.data as Float32Array
    }
    const want = merged.want(`latents.${n}`)
    expect(relativeError(await draw(share), want)).toBeLessThan(1e-3)
    expect(relativeError(await draw(0), want)).toBeGreaterThan(0.01)
    await net.release()
  },
)

test("the picture says which were taken, and is repeated with them", async () => {
  const { images } = await sd.generate({ ...ask, speed: "fast", stepCache: 3, tokenMerge: 0.4 })
  const recipe = readRecipe({ parameters: images[0]!.infotext })!
  expect(recipe.request).toMatchObject({ stepCache: 3, guidanceHold: 0.9, tokenMerge: 0.4 })
  const again = await sd.generate(recipe.request as GenerateRequest)
  expect(await again.images[0]!.encode()).toEqual(await images[0]!.encode())
})

test.each([
  { stepCache: 0 },
  { stepCache: 2.5 },
  { guidanceStart: -0.1 },
  { guidanceEnd: 2 },
  { guidanceHold: 2 },
  { tokenMerge: 0.9 },
  { speed: "warp" as "fast" },
])("%o is refused", async (wrong) => {
  await expect(latents(wrong)).rejects.toThrow(/is (0|2.5|-0.1|2|0.9|warp)/)
})
