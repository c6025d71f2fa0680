import fc from "fast-check"
import { expect, test } from "vitest"
import { readRecipe } from "./recipe.ts"

test("AUTOMATIC1111: its sampler labels, its automatic schedules, noise of the GPU", () => {
  const parameters = [
    "a (red:1.2) fox, <lora:ink:0.7>",
    "Negative prompt: blurry, text",
    "Steps: 25, Sampler: DPM++ 2M, Schedule type: Karras, CFG scale: 6.5, Seed: 4294967295, Size: 512x768, Model hash: 6ce0161689, Model: v1-5-pruned-emaonly, Clip skip: 2, ENSD: 31337, Version: v1.10.1",
  ].join("\n")
  expect(readRecipe({ parameters })).toMatchObject({
    program: "a1111",
    version: "v1.10.1",
    request: {
      prompt: "a (red:1.2) fox, <lora:ink:0.7>",
      negative: "blurry, text",
      steps: 25,
      sampler: "DPM++ 2M",
      schedule: "karras",
      cfg: 6.5,
      seed: 4294967295,
      width: 512,
      height: 768,
      clipSkip: 2,
      rng: "cuda",
      promptSyntax: "a1111",
    },
    model: { name: "v1-5-pruned-emaonly", hash: "6ce0161689" },
    unmet: ["ENSD: 31337"],
  })
})

test("AUTOMATIC1111: a schedule type left out is the sampler's own; RNG: CPU; hires and start pictures are told", () => {
  const of = (line: string) => readRecipe({ parameters: `a fox\n${line}` })!
  const automatic = of("Steps: 20, Sampler: DPM++ SDE, CFG scale: 7, Seed: 1, Size: 64x64, RNG: CPU")
  expect(automatic.request).toMatchObject({
    sampler: "DPM++ SDE",
    schedule: "karras",
    rng: "cpu",
    clipSkip: 1,
  })
  const euler = of("Steps: 20, Sampler: Euler a, Schedule type: Automatic, Seed: 1, Size: 64x64")
  expect(euler.request).toMatchObject({ sampler: "Euler a", schedule: "normal" })
  const hires = of(
    "Steps: 20, Sampler: Nonesuch, Seed: 1, Size: 64x64, Denoising strength: 0.4, Hires upscale: 2",
  )
  expect(hires.unmet).toEqual(["sampler Nonesuch is not known"])
  expect(hires.request.hires).toEqual({ scale: 2, strength: 0.4 })
  const repaint = of("Steps: 20, Seed: 1, Size: 64x64, Denoising strength: 0.4, Mask blur: 4")
  expect(repaint.unmet).toEqual([])
  expect(repaint.start).toEqual({ strength: 0.4, mask: { maskBlur: 4 } })
  const more = of(
    'Steps: 20, Sampler: Euler a, Seed: 1, Size: 64x64, Variation seed: 5, Variation seed strength: 0.2, Seed resize from: 48x32, Denoising strength: 0.5, Hires resize: 96x0, Hires steps: 8, Hires upscaler: Latent (nearest-exact), Hires sampler: DPM++ 2M, Hires CFG Scale: 5, Hires prompt: "a fox, sharp"',
  )
  expect(more.request).toMatchObject({
    variationSeed: 5,
    variationStrength: 0.2,
    seedFrom: { width: 48, height: 32 },
    hires: {
      width: 96,
      upscaler: "Latent (nearest-exact)",
      steps: 8,
      strength: 0.5,
      sampler: "DPM++ 2M",
      schedule: "karras",
      cfg: 5,
      prompt: "a fox, sharp",
    },
  })
  expect("sampler" in hires.request).toBe(false)
})

test("our own pictures: the model's scheduler stays when no sampler was named", () => {
  const parameters =
    "a fox\nSteps: 20, CFG scale: 7.5, Seed: 3, Size: 64x64, RNG: CPU, Version: aquatint 0.1.0"
  const found = readRecipe({ parameters })!
  expect(found.program).toBe("aquatint")
  expect(found.request).toEqual({
    prompt: "a fox",
    steps: 20,
    cfg: 7.5,
    seed: 3,
    width: 64,
    height: 64,
    rng: "cpu",
    promptSyntax: "a1111",
  })
})

