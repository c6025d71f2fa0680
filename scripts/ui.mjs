// Builds the web page: `server` into the folder that `aquatint serve` hands out, `tab` as a static page that needs no server.
import { cpSync, existsSync, readdirSync } from "node:fs"
import { dirname, join } from "node:path"
import { fileURLToPath } from "node:url"

const ui = join(dirname(dirname(fileURLToPath(import.meta.url))), "src", "ui")

/** Writes the list of all built files into the service worker, which so changes whenever any of them does. */
const listFiles = {
  name: "aquatint-files",
  enforce: "post",
  generateBundle(_, files) {
    const worker = files["sw.js"]
    if (!worker) return
    const pub = readdirSync(join(ui, "tab", "public"))
    const names = [...Object.keys(files).filter((name) => name !== "sw.js" && name !== "index.html"), ...pub]
    worker.code = worker.code.replace("__FILES__", ["./", ...names].join("|"))
  },
}

const assets = join(dirname(dirname(ui)), "assets", "embedded")

/** Where the page finds the model that comes with it: a diffusers folder or a single file; empty where there is none. */
function embeddedModel() {
  if (!existsSync(assets)) return ""
  const names = readdirSync(assets)
  if (names.includes("model_index.json")) return "./embedded"
  const file = names.find((name) => name.endsWith(".safetensors"))
  return file ? `./embedded/${file}` : ""
}

/** @param kind "server" or "tab" @param outDir an empty or absent folder */
export async function buildUi(kind, outDir) {
  const { build } = await import("vite")
  const root = kind === "tab" ? join(ui, "tab") : ui
  const input = { index: join(root, "index.html"), ...(kind === "tab" ? { sw: join(root, "sw.ts") } : {}) }
  const embedded = kind === "tab" ? embeddedModel() : ""
  await build({
    root,
    configFile: false,
    logLevel: "warn",
    base: "./",
    publicDir: join(root, "public"),
    define: { __EMBEDDED__: JSON.stringify(embedded) },
    plugins: [listFiles],
    oxc: { jsx: { runtime: "automatic", importSource: "preact" } },
    build: {
      outDir,
      emptyOutDir: true,
      target: "es2022",
      assetsInlineLimit: 0,
      reportCompressedSize: false,
      // onnxruntime's WebAssembly is what it is
      chunkSizeWarningLimit: 4096,
      rolldownOptions: {
        input,
        checks: { pluginTimings: false },
        output: { entryFileNames: ({ name }) => (name === "sw" ? "sw.js" : "assets/[name]-[hash].js") },
      },
    },
  })
  if (embedded) cpSync(assets, join(outDir, "embedded"), { recursive: true })
}
