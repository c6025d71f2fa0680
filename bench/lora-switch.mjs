// What a change of LoRAs costs on Stable Diffusion 1.5: node bench/lora-switch.mjs MODEL [--rank 16] [--size 256] [--conv]
// For each picture: seconds from the request to the end of its first step, and how much more that is than for the
// same adapters again. The model lives on, as in the server or in one command of several prompts. The LoRAs are made up
// (random factors beside every linear layer of the transformers; --conv: beside the 3x3 convolutions too). --expect loads
// the model as the server does when it has LoRAs: with room for them from the start.
import { mkdtempSync, rmSync, writeFileSync } from "node:fs"
import { loadavg, tmpdir } from "node:os"
import { join } from "node:path"
import { parseArgs } from "node:util"
import { StableDiffusion } from "../dist/index.js"

const { values, positionals } = parseArgs({
  allowPositionals: true,
  options: {
    rank: { type: "string", default: "16" },
    size: { type: "string", default: "256" },
    cfg: { type: "string", default: "1" },
    conv: { type: "boolean", default: false },
    rounds: { type: "string", default: "1" },
    dtype: { type: "string", default: "fp32" },
    expect: { type: "boolean", default: false },
  },
})
const [model] = positionals
if (!model)
  throw new Error("usage: node bench/lora-switch.mjs MODEL [--rank N] [--size PIXELS] [--conv] [--rounds N]")
const [rank, size, rounds] = [values.rank, values.size, values.rounds].map(Number)

/** Layers of SD 1.5's U-Net that LoRAs change, as [name, out, in, kernel]. */
function* layers() {
  const attention = function* (path, width) {
    const block = `${path}_transformer_blocks_0`
    for (const side of ["proj_in", "proj_out"]) yield [`${path}_${side}`, width, width, 1]
    for (const [attn, from] of [
      ["attn1", width],
      ["attn2", 768],
    ]) {
      yield [`${block}_${attn}_to_q`, width, width]
      for (const part of ["to_k", "to_v"]) yield [`${block}_${attn}_${part}`, width, from]
      yield [`${block}_${attn}_to_out_0`, width, width]
    }
    yield [`${block}_ff_net_0_proj`, 8 * width, width]
    yield [`${block}_ff_net_2`, width, 4 * width]
  }
  const widths = [320, 640, 1280]
  for (const [i, width] of widths.entries()) {
    for (const n of [0, 1]) yield* attention(`down_blocks_${i}_attentions_${n}`, width)
    for (const n of [0, 1, 2]) yield* attention(`up_blocks_${3 - i}_attentions_${n}`, width)
    for (const n of values.conv ? [0, 1] : []) yield [`down_blocks_${i}_resnets_${n}_conv2`, width, width, 3]
  }
  yield* attention("mid_block_attentions_0", 1280)
}

/** A file of random factors, small enough to leave the numbers finite. */
function makeLora(path, seed) {
  let state = seed
  const random = () => {
    state = (Math.imul(state, 1664525) + 1013904223) >>> 0
    return (state / 2 ** 32 - 0.5) * 0.02
  }
  const header = {}
  const parts = []
  let at = 0
  const add = (name, shape) => {
    const data = Float32Array.from({ length: shape.reduce((a, b) => a * b, 1) }, random)
    header[name] = { dtype: "F32", shape, data_offsets: [at, at + data.byteLength] }
    parts.push(Buffer.from(data.buffer))
    at += data.byteLength
  }
  for (const [name, out, from, kernel] of layers()) {
    const k = kernel ? [kernel, kernel] : []
    add(`lora_unet_${name}.lora_down.weight`, [rank, from, ...k])
    add(`lora_unet_${name}.lora_up.weight`, [out, rank, ...k.map(() => 1)])
  }
  const text = JSON.stringify(header)
  const head = Buffer.from(text.padEnd(Math.ceil(text.length / 8) * 8))
  const length = Buffer.alloc(8)
  length.writeBigUInt64LE(BigInt(head.length))
  writeFileSync(path, Buffer.concat([length, head, ...parts]))
  return path
}

const folder = mkdtempSync(join(tmpdir(), "aquatint-switch-"))
const files = { a: makeLora(join(folder, "a.safetensors"), 1), b: makeLora(join(folder, "b.safetensors"), 2) }
const { dtype, expect: expectLoras } = values
const sd = await StableDiffusion.load(model, { device: "cpu", dtype, expectLoras })

/** Seconds until a picture's first step is done. */
async function first(which) {
  const loras = [...which].map((name) => ({ file: files[name], weight: 0.8 }))
  const ask = {
    prompt: "a lighthouse",
    seed: 7,
    width: size,
    height: size,
    sampler: "ddim",
    steps: 2,
    cfg: Number(values.cfg),
    loras,
  }
  const began = performance.now()
  for await (const step of sd.generate(ask)) if (step.phase === "denoise" && step.step === 1) break
  return (performance.now() - began) / 1000
}

try {
  await first("")
  const kinds = [
    ["", "a"],
    ["a", "b"],
    ["b", "ab"],
    ["ab", ""],
  ]
  for (let round = 0; round < rounds; round++)
    for (const [from, to] of kinds) {
      const [switched, again, third] = [await first(to), await first(to), await first(to)]
      const repeat = Math.min(again, third)
      const name = (which) => [...which].join(" and ") || "none"
      console.log(
        `${name(from)} -> ${name(to)}`.padEnd(18),
        `${switched.toFixed(2)} s, again ${repeat.toFixed(2)} s, the switch ${(switched - repeat).toFixed(2)} s`,
        `(x${(switched / repeat).toFixed(2)}; load ${loadavg()[0].toFixed(1)})`,
      )
    }
} finally {
  await sd.release()
  rmSync(folder, { recursive: true })
}
