import {
  apply,
  type Graph,
  input,
  type OpName,
  type StoredDType,
  symbol,
  type Tensor,
} from "../../src/graph/index.ts"
import {
  clipConfig,
  clipGraph,
  decoderGraph,
  encoderGraph,
  unetConfig,
  unetGraph,
  vaeConfig,
} from "../../src/models/index.ts"
import type { DeviceName, Engine, Value } from "../../src/runtime/engine.ts"
import { type CompileOptions, compile, type Weights } from "../../src/runtime/program.ts"
import { readSafetensorsHeader } from "../../src/weights/safetensors.ts"
import { bufferSource } from "../../src/weights/source.ts"
import { type Case, cases } from "../conformance/cases.ts"
import { feed, operands, typeOf } from "../conformance/operands.ts"
import { convolved } from "../conformance/reference.ts"

/**
 * What every engine must compute alike, on Node, in a child process and in browsers: each op of the table, and small
 * networks whose numbers are diffusers' own.
 */

export interface Place {
  readonly engine: Engine
  readonly device: DeviceName
  /** A file of test/golden/models. */
  read(path: string): Promise<Uint8Array>
  /** Its path, where the engine can map it; otherwise weights are given in memory. */
  locate?(path: string): string
}

export interface Outcome {
  readonly name: string
  /** Largest difference from the reference, relative to its largest value. */
  readonly error: number
}

type Check = (place: Place) => Promise<number>

/** Largest difference relative to the largest wanted value, and at least to `floor`. */
export function worst(got: ArrayLike<number | bigint>, want: ArrayLike<number>, floor = 0): number {
  if (got.length !== want.length) return Number.POSITIVE_INFINITY
  let [error, scale] = [0, floor]
  for (let i = 0; i < want.length; i++) {
    const off = Math.abs(Number(got[i]) - want[i]!)
    error = Number.isNaN(off) ? Number.POSITIVE_INFINITY : Math.max(error, off)
    scale = Math.max(scale, Math.abs(want[i]!))
  }
  return error / scale
}

const opCases: Partial<Record<OpName, readonly Case[]>> = cases

/** All cases of one op as outputs of one graph. */
const opCheck =
  (op: OpName, list: readonly Case[]): Check =>
  async ({ engine, device }) => {
    const outputs: Record<string, Tensor> = {}
    const feeds: Record<string, Value> = {}
    list.forEach((c, n) => {
      const values = operands(c)
      const leaves = values.map((x, k) => input(`x${n}_${k}`, x.shape, typeOf(c, k)))
      outputs[`y${n}`] = apply(op, leaves, c.attrs)
      values.forEach((x, k) => {
        feeds[`x${n}_${k}`] = feed(x, typeOf(c, k))
      })
    })
    const net = await compile(engine, { outputs }, new Map(), { device, threads: 1 })
    const got = await net.run(feeds)
    await net.release()
    const errors = list.map((c, n) => worst(got[`y${n}`]!.data, c.want(...operands(c)).data, 1))
    return Math.max(...errors)
  }

/** Weights of a golden file: mapped where the engine can, else in memory. */
export async function weightsAt(place: Place, path: string): Promise<Weights> {
  const bytes = await place.read(path)
  const { tensors } = await readSafetensorsHeader(bufferSource(bytes, path))
  const location = place.locate?.(path)
  return new Map(
    [...tensors].map(([name, { dtype, shape, offset, length }]) => [
      name,
      {
        dtype: dtype.toLowerCase() as StoredDType,
        shape,
        bytes:
          location === undefined ? bytes.subarray(offset, offset + length) : { location, offset, length },
      },
    ]),
  )
}

async function goldenAt(place: Place, model: string): Promise<(name: string) => Value> {
  const bytes = await place.read(`${model}.safetensors`)
  const { tensors } = await readSafetensorsHeader(bufferSource(bytes, model))
  return (name) => {
    const { dtype, shape, offset, length } = tensors.get(name)!
    const { buffer } = new Uint8Array(bytes.subarray(offset, offset + length))
    return { data: dtype === "I64" ? new BigInt64Array(buffer) : new Float32Array(buffer), shape }
  }
}

const configAt = async (place: Place, path: string): Promise<unknown> =>
  JSON.parse(new TextDecoder().decode(await place.read(path)))

