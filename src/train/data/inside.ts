import { readdir, readFile, realpath } from "node:fs/promises"
import { isAbsolute, join, relative, sep } from "node:path"
import type { Problem } from "./entry.ts"

/** A folder that nothing is read outside of: neither by `..`, nor by a link. */
export class Inside {
  readonly root: string
  private readonly real: string

  private constructor(root: string, real: string) {
    this.root = root
    this.real = real
  }

  static async of(root: string): Promise<Inside> {
    return new Inside(root, await realpath(root))
  }

  /** The real path of a name in the folder, or what is wrong with it. */
  async path(name: string, where = name): Promise<string | Problem> {
    if (
      name.includes("\0") ||
      isAbsolute(name) ||
      /^[A-Za-z]:[\\/]/.test(name) ||
      this.leaves(join(this.root, name))
    )
      return { code: "DATA_OUTSIDE", what: `${name} lies outside the data set's folder`, where }
    const real = await realpath(join(this.root, name)).catch((e: NodeJS.ErrnoException) => e)
    if (typeof real !== "string")
      return real.code === "ENOENT"
        ? { code: "DATA_MISSING", what: `${name} does not exist`, where }
        : { code: "DATA_UNREADABLE", what: `${name} cannot be read (${real.code})`, where }
    if (!within(real, this.real))
      return { code: "DATA_LINK", what: `${name} is a link that leads out of the data set's folder`, where }
    return real
  }

  private leaves(path: string): boolean {
    return !within(path, this.root)
  }
}

const within = (path: string, folder: string): boolean => {
  const way = relative(folder, path)
  return way === "" || (way !== ".." && !way.startsWith(`..${sep}`) && !isAbsolute(way))
}

/** Every file below a folder by its path with forward slashes, in order; links are listed and not followed into. */
export async function filesBelow(root: string, under = "", depth = 0): Promise<string[]> {
  if (depth > 16) return []
  const found: string[] = []
  for (const entry of await readdir(join(root, under), { withFileTypes: true })) {
    if (entry.name.startsWith(".")) continue
    const path = under === "" ? entry.name : `${under}/${entry.name}`
    if (entry.isDirectory()) found.push(...(await filesBelow(root, path, depth + 1)))
    else if (entry.isFile() || entry.isSymbolicLink()) found.push(path)
  }
  return found.sort()
}

/** A file of the data set as a source; the path is real. */
export const fileAt = (real: string, where: string) => ({
  where,
  read: async (): Promise<Uint8Array> => new Uint8Array(await readFile(real)),
})
