import type { Component } from "../weights/model-files.ts"
import type { SafetensorsHeader } from "../weights/safetensors.ts"

/** A file of weights beside the model's own. */
export interface OpenedFile {
  /** Changes with the file's content. */
  readonly id: string
  readonly name: string
  readonly path: string
  readonly header: Pick<SafetensorsHeader, "tensors" | "metadata">
  read(offset: number, length: number): Promise<Uint8Array>
}

/** What a caller names such a file by: a path, in browsers a Blob or a File. */
export type FileRef = string | Blob

/** How one platform opens files beside the model. */
export interface OtherFiles {
  /** By path, or by name beside the model; what a prompt names, by name alone. @throws ADAPTER_NOT_FOUND, EMBEDDING_NOT_FOUND, SAFETENSORS_* */
  open(ref: FileRef, what: "adapter" | "embedding", fromPrompt?: boolean): Promise<OpenedFile>
  /** A ControlNet's config and weights, under a name that changes with its files. @throws CONTROLNET_NOT_ONE, FOLDER_* */
  control(ref: FileRef): Promise<{ id: string; component: Component }>
}
