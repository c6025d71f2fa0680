import { existsSync, readdirSync } from "node:fs"
import { homedir } from "node:os"
import { join } from "node:path"
import { fail } from "../errors.ts"
import type { DeviceName, Engine } from "./engine.ts"
import { spawnEngine } from "./spawn.ts"
import { pace, tryDevice } from "./trial.ts"

export interface DeviceChoice {
  readonly device: DeviceName
  /** Why this one, for `doctor` and logs. */
  readonly reason: string
}

const choices = ["auto", "cpu", "webgpu", "cuda", "dml", "coreml"] as const

/**
 * The device to run on: the one asked for, else a GPU that is really there and faster than the CPU, else the CPU. A
 * machine that cannot have a GPU is told from its files, without starting anything.
 * @throws DEVICE when the name is none
 */
export async function chooseDevice(asked: string): Promise<DeviceChoice> {
  if (!(choices as readonly string[]).includes(asked))
    fail("DEVICE", `there is no device ${asked}`, { hint: `use one of ${choices.join(", ")}` })
  if (asked !== "auto") return { device: asked as DeviceName, reason: "asked for" }
  if (!mayHaveGpu()) return { device: "cpu", reason: "no GPU with a driver for it was found" }
  return probe("webgpu")
}

/** What an adapter must save to be chosen: a trip to it costs time that small networks do not give back. */
const worthwhile = 1.5
const patience = 4000

/** Tries a device in a process of its own: a driver may take its process down. */
async function probe(device: DeviceName): Promise<DeviceChoice> {
  const engine = spawnEngine()
  const late = setTimeout(() => void engine.close(), patience)
  try {
    await tryDevice(engine, device)
    const ratio = await speed(engine, device)
    const times = `${ratio.toPrecision(2)} times the CPU's speed`
    return ratio > worthwhile
      ? { device, reason: `a GPU was found, at ${times}` }
      : { device: "cpu", reason: `${device} works at ${times}` }
  } catch (error) {
    const { details } = error as { details?: { reason?: string } }
    return { device: "cpu", reason: `${device} does not work: ${details?.reason ?? "it did not answer"}` }
  } finally {
    clearTimeout(late)
    await engine.close()
  }
}

/** How many times as fast as the CPU a device computes convolutions. */
export async function speed(engine: Engine, device: DeviceName): Promise<number> {
  return (await pace(engine, "cpu")) / (await pace(engine, device))
}

/** Whether this machine could have a GPU that onnxruntime's WebGPU reaches, told from files alone. */
export function mayHaveGpu(platform: string = process.platform, arch: string = process.arch): boolean {
  if (platform === "win32") return true
  if (platform === "darwin") return arch === "arm64"
  if (platform !== "linux" || arch !== "x64") return false
  const there = ["/dev/nvidia0", "/dev/dxg"].some((path) => existsSync(path)) || renders()
  return there && vulkanDrivers().some((name) => !/lvp|llvmpipe|lavapipe|swiftshader|mock/i.test(name))
}

const names = (folder: string): string[] => {
  try {
    return readdirSync(folder)
  } catch {
    return []
  }
}

const renders = (): boolean => names("/dev/dri").some((name) => name.startsWith("renderD"))

/** Manifests of the Vulkan drivers that a loader would find. */
function vulkanDrivers(): string[] {
  const named = process.env.VK_DRIVER_FILES ?? process.env.VK_ICD_FILENAMES
  if (named) return named.split(":").filter((path) => existsSync(path))
  const folders = ["/etc", "/usr/share", "/usr/local/share", join(homedir(), ".local/share")]
  return folders.flatMap((folder) => names(join(folder, "vulkan/icd.d")))
}
