import { expect, test } from "vitest"
import type { ImageMetadata } from "../src/image/metadata.ts"
import { encodeImage, type Picture, readMetadata, readRecipe } from "../src/index.ts"

/** What each program writes, through the files it may be in, to the recipe that `generate --from` repeats. */
const picture: Picture = { width: 8, height: 8, channels: 3, data: new Uint8ClampedArray(192).fill(90) }
const graph = {
  3: {
    class_type: "KSampler",
    inputs: {
      ...{ seed: 7, steps: 12, cfg: 6, sampler_name: "euler", scheduler: "normal", denoise: 1 },
      ...{ model: ["10", 0], positive: ["6", 0], negative: ["7", 0], latent_image: ["5", 0] },
    },
  },
  4: { class_type: "CheckpointLoaderSimple", inputs: { ckpt_name: "dreamshaper_8.safetensors" } },
  5: { class_type: "EmptyLatentImage", inputs: { width: 512, height: 640, batch_size: 1 } },
  6: { class_type: "CLIPTextEncode", inputs: { text: "a (glass:1.1) bottle, 日本", clip: ["10", 1] } },
  7: { class_type: "CLIPTextEncode", inputs: { text: "blurry", clip: ["10", 1] } },
  10: {
    class_type: "LoraLoader",
    inputs: {
      lora_name: "ink.safetensors",
      strength_model: 0.6,
      strength_clip: 1,
      model: ["4", 0],
      clip: ["4", 1],
    },
  },
}
const invoke = {
  ...{
    app_version: "5.0.0",
    positive_prompt: "a fox++",
    negative_prompt: "",
    seed: 7,
    steps: 30,
    cfg_scale: 7.5,
  },
  ...{
    scheduler: "euler",
    width: 512,
    height: 512,
    model: { name: "dreamshaper" },
    loras: [{ model: { name: "ink" }, weight: 0.75 }],
  },
}
const written: Record<string, [metadata: ImageMetadata, recipe: object]> = {
  a1111: [
    {
      parameters:
        "a (red:1.2) fox, 日本 <lora:ink:0.7>\nNegative prompt: blurry\nSteps: 25, Sampler: DPM++ 2M, Schedule type: Karras, CFG scale: 6.5, Seed: 9, Size: 512x768, Model: dreamshaper_8, Emphasis: No norm, Version: v1.10.1",
    },
    {
      request: { sampler: "DPM++ 2M", schedule: "karras", seed: 9, emphasis: "no-norm", rng: "cuda" },
      model: { name: "dreamshaper_8" },
    },
  ],
  comfyui: [
    { prompt: JSON.stringify(graph), workflow: "{}" },
    {
      request: { prompt: "a (glass:1.1) bottle, 日本", seed: 7, rng: "cpu" },
      loras: [{ name: "ink.safetensors", weight: 0.6 }],
    },
  ],
  invokeai: [
    { texts: { invokeai_metadata: JSON.stringify(invoke) } },
    {
      request: { prompt: "a fox++", promptSyntax: "compel", seed: 7 },
      loras: [{ name: "ink", weight: 0.75 }],
    },
  ],
  "sd.cpp": [
    {
      parameters:
        "a fox\nSteps: 20, CFG scale: 7.000000, Seed: 42, Size: 512x512, Sampler: euler_a karras, RNG: cuda, Version: stable-diffusion.cpp",
    },
    {
      request: {
        ...{ prompt: "a fox", steps: 20, cfg: 7, seed: 42, rng: "cuda" },
        ...{ sampler: "euler-a", schedule: "karras" },
      },
      unmet: [],
    },
  ],
  aquatint: [
    {
      parameters:
        "(x) fox\nSteps: 20, CFG scale: 7, Seed: 4, Size: 64x64, RNG: CPU, Prompt syntax: plain, Adapters: <lora:ink:0.5:1>, Eta DDIM: 0.4, Refiner: finer, Refiner switch at: 0.7, Version: aquatint 0.1.0".replace(
          "<lora:ink:0.5:1>",
          '"<lora:ink:0.5:1>"',
        ),
    },
    {
      request: { prompt: "(x) fox", promptSyntax: "plain", eta: 0.4 },
      loras: [{ name: "ink", weight: 1, text: 0.5 }],
      refiner: { name: "finer", at: 0.7 },
    },
  ],
}

