import { fail } from "../errors.ts"
import { OPENCLIP_FIXED, OPENCLIP_LAYER } from "./ldm-keys.ts"
import { rows, type TensorView, transposed, Weights } from "./view.ts"

/** Layers of an OpenCLIP text tower, by key names without prefix. */
export function openClipLayers(keys: Iterable<string>): number {
  const seen = new Set([...keys].map((key) => /^transformer\.resblocks\.(\d+)\./.exec(key)?.[1]))
  let n = 0
  while (seen.has(String(n))) n++
  return n
}

/**
 * Names an OpenCLIP text tower as transformers' CLIP does. The fused `in_proj` becomes three views of
 * its rows; `text_projection` is stored [in, out] and comes out as a transposed view [out, in].
 */
export function renameOpenClip(tensors: Iterable<[string, TensorView]>): Weights {
  const out = new Weights()
  const put = (view: TensorView, name: string) => out.set(name, { ...view, name })
  for (const [key, view] of tensors) {
    const layer = /^transformer\.resblocks\.(\d+)\.(.+?)(?:\.(weight|bias)|_(weight|bias))$/.exec(key)
    const fixed = OPENCLIP_FIXED[key]
    if (fixed !== undefined) put(view, fixed)
    else if (key === "text_projection") put(transposed(view), "text_projection.weight")
    else if (!layer) put(view, key)
    else {
      const [, n, stem, dotted, fused] = layer
      const to = `text_model.encoder.layers.${n}`
      const part = OPENCLIP_LAYER[stem!]
      if (fused !== undefined && stem === "attn.in_proj")
        for (const third of split(view, `${to}.self_attn`, fused)) put(third, third.name)
      else if (part !== undefined && dotted !== undefined) put(view, `${to}.${part}.${dotted}`)
      else put(view, key)
    }
  }
  return out
}

/** q, k and v of a fused [3 d, d] matrix or [3 d] bias. */
function split(view: TensorView, to: string, leaf: string): TensorView[] {
  const total = view.shape[0] ?? 0
  if (total % 3 !== 0)
    fail("CHECKPOINT_SHAPE", `${view.name}: ${total} rows are no q, k and v of one size`, { file: view.file })
  const d = total / 3
  return ["q", "k", "v"].map((letter, i) => rows(view, `${to}.${letter}_proj.${leaf}`, i * d, d))
}