const comfy = {
  3: {
    class_type: "KSampler",
    inputs: {
      seed: 156680208700286,
      steps: 20,
      cfg: 8,
      sampler_name: "dpmpp_2m",
      scheduler: "karras",
      denoise: 1,
      model: ["10", 0],
      positive: ["6", 0],
      negative: ["7", 0],
      latent_image: ["5", 0],
    },
  },
  4: { class_type: "CheckpointLoaderSimple", inputs: { ckpt_name: "dreamshaper_8.safetensors" } },
  5: { class_type: "EmptyLatentImage", inputs: { width: 512, height: 640, batch_size: 1 } },
  6: { class_type: "CLIPTextEncode", inputs: { text: "a (glass:1.1) bottle", clip: ["11", 0] } },
  7: { class_type: "CLIPTextEncode", inputs: { text: ["12", 0], clip: ["11", 0] } },
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
  11: { class_type: "CLIPSetLastLayer", inputs: { stop_at_clip_layer: -2, clip: ["10", 1] } },
  12: { class_type: "PrimitiveStringMultiline", inputs: { value: "watermark" } },
}

test("ComfyUI: prompts, model, size and adapters are found by their links", () => {
  const found = readRecipe({ prompt: JSON.stringify(comfy) })!
  expect(found).toMatchObject({
    program: "comfyui",
    request: {
      prompt: "a (glass:1.1) bottle",
      negative: "watermark",
      steps: 20,
      cfg: 8,
      sampler: "dpmpp_2m",
      schedule: "karras",
      width: 512,
      height: 640,
      clipSkip: 2,
      rng: "cpu",
      promptSyntax: "comfy",
    },
    model: { name: "dreamshaper_8.safetensors" },
    loras: [{ name: "ink.safetensors", weight: 0.6 }],
  })
  expect(found.unmet).toEqual(["seed 156680208700286 is not one of 32 bits"])
})

test("a graph that bites its own tail ends", () => {
  const loop = {
    1: {
      class_type: "KSampler",
      inputs: { seed: 1, model: ["1", 0], positive: ["1", 0], latent_image: ["2", 0] },
    },
    2: { class_type: "X", inputs: { a: ["1", 0], b: ["2", 0] } },
  }
  expect(readRecipe({ prompt: JSON.stringify(loop) })?.unmet).toContain(
    "no prompt was found on the way to its sampler",
  )
})

test("InvokeAI: flat facts in Compel's grammar, clip skip counted from nought", () => {
  const meta = {
    app_version: "5.0.0",
    positive_prompt: "a fox++",
    negative_prompt: "",
    seed: 7,
    steps: 30,
    cfg_scale: 7.5,
    scheduler: "dpmpp_2m_k",
    width: 512,
    height: 512,
    clip_skip: 1,
    rand_device: "cpu",
    model: { name: "dreamshaper", hash: "blake3:ab" },
    loras: [{ model: { name: "ink" }, weight: 0.75 }],
  }
  expect(readRecipe({ texts: { invokeai_metadata: JSON.stringify(meta) } })).toMatchObject({
    program: "invokeai",
    request: {
      prompt: "a fox++",
      sampler: "dpmpp-2m",
      schedule: "karras",
      clipSkip: 2,
      promptSyntax: "compel",
      rng: "cpu",
    },
    loras: [{ name: "ink", weight: 0.75 }],
    unmet: [],
  })
})

test("stable-diffusion.cpp: one label for sampler and schedule, noise as it names it", () => {
  const parameters =
    "a fox\nSteps: 20, CFG scale: 7.000000, Seed: 42, Size: 512x512, Sampler: euler_a karras, RNG: std_default, Version: stable-diffusion.cpp"
  const found = readRecipe({ parameters })!
  expect([found.program, found.request.rng, found.request.cfg]).toEqual(["sd.cpp", "cpu", 7])
})

test("foreign text never throws", () => {
  const anything = fc.oneof(fc.string(), fc.json(), fc.string({ unit: "binary" }))
  fc.assert(
    fc.property(anything, anything, anything, (parameters, prompt, invokeai_metadata) => {
      for (const metadata of [{ parameters }, { prompt }, { texts: { invokeai_metadata } }])
        readRecipe(metadata)
    }),
    { numRuns: 2000 },
  )
})