const cases = Object.keys(written).flatMap((program) =>
  (["png", "jpeg", "webp"] as const).map((format) => [program, format] as const),
)

test.each(cases)("%s in %s", async (program, format) => {
  const [metadata, recipe] = written[program]!
  const bytes = await encodeImage(picture, { format, metadata })
  expect(readRecipe(await readMetadata(bytes))).toMatchObject({ program, ...recipe })
})

test("start pictures, SD upscale and pictures enlarged afterwards", () => {
  const of = (line: string) => readRecipe({ parameters: `a fox\nSteps: 20, Seed: 1, Size: 64x64, ${line}` })!
  expect(
    of("Denoising strength: 0.3, SD upscale overlap: 48, SD upscale upscaler: 4x-UltraSharp").start,
  ).toEqual({
    ...{ strength: 0.3, mask: {}, sdUpscale: { overlap: 48 }, upscaler: "4x-UltraSharp" },
  })
  expect(of("Postprocess upscale by: 2, Postprocess upscaler: a/b/4x.pth").request).toMatchObject({
    upscale: 2,
    upscaler: "4x.pth",
  })
  expect(
    of(
      "Denoising strength: 0.6, Mask blur: 4, Inpaint area: Only masked, Masked area padding: 32, Masked content: latent noise",
    ).start,
  ).toEqual({
    strength: 0.6,
    mask: { maskBlur: 4, inpaintArea: "masked", maskPadding: 32, fill: "latent-noise" },
  })
  expect(of("Refiner: sd_xl_refiner_1.0 [7440042bbd], Refiner switch at: 0.8").refiner).toEqual({
    name: "sd_xl_refiner_1.0",
    hash: "7440042bbd",
    at: 0.8,
  })
  expect(of("VAE hash: 735e4c3a44, VAE: sd/vae-ft-mse.safetensors").vae).toEqual({
    name: "vae-ft-mse.safetensors",
    hash: "735e4c3a44",
  })
  expect(of("VAE: None").vae).toBeUndefined()
  // what Civitai's extension adds; A1111's own lists go before it
  const hashes = '{"model": "6ce0161689", "lora:ink": "aabbccdd11", "embed:dot": "1122334455"}'
  const civitai = of(`Lora hashes: "ink: 0123456789ab", Hashes: ${JSON.stringify(hashes)}`)
  expect([civitai.model.hash, civitai.hashes]).toEqual([
    "6ce0161689",
    { loras: { ink: "0123456789ab" }, embeddings: { dot: "1122334455" } },
  ])
})

test("what is repeated is not told, and what is not is", () => {
  const of = (line: string) => readRecipe({ parameters: `a fox\nSteps: 20, Seed: 1, Size: 64x64, ${line}` })!
  expect(of("Token merging ratio: 0.5")).toMatchObject({ request: { tokenMerge: 0.5 }, unmet: [] })
  for (const field of ["ENSD: 31337", "NGMS: 1", "Schedule max sigma: 20", "Mask mode: Inpaint not masked"])
    expect(of(field).unmet).toEqual([field])
  const cpp = (sampler: string) => of(`Sampler: ${sampler}, Version: stable-diffusion.cpp`)
  expect(cpp("dpm++2m discrete").request).toMatchObject({ sampler: "dpmpp-2m", schedule: "normal" })
  expect(cpp("ddim_trailing").request).toMatchObject({ sampler: "ddim", schedule: "trailing" })
  expect(cpp("dpm++2mv2 karras").unmet).toEqual(["sampler dpm++2mv2 karras is not known"])
})
