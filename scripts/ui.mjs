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

const assets = join(dirname(dirname(ui)), "assets")

/** Folders of the models that come with the page, the first as the one to begin with. */
const builtIn = ["embedded", "embedded-fast"].filter((name) =>
  existsSync(join(assets, name, "model_index.json")),
)

/** @param kind "server" or "tab" @param outDir an empty or absent folder */
export async function buildUi(kind, outDir) {
  const { build } = await import("vite")
  const root = kind === "tab" ? join(ui, "tab") : ui
  const input = { index: join(root, "index.html"), ...(kind === "tab" ? { sw: join(root, "sw.ts") } : {}) }
  const models = kind === "tab" ? builtIn : []
  await build({
    root,
    configFile: false,
    logLevel: "warn",
    base: "./",
    publicDir: join(root, "public"),
    define: { __EMBEDDED__: JSON.stringify(models.map((name) => `./${name}`)) },
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
  for (const name of models) cpSync(join(assets, name), join(outDir, name), { recursive: true })
}
