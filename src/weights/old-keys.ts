import { isLeftover } from "./model-files.ts"
import { elements, reshaped, type TensorView, Weights } from "./view.ts"

const OLD_ATTENTION: Record<string, string> = {
  query: "to_q",
  key: "to_k",
  value: "to_v",
  proj_attn: "to_out.0",
}
const TEXT_ROOT = /^(embeddings|encoder|final_layer_norm)\./

/** diffusers before 0.18 called the VAE's attention parts query, key, value and proj_attn, at times as 1x1 convolutions. */
export function modernVaeKeys(weights: Iterable<[string, TensorView]>): Weights {
  const out = new Weights()
  for (const [key, view] of weights) {
    const name = key.replace(
      /(mid_block\.attentions\.\d+\.)(query|key|value|proj_attn)\.(weight|bias)$/,
      (_, head: string, part: string, leaf: string) => `${head}${OLD_ATTENTION[part]}.${leaf}`,
    )
    const matrix = /mid_block\.attentions\.\d+\.to_(q|k|v|out\.0)\.weight$/.test(name)
    out.set(name, matrix ? asLinear({ ...view, name }) : { ...view, name })
  }
  return out
}

/** The view of a 1x1 convolution [o, i, 1, 1] (or [o, i, 1]) as a linear layer's matrix [o, i]; others unchanged. */
export function asLinear(view: TensorView): TensorView {
  const [o, i, ...rest] = view.shape
  if (o === undefined || i === undefined || rest.length === 0 || elements(rest) !== 1) return view
  return reshaped(view, [o, i])
}

/** Text encoder keys with the `text_model.` that some writers leave out, without position ids. */
export function fullTextKeys(weights: Iterable<[string, TensorView]>): Weights {
  const out = new Weights()
  for (const [key, view] of weights) {
    if (isLeftover(key)) continue
    const name = TEXT_ROOT.test(key) ? `text_model.${key}` : key
    out.set(name, { ...view, name })
  }
  return out
}
