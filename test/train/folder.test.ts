import { mkdtemp, readdir, readFile, rm, writeFile } from "node:fs/promises"
import { tmpdir } from "node:os"
import { join } from "node:path"
import { afterAll, beforeAll, expect, test } from "vitest"
import { AutoencoderKL, ClipText, clipConfig, UNet, unetConfig, vaeConfig } from "../../src/models/index.ts"
import { expected, type Module } from "../../src/nn/index.ts"
import { StableDiffusion } from "../../src/pipeline/stable-diffusion.ts"
import { nodeEngine } from "../../src/runtime/node.ts"
import { freshWeights } from "../../src/train/init.ts"
import { Judge } from "../../src/train/judge.ts"
import { writeModelFolder } from "../../src/train/stages/folder.ts"
import { textModel } from "../../src/train/stages/text.ts"
import { readWords, writeWords } from "../../src/train/stages/words.ts"
import { bundledStage } from "../../src/train/stages.ts"
import { openFolder } from "../../src/weights/folder.ts"

let root: string
beforeAll(async () => {
  root = await mkdtemp(join(tmpdir(), "aquatint-folder-"))
})
afterAll(() => rm(root, { recursive: true, force: true }))

const weights = (net: Module) => freshWeights(expected(net), 3)

/** The embedded model's folder with untrained weights, or one that takes all but the U-Net from a folder beside it. */
async function untrained(name = "model", lender?: string): Promise<string> {
  const words = join(root, "words")
  await writeWords(words, { size: 700, context: 40, captions: 300, seed: 1 })
  const [text, unet, vae] = await Promise.all(["text", "unet-128", "vae"].map(bundledStage))
  if (text?.kind !== "text" || unet?.kind !== "unet" || vae?.kind !== "vae") throw new Error("stages changed")
  const textConfig = textModel(text, await readWords(words))
  await writeModelFolder(join(root, name), {
    unet: { config: unet.model, weights: weights(new UNet(unetConfig(unet.model))) },
    vae: { config: vae.model, weights: weights(new AutoencoderKL(vaeConfig(vae.model))) },
    text: { config: textConfig, weights: weights(new ClipText(clipConfig(textConfig))) },
    words,
    size: 64,
    defaults: { steps: 3, cfg: lender ? 1 : 4 },
    lender,
  })
  return join(root, name)
}

test("a trained model's folder is one that generate draws from, by its own defaults", async () => {
  const engine = nodeEngine()
  const sd = await StableDiffusion.load(await untrained(), { device: "cpu", engine })
  const steps: number[] = []
  for await (const step of sd.generate({ prompt: "ein rotes Haus am Meer", seed: 1 }))
    if (step.phase === "denoise") steps.push(step.steps)
  expect(steps).toEqual([3, 3, 3])
  const { images } = await sd.generate({ prompt: "a red house by the sea", seed: 1 })
  expect([images[0]!.width, images[0]!.height]).toEqual([64, 64])
  expect(images[0]!.infotext).toContain("CFG scale: 4")
  await sd.release()
  await engine.close()
})

test("a folder can take its other parts from a model beside it, and from nowhere else", async () => {
  await untrained()
  const fast = await untrained("fast", "model")
  expect((await readdir(fast)).sort()).toEqual(["model_index.json", "scheduler", "unet"])
  const files = await openFolder(fast)
  expect([...files.components.keys()]).toEqual(["unet", "vae", "text_encoder"])
  expect(files.tokenizers.get("tokenizer")).toBe(join(root, "model", "tokenizer"))
  const whole = await openFolder(join(root, "model"))
  expect(files.components.get("vae")!.weights).toEqual(whole.components.get("vae")!.weights)
  const index = JSON.parse(await readFile(join(fast, "model_index.json"), "utf8"))
  for (const from of ["../../model/vae", "/etc/vae", "../../vae", "vae", 7]) {
    index._aquatint.parts.vae = from
    await writeFile(join(fast, "model_index.json"), JSON.stringify(index))
    await expect(openFolder(fast)).rejects.toMatchObject({ code: "FOLDER_PARTS" })
  }
})

test("without a classifier there is no evaluation", async () => {
  const engine = nodeEngine()
  await expect(Judge.open(engine, join(root, "none"))).rejects.toMatchObject({ code: "CLASSIFIER_MISSING" })
  await engine.close()
})
