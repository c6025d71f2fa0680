import { readdir, realpath } from "node:fs/promises"
import { dirname, join, resolve } from "node:path"
import { openVae } from "../weights/components.ts"
import type { Component, Family } from "../weights/model-files.ts"

/** Folders in which ComfyUI and A1111 keep TAESD. */
const folders = ["", "vae_approx", "VAE-approx", "taesd"]

const namesFor = (family: Family): RegExp =>
  family.startsWith("sdxl") ? /^taesdxl(_decoder)?(\.safetensors)?$/i : /^taesd(_decoder)?(\.safetensors)?$/i

/**
 * TAESD beside a model, for previews: `taesd` (SDXL: `taesdxl`), a folder or a `.safetensors` file, next to the model, in
 * `vae_approx` or `VAE-approx` there or one level up. Null where there is none that can be read: previews are then rough.
 */
export async function findPreviewVae(model: string, family: Family): Promise<Component | null> {
  const here = await realpath(model).catch(() => resolve(model))
  const wanted = namesFor(family)
  for (const base of [here, dirname(here), dirname(dirname(here))])
    for (const folder of folders) {
      const place = join(base, folder)
      const names = await readdir(place).catch(() => [])
      for (const name of names.filter((n) => wanted.test(n)).sort()) {
        const found = await openVae(join(place, name), { family }).catch(() => null)
        if (found?.className === "AutoencoderTiny") return found
      }
    }
  return null
}
