import type { Component } from "../weights/model-files.ts"
import type { SafetensorsHeader } from "../weights/safetensors.ts"
import type { OpenedUpscaler } from "./upscaler.ts"

/** A file of weights beside the model's own. */
export interface OpenedFile {
  /** Changes with the file's content. */
  readonly id: string
  readonly name: string
  readonly path: string
  readonly header: Pick<SafetensorsHeader, "tensors" | "metadata">
  read(offset: number, length: number): Promise<Uint8Array>
  /** SHA-256 of the whole file, and of all that follows its header: what pictures name it by. */
  hashes?(): Promise<{ readonly whole: string; readonly data: string }>
}

/** What a caller names such a file by: a path, in browsers a Blob or a File. */
export type FileRef = string | Blob

/** A network that leads a drawing. */
export interface Guide {
  readonly id: string
  readonly component: Component
}

/** How one platform opens files beside the model. */
export interface OtherFiles {
  /** By path, or by name beside the model; what a prompt names, by name alone. @throws ADAPTER_NOT_FOUND, EMBEDDING_NOT_FOUND, SAFETENSORS_* */
  open(ref: FileRef, what: "adapter" | "embedding", fromPrompt?: boolean): Promise<OpenedFile>
  /**
   * Config and weights of a ControlNet, a T2I-Adapter or an IP-Adapter, under a name that changes with its files; an
   * IP-Adapter's picture encoder with it. @throws CONTROLNET_NOT_ONE, IMAGE_ENCODER_*, FOLDER_*
   */
  control(ref: FileRef, encoder?: FileRef): Promise<Guide & { encoder?: Guide }>
  /** An upscaler by path, or by name beside the model. @throws UPSCALER_NOT_FOUND, UPSCALER_NOT_ONE, WEIGHTS_* */
  upscaler(ref: FileRef): Promise<OpenedUpscaler>
}
