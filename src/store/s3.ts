import { createHash, createHmac } from "node:crypto"
import { AquatintError, fail } from "../errors.ts"
import { checkName, type Files } from "./files.ts"

/** Keys of an S3-type store. */
export interface S3Keys {
  id: string
  secret: string
  /** For keys that expire. */
  session?: string | undefined
}

interface Signed {
  method: string
  url: URL
  headers: Record<string, string>
  /** SHA-256 of the body in hexadecimal. */
  payload: string
  region: string
  /** Moment in UTC as `20130524T000000Z`. */
  time: string
}

const sha256 = (data: string | Uint8Array) => createHash("sha256").update(data).digest("hex")
const hmac = (key: string | Buffer, text: string) => createHmac("sha256", key).update(text).digest()
const escapeUri = (text: string) =>
  encodeURIComponent(text).replace(
    /[!'()*]/g,
    (c) => `%${c.charCodeAt(0).toString(16).toUpperCase().padStart(2, "0")}`,
  )

/** The Authorization header of AWS Signature Version 4. */
export function authorization({ method, url, headers, payload, region, time }: Signed, keys: S3Keys): string {
  const sorted = Object.entries(headers)
    .map(([name, value]) => [name.toLowerCase(), value.trim()] as const)
    .sort(([a], [b]) => (a < b ? -1 : 1))
  const names = sorted.map(([name]) => name).join(";")
  const query = [...url.searchParams]
    .map(([name, value]) => `${escapeUri(name)}=${escapeUri(value)}`)
    .sort()
    .join("&")
  const request = [
    method,
    url.pathname.split("/").map(decodeURIComponent).map(escapeUri).join("/"),
    query,
    ...sorted.map(([name, value]) => `${name}:${value}`),
    "",
    names,
    payload,
  ].join("\n")
  const day = time.slice(0, 8)
  const scope = `${day}/${region}/s3/aws4_request`
  const text = ["AWS4-HMAC-SHA256", time, scope, sha256(request)].join("\n")
  const key = [region, "s3", "aws4_request"].reduce<Buffer>(hmac, hmac(`AWS4${keys.secret}`, day))
  const signature = hmac(key, text).toString("hex")
  return `AWS4-HMAC-SHA256 Credential=${keys.id}/${scope},SignedHeaders=${names},Signature=${signature}`
}

const tries = 4
const seconds = 30

class S3 implements Files {
  private readonly base: URL
  private readonly prefix: string
  private readonly region: string
  private readonly keys: S3Keys

  constructor(base: URL, prefix: string, region: string, keys: S3Keys) {
    this.base = base
    this.prefix = prefix
    this.region = region
    this.keys = keys
  }

  private at(path: string, query: Record<string, string> = {}): URL {
    const url = new URL(this.base)
    url.pathname += path
    for (const [name, value] of Object.entries(query)) url.searchParams.set(name, value)
    return url
  }

  /** One request, repeated where the store or the line fails for a moment. */
  private async send(method: string, url: URL, body?: Uint8Array): Promise<Response> {
    for (let n = 1; ; n++) {
      const response = await this.once(method, url, body).catch((error: Error) => error)
      if (!(response instanceof Error) && (response.ok || response.status === 404)) return response
      const why = response instanceof Error ? response.message : `status ${response.status}`
      const passing = response instanceof Error || response.status >= 500 || response.status === 429
      if (!passing || n === tries)
        throw new AquatintError("STORAGE_S3", `the object store answered ${method} with ${why}`, {
          blame: "here",
          hint: "look at --storage, its keys and the store's own log",
        })
      await new Promise((done) => setTimeout(done, 200 * 2 ** n))
    }
  }

  private async once(method: string, url: URL, body?: Uint8Array): Promise<Response> {
    const time = new Date().toISOString().replace(/[-:]|\.\d+/g, "")
    const payload = sha256(body ?? "")
    const headers: Record<string, string> = {
      host: url.host,
      "x-amz-content-sha256": payload,
      "x-amz-date": time,
    }
    if (this.keys.session) headers["x-amz-security-token"] = this.keys.session
    const signed = authorization({ method, url, headers, payload, region: this.region, time }, this.keys)
    return fetch(url, {
      method,
      headers: { ...headers, authorization: signed },
      body: (body as Uint8Array<ArrayBuffer> | undefined) ?? null,
      redirect: "error",
      signal: AbortSignal.timeout(seconds * 1000),
    })
  }

  async put(name: string, bytes: Uint8Array): Promise<void> {
    // an object is there as a whole or not at all
    await this.send("PUT", this.at(this.prefix + checkName(name)), bytes)
  }

  async get(name: string): Promise<Uint8Array | null> {
    const response = await this.send("GET", this.at(this.prefix + checkName(name)))
    return response.status === 404 ? null : new Uint8Array(await response.arrayBuffer())
  }

  async remove(name: string): Promise<void> {
    await this.send("DELETE", this.at(this.prefix + checkName(name)))
  }

  async list(): Promise<{ name: string; age: number }[]> {
    const found: { name: string; age: number }[] = []
    for (let more: string | undefined = ""; more !== undefined; ) {
      const query = { "list-type": "2", prefix: this.prefix, ...(more && { "continuation-token": more }) }
      const text: string = await (await this.send("GET", this.at("", query))).text()
      for (const [, item] of text.matchAll(/<Contents>(.*?)<\/Contents>/gs)) {
        const name = plainText(/<Key>(.*?)<\/Key>/s.exec(item!)?.[1] ?? "").slice(this.prefix.length)
        const time = Date.parse(/<LastModified>(.*?)<\/LastModified>/s.exec(item!)?.[1] ?? "")
        if (/^[a-z0-9][a-z0-9.-]*$/.test(name)) found.push({ name, age: Date.now() - time })
      }
      const token = /<NextContinuationToken>(.*?)<\/NextContinuationToken>/s.exec(text)?.[1]
      more = token === undefined ? undefined : plainText(token)
    }
    return found
  }

  async tidy(): Promise<void> {}
}

const entities: Record<string, string> = { lt: "<", gt: ">", amp: "&", quot: '"', apos: "'" }
const plainText = (text: string) => text.replace(/&(lt|gt|amp|quot|apos);/g, (_, name) => entities[name]!)

/**
 * Opens `s3://bucket/prefix?endpoint=https://host&region=name`, by path (`https://host/bucket/prefix...`), as every
 * S3-type store understands it.
 * @throws STORAGE_S3 without keys, or where the bucket cannot be listed
 */
export async function openS3(name: string, keys: S3Keys | undefined): Promise<Files> {
  if (!keys?.id || !keys.secret)
    fail("STORAGE_S3", "an object store needs keys", {
      hint: "set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY",
    })
  const given = new URL(name)
  const region = given.searchParams.get("region") ?? "us-east-1"
  const endpoint = given.searchParams.get("endpoint") ?? `https://s3.${region}.amazonaws.com`
  if (!/^https?:\/\//.test(endpoint))
    fail("STORAGE_S3", "the object store's endpoint is no address", { hint: "endpoint=https://host:port" })
  const base = new URL(`${endpoint.replace(/\/+$/, "")}/${given.hostname}/`)
  const prefix = given.pathname.replace(/^\/+/, "").replace(/([^/])$/, "$1/")
  const files = new S3(base, prefix, region, keys)
  await files.list()
  return files
}
