import type { InferenceSession } from "onnxruntime-common"
import type { DeviceName, SessionSpec } from "./engine.ts"
import { Sessions } from "./sessions.ts"

/** How onnxruntime-web is set up in a browser. */
export interface WebOptions {
  /** `webgpu` brings the build with the GPU, `wasm` the smaller one. */
  readonly device: "webgpu" | "wasm"
  /**
   * Folder that serves onnxruntime-web's `.wasm` and `.mjs` files. Default: where the bundler put them, beside the
   * script.
   */
  readonly wasm?: string
  /** Default: the cores, at most 8, on pages that are cross-origin isolated, else 1. */
  readonly threads?: number
}

/** onnxruntime's name for each device; anything else than the GPU is WebAssembly here. */
const provider = (device: DeviceName): string =>
  device === "cpu" || device === "wasm" ? "wasm" : device

function options(spec: SessionSpec): InferenceSession.SessionOptions {
  const given = spec.externals.filter((e): e is { path: string; data: Uint8Array } => "data" in e)
  return {
    executionProviders: [provider(spec.device)],
    graphOptimizationLevel: "all",
    logSeverityLevel: 4,
    ...(given.length > 0 ? { externalData: given } : {}),
  }
}

const cores = (): number => Math.min(8, globalThis.navigator?.hardwareConcurrency ?? 1)

/** The engine in this very thread of a browser: onnxruntime-web. One per thread, since its settings are global. */
export function webEngine({ device, wasm, threads }: WebOptions): Sessions {
  const load = async () => {
    const ort =
      device === "webgpu" ? await import("onnxruntime-web/webgpu") : await import("onnxruntime-web/wasm")
    ort.env.logLevel = "error"
    // threads share memory, which browsers allow on isolated pages only
    ort.env.wasm.numThreads = globalThis.crossOriginIsolated ? (threads ?? cores()) : 1
    if (wasm !== undefined) ort.env.wasm.wasmPaths = wasm
    return ort
  }
  return new Sessions({ load, options })
}
