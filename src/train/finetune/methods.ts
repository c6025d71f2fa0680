import { fail } from "../../errors.ts"
import type { Tensor } from "../../graph/index.ts"
import { type Module, parameters } from "../../nn/index.ts"
import { freshWeights, zeroBranches } from "../init.ts"
import { encodedTexts, idTexts } from "./batches.ts"
import type { Method } from "./diffusion.ts"
import { freshLora, type LoraOptions, type LoraPart, loraParameters, loraParts, withLora } from "./lora.ts"
import { readWeights, storedWeights, type TrainModel } from "./model.ts"
import { denoiserOf, encodedText, givenText } from "./networks.ts"
import type { TrainSettings } from "./options.ts"
import type { Prepared } from "./prepare.ts"
import { textNets } from "./texts.ts"

const isText = (name: string): boolean => name.startsWith("text_encoder")

/** The U-Net, and text encoders where they learn too, with how texts go in. */
function networksOf(model: TrainModel, s: TrainSettings, data: Prepared) {
  if (!s.trainText) return { ...denoiserOf(model, givenText), nets: [], texts: encodedTexts(data) }
  const nets = textNets(model)
  return { ...denoiserOf(model, encodedText(nets)), nets, texts: idTexts(model) }
}

const loraOptions = (s: TrainSettings): LoraOptions => ({
  rank: s.rank,
  alpha: s.alpha ?? s.rank,
  targets: s.targets,
  convRank: s.convRank,
  convAlpha: s.convAlpha ?? s.convRank,
  blocks: new Map(Object.entries(s.blocks)),
})

/** The layers that a LoRA training adapts. */
export function adaptedParts(model: TrainModel, s: TrainSettings): LoraPart[] {
  if (s.rank < 1)
    fail("TRAIN_LORA", "a rank of 0 leaves nothing to learn", { hint: "ranks lie around 4 to 64" })
  const shapes = [...model.views].filter(
    ([name]) => name.startsWith("unet.") || (s.trainText && isText(name)),
  )
  return loraParts(new Map(shapes.map(([name, view]) => [name, view.shape])), loraOptions(s))
}

/** Low-rank parts beside weights that stay (Hu et al. 2022). */
export function loraMethod(model: TrainModel, s: TrainSettings, data: Prepared): Method {
  const parts = adaptedParts(model, s)
  const learned = loraParameters(parts)
  const { predict, texts } = networksOf(model, s, data)
  return {
    parameters: learned,
    first: () => freshLora(parts, s.seed),
    held: storedWeights(model),
    texts,
    scale: (name) => (isText(name) ? s.textRate : 1),
    predict,
    adapt: (outputs) => withLora(outputs, parts, learned),
  }
}

/** Every weight of the U-Net, and of the text encoders where they learn too. */
export function fullMethod(model: TrainModel, s: TrainSettings, data: Prepared): Method {
  const { unet, nets, predict, texts } = networksOf(model, s, data)
  const learned = namedParameters(
    new Map<string, Module>([["unet", unet], ...nets.map((net, i) => [model.texts[i]!.name, net] as const)]),
  )
  return {
    parameters: learned,
    first: async () =>
      s.fresh ? zeroBranches(freshWeights(shapesOf(learned), s.seed)) : readWeights(model, learned.keys()),
    held: storedWeights(model, (name) => !learned.has(name)),
    texts,
    scale: (name) => (isText(name) ? s.textRate : 1),
    predict,
  }
}

const namedParameters = (nets: ReadonlyMap<string, Module>): Map<string, Tensor> =>
  new Map(
    [...nets].flatMap(([prefix, net]) =>
      [...parameters(net, prefix)].map(([name, p]) => [name, p.tensor] as const),
    ),
  )

export const shapesOf = (learned: ReadonlyMap<string, Tensor>): Map<string, readonly number[]> =>
  new Map([...learned].map(([name, t]) => [name, t.shape as number[]]))
