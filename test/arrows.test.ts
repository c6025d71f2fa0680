import { readdirSync, readFileSync } from "node:fs"
import { dirname, join, relative, resolve, sep } from "node:path"
import { expect, test } from "vitest"

/** Rooms and the rooms they may import (docs/architecture.md); errors.ts and version.ts are open to all. */
const below = ["graph", "nn", "models", "weights", "text", "diffusion", "image", "runtime"]
const arrows: Record<string, string[]> = {
  graph: [],
  nn: ["graph"],
  models: ["nn", "graph"],
  weights: ["nn", "graph"],
  text: [],
  diffusion: [],
  image: [],
  runtime: ["graph"],
  pipeline: [...below, "trust"],
  train: below,
  trust: ["image", "text", "diffusion"],
  store: [],
  cli: ["index", "training", "server"],
  server: ["index", "store"],
  ui: ["index", "web", "words"],
}

const src = resolve(import.meta.dirname, "../src")
const files = readdirSync(src, { recursive: true, encoding: "utf8" }).filter(
  (f) => /\.tsx?$/.test(f) && !f.endsWith(".test.ts"),
)
const room = (file: string) =>
  relative(src, file)
    .split(sep)[0]!
    .replace(/\.tsx?$/, "")
const imports = (file: string) =>
  [...readFileSync(join(src, file), "utf8").matchAll(/(?:from|import\(|new URL\()\s*"(\.[^"]+)"/g)]
    .map((m) => resolve(src, dirname(file), m[1]!))
    .filter((path) => path.startsWith(src)) // what lies outside is data: assets/

test("rooms import only along the arrows", () => {
  const wrong = files.flatMap((file) => {
    const here = room(join(src, file))
    const allowed = arrows[here]
    if (!allowed) return []
    return imports(file)
      .map(room)
      .filter((to) => to !== here && to !== "errors" && to !== "version" && !allowed.includes(to))
      .map((to) => `${file} imports ${to}`)
  })
  expect(wrong).toEqual([])
})

test("every folder of src is a room with arrows", () => {
  const folders = new Set(files.filter((f) => f.includes(sep)).map((f) => room(join(src, f))))
  expect([...folders].filter((f) => !(f in arrows))).toEqual([])
})

test("onnxruntime is named in the runtime room only", () => {
  const wrong = files.filter(
    (f) =>
      !f.startsWith("runtime") &&
      /from "onnxruntime|import\("onnxruntime/.test(readFileSync(join(src, f), "utf8")),
  )
  expect(wrong).toEqual([])
})
