import { parentPort, workerData } from "node:worker_threads"
import { type Connection, connectHere } from "./connection.ts"
import type { Cell, Row } from "./database.ts"

/** What the thread is asked: a statement, or to close. */
export type Asked = { id: number; text: string; values: readonly Cell[] } | { id: number; close: true }
/** What it answers. */
export type Answered = { id: number; rows: Row[] } | { id: number; code: string; message: string }

const failure = (id: number, error: unknown): Answered => ({
  id,
  code: String((error as { code?: unknown }).code ?? ""),
  message: (error as Error).message,
})

/** The thread of one connection: the disk is waited for here, while the process's own thread answers others. */
async function serve(port: NonNullable<typeof parentPort>): Promise<void> {
  let connection: Connection
  try {
    connection = await connectHere(String(workerData))
  } catch (error) {
    port.postMessage(failure(0, error))
    return port.close()
  }
  port.on("message", async (asked: Asked) => {
    try {
      const rows = "text" in asked ? await connection.all(asked.text, asked.values) : []
      if ("close" in asked) await connection.close()
      port.postMessage({ id: asked.id, rows } satisfies Answered)
    } catch (error) {
      port.postMessage(failure(asked.id, error))
    }
    if ("close" in asked) port.close()
  })
  port.postMessage({ id: 0, rows: [] } satisfies Answered)
}

if (parentPort) await serve(parentPort)
