import { constants } from "node:fs"
import { type FileHandle, open, realpath, stat } from "node:fs/promises"
import { basename } from "node:path"
import { AquatintError, fail } from "../errors.ts"
import { type ByteSource, checkRange } from "./source.ts"

const reasons: Record<string, [code: string, what: string, hint: string]> = {
  ENOENT: ["FILE_NOT_FOUND", "no such file", "check the path, or a link that points nowhere"],
  ENOTDIR: ["FILE_NOT_FOUND", "no such file: a part of the path is no folder", "check the path"],
  EACCES: ["FILE_UNREADABLE", "may not be read", "check the file's permissions"],
  EPERM: ["FILE_UNREADABLE", "may not be read", "check the file's permissions"],
  ELOOP: ["FILE_UNREADABLE", "its links go in a circle", "remove the link and name the file itself"],
  ENAMETOOLONG: ["FILE_NOT_FOUND", "the name is too long", "check the path"],
  ERR_INVALID_ARG_VALUE: ["FILE_NOT_FOUND", "not a file name", "remove the NUL byte from the name"],
}

/** The AquatintError for what Node's file functions throw. */
export function fileError(error: unknown, path: string): AquatintError {
  if (error instanceof AquatintError) return error
  const code = error instanceof Error && "code" in error ? String(error.code) : ""
  const [name, what, hint] = reasons[code] ?? [
    "FILE_UNREADABLE",
    `cannot be read (${code || error})`,
    "try again",
  ]
  const blame = code in reasons ? "caller" : "here"
  return new AquatintError(name, `${path}: ${what}`, { hint, file: path, cause: error, blame })
}

const kind = (s: { isDirectory(): boolean; isFIFO(): boolean; isSocket(): boolean }) =>
  s.isDirectory() ? "a folder" : s.isFIFO() ? "a pipe" : s.isSocket() ? "a socket" : "a device"

/**
 * A source over a regular file, reached through symlinks too (hub caches hold links).
 * Folders, pipes, sockets and devices are refused before anything is opened. Close it when done.
 * Errors: FILE_NOT_FOUND, FILE_NOT_REGULAR, FILE_UNREADABLE.
 */
export async function fileSource(
  path: string,
): Promise<ByteSource & { path: string; close(): Promise<void> }> {
  let handle: FileHandle | undefined
  try {
    const real = await realpath(path)
    const before = await stat(real)
    if (!before.isFile()) refuse(path, before)
    // O_NONBLOCK: a pipe put in the file's place meanwhile must not hang the process
    handle = await open(real, constants.O_RDONLY | (constants.O_NONBLOCK ?? 0))
    const now = await handle.stat()
    if (!now.isFile()) refuse(path, now)
    return over(handle, path, real, now.size)
  } catch (error) {
    await handle?.close()
    throw fileError(error, path)
  }
}

/** Whether a path leads to a folder. Error: FILE_NOT_FOUND. */
export async function isFolder(path: string): Promise<boolean> {
  try {
    return (await stat(path)).isDirectory()
  } catch (error) {
    throw fileError(error, path)
  }
}

function refuse(path: string, stats: Parameters<typeof kind>[0]): never {
  const hint = stats.isDirectory() ? `name a file in it` : `name a regular file`
  fail("FILE_NOT_REGULAR", `${path} is ${kind(stats)}, not a file`, { hint, file: path })
}

function over(handle: FileHandle, name: string, path: string, size: number) {
  const read = async (offset: number, length: number): Promise<Uint8Array> => {
    checkRange({ name, size }, offset, length)
    const bytes = new Uint8Array(length)
    await readInto(handle, bytes, offset, name)
    return bytes
  }
  return { name, path, size, read, close: () => handle.close() }
}

/** Fills `bytes` from `position`; SOURCE_SHORT when the file ends before. */
export async function readInto(
  handle: FileHandle,
  bytes: Uint8Array,
  position: number,
  name: string,
): Promise<void> {
  for (let done = 0; done < bytes.length; ) {
    const { bytesRead } = await handle.read(bytes, done, bytes.length - done, position + done)
    if (bytesRead === 0)
      fail("SOURCE_SHORT", `${name} became shorter while it was read`, {
        file: name,
        hint: "is it being downloaded?",
      })
    done += bytesRead
  }
}

/** File name without folders and last extension. */
export function stem(path: string): string {
  return basename(path).replace(/\.[^.]+$/, "")
}
