import { mkdir } from "node:fs/promises"
import { join } from "node:path"
import { input, nameOf, rewrite, scalar, type Tensor } from "../../graph/index.ts"
import { ControlNet, type ControlNetConfig, controlNetConfig } from "../../models/controlnet.ts"
import { UNet } from "../../models/index.ts"
import { bind, parameters } from "../../nn/index.ts"
import { writeSafetensors } from "../../weights/write.ts"
import { writeWhole } from "../checkpoint.ts"
import { freshWeights } from "../init.ts"
import { encodedTexts } from "./batches.ts"
import type { Method } from "./diffusion.ts"
import { shapesOf } from "./methods.ts"
import { readWeights, storedWeights, type TrainModel } from "./model.ts"
import { givenText } from "./networks.ts"
import type { TrainSettings } from "./options.ts"
import type { Prepared } from "./prepare.ts"
import { type SavedType, tensorOf, type Values } from "./save.ts"

/** Fields that a ControlNet takes over from the U-Net it copies, as diffusers' `from_unet` does. */
const shared = [
  "in_channels",
  "flip_sin_to_cos",
  "freq_shift",
  "down_block_types",
  "mid_block_type",
  "only_cross_attention",
  "block_out_channels",
  "layers_per_block",
  "downsample_padding",
  "mid_block_scale_factor",
  "act_fn",
  "norm_num_groups",
  "norm_eps",
  "cross_attention_dim",
  "transformer_layers_per_block",
  "attention_head_dim",
  "num_attention_heads",
  "use_linear_projection",
  "class_embed_type",
  "addition_embed_type",
  "addition_time_embed_dim",
  "num_class_embeds",
  "upcast_attention",
  "resnet_time_scale_shift",
  "projection_class_embeddings_input_dim",
]

/** config.json of a ControlNet for a model. */
export function controlConfig(model: TrainModel): Record<string, unknown> {
  const unet = model.files.components.get("unet")!.config
  const levels = Math.log2(model.factor) + 1
  return {
    _class_name: "ControlNetModel",
    ...Object.fromEntries(shared.filter((k) => k in unet).map((k) => [k, unet[k]])),
    conditioning_channels: 3,
    conditioning_embedding_out_channels: [16, 32, 96, 256, 256].slice(0, levels),
    controlnet_conditioning_channel_order: "rgb",
    global_pool_conditions: false,
  }
}

const prefix = "controlnet."

/**
 * Learns a copy of the U-Net's way down that reads a second picture (Zhang et al. 2023); the U-Net stays. It begins
 * as the U-Net itself, speaking through convolutions of zeros: at first nothing changes.
 */
export function controlMethod(model: TrainModel, s: TrainSettings, data: Prepared): Method {
  const config: ControlNetConfig = controlNetConfig(controlConfig(model))
  const net = bind(new ControlNet(config), "controlnet")
  const unet = bind(new UNet(model.unet), "unet")
  const learned = new Map([...parameters(net, "controlnet")].map(([name, p]) => [name, p.tensor]))
  return {
    parameters: learned,
    first: () => firstWeights(model, s, learned),
    held: storedWeights(model),
    texts: encodedTexts(data),
    predict(x, t) {
      const [rows, , h, w] = x.dims("b c h w") as [number, number, number, number]
      const { context, pooled } = givenText(model, rows)
      const extras = pooled ? { textEmbeds: pooled, timeIds: input("time_ids", [rows, 6]) } : {}
      const hint = input("condition", [rows, 3, h * model.factor, w * model.factor])
      const said = net.forward(x, t, hint, scalar(1), { context, extras })
      const out = unet.forward(x, t, context, { ...extras, controls: 1 })
      // what the U-Net takes from outside when it draws is made inside the graph here
      const place = (node: Tensor) => (node.op === "input" ? /^control0\.r(\d+)$/.exec(nameOf(node)) : null)
      const joined = rewrite({ outputs: { out } }, (node) => {
        const hit = place(node)
        return hit ? said[Number(hit[1])]! : node
      })
      return joined.outputs.out!
    },
  }
}

async function firstWeights(
  model: TrainModel,
  s: TrainSettings,
  learned: ReadonlyMap<string, Tensor>,
): Promise<Map<string, Float32Array>> {
  const source = (name: string) => `unet.${name.slice(prefix.length)}`
  const copied = [...learned.keys()].filter(
    (name) => model.views.has(source(name)) && !name.includes("controlnet_"),
  )
  const values = await readWeights(model, copied.map(source))
  const rest = new Map([...shapesOf(learned)].filter(([name]) => !values.has(source(name))))
  const fresh = freshWeights(rest, s.seed)
  for (const [name, data] of fresh)
    if (/controlnet_(down_blocks|mid_block)|controlnet_cond_embedding\.conv_out/.test(name)) data.fill(0)
  return new Map([...copied.map((name) => [name, values.get(source(name))!] as const), ...fresh])
}

/** Writes a ControlNet as diffusers' folder: config.json and weights. */
export async function saveControl(
  folder: string,
  model: TrainModel,
  values: Values,
  shapes: ReadonlyMap<string, readonly number[]>,
  dtype: SavedType,
): Promise<void> {
  await mkdir(folder, { recursive: true })
  const tensors = [...values].map(([name, data]) =>
    tensorOf(name.slice(prefix.length), shapes.get(name)!, data, dtype),
  )
  await writeSafetensors(join(folder, "diffusion_pytorch_model.safetensors"), tensors, [["format", "pt"]])
  await writeWhole(join(folder, "config.json"), `${JSON.stringify(controlConfig(model), null, 2)}\n`)
}
