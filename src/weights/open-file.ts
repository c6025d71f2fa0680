import { fileSource } from "./file-source.ts"
import { readSafetensorsHeader, type SafetensorsHeader } from "./safetensors.ts"
import type { ByteSource } from "./source.ts"

/** Opens a file, hands it to `use`, and closes it whatever happens. */
export async function withFile<T>(
  path: string,
  use: (source: ByteSource & { path: string }) => Promise<T>,
): Promise<T> {
  const source = await fileSource(path)
  try {
    return await use(source)
  } finally {
    await source.close()
  }
}

/** The checked header of a safetensors file; views carry the real path. */
export function openSafetensors(
  path: string,
  options?: { headerLimit?: number },
): Promise<SafetensorsHeader> {
  return withFile(path, (source) => readSafetensorsHeader(source, options))
}
