import { spawnWebEngine } from "../../src/runtime/spawn-web.ts"
import type { GenerateRequest, Picture } from "../../src/web.ts"
import { readMetadata, StableDiffusion } from "../../src/web.ts"
import { conform, type Outcome } from "../runtime/suite.ts"

/** What a drawing in a browser gave, as plain data. */
export interface Drawn {
  cond: number[]
  latents: number[]
  picture: Picture & { numbers: number[] }
  parameters: string | undefined
  type: string
  /** Longest time for which the page's event loop stood still, in milliseconds. */
  stalled: number
  progress: number[]
  sha256: string
}

declare global {
  interface Window {
    /** Runs the conformance suite in a web worker of this page. */
    conform(device: "wasm" | "webgpu", only?: string): Promise<Outcome[]>
    /** Draws with a model of test/golden/models, or with the embedded one. */
    draw(model: string, ask: GenerateRequest, device?: "wasm" | "webgpu"): Promise<Drawn>
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

window.draw = async (model, ask, device) => {
  const progress: number[] = []
  const sd = await StableDiffusion.load(model === "embedded" ? model : `/golden/models/${model}`, {
    device,
    embedded: "/embedded",
    progress: ({ done, total }) => progress.push(total ? done / total : Number.NaN),
  })
  let stalled = 0
  let last = performance.now()
  const clock = setInterval(() => {
    stalled = Math.max(stalled, performance.now() - last)
    last = performance.now()
  }, 5)
  const { images, trace } = await sd.generate(ask, { trace: true })
  clearInterval(clock)
  const blob = await images[0]!.blob()
  const { parameters } = await readMetadata(new Uint8Array(await blob.arrayBuffer()))
  const tensors = trace!.tensors()
  const { sha256 } = await sd.facts
  await sd.release()
  const { picture } = images[0]!
  const array = (name: string) => Array.from(tensors.get(name)!.data as Float32Array)
  return {
    cond: array("text.cond"),
    latents: array("latents"),
    picture: { ...picture, numbers: Array.from(picture.data) },
    parameters,
    type: blob.type,
    stalled,
    progress,
    sha256,
  }
}
