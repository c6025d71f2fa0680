import { randomBytes } from "node:crypto"
import { rmSync } from "node:fs"
import { lstat, mkdir, open, readdir, rename, rm } from "node:fs/promises"
import { basename, dirname, join, resolve } from "node:path"
import { AquatintError, fail } from "../errors.ts"
import { FilePool, tensorBytes } from "./convert-bytes.ts"
import { castType, type Target } from "./convert-cast.ts"
import { type Plan, type PlannedFile, type PlannedTensor, plannedBytes } from "./convert-plan.ts"
import { Computed } from "./edit/computed.ts"
import { withFile } from "./open-file.ts"
import type { StoredTensor } from "./torch-file.ts"
import { byteLength, type TensorView } from "./view.ts"
import { writeSafetensors } from "./write.ts"

/** Told as bytes are read: how many, and how many numbers became infinite. */
export type OnPiece = (read: number, lost: number) => void

export interface WriteOptions {
  dtype?: Target | undefined
  force?: boolean | undefined
  signal: AbortSignal
  onPiece: OnPiece
  onFile: (path: string) => void
}

/** Where a conversion is put together: a folder beside the destination, gone whatever happens. */
export class Workspace {
  readonly destination: string
  readonly folder: string
  /** Tensors that are made while they are written. */
  readonly computed = new Computed()
  /** Tensors whose numbers do not follow each other, put in order before anything else reads them. */
  private readonly strided: StoredTensor[] = []
  private stridedBytes = 0
  private readonly gone = () => rmSync(this.folder, { recursive: true, force: true })

  constructor(destination: string) {
    this.destination = resolve(destination)
    const name = `.${basename(this.destination).slice(0, 100)}.${randomBytes(6).toString("hex")}.tmp`
    this.folder = join(dirname(this.destination), name)
  }

  /** A view with its numbers in order: itself, or a place in a file that `spool` will write. */
  contiguous(view: StoredTensor): TensorView {
    const { strides, ...plain } = view
    if (strides === undefined) return view
    const at = this.stridedBytes
    const length = byteLength(view.dtype, view.shape)
    this.strided.push(view)
    this.stridedBytes += length
    return { ...plain, file: this.spoolPath, offset: at, length }
  }

  private get spoolPath(): string {
    return join(this.folder, "strided")
  }

  /** Makes the folder; on any exit of the process, Ctrl-C too, it goes. */
  async open(): Promise<void> {
    process.on("exit", this.gone)
    await mkdir(this.folder).catch((error: unknown) => notWritten(error, this.destination))
  }

  async close(): Promise<void> {
    await rm(this.folder, { recursive: true, force: true }).catch(() => undefined)
    process.off("exit", this.gone)
  }

  async spool(pool: FilePool, { signal, onPiece }: WriteOptions): Promise<void> {
    if (this.strided.length === 0) return
    const handle = await open(this.spoolPath, "wx")
    try {
      for (const view of this.strided)
        for await (const piece of tensorBytes(view, { pool, onPiece })) {
          signal.throwIfAborted()
          await handle.writeFile(piece)
        }
    } finally {
      await handle.close()
    }
  }

  /** Bytes that `execute` will read in all, for progress. */
  bytes(plan: Plan): number {
    const files = plan.files.map((file) => ("tensors" in file ? plannedBytes(file.tensors) : 0))
    return files.reduce((a, b) => a + b, this.stridedBytes)
  }
}

/**
 * Writes a plan: all of it beside the destination, then one rename. Nothing is left at the destination or beside it when
 * something fails. Errors: FILE_NOT_WRITTEN, FILE_*, SOURCE_SHORT.
 */
export async function execute(plan: Plan, work: Workspace, options: WriteOptions): Promise<void> {
  const pool = new FilePool(work.computed)
  try {
    await work.spool(pool, options)
    const out = join(work.folder, "out")
    await mkdir(out)
    const single = plan.files.some((file) => file.path === "")
    for (const file of plan.files) {
      options.signal.throwIfAborted()
      options.onFile(file.path)
      const path = join(out, file.path === "" ? basename(work.destination) : file.path)
      await writePlanned(file, path, pool, options)
    }
    await (single ? placeFiles(plan, out, work) : placeFolder(out, work))
  } catch (error) {
    notWritten(error, work.destination)
  } finally {
    await pool.close()
  }
}

async function writePlanned(
  file: PlannedFile,
  path: string,
  pool: FilePool,
  options: WriteOptions,
): Promise<void> {
  await mkdir(dirname(path), { recursive: true })
  if ("text" in file) return writeBytes(path, [Buffer.from(file.text)])
  if ("copyOf" in file) return withFile(file.copyOf, (source) => writeBytes(path, inPieces(source)))
  const { signal, dtype, onPiece } = options
  const tensors = file.tensors.map((tensor) => ({
    name: tensor.name,
    dtype: tensor.exact ? tensor.dtype : castType(tensor.dtype, dtype),
    shape: tensor.shape,
    bytes: () => partsOf(tensor, { pool, dtype: tensor.exact ? undefined : dtype, onPiece }),
  }))
  return writeSafetensors(path, tensors, file.metadata, { signal })
}