async function run(
  place: Place,
  graph: Graph,
  weights: Weights,
  inputs: Record<string, Value>,
  slow?: CompileOptions["slow"],
): Promise<Record<string, Value>> {
  const net = await compile(place.engine, graph, weights, { device: place.device, slow })
  try {
    await net.run(inputs)
    // again: the slow stages' results now come from where the engine kept them
    return await net.run({ ...inputs })
  } finally {
    await net.release()
  }
}

const off = (got: Value | undefined, want: Value) => worst(got!.data, want.data as Float32Array)
const sizes = { b: symbol("b"), h: symbol("h"), w: symbol("w") }

const textCheck =
  (model: string): Check =>
  async (place) => {
    const golden = await goldenAt(place, model)
    const { graph } = clipGraph(clipConfig(await configAt(place, `${model}/text_encoder/config.json`)), {
      skip: 1,
      norm: true,
    })
    const weights = await weightsAt(place, `${model}/text_encoder/model.safetensors`)
    const { hidden } = await run(place, graph, weights, { ids: golden("text.ids") })
    return off(hidden, golden("text.last"))
  }

/** One row of a batch, as a batch of one. */
const row = ({ data, shape }: Value, r: number): Value => {
  const size = data.length / shape[0]!
  return { data: (data as Float32Array).slice(r * size, (r + 1) * size), shape: [1, ...shape.slice(1)] }
}

const unetCheck =
  (model: string): Check =>
  async (place) => {
    const golden = await goldenAt(place, model)
    const c = unetConfig(await configAt(place, `${model}/unet/config.json`))
    const weights = await weightsAt(place, `${model}/unet/diffusion_pytorch_model.safetensors`)
    const inputs: Record<string, Value> = {
      latents: row(golden("unet.0.x"), 0),
      timestep: { data: (golden("unet.0.t").data as Float32Array).slice(0, 1), shape: [1] },
      context: row(golden("unet.0.context"), 0),
    }
    if (c.addition_embed_type) {
      inputs.text_embeds = row(golden("unet.0.pooled"), 0)
      inputs.time_ids = row(golden("unet.0.time_ids"), 0)
    }
    const { graph } = unetGraph(c, { ...sizes, tokens: symbol("t") })
    const slow = [["context", "text_embeds", "time_ids", "guidance"], ["timestep"]]
    const { out } = await run(place, graph, weights, inputs, slow)
    return off(out, row(golden("unet.0.out"), 0))
  }

const vaeCheck =
  (model: string): Check =>
  async (place) => {
    const golden = await goldenAt(place, model)
    const c = vaeConfig(await configAt(place, `${model}/vae/config.json`))
    const weights = await weightsAt(place, `${model}/vae/diffusion_pytorch_model.safetensors`)
    const there = await run(place, encoderGraph(c, sizes).graph, weights, { image: golden("vae.image") })
    const back = await run(place, decoderGraph(c, sizes).graph, weights, { latents: golden("vae.latents") })
    return Math.max(off(there.moments, golden("vae.moments")), off(back.image, golden("vae.decoded")))
  }

const ops = (Object.entries(opCases) as [OpName, readonly Case[]][]).filter(([, list]) => list.length > 0)

/** Input channels that are multiples of three but not of four, the nine of inpainting models among them. */
const oddChannels: Check = (place) => {
  const list = [9, 6].map((channels): Case => {
    const attrs = { stride: 1, pads: [1, 1, 1, 1], groups: 1 }
    const shapes = [[1, channels, 6, 5], [8, channels, 3, 3], [8]]
    return { shapes, attrs, want: (x, w, b) => convolved(x, w, b, attrs) }
  })
  return opCheck("conv2d", list)(place)
}

/** Every check by name. */
export const checks: Readonly<Record<string, Check>> = {
  "convolution of odd channels": oddChannels,
  ...Object.fromEntries(ops.map(([op, list]) => [`op ${op}`, opCheck(op, list)])),
  ...Object.fromEntries(
    ["sd1-odd", "sd1-tiny", "sdxl-tiny"].flatMap((model) => [
      [`${model} text encoder`, textCheck(model)],
      [`${model} U-Net`, unetCheck(model)],
      [`${model} VAE`, vaeCheck(model)],
    ]),
  ),
}

/** Runs the checks whose names match, one after the other. */
export async function conform(place: Place, only = ""): Promise<Outcome[]> {
  const outcomes: Outcome[] = []
  for (const [name, check] of Object.entries(checks))
    if (new RegExp(only).test(name)) outcomes.push({ name, error: await check(place) })
  return outcomes
}
