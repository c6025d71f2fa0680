import { fork } from "node:child_process"
import type { Socket } from "node:net"
import { RemoteEngine } from "./remote.ts"

/**
 * An engine in a child process. onnxruntime blocks the thread it runs in, and ending a worker thread in mid-run aborts
 * the whole process; a child leaves the caller's event loop free and can be killed at any moment.
 * @param program the compiled child.js
 */
export function spawnEngine(
  program: URL = new URL("./child.js", import.meta.url),
): RemoteEngine & { readonly pid: number | undefined } {
  const child = fork(program, {
    serialization: "advanced",
    stdio: ["ignore", "ignore", "pipe", "ipc"],
    execArgv: ["--expose-gc"],
    // glibc raises this limit by itself after the first large block, and then keeps what a released network held
    env: { MALLOC_MMAP_THRESHOLD_: String(2 * 1024 * 1024), ...process.env },
  })
  child.channel?.unref()
  child.unref()
  // a run blocks the child's own loop, so it would learn of our end only after it
  const orphan = () => child.kill("SIGKILL")
  process.once("exit", orphan)
  child.once("exit", () => process.removeListener("exit", orphan))
  let words = ""
  // the engine's own log is kept for the error that ends it, and not shown otherwise
  child.stderr?.setEncoding("utf8").on("data", (text: string) => {
    words = (words + text).slice(-2000)
  })
  if (child.stderr && "unref" in child.stderr) (child.stderr as Socket).unref()
  let pending = 0
  // a pending call keeps the parent alive, an idle engine does not
  const count = (by: number) => {
    pending += by
    if (pending > 0) child.channel?.ref()
    else child.channel?.unref()
  }
  const engine = new RemoteEngine({
    post: (message) => {
      count(1)
      child.send(message as object)
    },
    listen: (message, end) => {
      child.on("message", (m) => {
        message(m)
        count(-1)
      })
      child.on("error", (e) => end(e.message))
      child.on("exit", (code, signal) =>
        end(
          `${signal ? `signal ${signal}` : `exit code ${code}`}${words && ` after "${words.trim().split("\n").at(-1)}"`}`,
        ),
      )
    },
    close: () => child.kill("SIGKILL"),
  })
  return Object.assign(engine, { pid: child.pid })
}