const PIECE = 1 << 20

async function* inPieces(source: { size: number; read(at: number, n: number): Promise<Uint8Array> }) {
  for (let at = 0; at < source.size; at += PIECE)
    yield await source.read(at, Math.min(PIECE, source.size - at))
}

async function* partsOf(
  tensor: PlannedTensor,
  passage: Parameters<typeof tensorBytes>[1],
): AsyncGenerator<Uint8Array> {
  for (const part of tensor.parts) yield* tensorBytes(part, passage)
  if (tensor.parts.length > 0) return
  const length = byteLength(castType(tensor.dtype, passage.dtype), tensor.shape)
  for (let at = 0; at < length; at += PIECE) yield new Uint8Array(Math.min(PIECE, length - at))
}

async function writeBytes(
  path: string,
  pieces: Iterable<Uint8Array> | AsyncIterable<Uint8Array>,
): Promise<void> {
  const handle = await open(path, "wx")
  try {
    for await (const piece of pieces) await handle.writeFile(piece)
    await handle.sync()
  } finally {
    await handle.close()
  }
}

/** Files beside each other, the one asked for last. */
async function placeFiles(plan: Plan, out: string, work: Workspace): Promise<void> {
  const beside = dirname(work.destination)
  for (const { path } of plan.files) if (path !== "") await rename(join(out, path), join(beside, path))
  await rename(join(out, basename(work.destination)), work.destination)
  await syncFolder(beside)
}

/** A folder in place of nothing, of an empty folder, or of an older one, which is put aside first. */
async function placeFolder(out: string, work: Workspace): Promise<void> {
  const { destination } = work
  const old = join(work.folder, "old")
  const present = await exists(destination)
  if (present) await rename(destination, old)
  try {
    await rename(out, destination)
  } catch (error) {
    if (present) await rename(old, destination)
    throw error
  }
  await syncFolder(dirname(destination))
}

async function syncFolder(path: string): Promise<void> {
  const handle = await open(path, "r").catch(() => undefined)
  await handle?.sync().catch(() => undefined)
  await handle?.close()
}

const exists = (path: string) =>
  lstat(path).then(
    () => true,
    () => false,
  )

/** Refuses files of a plan that would stand beside the destination in another's place. Error: CONVERT_EXISTS. */
export async function checkBeside(plan: Plan, destination: string): Promise<void> {
  if (!plan.files.some(({ path }) => path === "")) return
  for (const { path } of plan.files) {
    const beside = join(dirname(resolve(destination)), path)
    if (path !== "" && (await exists(beside))) taken(beside, "exists already", "--force replaces it")
  }
}

/**
 * Refuses a destination that is taken: any file, and any folder with something in it, unless `force`; then
 * still a folder that is no model's, so that a mistyped path does not cost a home. Errors: CONVERT_EXISTS.
 */
export async function checkDestination(path: string, asFile: boolean, force: boolean): Promise<void> {
  const found = await lstat(path).catch(() => undefined)
  if (found === undefined) return
  const isFolder = found.isDirectory()
  if (isFolder && !asFile) {
    const here = await readdir(path)
    if (here.length === 0) return
    const model = here.includes("model_index.json") || here.includes("config.json")
    if (force && model) return
    if (!model) taken(path, "is a folder with other things in it", "name a new folder")
  }
  if (isFolder === asFile)
    taken(path, `is a ${isFolder ? "folder" : "file"}`, "a file's name ends in .safetensors")
  if (!force) taken(path, "exists already", "--force replaces it")
}

function taken(path: string, what: string, hint: string): never {
  fail("CONVERT_EXISTS", `${path} ${what}`, { file: path, hint })
}

/** What Node's file functions throw, told with the destination's name; other errors pass. */
function notWritten(thrown: unknown, path: string): never {
  const inner = thrown instanceof AquatintError && thrown.code === "FILE_NOT_WRITTEN" ? thrown.cause : thrown
  const system = inner instanceof Error && !(inner instanceof AquatintError) && inner.name !== "AbortError"
  if (!system || !("code" in inner)) throw thrown
  const code = String(inner.code)
  const caller = ["ENOENT", "ENOTDIR", "EACCES", "EPERM", "EROFS", "ENAMETOOLONG"].includes(code)
  const hint =
    code === "ENOSPC" ? "free some space and try again" : "choose a folder that exists and may be written to"
  fail("FILE_NOT_WRITTEN", `${path}: cannot be written (${code})`, {
    hint,
    file: path,
    cause: inner,
    blame: caller ? "caller" : "here",
  })
}
