import { createHash } from "node:crypto"
import { createServer, type IncomingMessage } from "node:http"
import type { AddressInfo } from "node:net"
import { authorization, type S3Keys } from "../../src/store/s3.ts"

/** A small store that speaks S3's protocol: objects in a map, two names a page, every request's signature checked. */
export interface Store {
  /** Where it listens, for `?endpoint=`. */
  endpoint: string
  /** Objects of the bucket by their keys. */
  objects: Map<string, Buffer>
  /** So many requests fail before one succeeds again. */
  failures: number
  close(): void
}

/** Whether what arrived is what was signed with these keys. */
function isSigned(request: IncomingMessage, url: URL, body: Buffer, keys: S3Keys): boolean {
  const given = request.headers.authorization ?? ""
  const names = /SignedHeaders=([^,]+)/.exec(given)?.[1]?.split(";") ?? []
  const headers = Object.fromEntries(names.map((name) => [name, String(request.headers[name] ?? "")]))
  const payload = createHash("sha256").update(body).digest("hex")
  const time = headers["x-amz-date"] ?? ""
  const signed = { method: request.method!, url, headers, payload, region: "us-east-1", time }
  return payload === headers["x-amz-content-sha256"] && given === authorization(signed, keys)
}

function page(objects: ReadonlyMap<string, Buffer>, query: URLSearchParams): string {
  const names = [...objects.keys()].filter((key) => key.startsWith(query.get("prefix")!)).sort()
  const at = Number(query.get("continuation-token") ?? 0)
  const items = names
    .slice(at, at + 2)
    .map((key) => `<Contents><Key>${key}</Key><LastModified>2026-01-01T00:00:00Z</LastModified></Contents>`)
  const more = at + 2 < names.length ? `<NextContinuationToken>${at + 2}</NextContinuationToken>` : ""
  return `<ListBucketResult>${items.join("")}${more}</ListBucketResult>`
}

/** Listens on any free port. */
export async function startStore(bucket: string, keys: S3Keys): Promise<Store> {
  const objects = new Map<string, Buffer>()
  const server = createServer(async (request, response) => {
    const url = new URL(request.url!, `http://${request.headers.host}`)
    const parts: Buffer[] = []
    for await (const part of request) parts.push(part as Buffer)
    const body = Buffer.concat(parts)
    if (!isSigned(request, url, body, keys)) return response.writeHead(403).end()
    if (store.failures-- > 0) return response.writeHead(503).end()
    const key = decodeURIComponent(url.pathname.slice(bucket.length + 2))
    if (request.method === "PUT") objects.set(key, body)
    if (request.method === "DELETE") objects.delete(key)
    if (key === "") return response.end(page(objects, url.searchParams))
    const found = objects.get(key)
    if (request.method === "GET" && !found) return response.writeHead(404).end()
    response.end(request.method === "GET" ? found : undefined)
  })
  await new Promise<void>((done) => server.listen(0, "127.0.0.1", done))
  const endpoint = `http://127.0.0.1:${(server.address() as AddressInfo).port}`
  const close = () => {
    server.close()
    server.closeAllConnections()
  }
  const store: Store = { endpoint, objects, failures: 0, close }
  return store
}
