import { readFile } from "node:fs/promises"
import { extname, join } from "node:path"
import { fileURLToPath } from "node:url"

const types: Record<string, string> = {
  ".html": "text/html; charset=utf-8",
  ".js": "text/javascript; charset=utf-8",
  ".mjs": "text/javascript; charset=utf-8",
  ".css": "text/css; charset=utf-8",
  ".json": "application/json",
  ".webmanifest": "application/manifest+json",
  ".svg": "image/svg+xml",
  ".png": "image/png",
  ".webp": "image/webp",
  ".ico": "image/x-icon",
  ".woff2": "font/woff2",
  ".wasm": "application/wasm",
  ".txt": "text/plain; charset=utf-8",
  ".map": "application/json",
  ".gz": "application/gzip",
}

const segment = /^[A-Za-z0-9_][A-Za-z0-9._-]*$/

/** Where the build puts the web page: beside the program, bundled or not. */
export const pageFolders = (): string[] =>
  ["../ui/", "../../ui/"].map((path) => fileURLToPath(new URL(path, import.meta.url)))

/** Files of the built web page by their address; `/` is its index.html. */
export function pageFiles(folders: readonly string[]): (path: string) => Promise<Response | null> {
  return async (path) => {
    const parts = (path === "/" ? "/index.html" : path).slice(1).split("/")
    if (!parts.every((part) => segment.test(part)) || parts.length > 6) return null
    const type = types[extname(parts.at(-1)!)]
    if (!type) return null
    for (const folder of folders) {
      const bytes = await readFile(join(folder, ...parts)).catch(() => null)
      // names of bundled files hold a hash of their bytes
      const lasting = /-[A-Za-z0-9_-]{8,}\.\w+$/.test(parts.at(-1)!)
      if (bytes)
        return new Response(bytes, {
          headers: {
            "content-type": type,
            "cache-control": lasting ? "public, max-age=31536000, immutable" : "no-cache",
          },
        })
    }
    return null
  }
}
