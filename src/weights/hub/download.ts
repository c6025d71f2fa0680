import { createHash, type Hash } from "node:crypto"
import { createReadStream } from "node:fs"
import { mkdir, open, readFile, rename, rm, stat, writeFile } from "node:fs/promises"
import { dirname } from "node:path"
import { AquatintError, fail } from "../../errors.ts"

/** A file to fetch, and how to know that it is the right one. */
export interface Download {
  readonly url: string
  /** Sent to the host of `url` alone: fetch drops it when another host is redirected to. */
  readonly token?: string
  readonly sha256?: string
  readonly bytes?: number
}

export interface DownloadOptions {
  readonly signal?: AbortSignal
  /** Bytes that are there, and in all where that is known. */
  readonly progress?: (done: number, all: number | undefined) => void
  /** How often a broken connection is taken up again. */
  readonly retries?: number
  /** Milliseconds before the first retry; each further one waits twice as long. */
  readonly pause?: number
}

/** What a part on disk belongs to; a part of another version is not gone on with. */
interface PartNote {
  readonly url: string
  readonly etag: string | null
  readonly sha256: string | null
}

const noteOf = (part: string): string => `${part}.json`

/**
 * Fetches a file so that `path` is whole and right, or absent. Bytes go to `path.part`, which a later call goes on
 * with (HTTP ranges, RFC 9110 section 14), as long as the server still has the same version.
 * @throws DOWNLOAD_FAILED, DOWNLOAD_REFUSED (401, 403), DOWNLOAD_NOT_FOUND, DOWNLOAD_HASH, DISK_FULL
 */
export async function download(
  file: Download,
  path: string,
  options: DownloadOptions = {},
): Promise<{ sha256: string; bytes: number }> {
  const part = `${path}.part`
  await mkdir(dirname(path), { recursive: true })
  const { retries = 5, pause = 500, signal } = options
  for (let attempt = 0; ; attempt++) {
    try {
      await fetchRest(file, part, options)
      break
    } catch (error) {
      if (signal?.aborted || (error instanceof AquatintError && error.code !== "DOWNLOAD_FAILED")) throw error
      if (attempt >= retries) throw error
      await new Promise((go) => setTimeout(go, pause * 2 ** attempt))
    }
  }
  const found = await digest(part)
  if (file.sha256 && found.sha256 !== file.sha256.toLowerCase()) {
    await discard(part)
    fail("DOWNLOAD_HASH", `${hostOf(file.url)} sent other bytes than it names: SHA-256 ${found.sha256}`, {
      file: path,
      hint: "fetch again; if it happens twice, do not use this file",
    })
  }
  await rename(part, path)
  await rm(noteOf(part), { force: true })
  return found
}

async function discard(part: string): Promise<void> {
  await rm(part, { force: true })
  await rm(noteOf(part), { force: true })
}

/** Appends what is missing of a part. */
async function fetchRest(file: Download, part: string, { signal, progress }: DownloadOptions): Promise<void> {
  const note = await readNote(part, file)
  const have = note === null ? 0 : ((await stat(part).catch(() => null))?.size ?? 0)
  if (have > 0 && have === file.bytes) return
  const response = await ask(file, have, note, signal)
  const goesOn = response.status === 206
  if (response.status === 416) {
    await response.body?.cancel()
    if (file.bytes === undefined && file.sha256) return // the hash decides whether the part was whole
    await discard(part)
    return retry(`${hostOf(file.url)} has no more bytes after ${have}`, file)
  }
  if (!goesOn) {
    await discard(part)
    const etag = response.headers.get("etag")
    await writeFile(noteOf(part), JSON.stringify({ url: bare(file.url), etag, sha256: file.sha256 ?? null }))
  }
  const at = goesOn ? have : 0
  const length = Number(response.headers.get("content-length") ?? Number.NaN)
  const all = file.bytes ?? (Number.isFinite(length) ? at + length : undefined)
  const done = await append(response, part, at, (n) => progress?.(n, all), file)
  if (all !== undefined && done < all) retry(`the connection ended after ${done} of ${all} bytes`, file)
}

const retry = (why: string, { url }: Download): never =>
  fail("DOWNLOAD_FAILED", `${hostOf(url)}: ${why}`, {
    blame: "here",
    hint: "what has arrived is kept: give the same command again to go on",
  })

async function readNote(part: string, file: Download): Promise<PartNote | null> {
  try {
    const note = JSON.parse(await readFile(noteOf(part), "utf8")) as PartNote
    return note.url === bare(file.url) && note.sha256 === (file.sha256 ?? null) ? note : null
  } catch {
    return null
  }
}

/** Tokens and signatures in an address are not kept. */
const bare = (url: string): string => url.replace(/[?#].*$/, "")
const hostOf = (url: string): string => new URL(url).host

async function ask(
  file: Download,
  have: number,
  note: PartNote | null,
  signal?: AbortSignal,
): Promise<Response> {
  const headers: Record<string, string> = { "user-agent": "aquatint", "accept-encoding": "identity" }
  if (file.token) headers.authorization = `Bearer ${file.token}`
  if (have > 0) {
    headers.range = `bytes=${have}-`
    if (note?.etag && !note.etag.startsWith("W/")) headers["if-range"] = note.etag
  }
  const response = await fetch(file.url, { headers, signal }).catch((cause: Error) => {
    signal?.throwIfAborted()
    return retry(reasonOf(cause), file)
  })
  if (response.ok || response.status === 416) return response
  await response.body?.cancel()
  const where = `${hostOf(file.url)} answered ${response.status} for ${new URL(file.url).pathname}`
  if (response.status === 401 || response.status === 403)
    return fail("DOWNLOAD_REFUSED", where, {
      hint: "the model may need a licence accepted on its page and a token: HF_TOKEN or CIVITAI_TOKEN",
    })
  if (response.status === 404 || response.status === 410)
    return fail("DOWNLOAD_NOT_FOUND", where, { hint: "check the name, the file and the revision" })
  return retry(`answered ${response.status}`, file)
}

const reasonOf = (error: Error): string => {
  const cause = error.cause as { code?: string; message?: string } | undefined
  return cause?.code ?? cause?.message ?? error.message
}

/** Writes a body behind the first `at` bytes of a part; what arrived stays there when the connection breaks. */
async function append(
  response: Response,
  part: string,
  at: number,
  progress: (done: number) => void,
  file: Download,
): Promise<number> {
  const handle = await open(part, at > 0 ? "r+" : "w")
  let done = at
  try {
    if (response.body)
      for await (const chunk of response.body as unknown as AsyncIterable<Uint8Array>) {
        if (file.bytes !== undefined && done + chunk.length > file.bytes)
          retry(`more than the ${file.bytes} bytes that were announced`, file)
        await handle.write(chunk, 0, chunk.length, done)
        done += chunk.length
        progress(done)
      }
    await handle.sync()
  } catch (error) {
    if (error instanceof AquatintError) throw error
    if ((error as NodeJS.ErrnoException).code === "ENOSPC")
      fail("DISK_FULL", `the disk is full after ${done} bytes`, { file: part, blame: "here" })
    if ((error as Error).name === "AbortError") throw error
    retry(reasonOf(error as Error), file)
  } finally {
    await handle.close()
  }
  return done
}

async function digest(path: string): Promise<{ sha256: string; bytes: number }> {
  const hash: Hash = createHash("sha256")
  let bytes = 0
  for await (const chunk of createReadStream(path, { highWaterMark: 1 << 20 })) {
    hash.update(chunk as Buffer)
    bytes += (chunk as Buffer).length
  }
  return { sha256: hash.digest("hex"), bytes }
}
