import { createHash, createHmac, randomBytes, timingSafeEqual } from "node:crypto"
import { isIP } from "node:net"
import { fail } from "../errors.ts"
import type { Who } from "./service.ts"

/** A secret and whose it is. */
export interface Token {
  name: string
  secret: string
}

const digest = (text: string) => createHash("sha256").update(text).digest()
const cookieName = "aquatint"
const cookieDays = 30

/** Who may ask. Without tokens everyone may, as one owner: the server then listens on this machine only. */
export class Gate {
  private readonly tokens: readonly { name: string; hash: Buffer }[]
  /** Cookies end with the process. */
  private readonly key = randomBytes(32)

  constructor(tokens: readonly Token[]) {
    this.tokens = tokens.map(({ name, secret }) => ({ name, hash: digest(secret) }))
  }

  get required(): boolean {
    return this.tokens.length > 0
  }

  /** The name that a secret belongs to; every secret takes the same time. */
  nameOf(secret: string): string | null {
    const hash = digest(secret)
    let found: string | null = null
    for (const token of this.tokens) if (timingSafeEqual(hash, token.hash)) found = token.name
    return found
  }

  /** A cookie's value for a browser that showed a token. */
  cookie(name: string, secure: boolean): string {
    const until = Date.now() + cookieDays * 86_400_000
    const value = `${Buffer.from(name).toString("base64url")}.${until}`
    return `${cookieName}=${value}.${this.sign(value)}; Path=/; HttpOnly; SameSite=Strict; Max-Age=${cookieDays * 86_400}${secure ? "; Secure" : ""}`
  }

  readonly noCookie = `${cookieName}=; Path=/; HttpOnly; SameSite=Strict; Max-Age=0`

  private sign(value: string): string {
    return createHmac("sha256", this.key).update(value).digest("base64url")
  }

  private fromCookie(header: string): string | null {
    const value = header
      .split(/;\s*/)
      .find((part) => part.startsWith(`${cookieName}=`))
      ?.slice(cookieName.length + 1)
    const [name, until, signature] = value?.split(".") ?? []
    if (!name || !until || !signature) return null
    const right = Buffer.from(this.sign(`${name}.${until}`))
    const given = Buffer.from(signature)
    if (given.length !== right.length || !timingSafeEqual(given, right)) return null
    return Number(until) > Date.now() ? Buffer.from(name, "base64url").toString() : null
  }

  /** Who a request is from, or null when it does not say and must. */
  whoIs(headers: Headers): Who | null {
    if (!this.required) {
      const client = headers.get("x-client-id")?.slice(0, 100) || "local"
      return { owner: "local", client: /^[\w.:@-]+$/.test(client) ? client : "local" }
    }
    const given = headers.get("authorization") ?? ""
    const bearer = /^Bearer\s+(\S+)$/i.exec(given)?.[1]
    const basic = /^Basic\s+([A-Za-z0-9+/=]+)$/i.exec(given)?.[1]
    const secret =
      bearer ??
      (basic &&
        Buffer.from(basic, "base64")
          .toString()
          .replace(/^[^:]*:/, ""))
    const name = secret ? this.nameOf(secret) : this.fromCookie(headers.get("cookie") ?? "")
    return name === null ? null : { owner: name, client: name }
  }
}

const loopback = new Set(["localhost", "127.0.0.1", "::1"])

/** Whether an address is this machine's own. */
export const isLoopback = (host: string): boolean => loopback.has(host) || /^127\./.test(host)

const hostName = (header: string): string | null => {
  const found = /^(\[[0-9a-f:.]+\]|[^:/?#@\s]+)(:\d{1,5})?$/i.exec(header)
  return found
    ? found[1]!
        .toLowerCase()
        .replace(/^\[|\]$/g, "")
        .replace(/\.$/, "")
    : null
}

/**
 * Refuses names that are not this server's: a page can make its own name point to this machine (DNS rebinding), but it
 * cannot use an address or localhost. @throws HOST
 */
export function checkHost(header: string | null, allowed: readonly string[]): void {
  const name = hostName(header ?? "")
  if (name !== null && (loopback.has(name) || isIP(name) !== 0 || allowed.includes(name))) return
  fail("HOST", "this server does not go by that name", { hint: "allow it with --allow-host" })
}

/** Refuses what a page of another site sends through a visitor's browser. @throws ORIGIN */
export function checkOrigin(request: Request, cors: readonly string[]): void {
  const origin = request.headers.get("origin")
  if (origin !== null) {
    if (cors.includes(origin)) return
    const own = hostOf(origin)
    if (own === null || own !== request.headers.get("host")) refuseOrigin()
    return
  }
  const site = request.headers.get("sec-fetch-site")
  // a link to the page is followed from anywhere
  const navigation = request.headers.get("sec-fetch-mode") === "navigate" && request.method === "GET"
  if (site !== null && !["same-origin", "none"].includes(site) && !navigation) refuseOrigin()
}

const hostOf = (origin: string): string | null => {
  try {
    return new URL(origin).host
  } catch {
    return null
  }
}

const refuseOrigin = (): never =>
  fail("ORIGIN", "another site's page may not ask this server", { hint: "allow it with --cors" })
