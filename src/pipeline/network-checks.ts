import { fail } from "../errors.ts"
import type { ControlNetConfig, UNetConfig } from "../models/index.ts"
import type { Component } from "../weights/model-files.ts"

/** Refuses a ControlNet of another family. @throws CONTROLNET_FAMILY */
export function fitsUnet(control: ControlNetConfig, unet: UNetConfig, file: string | undefined): void {
  const about = (c: UNetConfig) =>
    [
      c.block_out_channels,
      c.down.map((l) => l.layers),
      c.down.map((l) => (l.attention ? l.context : 0)),
    ].join("; ")
  const told = (c: UNetConfig) =>
    `${c.down.find((l) => l.attention)?.context} wide text at ${c.block_out_channels.join(", ")} channels`
  if (about(control.unet) !== about(unet))
    fail("CONTROLNET_FAMILY", `the ControlNet reads ${told(control.unet)}, the model ${told(unet)}`, {
      file,
      hint: "it was made for another family of models",
    })
}

/** A config of a few bytes must not ask for a network of millions of parts: each block has several tensors. */
export function checkBlocks({ down, up }: UNetConfig, { weights, files }: Component): void {
  const blocks = [...down, ...up]
    .flatMap(({ layers, attention, depth }) => [layers, ...(attention ? depth : [])])
    .reduce((sum, n) => sum + n, 0)
  if (blocks > weights.size)
    fail("MODEL_CONFIG", `U-Net config: ${blocks} blocks for the ${weights.size} tensors of its file`, {
      file: files[0],
      hint: "fetch config.json and weights again, from one place",
    })
}
