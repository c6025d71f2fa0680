// A new style from twenty pictures: teaches the built-in model to draw blueprints and checks that it does, also for what
// was not among the twenty. About two minutes on two cores.   npm run build && node examples/style-lora.mjs [folder]
import { mkdtempSync } from "node:fs"
import { mkdir, readdir, readFile, writeFile } from "node:fs/promises"
import { tmpdir } from "node:os"
import { join } from "node:path"
import { decodeImage, encodeImage, StableDiffusion, toRgb } from "../dist/index.js"
import { drawDataset, evaluationPrompts, training } from "../dist/training.js"

const folder = process.argv[2] ?? mkdtempSync(join(tmpdir(), "style-lora-"))
const [scenes, pictures, out] = ["scenes", "pictures", "lora"].map((name) => join(folder, name))

/** The style: one scale from dark blue to paper, by a pixel's brightness. */
const [ink, paper] = [
  [20, 40, 110],
  [245, 240, 220],
]
function blueprint({ width, height, data }) {
  const made = new Uint8Array(data.length)
  for (let i = 0; i < data.length; i += 3) {
    const light = (0.3 * data[i] + 0.59 * data[i + 1] + 0.11 * data[i + 2]) / 255
    for (let c = 0; c < 3; c++) made[i + c] = Math.round(ink[c] + (paper[c] - ink[c]) * light)
  }
  return { width, height, channels: 3, data: made }
}

/** How far colours lie from that scale, 0 to 255: small in a blueprint, whatever its light. */
function colourfulness({ data }) {
  const way = paper.map((v, c) => v - ink[c])
  const long = Math.hypot(...way)
  let sum = 0
  for (let i = 0; i < data.length; i += 3) {
    const from = ink.map((v, c) => data[i + c] - v)
    const along = from.reduce((s, v, c) => s + (v * way[c]) / long, 0)
    sum += Math.sqrt(Math.max(0, from.reduce((s, v) => s + v * v, 0) - along ** 2))
  }
  return (3 * sum) / data.length
}

const sd = await StableDiffusion.load("embedded", { device: "cpu" })
const { width: size } = (await sd.generate({ prompt: "", steps: 1, seed: 0 })).images[0]

await mkdir(pictures, { recursive: true })
for await (const _ of drawDataset({
  out: scenes,
  count: 20,
  size,
  seed: 5,
  format: "captions",
  language: "en",
}));
const drawn = (await readdir(scenes, { recursive: true })).filter((name) => name.endsWith(".png"))
for (const name of drawn) {
  const short = name.split(/[\\/]/).at(-1)
  const scene = toRgb(await decodeImage(await readFile(join(scenes, name))))
  await writeFile(join(pictures, short), await encodeImage(blueprint(scene), { format: "png" }))
  await writeFile(
    join(pictures, short.replace(".png", ".txt")),
    await readFile(join(scenes, name.replace(".png", ".txt"))),
  )
}

const began = performance.now()
for await (const { phase, step, steps, loss } of training({
  kind: "lora",
  model: "embedded",
  data: pictures,
  out,
  steps: 300,
  batch: 4,
  rate: 0.002,
  rank: 16,
  convRank: 16,
  resolution: size,
  captionDropout: 0.1,
  flip: true,
}))
  if (phase === "train" && step % 50 === 0) console.log(`step ${step} of ${steps}  loss ${loss.toFixed(3)}`)
console.log(`trained in ${((performance.now() - began) / 1000).toFixed(0)} s`)

// combinations that are in no training picture of the model; a night is blue by itself
const path = join(out, "lora.safetensors")
const asked = evaluationPrompts(40, 3, "en")
  .filter(({ spec }) => spec.time !== "night")
  .slice(0, 8)
const rows = []
for (const [i, { prompt }] of asked.entries()) {
  const draw = async (weight) =>
    (await sd.generate({ prompt, seed: i, ...(weight === null ? {} : { loras: [{ file: path, weight }] }) }))
      .images[0]
  const [plain, none, styled] = [await draw(null), await draw(0), await draw(1)]
  if (!plain.picture.data.every((v, n) => v === none.picture.data[n]))
    throw new Error("a weight of 0 changed a picture")
  await styled.save(join(folder, `${i}-styled.png`))
  await plain.save(join(folder, `${i}-plain.png`))
  rows.push({ prompt, before: colourfulness(plain.picture), after: colourfulness(styled.picture) })
}
await sd.release()
for (const { prompt, before, after } of rows)
  console.log(`${before.toFixed(1).padStart(5)} -> ${after.toFixed(1).padStart(5)}  ${prompt}`)
const changed = rows.filter(({ before, after }) => after < before / 2).length
console.log(`${changed} of ${rows.length} held-out pictures took the style; they are in ${folder}`)
if (changed < rows.length - 1) process.exit(1)
