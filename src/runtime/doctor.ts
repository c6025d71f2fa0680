import { arch, cpus, freemem, platform, totalmem } from "node:os"
import { type Graph, input, symbol } from "../graph/index.ts"
import type { DeviceName, Engine } from "./engine.ts"
import { f32 } from "./engine.ts"
import { compile } from "./program.ts"
import { spawnEngine } from "./spawn.ts"

/** Whether one device draws right here, and why not. */
export interface DeviceReport {
  device: DeviceName
  works: boolean
  /** What was found: the worst difference from the CPU, or the engine's own words. */
  detail: string
}

export interface Examination {
  machine: {
    platform: string
    arch: string
    cpu: string
    cores: number
    memoryGb: number
    freeGb: number
    node: string
  }
  devices: DeviceReport[]
  chosen: { device: DeviceName; reason: string }
}

const candidates: DeviceName[] = ["cpu", "webgpu", "cuda", "dml", "coreml"]

/** A 3x3 convolution and a product whose results are known. */
function trial(): Graph {
  const x = input("x", [1, 4, symbol("h"), 16])
  const w = input("w", [4, 4, 3, 3])
  const y = x.conv2d(w, null, { pads: [1, 1, 1, 1] }).silu()
  return { outputs: { y: y.rearrange("b c h w -> b (h w) c").matmul(input("m", [4, 4])) } }
}

const ramp = (n: number) => Float32Array.from({ length: n }, (_, i) => Math.sin(i))

async function answer(engine: Engine, device: DeviceName): Promise<Float32Array> {
  const program = await compile(engine, trial(), new Map(), { device })
  const { y } = await program.run({
    x: f32(ramp(1024), [1, 4, 16, 16]),
    w: f32(ramp(144), [4, 4, 3, 3]),
    m: f32(ramp(16), [4, 4]),
  })
  return y!.data as Float32Array
}

/** Tries every device with a small computation, each in a process of its own so that none can take the others down. */
export async function examine(): Promise<Examination> {
  const reference = await inChild((engine) => answer(engine, "cpu"))
  const devices: DeviceReport[] = []
  for (const device of candidates) {
    try {
      const got = await inChild((engine) => answer(engine, device))
      const off = got.reduce((worst, v, i) => Math.max(worst, Math.abs(v - reference[i]!)), 0)
      devices.push({
        device,
        works: off < 1e-3,
        detail:
          off < 1e-3
            ? `agrees with the CPU to ${off.toExponential(1)}`
            : `differs from the CPU by ${off.toPrecision(3)}`,
      })
    } catch (error) {
      devices.push({ device, works: false, detail: reasonOf(error) })
    }
  }
  const cpu = cpus()
  return {
    machine: {
      platform: platform(),
      arch: arch(),
      cpu: cpu[0]?.model ?? "unknown",
      cores: cpu.length,
      memoryGb: gb(totalmem()),
      freeGb: gb(freemem()),
      node: process.version,
    },
    devices,
    chosen: {
      device: "cpu",
      reason: "the CPU works everywhere and is the reference; name another with --device",
    },
  }
}

async function inChild<T>(work: (engine: Engine) => Promise<T>): Promise<T> {
  const engine = spawnEngine()
  try {
    return await work(engine)
  } finally {
    await engine.close()
  }
}

const reasonOf = (error: unknown): string =>
  String((error as Error).message)
    .replace(/^the \w+ engine could not build a network: /, "")
    .slice(0, 300)
const gb = (bytes: number): number => Math.round(bytes / 1e8) / 10
