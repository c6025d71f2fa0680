import { fail } from "../errors.ts"
import type { DeviceName } from "./engine.ts"

export interface DeviceChoice {
  readonly device: DeviceName
  /** Why this one, for `doctor` and logs. */
  readonly reason: string
}

const choices = ["auto", "cpu", "webgpu", "cuda", "dml", "coreml"] as const

/** The device to run on: the one asked for, or the CPU, whose results are the reference. @throws DEVICE when the name is none. */
export async function chooseDevice(asked: string): Promise<DeviceChoice> {
  if (!(choices as readonly string[]).includes(asked))
    fail("DEVICE", `there is no device ${asked}`, { hint: `use one of ${choices.join(", ")}` })
  if (asked !== "auto") return { device: asked as DeviceName, reason: "asked for" }
  return {
    device: "cpu",
    reason: "the CPU works everywhere and is the reference; name another with --device",
  }
}
