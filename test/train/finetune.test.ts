import { createHash } from "node:crypto"
import { mkdtemp, readdir, readFile, rm, stat } from "node:fs/promises"
import { tmpdir } from "node:os"
import { join } from "node:path"
import { afterAll, beforeAll, describe, expect, test, vi } from "vitest"
import { type TrainOptions, type TrainProgress, training } from "../../src/training.ts"
import { openSafetensors } from "../../src/weights/open-file.ts"
import { writeTinyData, writeTinyModel } from "./tiny.ts"

// building the engine's networks is most of it, and takes long on a busy machine
vi.setConfig({ testTimeout: 240_000 })

let root = ""
let model = ""
beforeAll(async () => {
  root = await mkdtemp(join(tmpdir(), "aquatint-finetune-"))
  model = join(root, "base")
  await writeTinyModel(model)
  await writeTinyData(join(root, "data"))
})
afterAll(() => rm(root, { recursive: true, force: true }))

const small = {
  steps: 4,
  batch: 2,
  resolution: 16,
  validation: 0.2,
  sampleSteps: 2,
  checkpointEvery: 2,
  logEvery: 1,
  threads: 1,
}
async function run(
  options: Partial<TrainOptions> & Pick<TrainOptions, "kind">,
  until = Infinity,
): Promise<TrainProgress[]> {
  const seen: TrainProgress[] = []
  const stop = new AbortController()
  const all = {
    model,
    data: join(root, "data"),
    cache: join(root, "cache"),
    ...small,
    ...options,
  } as TrainOptions
  for await (const p of training({ ...all, out: join(root, options.out!) }, { signal: stop.signal })) {
    seen.push(p)
    if (p.phase === "train" && p.step >= until) stop.abort()
  }
  return seen
}
const hashOf = async (path: string) =>
  createHash("sha256")
    .update(await readFile(join(root, path)))
    .digest("hex")
const names = async (path: string) => [...(await openSafetensors(join(root, path))).tensors.keys()]

describe("train lora", () => {
  test("tells what it will need, learns, and leaves file, samples and report", async () => {
    const seen = await run({ kind: "lora", out: "one" })
    const plan = seen.find((p) => p.phase === "plan")!
    expect(plan.memory.parameters).toBeGreaterThan(1000)
    expect(plan.memory.total).toBeGreaterThan(plan.memory.working)
    expect(plan.pictures + plan.validation).toBe(6)
    expect(seen.filter((p) => p.phase === "train")).toHaveLength(4)
    expect(seen.at(-1)).toEqual({ phase: "done", files: [join(root, "one", "one.safetensors")] })
    const keys = await names("one/one.safetensors")
    expect(keys).toContain(
      "lora_unet_mid_block_attentions_0_transformer_blocks_0_attn1_to_q.lora_down.weight",
    )
    expect(keys.every((k) => /^lora_unet_\w+\.(alpha|lora_(down|up)\.weight)$/.test(k))).toBe(true)
    expect((await stat(join(root, "one/samples/000000004.png"))).size).toBeGreaterThan(100)
    expect(await readFile(join(root, "one/report.html"), "utf8")).toContain("validation: loss")
  })

  test("stopped and begun again ends with the same file, byte for byte", async () => {
    await run({ kind: "lora", out: "stopped/one" }, 1)
    await run({ kind: "lora", out: "stopped/one" }, 3)
    await run({ kind: "lora", out: "stopped/one" })
    expect(await hashOf("stopped/one/one.safetensors")).toBe(await hashOf("one/one.safetensors"))
  })

  test("with text encoder, convolutions, blocks, masks and every loss option", async () => {
    const seen = await run({
      kind: "lora",
      buckets: false,
      out: "rich",
      trainText: true,
      convRank: 2,
      convAlpha: 1,
      rank: 4,
      alpha: 2,
      targets: "linear",
      format: "diffusers",
      blocks: { mid_block: 0, "up_blocks.1": 2 },
      weighting: "min-snr",
      loss: "huber",
      noiseOffset: 0.05,
      flip: true,
      accumulate: 2,
      masks: join(root, "data"),
      captionShuffle: true,
      captionDropout: 0.2,
      ema: [0.9],
      schedule: "cosine",
      prediction: "v_prediction",
    })
    expect(seen.at(-1)!.phase).toBe("done")
    const keys = await names("rich/rich.safetensors")
    expect(
      keys.some((k) => k.startsWith("text_encoder.text_model.encoder.layers.0.self_attn.q_proj.lora_A")),
    ).toBe(true)
    expect(keys.some((k) => k.includes("mid_block"))).toBe(false)
    expect(keys).toContain("unet.down_blocks.0.resnets.0.conv1.lora_B.weight")
  })

  test("of other settings in a folder that was begun is refused", async () => {
    await expect(run({ kind: "lora", out: "one", seed: 2 })).rejects.toMatchObject({
      code: "CHECKPOINT_CONFIG",
    })
  })
})

