import { fail } from "../errors.ts"
import type { DeviceChoice } from "./devices.ts"

/** Browsers' WebGPU, as far as it is asked here. */
interface Gpu {
  requestAdapter(): Promise<{ info?: { isFallbackAdapter?: boolean }; isFallbackAdapter?: boolean } | null>
}

const choices = ["auto", "webgpu", "wasm"] as const

/**
 * The device of a browser: the one asked for, else the GPU where WebGPU reaches a real one, else WebAssembly.
 * @throws DEVICE when the name is none
 */
export async function chooseWebDevice(asked: string): Promise<DeviceChoice & { device: "webgpu" | "wasm" }> {
  if (!(choices as readonly string[]).includes(asked))
    fail("DEVICE", `there is no device ${asked} in browsers`, { hint: `use one of ${choices.join(", ")}` })
  if (asked === "webgpu" || asked === "wasm") return { device: asked, reason: "asked for" }
  const { gpu } = navigator as { gpu?: Gpu }
  if (!gpu) return { device: "wasm", reason: "this browser has no WebGPU" }
  const adapter = await gpu.requestAdapter().catch(() => null)
  if (!adapter) return { device: "wasm", reason: "this browser offers no WebGPU adapter" }
  if (adapter.info?.isFallbackAdapter ?? adapter.isFallbackAdapter)
    return { device: "wasm", reason: "WebGPU would run in software, which is slower than WebAssembly" }
  return { device: "webgpu", reason: "this browser has WebGPU" }
}
