import type { InferenceSession } from "onnxruntime-common"
import type { DeviceName, SessionSpec } from "./engine.ts"
import { serveEngine } from "./remote.ts"
import { Sessions } from "./sessions.ts"

/** How onnxruntime-web is set up in a browser. */
export interface WebOptions {
  /**
   * Folder that serves onnxruntime-web's `.wasm` and `.mjs` files. Default: where the bundler put them, beside the
   * script.
   */
  readonly wasm?: string
  /** Default: the cores, at most 8, on pages that are cross-origin isolated, else 1. */
  readonly threads?: number
}

type Ort = typeof import("onnxruntime-web/wasm")

/** onnxruntime's name for each device; anything else than the GPU is WebAssembly here. */
const provider = (device: DeviceName): string => (device === "cpu" ? "wasm" : device)

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

/** The engine in this very thread of a browser, over one of onnxruntime-web's builds. One per thread: its settings are global. */
export function webEngine(ort: Ort, { wasm, threads }: WebOptions = {}): Sessions {
  ort.env.logLevel = "error"
  // threads share memory, which browsers allow on isolated pages only
  ort.env.wasm.numThreads = globalThis.crossOriginIsolated ? (threads ?? cores()) : 1
  if (wasm !== undefined) ort.env.wasm.wasmPaths = wasm
  return new Sessions({ load: async () => ort, options })
}

/** The program of the engine's web worker: its first message says how to set up, all others are calls. */
export function serveWorker(ort: Ort): void {
  // a thread of onnxruntime's own that was started from the same script
  if (self.name.startsWith("em-pthread")) return
  const start = ({ data }: MessageEvent<WebOptions>) =>
    serveEngine(webEngine(ort, data), {
      post: (message, moved) => self.postMessage(message, { transfer: [...moved] }),
      listen: (message) => self.addEventListener("message", (event) => message(event.data)),
      close: () => self.close(),
    })
  self.addEventListener("message", start, { once: true })
}
