import { computed, signal } from "@preact/signals"
import { useEffect } from "preact/hooks"
import { Button, Field, Select } from "../parts/controls.tsx"
import { change, recipe } from "../state/draft.ts"
import { link } from "../state/route.ts"
import { complain, doing, toast } from "../state/say.ts"
import { facts, jobs, modelOf, previews, studio, submit } from "../state/store.ts"
import type { Print } from "../studio/types.ts"
import { t } from "../text/index.ts"
import { type AxisId, axisIds, readStops, type Stop, startValues } from "./axes.ts"
import { saveSheet } from "./sheet.ts"

interface Axis {
  readonly id: AxisId | ""
  /** As the reader wrote it; null while the values are the model's. */
  readonly text: string | null
}

export interface Sheet {
  readonly across: readonly string[]
  readonly down: readonly string[]
  readonly axes: readonly [AxisId | "", AxisId | ""]
  /** Job of each cell, row by row; null where it was not queued. */
  readonly cells: readonly (string | null)[]
}

const most = 64
const across = signal<Axis>({ id: "steps", text: null })
const down = signal<Axis>({ id: "cfg", text: null })
const sheet = signal<Sheet | null>(null)
const prints = signal<ReadonlyMap<string, Print>>(new Map())
const queueing = signal(false)

const still: Stop = { name: "", apply: (r) => r }
const known = () => facts.value ?? { samplers: [], schedules: [], models: [] }
const textOf = ({ id, text }: Axis): string =>
  text ?? (id ? startValues(id, modelOf(recipe.value), known()) : "")
const read = (axis: Axis): { stops: readonly Stop[] } | { bad: string } =>
  axis.id === "" ? { stops: [still] } : readStops(axis.id, textOf(axis), known())
const stops = computed(() => [read(across.value), read(down.value)] as const)
const count = computed(() => {
  const [a, b] = stops.value
  return "bad" in a || "bad" in b ? 0 : a.stops.length * b.stops.length
})

/** Every combination of two settings, side by side. */
export function Grid() {
  const words = t.value.grid
  return (
    <section class="view grid" aria-labelledby="grid-title">
      <header class="view-head">
        <h1 id="grid-title">{words.title}</h1>
        <p class="soft">{words.intro}</p>
      </header>
      <form
        class="panel grid-form"
        onSubmit={(event) => {
          event.preventDefault()
          doing(draw())
        }}
      >
        <div class="field wide">
          <label for="prompt">{t.value.prompt.label}</label>
          <textarea
            id="prompt"
            class="text"
            rows={2}
            maxLength={8192}
            value={recipe.value.prompt}
            placeholder={t.value.prompt.placeholder}
            onInput={(event) => change({ prompt: event.currentTarget.value })}
          />
        </div>
        <AxisFields label={words.across} axis={across.value} onChange={(axis) => (across.value = axis)} />
        <AxisFields label={words.down} axis={down.value} onChange={(axis) => (down.value = axis)} />
        <div class="row wide">
          <Problems />
          <span class="grow" />
          <button
            type="submit"
            class="button main"
            disabled={count.value === 0 || count.value > most || queueing.value}
          >
            {words.draw(count.value)}
          </button>
        </div>
      </form>
      {sheet.value && <SheetTable sheet={sheet.value} />}
    </section>
  )
}

function Problems() {
  const words = t.value.grid
  const bad = stops.value.find((s) => "bad" in s)
  const tooMany = count.value > most ? words.tooMany(count.value, most) : ""
  const text = bad && "bad" in bad ? words.bad(bad.bad) : count.value === 0 ? words.none : tooMany
  return (
    <span class="problem" role="status">
      {text}
    </span>
  )
}

function AxisFields({
  label,
  axis,
  onChange,
}: {
  label: string
  axis: Axis
  onChange: (axis: Axis) => void
}) {
  const words = t.value.grid
  const helps: Partial<Record<AxisId, string>> = { words: words.replace, size: words.sizeHelp }
  const options = [{ id: "", name: words.nothing }, ...axisIds.map((id) => ({ id, name: words.axes[id] }))]
  return (
    <div class="axis">
      <Select
        label={label}
        value={axis.id}
        options={options}
        onChange={(id) => onChange({ id: id as Axis["id"], text: null })}
      />
      {axis.id !== "" && (
        <Field label={words.values} help={helps[axis.id] ?? words.valuesHelp}>
          {(ids) => (
            <input
              {...ids}
              class="text"
              value={textOf(axis)}
              onInput={(event) => onChange({ ...axis, text: event.currentTarget.value })}
            />
          )}
        </Field>
      )}
    </div>
  )
}