describe("train", () => {
  test("text-to-image leaves a whole model, with averages and several sizes", async () => {
    const seen = await run({ kind: "text-to-image", out: "full", ema: [0.5], dtype: "fp16" })
    expect(seen.at(-1)).toEqual({ phase: "done", files: [join(root, "full/model")] })
    const before = (await openSafetensors(join(model, "unet/diffusion_pytorch_model.safetensors"))).tensors
    const after = (await openSafetensors(join(root, "full/model/unet/diffusion_pytorch_model.safetensors")))
      .tensors
    expect([...after.keys()].sort()).toEqual([...before.keys()].sort())
    for (const [name, view] of after) expect(view.shape).toEqual(before.get(name)!.shape)
    // what was trained is itself a model to train
    await run({ kind: "lora", out: "again", model: join(root, "full/model"), steps: 1 })
  })

  test("text-to-image with text encoders that learn too, from random weights", async () => {
    const seen = await run({
      kind: "text-to-image",
      buckets: false,
      out: "both",
      trainText: true,
      textRate: 0.5,
      fresh: true,
      steps: 2,
    })
    expect(seen.at(-1)!.phase).toBe("done")
    expect(await names("both/model/text_encoder/model.safetensors")).toContain(
      "text_model.embeddings.token_embedding.weight",
    )
  })

  test("vae learns, as a whole or its decoder alone", async () => {
    await run({ kind: "vae", out: "vae", crop: 16, steps: 2 })
    await run({ kind: "vae", out: "decoder", crop: 16, steps: 2, decoderOnly: true })
    const encoder = async (path: string) => {
      const { tensors } = await openSafetensors(path)
      const view = tensors.get("encoder.conv_in.weight")!
      return [...(await readFile(path)).subarray(view.offset, view.offset + view.length)].join()
    }
    const file = "model/vae/diffusion_pytorch_model.safetensors"
    expect(await encoder(join(root, "decoder", file))).not.toBe(await encoder(join(root, "vae", file)))
  })

  test("dreambooth preserves a class", async () => {
    const seen = await run({
      kind: "dreambooth",
      out: "booth",
      prompt: "a photo of sks card",
      classPrompt: "a photo of a card",
      classData: join(root, "data"),
      steps: 2,
      batch: 1,
    })
    expect(seen.at(-1)!.phase).toBe("done")
    const drawn = await run({
      kind: "dreambooth",
      out: "drawn",
      prompt: "a photo of sks card",
      classPrompt: "a photo of a card",
      classCount: 3,
      steps: 2,
      batch: 1,
    })
    expect(drawn.filter(({ phase }) => phase === "draw").map((p) => "done" in p && p.done)).toEqual([
      0, 1, 2, 3,
    ])
    const made = (await readdir(join(root, "drawn", "class"))).sort()
    expect(made).toEqual(["class-0000.png", "class-0001.png", "class-0002.png"])
    const hashes = await Promise.all(made.map((name) => hashOf(`drawn/class/${name}`)))
    expect(new Set(hashes).size).toBe(3)
    await expect(run({ kind: "dreambooth", out: "none" })).rejects.toMatchObject({ code: "TRAIN_CONFIG" })
  })

  test("textual-inversion learns a word", async () => {
    await run({
      kind: "textual-inversion",
      buckets: false,
      out: "word",
      word: "<stripes>",
      start: "picture",
      vectors: 2,
      steps: 2,
    })
    const { tensors } = await openSafetensors(join(root, "word/_stripes_.safetensors"))
    expect([...tensors].map(([name, v]) => [name, v.shape])).toEqual([["<stripes>", [2, 12]]])
  })

  test("distill leaves a model that draws in few steps", async () => {
    await run({ kind: "distill", buckets: false, out: "few", steps: 2 })
    const scheduler = JSON.parse(
      await readFile(join(root, "few/model/scheduler/scheduler_config.json"), "utf8"),
    )
    expect([scheduler._class_name, scheduler.beta_end]).toEqual(["LCMScheduler", 0.012])
  })

  test("controlnet leaves a folder, and begins without any effect", async () => {
    const seen = await run({
      kind: "controlnet",
      buckets: false,
      out: "control",
      conditions: join(root, "data"),
      steps: 2,
      rate: 1e-3,
    })
    expect(seen.at(-1)).toEqual({ phase: "done", files: [join(root, "control/controlnet")] })
    const config = JSON.parse(await readFile(join(root, "control/controlnet/config.json"), "utf8"))
    expect(config.conditioning_embedding_out_channels).toEqual([16, 32])
    expect(await names("control/controlnet/diffusion_pytorch_model.safetensors")).toContain(
      "controlnet_down_blocks.0.weight",
    )
    await expect(run({ kind: "controlnet", out: "blind" })).rejects.toMatchObject({ code: "DATA_EMPTY" })
  })

  test("an SDXL model", async () => {
    const xl = join(import.meta.dirname, "../golden/models/sdxl-tiny")
    const seen = await run({
      kind: "lora",
      buckets: false,
      out: "xl",
      model: xl,
      steps: 2,
      trainText: true,
      resolution: 64,
    })
    expect(seen.at(-1)!.phase).toBe("done")
    const keys = await names("xl/xl.safetensors")
    for (const part of ["lora_unet_", "lora_te1_", "lora_te2_"])
      expect(keys.some((k) => k.startsWith(part))).toBe(true)
  })

  test.each([
    [{ rank: -1 }, "TRAIN_CONFIG"],
    [{ resolution: 2 }, "TRAIN_CONFIG"],
    [{ blocks: { nowhere: 3 } }, "TRAIN_LORA"],
    [{ model: "/nowhere" }, "MODEL_NOT_FOUND"],
    [{ data: "/nowhere" }, "DATA_NOT_FOUND"],
  ])("refuses %j", async (change, code) => {
    await expect(run({ kind: "lora", out: "refused", ...change })).rejects.toMatchObject({
      code,
      exitCode: 2,
    })
  })
})
