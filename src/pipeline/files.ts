import { lstat, open, rename, rm } from "node:fs/promises"
import { AquatintError } from "../errors.ts"
import { readText } from "../weights/folder.ts"

/** Writes a file so that readers see the old one or the whole new one: temporary file, fsync, rename. @throws OUTPUT_WRITE */
export async function writeAtomic(path: string, bytes: Uint8Array): Promise<void> {
  const temporary = `${path}.${process.pid}.tmp`
  try {
    const handle = await open(temporary, "w")
    try {
      await handle.writeFile(bytes)
      await handle.sync()
    } finally {
      await handle.close()
    }
    await rename(temporary, path)
  } catch (cause) {
    await rm(temporary, { force: true }).catch(() => {})
    throw new AquatintError("OUTPUT_WRITE", `${path} cannot be written: ${(cause as Error).message}`, {
      cause,
      file: path,
      hint: "choose a folder that exists and that you may write to",
    })
  }
}

const textLimit = 32 * 1024 * 1024

/** A regular file's text, or undefined where there is none. @throws FILE_*, CONFIG_SIZE */
export async function readIfThere(path: string): Promise<string | undefined> {
  const link = await lstat(path).catch(() => null)
  return link ? readText(path, textLimit) : undefined
}
