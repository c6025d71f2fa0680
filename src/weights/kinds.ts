import type { TensorView } from "./view.ts"

/** What a file without an index can be, told from its key names. */
export type Kind =
  | "single-file"
  | "unet"
  | "lora"
  | "embedding"
  | "controlnet"
  | "vae"
  | "upscaler"
  | "t2i-adapter"
  | "ip-adapter"
  | "text-encoder"

const any = (keys: readonly string[], pattern: RegExp) => keys.some((key) => pattern.test(key))

const LORA =
  /(\.|_)(lora_(up|down|mid|A|B)|lora\.(up|down)|lora_linear_layer\.(up|down)|hada_w[12]_[ab]|lokr_w[12](_[ab])?|oft_(blocks|diag)|dora_scale)(\.|$)|(processor|attn\d)\.[\w.]*_lora\.(up|down)\./

/** Each kind with the keys that give it away; the first that fits is taken. */
const TESTS: [Kind, (keys: readonly string[], tensors: ReadonlyMap<string, TensorView>) => boolean][] = [
  ["ip-adapter", (keys) => any(keys, /^image_proj\./) && any(keys, /^ip_adapter\./)],
  ["lora", (keys) => any(keys, LORA)],
  [
    "controlnet",
    (keys) =>
      any(
        keys,
        /^(control_model\.)?(zero_convs|input_hint_block)\.|^controlnet_(cond_embedding|down_blocks|mid_block)\b/,
      ),
  ],
  ["single-file", (keys) => any(keys, /^model\.diffusion_model\./)],
  [
    "t2i-adapter",
    (keys) => any(keys, /^(adapter\.)?body\.\d+\.(resnets\.|block1\.|in_conv\.|0\.block1|body\.)/),
  ],
  [
    "vae",
    (keys) =>
      any(
        keys,
        /^(first_stage_model\.|vae\.)?(encoder|decoder)\.(down|up|mid|down_blocks|up_blocks|mid_block|layers)\.?/,
      ),
  ],
  ["vae", (keys) => any(keys, /^(taesd_)?(encoder|decoder)\.\d+\./)],
  [
    "unet",
    (keys) =>
      keys.includes("input_blocks.0.0.weight") ||
      (any(keys, /^down_blocks\.0\.resnets\.0\./) && keys.includes("conv_in.weight")),
  ],
  [
    "text-encoder",
    (keys) =>
      any(
        keys,
        /^(text_model\.)?(encoder\.layers\.0\.self_attn|embeddings\.token_embedding)|^(cond_stage_model|transformer\.resblocks)\./,
      ),
  ],
  [
    "upscaler",
    (keys) =>
      any(
        keys,
        /^(model\.0\.weight|model\.1\.sub\.0\.|conv_first\.weight|(params(_ema)?\.)?(body\.\d+\.(rdb\d|weight)|conv_first|RRDB_trunk))/,
      ),
  ],
  ["embedding", isEmbedding],
]

/** A textual inversion holds one small matrix per encoder and nothing else. */
function isEmbedding(keys: readonly string[], tensors: ReadonlyMap<string, TensorView>): boolean {
  if (keys.includes("emb_params") || any(keys, /^string_to_param\./)) return true
  if (keys.includes("clip_l") || keys.includes("clip_g")) return true
  return (
    keys.length > 0 &&
    keys.length <= 4 &&
    [...tensors.values()].every(({ shape }) => shape.length === 1 || shape.length === 2)
  )
}

/** Kind of a file by its tensors' names; undefined where none fits. */
export function kindOf(tensors: ReadonlyMap<string, TensorView>): Kind | undefined {
  const keys = [...tensors.keys()]
  return TESTS.find(([, test]) => test(keys, tensors))?.[0]
}

const NAMES: Record<Kind, string> = {
  "single-file": "a checkpoint",
  unet: "a U-Net alone",
  lora: "a LoRA: use it with --lora",
  embedding: "a textual inversion: use it with --embedding",
  controlnet: "a ControlNet: use it with --control",
  vae: "a VAE: use it with --vae",
  upscaler: "an upscaler",
  "t2i-adapter": "a T2I-Adapter: use it with --control",
  "ip-adapter": "an IP-Adapter: use it with --control",
  "text-encoder": "a text encoder alone",
}

/** A kind in words, for hints. */
export function kindName(kind: Kind): string {
  return NAMES[kind]
}
