import { AquatintError, fail } from "../errors.ts"
import { type Graph, input, toOnnx } from "../graph/index.ts"
import { type DeviceName, type Engine, f32, type Value, value } from "./engine.ts"
import { reasonOf } from "./reasons.ts"

/** What was found out about a device by trying it. */
export interface Trial {
  /** Largest difference of a convolution and a product from the CPU. */
  readonly error: number
  /**
   * Whether the engine's attention kernel computes attention here. onnxruntime's WebGPU kernel assumes at least 16 lanes
   * that run together and goes silently wrong on adapters with fewer (SwiftShader has 4).
   */
  readonly attention: boolean
}

const wave = (n: number, shift: number) => Float32Array.from({ length: n }, (_, i) => Math.sin(i + shift))

/** A 3x3 convolution with a product, and the attention of 40 tokens over two heads. */
function graph(): Graph {
  const x = input("x", [1, 4, 16, 16])
  const y = x.conv2d(input("w", [4, 4, 3, 3]), null, { pads: [1, 1, 1, 1] }).silu()
  const t = input("t", [1, 40, 16])
  return {
    outputs: {
      y: y.rearrange("b c h w -> b (h w) c").matmul(input("m", [4, 4])),
      a: t.attention(t.mul(2), t.add(1), { heads: 2 }),
    },
  }
}

const feeds: Record<string, Value> = {
  x: f32(wave(1024, 0), [1, 4, 16, 16]),
  w: f32(wave(144, 1), [4, 4, 3, 3]),
  m: f32(wave(16, 2), [4, 4]),
  t: f32(wave(640, 3), [1, 40, 16]),
}

async function answers(engine: Engine, device: DeviceName): Promise<{ y: Float32Array; a: Float32Array }> {
  const session = await engine.create({ onnx: toOnnx(graph()), externals: [], device, threads: 1 })
  try {
    const out = await engine.run(session, feeds)
    return { y: value(out, "y").data as Float32Array, a: value(out, "a").data as Float32Array }
  } finally {
    await engine.release(session).catch(() => {})
  }
}

const apart = (a: Float32Array, b: Float32Array): number =>
  a.reduce((worst, v, i) => {
    const off = Math.abs(v - b[i]!)
    return Number.isNaN(off) ? Number.POSITIVE_INFINITY : Math.max(worst, off)
  }, 0)

const tolerance = 1e-3
const known = new WeakMap<Engine, Map<DeviceName, Promise<Trial>>>()

/**
 * Tries a device once per engine with small computations whose results the CPU gives too.
 * @throws DEVICE_UNAVAILABLE with a reason a user understands, DEVICE_WRONG when its numbers are not the CPU's
 */
export function tryDevice(engine: Engine, device: DeviceName): Promise<Trial> {
  const here = known.get(engine) ?? new Map<DeviceName, Promise<Trial>>()
  known.set(engine, here)
  const made = here.get(device) ?? attempt(engine, device)
  here.set(device, made)
  made.catch(() => here.delete(device))
  return made
}

async function attempt(engine: Engine, device: DeviceName): Promise<Trial> {
  if (device === "cpu" || device === "wasm") return { error: 0, attention: true }
  let got: Awaited<ReturnType<typeof answers>>
  try {
    got = await answers(engine, device)
  } catch (cause) {
    const reason = reasonOf(device, (cause as Error).message)
    throw new AquatintError("DEVICE_UNAVAILABLE", `${device} does not work here: ${reason}`, {
      blame: "here",
      hint: "run `aquatint doctor` to see what works on this machine",
      details: { device, reason },
      cause,
    })
  }
  const want = await answers(engine, "cpu")
  const error = apart(got.y, want.y)
  if (!(error < tolerance))
    fail("DEVICE_WRONG", `${device} computes other numbers than the CPU, by ${error.toPrecision(3)}`, {
      blame: "here",
      hint: "use --device cpu, and look for a newer graphics driver",
      details: { device, reason: `differs from the CPU by ${error.toPrecision(3)}` },
    })
  return { error, attention: apart(got.a, want.a) < tolerance }
}

const side = 64

/** Two 3x3 convolutions over 64 channels of 64x64, 0.6 GFLOP, and one number out of them. */
function race(): Graph {
  const w = input("w", [side, side, 3, 3])
  let x = input("x", [1, side, side, side])
  for (let i = 0; i < 2; i++) x = x.conv2d(w, null, { pads: [1, 1, 1, 1] })
  return { outputs: { y: x.mean([0, 1, 2, 3], false) } }
}

/** Seconds that a device takes for some convolutions, the start left out. @throws ENGINE_* */
export async function pace(engine: Engine, device: DeviceName): Promise<number> {
  const session = await engine.create({ onnx: toOnnx(race()), externals: [], device })
  const given = {
    x: f32(wave(side ** 3, 0), [1, side, side, side]),
    w: f32(wave(side * side * 9, 1), [side, side, 3, 3]),
  }
  const once = async () => {
    const began = performance.now()
    await engine.run(session, given)
    return (performance.now() - began) / 1000
  }
  try {
    // the first run compiles shaders; where even that takes seconds, the device is a slow one
    const first = await once()
    return first > 1 ? first : Math.min(await once(), await once())
  } finally {
    await engine.release(session).catch(() => {})
  }
}
