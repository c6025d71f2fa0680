import { mkdtempSync, rmSync } from "node:fs"
import { copyFile, writeFile } from "node:fs/promises"
import { tmpdir } from "node:os"
import { join } from "node:path"
import { afterAll, describe, expect, test } from "vitest"
import { type Picture, StableDiffusion } from "../../src/index.ts"
import { bind, expected } from "../../src/nn/index.ts"
import { nodeEngine } from "../../src/runtime/node.ts"
import { Classifier } from "../../src/train/classifier.ts"
import { drawScene, evaluationPrompts, type SceneSpec } from "../../src/train/corpus/index.ts"
import { type EvaluationOptions, evaluate } from "../../src/train/evaluation.ts"
import { freshWeights } from "../../src/train/init.ts"
import { attributes } from "../../src/train/score.ts"
import { writeSafetensors } from "../../src/weights/write.ts"

const engine = nodeEngine()
const root = mkdtempSync(join(tmpdir(), "aquatint-evaluation-"))
afterAll(async () => {
  await engine.close()
  rmSync(root, { recursive: true })
})

const few = { prompts: 48, seed: 5, own: 160, reconstructions: 2, folder: undefined, size: 128 }
const scene = (spec: SceneSpec): Picture => {
  const { data } = drawScene(spec, 128)
  return { width: 128, height: 128, channels: 3, data: new Uint8ClampedArray(data) }
}
/** What an ideal model would draw. */
const specs = new Map(
  [...evaluationPrompts(24, 5, "en"), ...evaluationPrompts(24, 6, "de")].map((p) => [p.prompt, p.spec]),
)
const ideal: EvaluationOptions["draw"] = async (prompt, seed) => scene({ ...specs.get(prompt)!, seed })

test("an ideal model is scored right in everything, by a classifier that is right itself", async () => {
  const found = await evaluate(engine, { ...few, draw: ideal })
  for (const [question, share] of Object.entries(found.classifier))
    expect(share.share, question).toBeGreaterThanOrEqual(0.97)
  expect(found.refused).toEqual([])
  for (const name of attributes) expect(found.all[name]!.share, name).toBeGreaterThanOrEqual(0.95)
  expect(found.all.subject!.of).toBe(48)
  expect(found.composition.de.subject!.of).toBe(24)
  expect(found.reconstruction).toBeNull()
  expect(found.diversity.samePrompt).toBeLessThan(found.diversity.differentPrompts)
})

test("a model that draws other things than it is asked is found out", async () => {
  const all = [...specs.values()]
  const other: EvaluationOptions["draw"] = async (prompt, seed) => {
    const at = all.indexOf(specs.get(prompt)!)
    return scene({ ...all[(at + 11) % all.length]!, seed })
  }
  const found = await evaluate(engine, { ...few, own: 32, draw: other })
  expect(found.all.subject!.share).toBeLessThan(0.4)
  expect(found.all.place!.share).toBeLessThan(0.6)
})

test("a classifier that is seldom right judges nobody", async () => {
  const config = { channels: [8, 8, 8], groups: 4, size: 32 }
  const net = bind(new Classifier(config))
  await writeFile(join(root, "config.json"), JSON.stringify(config))
  const shapes = expected(net)
  const tensors = [...freshWeights(shapes, 1)].map(([name, data]) => {
    const bytes = new Uint8Array(data.buffer)
    return { name, dtype: "F32" as const, shape: shapes.get(name)!, bytes }
  })
  await writeSafetensors(join(root, "model.safetensors"), tensors)
  const found = await evaluate(engine, { ...few, prompts: 8, own: 64, classifier: root, draw: ideal })
  expect(found.refused).toContain("place")
  expect(found.refused).toContain("kind left")
  expect(found.all).not.toHaveProperty("place")
  expect(found.all).not.toHaveProperty("subject")
  expect(found.composition.en).not.toHaveProperty("colour")
})

describe("a folder that is no classifier", () => {
  const options = { ...few, draw: ideal }
  test("is named, with what to do", async () => {
    await expect(evaluate(engine, { ...options, classifier: join(root, "none") })).rejects.toMatchObject({
      code: "CLASSIFIER_MISSING",
      hint: expect.stringContaining("classifier"),
    })
  })
  test("or whose weights are of another network", async () => {
    const folder = mkdtempSync(join(tmpdir(), "aquatint-evaluation-"))
    await copyFile(join(root, "model.safetensors"), join(folder, "model.safetensors"))
    await writeFile(join(folder, "config.json"), '{"channels":[8,8],"groups":4,"size":32}')
    await expect(evaluate(engine, { ...options, classifier: folder })).rejects.toMatchObject({
      code: "WEIGHTS_DO_NOT_FIT",
    })
    rmSync(folder, { recursive: true })
  })
})

test("the embedded model draws what held-out prompts ask for", async () => {
  const sd = await StableDiffusion.load("embedded", { device: "cpu", engine, cache: null })
  const draw: EvaluationOptions["draw"] = async (prompt, seed) =>
    (await sd.generate({ prompt, seed, promptSyntax: "plain" })).images[0]!.picture
  const { all } = await evaluate(engine, { ...few, own: 32, draw })
  await sd.release()
  const least = { place: 0.9, time: 0.9, style: 0.85, subject: 0.75, position: 0.7, colour: 0.6 } as const
  for (const [name, share] of Object.entries(least))
    expect(all[name as keyof typeof least]!.share, name).toBeGreaterThan(share)
})
