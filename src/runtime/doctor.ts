import { arch, cpus, freemem, platform, totalmem } from "node:os"
import { chooseDevice, speed } from "./devices.ts"
import type { DeviceName } from "./engine.ts"
import { spawnEngine } from "./spawn.ts"
import { tryDevice } from "./trial.ts"

/** Whether one device draws right here, and why not. */
export interface DeviceReport {
  device: DeviceName
  works: boolean
  /** One line: how well it agrees with the CPU and how fast it is, or why it does not work. */
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

/** Tries every device with small computations, each in a process of its own so that none can take the others down. */
export async function examine(): Promise<Examination> {
  const devices: DeviceReport[] = []
  for (const device of candidates) devices.push(await report(device))
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
    chosen: await chooseDevice("auto"),
  }
}

const patience = 60_000

async function report(device: DeviceName): Promise<DeviceReport> {
  const engine = spawnEngine()
  const late = setTimeout(() => void engine.close(), patience)
  try {
    const { error } = await tryDevice(engine, device)
    if (device === "cpu") return { device, works: true, detail: "works everywhere, and is the reference" }
    const ratio = await speed(engine, device)
    const pace =
      ratio < 0.1 ? "much slower than it, as software drivers are" : `${ratio.toPrecision(2)} times its speed`
    return { device, works: true, detail: `agrees with the CPU to ${error.toExponential(1)}, ${pace}` }
  } catch (error) {
    const { message, details } = error as { message: string; details?: { reason?: string } }
    return { device, works: false, detail: details?.reason ?? message }
  } finally {
    clearTimeout(late)
    await engine.close()
  }
}

const gb = (bytes: number): number => Math.round(bytes / 1e8) / 10
