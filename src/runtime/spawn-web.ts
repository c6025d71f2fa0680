import { RemoteEngine } from "./remote.ts"
import type { WebOptions } from "./web.ts"

/**
 * An engine in a web worker, so that the page stays free while networks run.
 * @param worker one made from web-worker.js, for bundlers that do not find it by themselves
 */
export function spawnWebEngine(
  options: WebOptions,
  worker: Worker = new Worker(new URL("./web-worker.js", import.meta.url), { type: "module" }),
): RemoteEngine {
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
