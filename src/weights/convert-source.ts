import { readdir, realpath, stat } from "node:fs/promises"
import { basename, dirname, join, sep } from "node:path"
import { fail } from "../errors.ts"
import { LEFTOVERS_FILE } from "./convert-folder.ts"
import type { Leftovers } from "./convert-single.ts"
import type { Workspace } from "./convert-write.ts"
import { readFloats } from "./decode.ts"
import { fileSource } from "./file-source.ts"
import { readText } from "./folder.ts"
import { readComponent, readFolder, type Tree } from "./folder-layout.ts"
import type { Component, ModelFiles } from "./model-files.ts"
import { openSafetensors, withFile } from "./open-file.ts"
import type { SafetensorsHeader } from "./safetensors.ts"
import { openTorchFile, type TorchFile, verifyChecksums } from "./torch-file.ts"
import { type TensorView, Weights } from "./view.ts"

/** What a conversion starts from. */
export type ConvertSource =
  | { kind: "model"; model: ModelFiles; kept?: Leftovers | undefined }
  | { kind: "component"; path: string; component: Component }
  | {
      kind: "tensors"
      path: string
      tensors: Weights
      metadata: Map<string, string>
      readSmall?: (view: TensorView) => Promise<Float32Array>
    }

export const isPickled = (path: string): boolean => /\.(ckpt|pt|pth|bin)$/i.test(path)

/** Opens what a conversion reads; pickled files on the way are noted, to be verified before they are copied. */
export class SourceOpener {
  readonly notes: string[] = []
  /** Folders as their readers see them: weights that are there only pickled stand under safetensors names. */
  readonly tree: Tree = {
    join,
    text: readText,
    list: async (path) => (await readdir(path)).flatMap((name, _, all) => asSafetensors(name, all)),
    header: (path) => this.header(path),
  }
  private readonly work: Workspace
  private readonly torch: { path: string; file: TorchFile }[] = []

  constructor(work: Workspace) {
    this.work = work
  }

  /** A folder of a model or of one component, a safetensors file, or a file of torch.save. */
  async open(path: string): Promise<ConvertSource> {
    if ((await stat(path)).isDirectory()) return this.openFolder(path)
    if (isPickled(path)) return this.openPickled(path)
    const { tensors, metadata } = await openSafetensors(path)
    return { kind: "tensors", path, tensors, metadata, readSmall }
  }

  private async openFolder(path: string): Promise<ConvertSource> {
    const here = await readdir(path)
    if (!here.includes("model_index.json") && here.includes("config.json"))
      return { kind: "component", path, component: await readComponent(this.tree, path) }
    const model = await readFolder(this.tree, path)
    return { kind: "model", model, kept: await leftoversOf(model) }
  }

  private async openPickled(path: string): Promise<ConvertSource> {
    const tensors = await this.pickled(path)
    const spooled = [...tensors.values()].some(
      (view) => view.file !== [...this.torch.at(-1)!.file.tensors.values()][0]!.file,
    )
    const metadata = new Map([["format", "pt"]])
    return { kind: "tensors", path, tensors, metadata, ...(spooled ? {} : { readSmall }) }
  }

  private async header(path: string): Promise<SafetensorsHeader> {
    const here = await readdir(dirname(path))
    const pickled = here.includes(basename(path))
      ? undefined
      : here.find((name) => asSafetensors(name, here).includes(basename(path)))
    if (pickled === undefined) return openSafetensors(path)
    return { tensors: await this.pickled(join(dirname(path), pickled)), metadata: new Map(), dataStart: 0 }
  }

  private async pickled(path: string): Promise<Weights> {
    const file = await withFile(path, openTorchFile)
    this.torch.push({ path, file })
    if (file.dropped.length > 0)
      this.notes.push(`${path}: left out what is no tensor of its state dict: ${some(file.dropped)}`)
    const out = new Weights()
    for (const [name, view] of file.tensors) out.set(name, this.work.contiguous(view))
    return out
  }

  /** Bytes that `verify` will read. */
  get checkedBytes(): number {
    return this.torch.flatMap(({ file }) => file.checksums).reduce((sum, { length }) => sum + length, 0)
  }

  /** Compares the checksums of pickled files; yields bytes read. Error: ZIP_CRC. */
  async *verify(): AsyncGenerator<number> {
    for (const { path, file } of this.torch) {
      const source = await fileSource(path)
      try {
        yield* verifyChecksums(source, file)
      } finally {
        await source.close()
      }
    }
  }
}

/** The names that one name of a folder counts as. */
function asSafetensors(name: string, all: readonly string[]): string[] {
  const hit = /^((?:diffusion_pytorch_model|pytorch_model|model)(?:\.[\w-]+)?)\.(?:bin|ckpt|pt|pth)$/.exec(
    name,
  )
  const plain = all.some((other) => other.endsWith(".safetensors"))
  return hit && !plain ? [`${hit[1]}.safetensors`] : [name]
}

const readSmall = (view: TensorView): Promise<Float32Array> =>
  withFile(view.file, (source) => readFloats(source, view))

function some(names: readonly string[]): string {
  const shown = names.slice(0, 8).map((name) => name.slice(0, 60))
  return shown.join(", ") + (names.length > 8 ? ` and ${names.length - 8} more` : "")
}

async function leftoversOf(model: ModelFiles): Promise<Leftovers | undefined> {
  if (model.format !== "diffusers" || !(await readdir(model.path)).includes(LEFTOVERS_FILE)) return undefined
  return openSafetensors(join(model.path, LEFTOVERS_FILE))
}

/** Refuses a destination that holds its own source: replacing it would delete what is read. Error: CONVERT_INSIDE. */
export async function checkApart(source: string, destination: string): Promise<void> {
  const to = await realpath(destination).catch(() => undefined)
  if (to === undefined) return
  const from = await realpath(source)
  if (from.startsWith(to + sep) || to.startsWith(from + sep))
    fail("CONVERT_INSIDE", `${source} and ${destination} lie inside each other`, {
      file: destination,
      hint: "name a folder elsewhere",
    })
}
