import { Worker } from "node:worker_threads"
import { RemoteEngine } from "./remote.ts"

/**
 * An engine in a thread of this process, for work that exchanges much memory with its caller. Unlike a child process
 * it cannot be stopped in mid-run: closing it lets a run under way end first.
 * @param program the compiled thread-child.js
 */
export function threadEngine(program: URL = new URL("./thread-child.js", import.meta.url)): RemoteEngine {
  const worker = new Worker(program)
  return new RemoteEngine({
    post: (message, moved) => worker.postMessage(message, moved),
    listen: (message, end) => {
      worker.on("message", message)
      worker.on("error", (e: Error) => end(e.message))
      worker.on("exit", (code) => end(`exit code ${code}`))
    },
    close: () => worker.postMessage(null),
  })
}
