import { serveEngine } from "./remote.ts"
import { type WebOptions, webEngine } from "./web.ts"

/** The program of the engine's web worker: its first message says how to set up, all others are calls. */
// onnxruntime's own threads start from the bundle this is part of
if (!self.name.startsWith("em-pthread")) {
  self.addEventListener(
    "message",
    ({ data }: MessageEvent<WebOptions>) =>
      serveEngine(webEngine(data), {
        post: (message, moved) => self.postMessage(message, { transfer: [...moved] }),
        listen: (message) => self.addEventListener("message", (event) => message(event.data)),
        close: () => self.close(),
      }),
    { once: true },
  )
}
