import { AquatintError, fail } from "../errors.ts"

/** How far a download is; `total` is null where the server does not tell. */
export interface Download {
  readonly url: string
  readonly done: number
  readonly total: number | null
}

export interface FetchOptions {
  readonly signal?: AbortSignal
  /** Called as bytes arrive. */
  readonly progress?: (download: Download) => void
  /** Name of a Cache Storage to keep whole files in, and to take them from; default: none. */
  readonly cache?: string
}

async function request(url: string, init: RequestInit): Promise<Response> {
  try {
    return await fetch(url, init)
  } catch (cause) {
    init.signal?.throwIfAborted()
    throw new AquatintError("MODEL_FETCH", `${url} cannot be fetched: ${(cause as Error).message}`, {
      blame: "here",
      file: url,
      hint: "is it online, and does the server allow this page to read it (CORS)?",
      cause,
    })
  }
}

// servers of single-page apps answer every unknown path with their page
const isPage = (response: Response) => /^text\/html\b/.test(response.headers.get("content-type") ?? "")

/** Whether the server has a file under this URL. @throws MODEL_FETCH */
export async function isThere(url: string, { signal }: FetchOptions): Promise<boolean> {
  const response = await request(url, { method: "HEAD", signal })
  return response.ok && !isPage(response)
}

/** A text of at most `limit` bytes, or undefined where the server has none. @throws MODEL_FETCH, CONFIG_SIZE */
export async function fetchText(
  url: string,
  limit: number,
  { signal }: FetchOptions,
): Promise<string | undefined> {
  const response = await request(url, { signal })
  if (response.status === 404 || isPage(response)) return undefined
  if (!response.ok) refuse(url, response)
  const blob = await response.blob()
  if (blob.size > limit)
    fail("CONFIG_SIZE", `${url} has ${blob.size} bytes, over the limit of ${limit}`, { file: url })
  return blob.text()
}

/** A whole file; browsers keep large ones on the disk. @throws MODEL_NOT_FOUND, MODEL_FETCH */
export async function fetchFile(url: string, options: FetchOptions): Promise<Blob> {
  const store = options.cache === undefined ? undefined : await caches.open(options.cache)
  const known = await store?.match(url)
  if (known) return known.blob()
  const response = await request(url, { signal: options.signal })
  if (!response.ok || isPage(response)) refuse(url, response)
  const counted = new Response(response.body?.pipeThrough(counter(url, response, options)), {
    headers: { "content-type": "application/octet-stream" },
  })
  if (!store) return counted.blob()
  await store.put(url, counted)
  return (await store.match(url))!.blob()
}

function counter(
  url: string,
  response: Response,
  { progress }: FetchOptions,
): TransformStream<Uint8Array<ArrayBuffer>, Uint8Array<ArrayBuffer>> {
  const encoded = response.headers.has("content-encoding")
  const length = Number(response.headers.get("content-length"))
  // the length of a compressed transfer says nothing about the file
  const total = !encoded && length > 0 ? length : null
  let done = 0
  return new TransformStream({
    transform(chunk, controller) {
      done += chunk.length
      progress?.({ url, done, total })
      controller.enqueue(chunk)
    },
  })
}

function refuse(url: string, { status, ok }: Response): never {
  const missing = ok || status === 404
  fail(
    missing ? "MODEL_NOT_FOUND" : "MODEL_FETCH",
    missing ? `${url} is not there` : `${url}: the server answers ${status}`,
    { file: url, hint: "check the address", ...(missing ? {} : { blame: "here" as const }) },
  )
}
