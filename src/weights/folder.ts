import { readdir, readFile, stat } from "node:fs/promises"
import { basename, join } from "node:path"
import { fail } from "../errors.ts"
import { fileError } from "./file-source.ts"
import * as layout from "./folder-layout.ts"
import type { Component, Config, ModelFiles } from "./model-files.ts"
import { openSafetensors } from "./open-file.ts"

export { type FolderOptions, pickWeights, viewsOf } from "./folder-layout.ts"

/** Names in a folder. Errors: FOLDER_NOT_FOUND, FOLDER_NOT_A_FOLDER. */
async function list(path: string): Promise<string[]> {
  try {
    return await readdir(path)
  } catch (error) {
    const code = error instanceof Error && "code" in error ? error.code : ""
    if (code === "ENOTDIR") fail("FOLDER_NOT_A_FOLDER", `${path} is no folder`, { file: path })
    throw fileError(error, path)
  }
}

/** A regular file's text, refused over `limit` bytes. */
export async function readText(path: string, limit: number): Promise<string> {
  try {
    const stats = await stat(path)
    if (!stats.isFile()) fail("FILE_NOT_REGULAR", `${path} is not a file`, { file: path })
    if (stats.size > limit)
      fail("CONFIG_SIZE", `${basename(path)} has ${stats.size} bytes, over the limit of ${limit}`, {
        file: path,
      })
    return await readFile(path, "utf8")
  } catch (error) {
    throw fileError(error, path)
  }
}

const disk: layout.Tree = { join, list, text: readText, header: openSafetensors }

/** `readFolder` on a disk: opens a diffusers folder by path. Errors: FOLDER_*, FILE_*. */
export const openFolder = (path: string, options?: layout.FolderOptions): Promise<ModelFiles> =>
  layout.readFolder(disk, path, options)

/** `readComponent` on a disk: one component's folder by path. */
export const openComponentFolder = (path: string, options?: layout.FolderOptions): Promise<Component> =>
  layout.readComponent(disk, path, options)

/** A JSON object from a file of at most 32 MB. Errors: CONFIG_JSON, FILE_*. */
export const readConfig = (path: string): Promise<Config> => layout.readConfig(disk, path)
