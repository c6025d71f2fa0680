import { parentPort } from "node:worker_threads"
import { nodeEngine } from "./node.ts"
import { serveEngine } from "./remote.ts"

/** The program of an engine's thread: answers until it is sent null. */
const port = parentPort!
serveEngine(nodeEngine(), {
  post: (message, moved) => port.postMessage(message, moved),
  listen: (message) => port.on("message", (m: unknown) => (m === null ? port.close() : message(m))),
  close: () => port.close(),
})
