import { nodeEngine } from "./node.ts"
import { serveEngine } from "./remote.ts"

/** The program of the engine's child process: answers its parent, ends with it. */
serveEngine(nodeEngine(), {
  post: (message) => process.send?.(message),
  listen: (message, end) => {
    process.on("message", message)
    process.on("disconnect", () => end("the parent is gone"))
  },
  close: () => process.exit(0),
})
// Ctrl-C reaches the whole terminal group; the parent decides what it means
process.on("SIGINT", () => {})
