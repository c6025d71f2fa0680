import { RemoteEngine } from "./remote.ts"
import type { WebOptions } from "./web.ts"

// each written out, because bundlers look for this very form
const workers = {
  wasm: () => new Worker(new URL("./worker-wasm.js", import.meta.url), { type: "module" }),
  webgpu: () => new Worker(new URL("./worker-webgpu.js", import.meta.url), { type: "module" }),
}

/** An engine in a web worker, so that the page stays free while networks run; `wasm` loads half of what `webgpu` does. */
export function spawnWebEngine(device: "wasm" | "webgpu", options: WebOptions = {}): RemoteEngine {
  const worker = workers[device]()
  const wasm = options.wasm === undefined ? {} : { wasm: new URL(options.wasm, location.href).href }
  worker.postMessage({ ...options, ...wasm })
  return new RemoteEngine({
    post: (message, moved) => worker.postMessage(message, { transfer: [...moved] }),
    listen: (message, end) => {
      worker.addEventListener("message", (event) => message(event.data))
      worker.addEventListener("error", (event) => end(event.message || "its script could not be loaded"))
      worker.addEventListener("messageerror", () => end("a message could not be read"))
    },
    close: () => worker.terminate(),
  })
}
