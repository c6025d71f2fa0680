import { randomBytes } from "node:crypto"
import { mkdir, open, readdir, readFile, rename, rm, stat } from "node:fs/promises"
import { join, resolve } from "node:path"
import { fail } from "../errors.ts"
import { pass } from "./points.ts"
import type { S3Keys } from "./s3.ts"

/** Where files of pictures are kept: flat names, whole files. */
export interface Files {
  /** The file is whole and on disk when the promise resolves, or not there at all. */
  put(name: string, bytes: Uint8Array): Promise<void>
  /** The bytes, or null when there is no such file. */
  get(name: string): Promise<Uint8Array | null>
  remove(name: string): Promise<void>
  /** Names and ages in milliseconds of everything there is. */
  list(): Promise<{ name: string; age: number }[]>
  /** Takes away what processes that ended left half-written. */
  tidy(): Promise<void>
}

const plain = /^[a-z0-9][a-z0-9.-]{0,99}$/

/** Names are made by this program and are never paths. */
export function checkName(name: string): string {
  if (!plain.test(name)) fail("STORAGE_NAME", `${JSON.stringify(name)} is no file name of this program's`)
  return name
}

/** Whether a process of this machine lives that is not this one: what has this one's number is from before it. */
export const alive = (pid: number): boolean => {
  if (pid === process.pid) return false
  try {
    process.kill(pid, 0)
    return true
  } catch (error) {
    return (error as NodeJS.ErrnoException).code === "EPERM"
  }
}

class Folder implements Files {
  private readonly folder: string
  private readonly host: string

  constructor(folder: string, host: string) {
    this.folder = folder
    this.host = host
  }

  async put(name: string, bytes: Uint8Array): Promise<void> {
    const path = join(this.folder, checkName(name))
    const aside = `${path}.${this.host}.${process.pid}.${randomBytes(4).toString("hex")}.tmp`
    try {
      const handle = await open(aside, "wx", 0o600)
      try {
        const half = bytes.length >> 1
        await handle.write(bytes.subarray(0, half))
        pass("picture-half")
        await handle.writeFile(bytes.subarray(half))
        await handle.sync()
      } finally {
        await handle.close()
      }
      await rename(aside, path)
      await this.sync()
    } catch (cause) {
      await rm(aside, { force: true }).catch(() => {})
      fail("STORAGE_WRITE", `a picture cannot be stored: ${(cause as NodeJS.ErrnoException).code ?? "?"}`, {
        cause,
        blame: "here",
        hint: "look for room on the disk and for rights in the storage folder",
      })
    }
  }

  /** Puts the folder's own entries on disk: a rename is not safe before. */
  private async sync(): Promise<void> {
    if (process.platform === "win32") return // there a folder cannot be opened
    const handle = await open(this.folder, "r")
    try {
      await handle.sync()
    } finally {
      await handle.close()
    }
  }

  async get(name: string): Promise<Uint8Array | null> {
    return readFile(join(this.folder, checkName(name))).catch((error: NodeJS.ErrnoException) => {
      if (error.code === "ENOENT") return null
      throw error
    })
  }

  async remove(name: string): Promise<void> {
    await rm(join(this.folder, checkName(name)), { force: true })
  }

  async list(): Promise<{ name: string; age: number }[]> {
    const now = Date.now()
    const names = (await readdir(this.folder)).filter((name) => plain.test(name) && !name.endsWith(".tmp"))
    const found = await Promise.all(
      names.map(async (name) => {
        const seen = await stat(join(this.folder, name)).catch(() => null)
        return seen ? [{ name, age: now - seen.mtimeMs }] : []
      }),
    )
    return found.flat()
  }

  async tidy(): Promise<void> {
    for (const name of await readdir(this.folder)) {
      const [, host, pid] = /\.([^.]+)\.(\d+)\.[0-9a-f]{8}\.tmp$/.exec(name) ?? []
      if (host === undefined) continue
      const seen = await stat(join(this.folder, name)).catch(() => null)
      // another machine's are left until nobody can be writing them any more
      const dead = host === this.host ? !alive(Number(pid)) : seen && Date.now() - seen.mtimeMs > 3_600_000
      if (dead) await rm(join(this.folder, name), { force: true })
    }
  }
}

/**
 * Opens the place that a name stands for: a folder, made where it is missing, or `s3://bucket/prefix`.
 * @param host this machine's name, letters and digits
 * @param keys of an object store
 * @throws STORAGE_*
 */
export async function openFiles(name: string, host: string, keys?: S3Keys): Promise<Files> {
  if (name.startsWith("s3://")) {
    const { openS3 } = await import("./s3.ts")
    return openS3(name, keys)
  }
  const folder = resolve(name)
  try {
    await mkdir(folder, { recursive: true, mode: 0o700 })
    return new Folder(folder, host)
  } catch (cause) {
    return fail("STORAGE_OPEN", `the storage folder cannot be made: ${(cause as Error).message}`, {
      cause,
      file: name,
      hint: "choose another folder with --storage",
    })
  }
}
