import { mkdir, rm } from "node:fs/promises"
import { dirname, join } from "node:path"
import { AquatintError } from "../../errors.ts"
import { f32, type Value } from "../../runtime/engine.ts"
import { decodeFloats } from "../../weights/decode.ts"
import { withFile } from "../../weights/open-file.ts"
import { readSafetensorsHeader } from "../../weights/safetensors.ts"
import { writeSafetensors } from "../../weights/write.ts"

type Arrays = Readonly<Record<string, Value>>

/** Arrays on a disk by the hash of what they were made from; a damaged file counts as absent. */
export class ArrayStore {
  private readonly folder: string

  constructor(folder: string) {
    this.folder = folder
  }

  private path(key: string): string {
    return join(this.folder, key.slice(0, 2), `${key}.safetensors`)
  }

  async get(key: string): Promise<Arrays | null> {
    const path = this.path(key)
    try {
      return await withFile(path, async (source) => {
        const { tensors } = await readSafetensorsHeader(source)
        const out: Record<string, Value> = {}
        for (const [name, view] of tensors)
          out[name] = f32(decodeFloats(view.dtype, await source.read(view.offset, view.length)), view.shape)
        return out
      })
    } catch (error) {
      if (!(error instanceof AquatintError)) throw error
      if (error.code !== "FILE_NOT_FOUND") await rm(path, { force: true })
      return null
    }
  }

  async set(key: string, arrays: Arrays): Promise<void> {
    const path = this.path(key)
    await mkdir(dirname(path), { recursive: true })
    const tensors = Object.entries(arrays).map(([name, { data, shape }]) => ({
      name,
      dtype: "F32" as const,
      shape,
      bytes: new Uint8Array(data.buffer, data.byteOffset, data.byteLength),
    }))
    await writeSafetensors(path, tensors)
  }
}
