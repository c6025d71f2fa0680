import { stat } from "node:fs/promises"
import { dirname, join, resolve } from "node:path"
import { type FileHashes, hashFile, hashV1 } from "../weights/hash.ts"
import { type Kind, type LibraryEntry, listLibrary, treeFolders } from "../weights/hub/library.ts"
import { openSafetensors } from "../weights/open-file.ts"
import { cacheFolder, type KnownFile, recall, remember, stampOf } from "./facts.ts"

type Hashed = Pick<FileHashes, "sha256" | "autov3"> & { readonly stamp: string }

/** Files shorter than this all have one AutoV1. */
const v1Start = 0x100000

/** What a picture says of a file, as digits to compare; null for hashes of other kinds (BLAKE3, CRC32). */
export function hashDigits(hash: string | null | undefined): string | null {
  return /^(?:sha256:)?([0-9a-f]{8,64})$/i.exec(hash ?? "")?.[1]?.toLowerCase() ?? null
}

/** Whether two hashes are one, as far as the shorter goes. */
const alike = (whole: string | undefined, digits: string): boolean =>
  whole !== undefined && whole.length >= 8 && (whole.startsWith(digits) || digits.startsWith(whole))

/**
 * Whether a safetensors file has this hash: AutoV1, AutoV2 or more of its SHA-256, AutoV3, or what its trainer noted
 * (kohya's `sshs_model_hash`, `sshs_legacy_hash`). Hashes are remembered by path, size and time of change.
 */
export async function hasHash(path: string, digits: string, cache = cacheFolder()): Promise<boolean> {
  return (await isNoted(path, digits)) || isWhole(await hashesOf(path, cache), digits)
}

const isWhole = ({ sha256, autov3 }: Pick<Hashed, "sha256" | "autov3">, digits: string): boolean =>
  alike(sha256, digits) || alike(autov3, digits)

/** The cheap part of it: the header's notes, and 64 KiB. */
async function isNoted(path: string, digits: string): Promise<boolean> {
  const header = await openSafetensors(path)
  const notes = ["sshs_model_hash", "sshs_legacy_hash"].map((key) => header.metadata.get(key))
  if (notes.some((note) => alike(note, digits))) return true
  const end = Math.max(0, ...[...header.tensors.values()].map(({ offset, length }) => offset + length))
  return digits.length === 8 && end > v1Start && (await hashV1(path)) === digits
}

const indexIn = (cache: string) => join(cache, "hashes.json")

async function hashesOf(path: string, cache: string): Promise<Hashed> {
  const stamp = await stampOf(path)
  const hit = await remembered(path, stamp, cache)
  if (hit) return hit
  const { dataStart } = await openSafetensors(path)
  const { sha256, autov3 } = await hashFile(path, { dataStart })
  const made: Hashed = { stamp, sha256, ...(autov3 === undefined ? {} : { autov3 }) }
  await remember(indexIn(cache), { ...(await recall<Hashed>(indexIn(cache))), [path]: made })
  return made
}

async function remembered(path: string, stamp: string, cache: string): Promise<Hashed | undefined> {
  const own = (await recall<Hashed>(indexIn(cache)))[path]
  return own?.stamp === stamp ? own : undefined
}

/** The same of files that were drawn with, of which only the SHA-256 is known. */
async function drawnWith(path: string, digits: string, cache: string): Promise<boolean> {
  const known = (await recall<KnownFile>(join(cache, "files.json")))[path]
  return known?.stamp === (await stampOf(path)) && alike(known.sha256, digits)
}

interface SearchOptions {
  readonly cache?: string
  readonly near?: string
  readonly reading?: (path: string) => void
}

/** Folders that may hold folders of what goes with a model. */
async function around(model: string | undefined): Promise<string[]> {
  const path = resolve(model ?? "")
  // a name of the library, or of the built-in model, is no place
  if (model === undefined || !(await stat(path).catch(() => null))) return []
  return [path, dirname(path), dirname(dirname(path))]
}

/**
 * The file of the library, of other programs' folders and of those beside a model that has this hash, whatever it is called. What is known
 * without reading whole files is asked first: hashes of earlier times, Civitai's, those of headers; then the smallest
 * files. Files that cannot be read are passed over.
 * @param near the model
 * @param reading is told each file that is read as a whole
 */
export async function findByHash(
  hash: string | null | undefined,
  kind: Kind,
  { cache = cacheFolder(), near, reading }: SearchOptions = {},
): Promise<LibraryEntry | null> {
  const digits = hashDigits(hash)
  if (digits === null) return null
  const all = await listLibrary([...treeFolders(), ...(await around(near))])
  const once = [...new Map(all.map((entry) => [resolve(entry.path), entry])).values()]
  const files = once.filter((entry) => entry.kind === kind && /\.safetensors$/i.test(entry.path))
  files.sort((a, b) => a.bytes - b.bytes)
  const ways: ((entry: LibraryEntry) => Promise<boolean>)[] = [
    async ({ path, origin }) =>
      alike(origin?.sha256.toLowerCase(), digits) || (await drawnWith(path, digits, cache)),
    async ({ path }) =>
      isWhole((await remembered(path, await stampOf(path), cache)) ?? { sha256: "" }, digits),
    ({ path }) => isNoted(path, digits),
    async ({ path }) => {
      if (!(await remembered(path, await stampOf(path), cache))) reading?.(path)
      return isWhole(await hashesOf(path, cache), digits)
    },
  ]
  for (const way of ways) for (const entry of files) if (await way(entry).catch(() => false)) return entry
  return null
}
