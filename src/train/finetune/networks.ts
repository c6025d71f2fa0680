import { concat, input, type Tensor } from "../../graph/index.ts"
import { type ClipText, UNet } from "../../models/index.ts"
import { bind } from "../../nn/index.ts"
import type { Size } from "../data/buckets.ts"
import { type DiffusionLoss, diffusionLoss, noised, type Prediction } from "../losses.ts"
import type { TrainModel } from "./model.ts"
import type { TrainSettings } from "./options.ts"
import { textInGraph } from "./texts.ts"

/** How a text becomes what the U-Net reads: states from outside, or by text encoders inside the graph. */
export type TextGraph = (model: TrainModel, rows: number) => { context: Tensor; pooled: Tensor | null }

/** Inputs `context` b t d and, for SDXL, `text_embeds` b p. */
export const givenText: TextGraph = (model, rows) => {
  const { config } = model.texts[0]!
  const width = model.texts.reduce((n, t) => n + t.config.hidden_size, 0)
  return {
    context: input("context", [rows, config.max_position_embeddings, width]),
    pooled: model.unet.addition_embed_type ? input("text_embeds", [rows, pooledSize(model)]) : null,
  }
}

const pooledSize = ({ unet }: TrainModel): number =>
  unet.projection_class_embeddings_input_dim! - 6 * unet.addition_time_embed_dim!

/**
 * Inputs `ids i` b t and, for encoders with a projection, `ends i` b.
 * @param nets from `textNets` @param embed another way from ids to embeddings
 */
export const encodedText =
  (nets: readonly ClipText[], embed?: (part: number, ids: Tensor) => Tensor): TextGraph =>
  (model, rows) => {
    const contexts: Tensor[] = []
    let pooled: Tensor | null = null
    for (const [i, part] of model.texts.entries()) {
      const net = nets[i]!
      const ids = input(`ids ${i}`, [rows, part.config.max_position_embeddings], "i64")
      const embedded = embed?.(i, ids) ?? net.textModel.embeddings.forward(ids)
      const { hidden, states } = textInGraph(part, net, embedded)
      contexts.push(hidden)
      if (!net.textProjection) continue
      const last = net.textModel.finalLayerNorm.forward(states.at(-1)!).rearrange("b t d -> (b t) d")
      pooled = net.textProjection.forward(last.gather(input(`ends ${i}`, [rows], "i64")))
    }
    return { context: concat(contexts, 2), pooled }
  }

/** A bound U-Net with its texts, ready to be called. */
export function denoiserOf(model: TrainModel, text: TextGraph) {
  const unet = bind(new UNet(model.unet), "unet")
  return {
    unet,
    /** Prediction at `x` b c h w and `timestep` b; SDXL also reads the input `time_ids` b 6. */
    predict(x: Tensor, timestep: Tensor): Tensor {
      const rows = x.shape[0] as number
      const { context, pooled } = text(model, rows)
      const extras =
        pooled && model.unet.addition_embed_type
          ? { textEmbeds: pooled, timeIds: input("time_ids", [rows, 6]) }
          : {}
      return unet.forward(x, timestep, context, extras)
    },
  }
}

/** Shape of latents for pictures of a size. */
export const latentShape = (
  model: TrainModel,
  rows: number,
  { width, height }: Size,
): [number, number, number, number] => [
  rows,
  model.vae.latent_channels,
  height / model.factor,
  width / model.factor,
]

export interface LossGraph {
  readonly rows: number
  readonly size: Size
  readonly prediction: Prediction
  /** The input `region` says how much each place counts. */
  readonly masked: boolean
}

/** Inputs `latents`, `noise`, `timestep`, `signal`, `sigma`, `weight`, text, and `region` where masks are used. */
export function lossGraph(
  model: TrainModel,
  s: Pick<TrainSettings, "loss" | "huber">,
  { rows, size, prediction, masked }: LossGraph,
  predict: (x: Tensor, timestep: Tensor) => Tensor,
): Tensor {
  const shape = latentShape(model, rows, size)
  const row = (name: string) => input(name, [rows])
  const level = { signal: row("signal"), noise: row("sigma") }
  const { x, target } = noised(input("latents", shape), input("noise", shape), level, prediction)
  const how: DiffusionLoss = { weight: row("weight") }
  if (masked) how.region = input("region", [rows, 1, shape[2], shape[3]])
  if (s.loss === "huber") how.huber = s.huber
  return diffusionLoss(predict(x, row("timestep")), target, how)
}
