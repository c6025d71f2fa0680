import type { DeviceName } from "./engine.ts"

/** onnxruntime's words without the places in its source that come before and after them. */
export function tidy(text: string): string {
  const line = text.trim().split("\n")[0] ?? ""
  // "/path/file.cc:136 function(...) condition was false. What happened"
  const told = /^\S*\.(?:cc|h|cpp):\d+ .*? was false\. (.*)$/.exec(line)?.[1] ?? line
  return told
    .replace(/\S*\/[\w./-]+\.(?:cc|h|cpp):\d+:?\s*/g, "")
    .replace(/\b[\w:]+::[\w:]+\([^)]*\)\s*/g, "")
    .trim()
    .slice(0, 300)
}

const os = (): string => (typeof process === "undefined" ? "web" : process.platform)

const noGpu: Record<string, string> = {
  linux: "no Vulkan driver found",
  darwin: "no Metal device found",
  win32: "no Direct3D 12 adapter found",
  web: "this browser offers no WebGPU adapter",
}

/** Why a device cannot be used, in words of its user; `text` is what the engine said. */
export function reasonOf(device: DeviceName, text: string): string {
  if (
    /backend not found|not available in (this|the current) build|EP.*is not (enabled|supported)/i.test(text)
  )
    return os() === "web" ? "not in browsers" : `not in this build of onnxruntime on ${os()}`
  if (
    /No supported adapters?|get a WebGPU adapter|request.*adapter|webgpu.*(not available|unsupported)/i.test(
      text,
    )
  )
    return noGpu[os()] ?? "no GPU adapter found"
  const library = /(lib[\w.+-]+\.so[.\d]*|[\w.+-]+\.dll|lib[\w.+-]+\.dylib)\b/.exec(text)?.[1]
  if (/load.*(shared )?librar|cannot open shared object|LoadLibrary/i.test(text))
    return library
      ? `a library is missing: ${library}`
      : `onnxruntime's ${device === "cuda" ? "CUDA" : device} libraries are not installed`
  if (/engine process ended/.test(text)) return "its driver ended the process that tried it"
  return tidy(text).replace(/^the \w+ engine could not build a network: /, "")
}
