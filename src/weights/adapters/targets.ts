import { unetToLdm } from "../convert-ldm.ts"
import { type TensorView, Weights } from "../view.ts"
import type { AdapterTarget } from "./adapter.ts"

const flat = (path: string) => path.replaceAll(".", "_")

/** Modules of a network by diffusers' or transformers' paths and by the other names adapters know them under. */
export function adapterTarget(
  scope: AdapterTarget["scope"],
  weights: ReadonlyMap<string, readonly number[]>,
): AdapterTarget {
  const modules = new Map<string, string>()
  const add = (name: string, module: string) => {
    if (!modules.has(name)) modules.set(name, module)
  }
  for (const key of weights.keys()) {
    const module = key.replace(/\.(weight|bias)$/, "")
    add(flat(module), module)
    // transformers 5 has no text_model around its encoder
    add(flat(module.replace(/^text_model\./, "")), module)
  }
  if (scope === "unet") for (const [ldm, module] of ldmModules(weights)) add(flat(ldm), module)
  return { scope, modules, shapes: weights }
}

/** LDM's (SGM's) paths of a U-Net's modules: kohya writes them for SDXL, ComfyUI for all. */
function ldmModules(weights: ReadonlyMap<string, readonly number[]>): [string, string][] {
  const views = new Weights()
  for (const [name, shape] of weights) {
    const view: TensorView = { name, dtype: "F32", shape: [...shape], file: "", offset: 0, length: 0 }
    views.set(name, view)
  }
  const stem = (key: string) => key.replace(/\.(weight|bias)$/, "")
  const names = [...weights.keys()]
  return unetToLdm(views).map((planned, i) => [stem(planned.name), stem(names[i]!)])
}
