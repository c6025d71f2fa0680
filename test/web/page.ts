import { spawnWebEngine } from "../../src/runtime/spawn-web.ts"
import { conform, type Outcome } from "../runtime/suite.ts"

declare global {
  interface Window {
    /** Runs the conformance suite in a web worker of this page. */
    conform(device: "wasm" | "webgpu", only?: string): Promise<Outcome[]>
  }
}

const read = async (path: string): Promise<Uint8Array> => {
  const response = await fetch(`/golden/models/${path}`)
  if (!response.ok) throw new Error(`${path}: ${response.status}`)
  return new Uint8Array(await response.arrayBuffer())
}

window.conform = async (device, only) => {
  const engine = spawnWebEngine(device)
  try {
    return await conform({ engine, device, read }, only)
  } finally {
    await engine.close()
  }
}
