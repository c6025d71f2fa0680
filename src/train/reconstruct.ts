import { fail } from "../errors.ts"
import { input, type StoredTensor, symbol } from "../graph/index.ts"
import { AutoencoderKL, vaeConfig } from "../models/index.ts"
import { bind, expected } from "../nn/index.ts"
import { type Engine, f32, value } from "../runtime/engine.ts"
import { compile } from "../runtime/program.ts"
import { fitWeights } from "../weights/fit.ts"
import { openFolder } from "../weights/folder.ts"
import { readState } from "./checkpoint.ts"
import { freshScenes } from "./judge.ts"
import { posterior } from "./losses.ts"
import { cropInto, psnr } from "./pictures.ts"

/**
 * PSNR in dB of fresh corpus pictures that went through a model's autoencoder and back, with each picture's style.
 * @param folder a diffusers folder
 */
export async function reconstructionPsnr(
  engine: Engine,
  folder: string,
  size: number,
  count: number,
): Promise<{ style: string; psnr: number }[]> {
  const part =
    (await openFolder(folder)).components.get("vae") ??
    fail("MODEL_PART", `${folder} has no vae`, { file: folder })
  const net = bind(new AutoencoderKL(vaeConfig(part.config)))
  fitWeights(expected(net), part.weights, { model: "vae", file: part.files[0] })
  const weights = new Map<string, StoredTensor>()
  for (const file of part.files)
    for (const [name, data] of await readState(file))
      weights.set(name, {
        dtype: "f32",
        shape: part.weights.get(name)!.shape,
        bytes: new Uint8Array(data.buffer),
      })
  const picture = input("picture", [symbol("b"), 3, size, size])
  const made = net.decode(posterior(net.encode(picture)).mean)
  const program = await compile(engine, { outputs: { made } }, weights, { device: "cpu" })
  const scenes = freshScenes(size)
  const out: { style: string; psnr: number }[] = []
  for (let n = 0; n < count; n++) {
    const item = scenes.item(n)
    const data = new Float32Array(3 * size * size)
    cropInto(data, 0, item, { x: 0, y: 0, size, mirror: false })
    const wanted = f32(data, [1, 3, size, size])
    const [db] = psnr(value(await program.run({ picture: wanted }), "made"), wanted)
    out.push({ style: item.spec.style, psnr: db! })
  }
  await program.release()
  return out
}