async function draw(): Promise<void> {
  const [a, b] = stops.value
  if ("bad" in a || "bad" in b) return
  if (!recipe.value.prompt.trim()) return toast(t.value.empty)
  // one seed for all, so that nothing but the axes differs
  const seed = recipe.value.seed ?? crypto.getRandomValues(new Uint32Array(1))[0]!
  const { strength: _, ...rest } = recipe.value
  const base = { ...rest, seed, count: 1 }
  const group = `grid-${Date.now()}`
  const names = (list: readonly Stop[]) => list.map((s) => s.name)
  const cells: (string | null)[] = []
  const show = () => {
    const axes = [across.value.id, down.value.id] as const
    sheet.value = { across: names(a.stops), down: names(b.stops), axes, cells: [...cells] }
  }
  queueing.value = true
  try {
    for (const row of b.stops)
      for (const column of a.stops) {
        const job = await submit({ recipe: column.apply(row.apply(base)), group }, false)
        // what is refused once is refused again
        if (!job) return
        cells.push(job.id)
        show()
      }
  } finally {
    queueing.value = false
  }
}

function SheetTable({ sheet }: { sheet: Sheet }) {
  useEffect(() => {
    for (const id of sheet.cells) void fetchPrint(id).catch(complain)
  }, [sheet, jobs.value])
  return (
    <div class="sheet">
      <div class="sheet-scroll">
        <SheetCells sheet={sheet} />
      </div>
      <div class="row">
        <SheetButton sheet={sheet} />
      </div>
    </div>
  )
}

function SheetCells({ sheet }: { sheet: Sheet }) {
  const words = t.value.grid
  const name = (id: AxisId | "") => (id ? words.axes[id] : words.nothing)
  return (
    <table>
      <caption class="unseen">{words.caption(name(sheet.axes[0]), name(sheet.axes[1]))}</caption>
      <thead>
        <tr>
          <td class="soft">{sheet.axes[1] && name(sheet.axes[1])}</td>
          {sheet.across.map((value) => (
            <th key={value} scope="col">
              {value}
            </th>
          ))}
        </tr>
      </thead>
      <tbody>
        {sheet.down.map((value, row) => (
          <tr key={value}>
            <th scope="row">{value}</th>
            {sheet.across.map((column, i) => (
              <td key={column}>
                <Cell job={sheet.cells[row * sheet.across.length + i] ?? null} />
              </td>
            ))}
          </tr>
        ))}
      </tbody>
    </table>
  )
}

/** Stops what is still drawn of the sheet, or saves it when all is there. */
function SheetButton({ sheet }: { sheet: Sheet }) {
  const words = t.value.grid
  const open = sheet.cells.filter(
    (id) => id && ["queued", "running"].includes(jobs.value.get(id)?.state ?? ""),
  )
  const done = sheet.cells.map((id) => (id ? prints.value.get(id) : undefined))
  return open.length > 0 ? (
    <Button
      icon="close"
      label={words.stop}
      class="outlined"
      onClick={() => doing(Promise.all(open.map((id) => studio().cancel(id!))))}
    />
  ) : (
    <Button
      icon="download"
      label={words.save}
      class="outlined"
      onClick={() => doing(saveSheet(sheet, done))}
    />
  )
}

async function fetchPrint(id: string | null): Promise<void> {
  const first = id === null ? undefined : jobs.peek().get(id)?.prints[0]
  if (id === null || first === undefined || prints.peek().has(id)) return
  const print = await studio().print(first)
  prints.value = new Map(prints.value).set(id, print)
}

function Cell({ job }: { job: string | null }) {
  const print = job ? prints.value.get(job) : undefined
  if (print)
    return (
      <a href={link("print", print.id)}>
        <img src={print.thumb} alt={print.recipe.prompt} />
      </a>
    )
  const state = job ? jobs.value.get(job) : undefined
  const preview = job ? previews.value.get(job)?.url : undefined
  if (preview) return <img src={preview} alt={t.value.plate.drawing} />
  const failed = state?.state === "failed" || state?.state === "cancelled"
  return <span class="blank">{failed ? "–" : t.value.grid.waiting}</span>
}
