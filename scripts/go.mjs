// Runs the program or its tests from a clone: installs what the lockfile names, builds what changed, then gets out of the way.
import { spawnSync } from "node:child_process"
import { createHash } from "node:crypto"
import {
  cpSync,
  existsSync,
  readdirSync,
  readFileSync,
  renameSync,
  rmSync,
  statSync,
  writeFileSync,
} from "node:fs"
import { dirname, join } from "node:path"
import { fileURLToPath, pathToFileURL } from "node:url"

const root = dirname(dirname(fileURLToPath(import.meta.url)))
const at = (...parts) => join(root, ...parts)
const read = (file) => (existsSync(file) ? readFileSync(file, "utf8") : "")
const hash = (text) => createHash("sha256").update(text).digest("hex")

class Failed extends Error {
  constructor(status) {
    super(`a step ended with ${status}`)
    this.status = status
  }
}

/** Runs a child on this terminal's stderr, so that stdout stays the program's own. */
function child(args, options = {}) {
  const done = spawnSync(process.execPath, args, { cwd: root, stdio: ["inherit", 2, 2], ...options })
  if (done.status !== 0) throw new Failed(done.status ?? 1)
}

/** `npm ci` when the lockfile, Node or the platform is not the one that was installed for. */
function install() {
  const stamp = at("node_modules", ".go")
  const want = hash(`${read(at("package-lock.json"))}${process.version}${process.platform}${process.arch}`)
  if (read(stamp) === want) return
  const npm = process.env.npm_execpath
  if (!npm) throw new Error("run this through npm: npm start -- ... or npm test")
  process.stderr.write("aquatint: installing packages\n")
  child([npm, "ci", "--ignore-scripts", "--no-audit", "--no-fund", "--loglevel=error"])
  writeFileSync(stamp, want)
}

function* sources(folder) {
  for (const entry of readdirSync(folder, { withFileTypes: true })) {
    const path = join(folder, entry.name)
    if (entry.isDirectory()) yield* sources(path)
    else yield path
  }
}

/** Joins the command line's modules to a few files: two hundred small ones take three times as long to start. */
async function bundle(dist) {
  const { rolldown } = await import("rolldown")
  const input = {
    aquatint: join(dist, "cli", "main.js"),
    child: join(dist, "runtime", "child.js"),
    "thread-child": join(dist, "runtime", "thread-child.js"),
    "bench-child": join(dist, "cli", "bench-child.js"),
    "sqlite-thread": join(dist, "store", "sqlite-thread.js"),
  }
  const made = await rolldown({
    input,
    platform: "node",
    external: [/^onnxruntime/, "sharp", "libsql", "pg", /^@modelcontextprotocol/],
    logLevel: "silent",
  })
  await made.write({
    dir: join(dist, "bin"),
    format: "esm",
    entryFileNames: "[name].js",
    chunkFileNames: "[name]-[hash].js",
  })
}

/** The web page, made anew only when something changed that it is made of. */
async function page(dist) {
  const rooms = ["ui", "text", "image"].flatMap((room) => [...sources(at("src", room))])
  const want = hash([at("scripts", "ui.mjs"), at("package-lock.json"), ...rooms].map(read).join())
  if (read(at("dist", "ui", ".go")) === want) {
    cpSync(at("dist", "ui"), join(dist, "ui"), { recursive: true })
    return
  }
  const { buildUi } = await import("./ui.mjs")
  await buildUi("server", join(dist, "ui"))
  writeFileSync(join(dist, "ui", ".go"), want)
}

/** Compiles when a source's path, size or time differs from the last build. */
async function build() {
  const stamp = at("dist", ".go")
  const seen = [at("tsconfig.json"), at("package-lock.json"), at("scripts", "go.mjs"), ...sources(at("src"))]
    .filter((path) => !path.endsWith(".test.ts"))
    .map((path) => [path, statSync(path).size, statSync(path).mtimeMs].join())
  const want = hash(seen.sort().join("\n"))
  if (read(stamp) === want) return
  // built aside and swapped in, so that a program that is running keeps its files until the last moment
  const aside = at(`dist.${process.pid}.tmp`)
  try {
    child([at("node_modules", "typescript", "bin", "tsc"), "-p", at("tsconfig.json"), "--outDir", aside])
    await bundle(aside)
    await page(aside)
    writeFileSync(join(aside, ".go"), want)
    rmSync(at("dist"), { recursive: true, force: true })
    renameSync(aside, at("dist"))
  } finally {
    rmSync(aside, { recursive: true, force: true })
  }
}

const [task, ...args] = process.argv.slice(2)
try {
  install()
  if (task === "build:web") await (await import("./ui.mjs")).buildUi("tab", at("dist-web"))
  else await build()
} catch (error) {
  if (!(error instanceof Failed)) throw error
  process.exit(error.status)
}
if (task === "start") {
  // npm runs scripts in the package folder; the caller's paths are relative to where they stood
  if (process.env.INIT_CWD) process.chdir(process.env.INIT_CWD)
  process.argv = [process.argv[0], at("dist", "bin", "aquatint.js"), ...args]
  await import(pathToFileURL(process.argv[1]).href)
} else if (task === "test") {
  const vitest = at("node_modules", "vitest", "vitest.mjs")
  const done = spawnSync(process.execPath, [vitest, "run", ...args], { cwd: root, stdio: "inherit" })
  process.exit(done.status ?? 1)
}
