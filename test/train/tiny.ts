import { mkdir, writeFile } from "node:fs/promises"
import { join } from "node:path"
import { encodeImage } from "../../src/image/codec.ts"
import { blank } from "../../src/image/pixels.ts"
import { type ModelLayout, writeRandomModel } from "../../src/pipeline/random-model.ts"

const layout: ModelLayout = {
  unet: {
    _class_name: "UNet2DConditionModel",
    block_out_channels: [8, 8],
    down_block_types: ["CrossAttnDownBlock2D", "DownBlock2D"],
    up_block_types: ["UpBlock2D", "CrossAttnUpBlock2D"],
    layers_per_block: 1,
    norm_num_groups: 4,
    attention_head_dim: 2,
    cross_attention_dim: 12,
    sample_size: 16,
  },
  vae: {
    _class_name: "AutoencoderKL",
    block_out_channels: [4, 4],
    down_block_types: ["DownEncoderBlock2D", "DownEncoderBlock2D"],
    up_block_types: ["UpDecoderBlock2D", "UpDecoderBlock2D"],
    norm_num_groups: 2,
  },
  text_encoder: {
    architectures: ["CLIPTextModel"],
    hidden_size: 12,
    intermediate_size: 16,
    num_hidden_layers: 1,
    num_attention_heads: 2,
  },
  scheduler: {
    _class_name: "DDIMScheduler",
    beta_start: 0.00085,
    beta_end: 0.012,
    beta_schedule: "scaled_linear",
  },
}

/** A model of a few thousand random weights. */
export const writeTinyModel = (folder: string): Promise<void> => writeRandomModel(folder, layout)

/** Six captioned pictures of two sizes. */
export async function writeTinyData(folder: string): Promise<void> {
  await mkdir(folder)
  for (let n = 0; n < 6; n++) {
    const picture = blank(n % 3 === 0 ? 24 : 16, 16, 3)
    picture.data.forEach((_, i) => {
      picture.data[i] = (i * (n + 3)) % 256
    })
    await writeFile(join(folder, `${n}.png`), await encodeImage(picture, { format: "png" }))
    await writeFile(join(folder, `${n}.txt`), `a picture, number ${n}, of stripes`)
  }
}
