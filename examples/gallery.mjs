// The pictures of README.md and of the model card: fixed prompts, picture i with seed i, nothing chosen or retouched.
//   npm run build && node examples/gallery.mjs [docs/embedded.png]
import { writeFile } from "node:fs/promises"
import { encodeImage, labelledGrid, StableDiffusion } from "../dist/index.js"

const prompts = [
  "a red lighthouse by the sea at night, flat style",
  "ein roter Leuchtturm am Meer bei Nacht, flacher Stil",
  "a blue sailboat on the sea at sunset",
  "drei grüne Bäume in den Bergen am Tag",
  "a yellow house in the snow by night",
  "a pink hot-air balloon over the hills by day",
  "ein lila Kaktus in der Wüste bei Sonnenuntergang",
  "a white cat in the hills by day, pastel",
  "an orange tent in the mountains at night, neon",
  "a red mushroom in the forest, outline style",
  "zwei Windmühlen in den Hügeln am Tag",
  "a green castle by the sea at dawn",
  "a blue rocket in the desert at night",
  "ein gelbes Auto in der Stadt bei Regen",
  "a black bird in the snow, linocut",
  "a purple flower to the left of a white house",
]

const sd = await StableDiffusion.load("embedded", { device: "cpu" })
const pictures = []
for (const [seed, prompt] of prompts.entries()) {
  const { images } = await sd.generate({ prompt, seed })
  pictures.push(images[0].picture)
  console.log(`seed ${String(seed).padStart(2)}  ${prompt}`)
}
await sd.release()
const blank = ["", "", "", ""]
const grid = await labelledGrid({ columns: blank, rows: blank, pictures })
await writeFile(process.argv[2] ?? "docs/embedded.png", await encodeImage(grid, { format: "png" }))
