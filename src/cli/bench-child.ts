import { createInterface } from "node:readline"
import { type GenerateRequest, type GenerateStep, StableDiffusion, version } from "../index.ts"

/*
 * The measured process of `aquatint bench`: aquatint through its public calls. It answers lines on stdin:
 * `step SIZE BATCH` does one guided step (two rows a picture), `decode SIZE` one VAE decode; each answer is `{"seconds"}`.
 * bench/peers/ holds the same protocol for other programs.
 */

const [model = "", prompt = "", dtype = "fp32", speed = "exact"] = process.argv.slice(2)
const seconds = () => performance.now() / 1000
const answer = (value: object) => process.stdout.write(`${JSON.stringify(value)}\n`)

const sd = await StableDiffusion.load(model, { device: "cpu", dtype: dtype === "int8" ? "int8" : "fp32" })
const walks = new Map<string, AsyncIterator<GenerateStep>>()

const ask = (size: number, more: Partial<GenerateRequest>): GenerateRequest => ({
  prompt,
  seed: 7,
  width: size,
  height: size,
  sampler: "ddim",
  speed: speed === "fast" ? "fast" : "exact",
  ...more,
})

/** Steps whose mean is one: with a step cache they differ by turns. */
const period = speed === "fast" ? 2 : 1

/** The next steps of a long generation, their mean; the first one also loads what it needs. */
async function step(size: number, count: number): Promise<number> {
  const key = `${size} ${count}`
  const walk =
    walks.get(key) ?? sd.generate(ask(size, { count, steps: 500, cfg: 7.5 }))[Symbol.asyncIterator]()
  walks.set(key, walk)
  const began = seconds()
  for (let steps = 0; ; ) {
    const { value, done } = await walk.next()
    if (!done && value.phase === "denoise") steps++
    if (done || steps === period) return (seconds() - began) / period
  }
}

/** The end of a generation of one unguided step. */
async function decode(size: number): Promise<number> {
  let began = 0
  for await (const { phase } of sd.generate(ask(size, { steps: 1, cfg: 1 })))
    if (phase === "decode") began = seconds()
  return seconds() - began
}

answer({ versions: { aquatint: version, node: process.version } })
for await (const line of createInterface({ input: process.stdin })) {
  const [what, size, batch] = line.split(" ")
  answer({ seconds: await (what === "step" ? step(Number(size), Number(batch)) : decode(Number(size))) })
}
await sd.release()
process.exit(0)
