/** What a tensor of an adapter is to its module, whatever its dialect calls it. */
export type Part =
  | "up"
  | "down"
  | "mid"
  | "alpha"
  | "scale"
  | "dora_scale"
  | "magnitude"
  | `hada_${"w1_a" | "w1_b" | "w2_a" | "w2_b" | "t1" | "t2"}`
  | `lokr_${"w1" | "w1_a" | "w1_b" | "w2" | "w2_a" | "w2_b" | "t2"}`
  | "diff"
  | "diff_b"

/** The network a key names; `any` where its dialect leaves that open. */
export type Scope = "unet" | "text_encoder" | "text_encoder_2" | "any"

export interface AdapterKey {
  scope: Scope
  /** The module's path with `_` for dots, as all dialects can be brought to. */
  module: string
  part: Part
}

const sides: Record<string, Part> = { A: "down", B: "up", up: "up", down: "down", mid: "mid" }

/** Ends of keys: kohya, PEFT (with the adapter's name or without), diffusers' attention processors and linear layers. */
const ENDS: readonly [RegExp, (found: RegExpExecArray) => Part][] = [
  [/\.lora_(up|down|mid)\.weight$/, ([, side]) => sides[side!]!],
  [/\.lora_([AB])(?:\.[^.]+)?\.weight$/, ([, side]) => sides[side!]!],
  [/[._]lora(?:_linear_layer)?\.(up|down|mid)\.weight$/, ([, side]) => sides[side!]!],
  [/\.lora_magnitude_vector(?:\.[^.]+)?$/, () => "magnitude"],
  [
    /\.(hada_(?:w[12]_[ab]|t[12])|lokr_(?:w[12](?:_[ab])?|t2)|alpha|scale|dora_scale|diff|diff_b)$/,
    ([, part]) => part as Part,
  ],
  [/\.w_norm$/, () => "diff"],
  [/\.b_norm$/, () => "diff_b"],
]

const SCOPES: readonly [RegExp, Scope][] = [
  [/^(?:lora|lycoris)_unet_|^unet\.|^(?:model\.)?diffusion_model\./, "unet"],
  [/^lora_te2_|^text_encoder_2\.|^text_encoders\.clip_g\.(?:transformer\.)?/, "text_encoder_2"],
  [/^lora_te1?_|^text_encoder\.|^text_encoders\.clip_l\.(?:transformer\.)?/, "text_encoder"],
  [/^base_model\.model\.|^lycoris_/, "any"],
]

/** Reads a key of any dialect; undefined for keys of none. */
export function readKey(key: string): AdapterKey | undefined {
  for (const [pattern, partOf] of ENDS) {
    const end = pattern.exec(key)
    if (!end) continue
    const whole = key.slice(0, end.index)
    const [prefix, scope] = SCOPES.find(([p]) => p.test(whole)) ?? [/^/, "any" as const]
    return { scope, module: moduleName(whole.replace(prefix, "")), part: partOf(end) }
  }
  return undefined
}

/** diffusers' attention processors name their module's parts in their own way. */
const moduleName = (written: string): string =>
  written
    .replace(/\.processor\./, ".")
    .replace(/(attn\d)\.to_out$/, "$1.to_out.0")
    .replace(/(self_attn)\.to_([qkv])$/, "$1.$2_proj")
    .replace(/(self_attn)\.to_out$/, "$1.out_proj")
    .replaceAll(".", "_")
