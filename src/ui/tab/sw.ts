/** The page's service worker: all of its own files are kept, so that it opens without a network. */

interface Worker extends EventTarget {
  readonly location: Location
  readonly clients: { claim(): Promise<void> }
  skipWaiting(): Promise<void>
}
interface Lasting extends Event {
  waitUntil(work: Promise<unknown>): void
}
interface Asking extends Lasting {
  readonly request: Request
  respondWith(answer: Promise<Response>): void
}

const worker = self as unknown as Worker

// the build writes the list in; a changed file changes this script, and so the name of the cache
const files = "__FILES__".split("|")
const app = `aquatint-app-${hash(files.join())}`
const models = "aquatint-models"

/** FNV-1a: names a list of files. */
function hash(text: string): string {
  let h = 0x811c9dc5
  for (let i = 0; i < text.length; i++) h = Math.imul(h ^ text.charCodeAt(i), 0x01000193)
  return (h >>> 0).toString(36)
}

/** Pages that are isolated may share memory between threads: the engine is several times as fast. */
function isolated(response: Response): Response {
  if (response.type === "opaque" || response.status === 0) return response
  const headers = new Headers(response.headers)
  headers.set("cross-origin-opener-policy", "same-origin")
  headers.set("cross-origin-embedder-policy", "require-corp")
  headers.set("cross-origin-resource-policy", "same-origin")
  const { status, statusText } = response
  return new Response(status === 204 || status === 304 ? null : response.body, {
    status,
    statusText,
    headers,
  })
}

async function install(): Promise<void> {
  const cache = await caches.open(app)
  await cache.addAll(files)
  await worker.skipWaiting()
}

async function activate(): Promise<void> {
  for (const name of await caches.keys())
    if (name.startsWith("aquatint-app-") && name !== app) await caches.delete(name)
  await worker.clients.claim()
}

async function own(request: Request): Promise<Response> {
  const cache = await caches.open(app)
  const known = await cache.match(request.mode === "navigate" ? "./" : request, { ignoreSearch: true })
  return isolated(known ?? (await fetch(request)))
}

const small = /\.(json|txt|yaml)$/

/** A model's small files: from the network while there is one, and from the cache after that. */
async function foreign(request: Request): Promise<Response> {
  try {
    const response = await fetch(request)
    if (request.method === "GET" && response.ok && small.test(new URL(request.url).pathname))
      await (await caches.open(models)).put(request, response.clone())
    return response
  } catch (error) {
    const known = await (await caches.open(models)).match(request.url)
    if (known) return request.method === "HEAD" ? new Response(null, { headers: known.headers }) : known
    // a folder is asked for files that it may lack
    if (request.method === "HEAD" || small.test(new URL(request.url).pathname))
      return new Response(null, { status: 404 })
    throw error
  }
}

worker.addEventListener("install", (event) => (event as Lasting).waitUntil(install()))
worker.addEventListener("activate", (event) => (event as Lasting).waitUntil(activate()))
worker.addEventListener("fetch", (event) => {
  const { request } = event as Asking
  if (request.method !== "GET" && request.method !== "HEAD") return
  const url = new URL(request.url)
  if (!url.protocol.startsWith("http")) return
  const base = new URL("./", worker.location.href)
  const mine =
    request.mode === "navigate" ||
    (url.href.startsWith(base.href) && files.includes(url.pathname.slice(base.pathname.length)))
  ;(event as Asking).respondWith(mine ? own(request) : foreign(request))
})
