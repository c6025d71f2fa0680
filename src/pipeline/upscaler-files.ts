import { stat } from "node:fs/promises"
import { basename } from "node:path"
import { fail } from "../errors.ts"
import { scanFinite } from "../weights/finite.ts"
import { withFile } from "../weights/open-file.ts"
import { readSafetensorsHeader } from "../weights/safetensors.ts"
import { openTorchFile, verifyChecksums } from "../weights/torch-file.ts"
import type { TensorView } from "../weights/view.ts"
import { refusePickle } from "./pickled.ts"
import { type OpenedUpscaler, openedUpscaler } from "./upscaler.ts"

const known = new Map<string, OpenedUpscaler>()

/**
 * Opens an upscaler's file, `.safetensors` or one of torch.save (`.pth`, the form that upscalers are published in), which is
 * read as data: nothing in it is called. Pickled files of other endings are for `convert`.
 * Checksums are compared and NaN refused, once per state of the file.
 * @throws UPSCALER_NOT_ONE, MODEL_PICKLE, WEIGHTS_*, TORCH_*, PICKLE_*, ZIP_*, SAFETENSORS_*
 */
export async function openUpscalerFile(path: string): Promise<OpenedUpscaler> {
  const { ino, size, mtimeMs } = await stat(path)
  const id = `${path} ${ino} ${size} ${mtimeMs}`
  const hit = known.get(id)
  if (hit) return hit
  if (/\.(ckpt|pt|bin)$/i.test(path)) refusePickle(path)
  const name = basename(path).replace(/\.[^.]+$/, "")
  const opened = await withFile(path, async (source) => {
    const torch = /\.pth$/i.test(path)
    const tensors = torch ? await pickled(source, path) : (await readSafetensorsHeader(source)).tensors
    await scanFinite(tensors.values(), async (_file, into, position) => {
      into.set(await source.read(position, into.length))
    })
    return openedUpscaler(tensors, { id, name, path })
  })
  known.set(id, opened)
  return opened
}

async function pickled(
  source: Parameters<typeof openTorchFile>[0],
  path: string,
): Promise<ReadonlyMap<string, TensorView>> {
  const file = await openTorchFile(source)
  for await (const _ of verifyChecksums(source, file));
  const strided = [...file.tensors.values()].find(({ strides }) => strides !== undefined)
  if (strided)
    fail("TORCH_STRIDES", `${path}: ${strided.name} is stored out of order`, {
      file: path,
      hint: "turn the file into .safetensors with aquatint convert",
    })
  return file.tensors
}
