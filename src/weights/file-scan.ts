import type { FileHandle } from "node:fs/promises"
import { open } from "node:fs/promises"
import { fileError, readInto } from "./file-source.ts"
import { type ScanOptions, scanFinite } from "./finite.ts"
import type { TensorView } from "./view.ts"

/** `scanFinite` over views of files; each file is opened once. */
export async function scanFiles(views: Iterable<TensorView>, options?: ScanOptions): Promise<void> {
  const handles = new Map<string, Promise<FileHandle>>()
  const handle = (file: string) => {
    const known = handles.get(file)
    if (known) return known
    const opened = open(file, "r").catch((error: unknown) => {
      throw fileError(error, file)
    })
    handles.set(file, opened)
    return opened
  }
  try {
    await scanFinite(views, async (file, into, at) => readInto(await handle(file), into, at, file), options)
  } finally {
    for (const opened of handles.values()) await opened.then((h) => h.close()).catch(() => undefined)
  }
}
