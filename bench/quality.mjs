// How far the faster ways of drawing lie from the exact one: the same prompts and seeds by the built-in model, compared
// by PSNR (median, and the lowest tenth), with the time of a picture beside and, for a model of the built-in corpus,
// with how often the classifier finds what was asked for.
//   npm run build && node bench/quality.mjs [prompts, 100] [model, embedded] [ways, all]
import { StableDiffusion } from "../dist/index.js"
import { evaluationPrompts, Judge, scoreScene, spawnEngine, tally } from "../dist/training.js"

const [count, model] = [Number(process.argv[2] ?? 100), process.argv[3] ?? "embedded"]
const judge = await Judge.open(spawnEngine())
const prompts = [
  ...evaluationPrompts(Math.ceil(count / 2), 1, "en"),
  ...evaluationPrompts(count >> 1, 2, "de"),
]

/** Each way: how the model is loaded, and what is asked of it. */
const ways = {
  int8: [{ dtype: "int8" }, {}],
  "speed fast": [{}, { speed: "fast" }],
  "step cache 2": [{}, { stepCache: 2 }],
  "guidance held from 0.8": [{}, { guidanceHold: 0.8 }],
  "guidance until 0.9": [{}, { guidanceEnd: 0.9 }],
  "half of the tokens merged": [{}, { tokenMerge: 0.5 }],
}

async function pictures(load, ask) {
  const sd = await StableDiffusion.load(model, { device: "cpu", ...load })
  await sd.generate({ prompt: prompts[0].prompt, seed: 0, ...ask }) // builds the networks
  const [made, scores] = [[], []]
  const began = performance.now()
  for (const [seed, { prompt }] of prompts.entries()) {
    const { images } = await sd.generate({ prompt, seed, promptSyntax: "plain", ...ask })
    made.push(images[0].picture)
  }
  const seconds = (performance.now() - began) / 1000 / prompts.length
  await sd.release()
  for (const [i, { answers }] of (await judge.look(made)).entries())
    scores.push(scoreScene(prompts[i].spec, answers))
  return { made: made.map((p) => p.data), seconds, score: tally(scores) }
}

/** Shares of the attributes, with the 95 % interval of each. */
const composition = (score) =>
  ["subject", "colour", "position", "count", "place", "style"]
    .map((name) => {
      const { share, low, high } = score[name]
      return `${name} ${[share, low, high].map((v) => Math.round(100 * v)).join(" ")}`
    })
    .join(", ")

function psnr(a, b) {
  const error = a.reduce((sum, v, i) => sum + (v - b[i]) ** 2, 0) / a.length
  return error === 0 ? Number.POSITIVE_INFINITY : 10 * Math.log10(255 ** 2 / error)
}

const exact = await pictures({}, {})
console.log(`${prompts.length} prompts, exact: ${exact.seconds.toFixed(2)} s a picture`)
console.log(`  right in %, and its interval: ${composition(exact.score)}`)
const asked = process.argv.slice(4)
for (const [name, [load, ask]] of Object.entries(ways)) {
  if (asked.length > 0 && !asked.includes(name)) continue
  const { made, seconds, score } = await pictures(load, ask)
  const found = made.map((data, i) => psnr(data, exact.made[i])).sort((a, b) => a - b)
  const at = (share) => found[Math.floor(share * found.length)].toFixed(1)
  console.log(
    `${name.padEnd(26)} PSNR median ${at(0.5)} dB, lowest tenth ${at(0.1)} dB; ${(exact.seconds / seconds).toFixed(2)}x as fast`,
  )
  console.log(`  ${composition(score)}`)
}
process.exit(0)
