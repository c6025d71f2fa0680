import type { Task } from "./task.ts"

type Entry = Readonly<Record<string, unknown>>
type Point = readonly [number, number]

const colours = ["#2563eb", "#dc2626", "#059669", "#d97706", "#7c3aed", "#0891b2"]

/** A training's curves and settings as one page without scripts or outside files. */
export function htmlReport(
  task: Pick<Task, "name" | "settings" | "steps">,
  entries: readonly Entry[],
): string {
  const losses = series(entries, (e) => ("loss" in e ? e : null))
  const checks = series(entries, (e) => (e.validation ? { step: e.step, ...(e.validation as Entry) } : null))
  const charts = [
    ...[...losses].filter(([key]) => key !== "rate").map(([key, points]) => chart(key, points, task.steps)),
    ...[...checks].map(([key, points]) => chart(`validation: ${key}`, points, task.steps)),
    ...[...losses].filter(([key]) => key === "rate").map(([key, points]) => chart(key, points, task.steps)),
  ]
  return `<!doctype html><meta charset="utf-8"><title>${html(task.name)}</title>
<style>body{font:14px system-ui;margin:2rem;color:#111}figure{display:inline-block;margin:0 1rem 1.5rem 0}
figcaption{margin-bottom:.3rem}svg{background:#fafafa;border:1px solid #ddd}pre{background:#f5f5f5;padding:1rem}</style>
<h1>${html(task.name)}</h1>
${charts.join("\n")}
<h2>Settings</h2><pre>${html(JSON.stringify(task.settings, null, 2))}</pre>
`
}

function series(entries: readonly Entry[], pick: (e: Entry) => Entry | null): Map<string, Point[]> {
  const found = new Map<string, Point[]>()
  for (const entry of entries) {
    const chosen = pick(entry)
    if (chosen === null) continue
    for (const [key, v] of Object.entries(chosen)) {
      if (key === "step" || typeof v !== "number") continue
      if (!found.has(key)) found.set(key, [])
      found.get(key)!.push([Number(chosen.step), v])
    }
  }
  return found
}

/** Chart of at most 400 points; the vertical axis is logarithmic where all values are positive and spread wide. */
function chart(title: string, points: readonly Point[], steps: number): string {
  const [width, height] = [420, 180]
  const stride = Math.ceil(points.length / 400)
  const shown = points.filter((_, i) => i % stride === 0 || i === points.length - 1)
  const values = shown.map(([, v]) => v)
  const [low, high] = [Math.min(...values), Math.max(...values)]
  const log = low > 0 && high / low > 20
  const scale = (v: number) => (log ? Math.log(v) : v)
  const span = scale(high) - scale(low) || 1
  const x = (s: number) => ((s / steps) * width).toFixed(1)
  const y = (v: number) => (height - 8 - ((scale(v) - scale(low)) / span) * (height - 16)).toFixed(1)
  const line = shown.map(([s, v]) => `${x(s)},${y(v)}`).join(" ")
  const colour = colours[[...title].reduce((a, c) => a + c.charCodeAt(0), 0) % colours.length]
  const now = points.at(-1)![1].toPrecision(5)
  const caption = `${html(title)}: <b>${now}</b> (${low.toPrecision(4)} to ${high.toPrecision(4)}${log ? ", logarithmic" : ""})`
  return `<figure><figcaption>${caption}</figcaption><svg width="${width}" height="${height}"><polyline fill="none" stroke="${colour}" stroke-width="1.5" points="${line}"/></svg></figure>`
}

const html = (text: string): string =>
  text.replace(/[&<>"]/g, (c) => ({ "&": "&amp;", "<": "&lt;", ">": "&gt;", '"': "&quot;" })[c]!)
