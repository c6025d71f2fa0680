import { signal } from "@preact/signals"
import { useEffect, useRef } from "preact/hooks"
import { Button, Choices, Field, NumberField, Select, Slider } from "../parts/controls.tsx"
import { Icon } from "../parts/icon.tsx"
import { change, changed, recipe, resetRecipe, start } from "../state/draft.ts"
import { grain } from "../state/sizes.ts"
import { facts, modelOf } from "../state/store.ts"
import { number, t } from "../text/index.ts"
import { Styles } from "./styles.tsx"

export const settingsOpen = signal(false)

/** Everything that has a good default, in three short parts. */
export function Settings() {
  const panel = useRef<HTMLElement>(null)
  useEffect(() => {
    panel.current?.focus({ preventScroll: true })
    panel.current?.scrollIntoView({ block: innerWidth < 1080 ? "start" : "nearest", behavior: "smooth" })
  }, [])
  const words = t.value
  return (
    <section
      id="settings"
      class="panel"
      ref={panel}
      tabIndex={-1}
      aria-labelledby="settings-title"
      onKeyDown={(event) => event.key === "Escape" && (settingsOpen.value = false)}
    >
      <header>
        <h2 id="settings-title">{words.settings.title}</h2>
        <Button kind="quiet" icon="close" label={words.close} onClick={() => (settingsOpen.value = false)} />
      </header>
      <Format />
      <Amount />
      <Negative />
      <details>
        <summary>
          {words.settings.model}
          <span class="summary-value">{modelOf(recipe.value)?.name ?? ""}</span>
          <Icon name="down" size={16} />
        </summary>
        <ModelPart />
      </details>
      <details>
        <summary>
          {words.settings.drawing}
          <span class="summary-value">{drawingSummary()}</span>
          <Icon name="down" size={16} />
        </summary>
        <DrawingPart />
      </details>
      {changed.value.length > 0 && <Button icon="undo" label={words.settings.reset} onClick={resetRecipe} />}
    </section>
  )
}

const drawingSummary = (): string => {
  const { steps, sampler } = recipe.value
  const name = facts.value?.samplers.find((s) => s.id === sampler)?.name
  return [name, steps && `${steps}`].filter(Boolean).join(" · ") || t.value.settings.own
}

type Shape = "square" | "portrait" | "landscape" | "custom"
const custom = signal(false)

/** Sides of each shape around the model's native size, its area kept roughly. */
function shapes(): Record<Exclude<Shape, "custom">, [number, number]> {
  const side = modelOf(recipe.value)?.width ?? 512
  const step = grain(side)
  const near = (v: number) => Math.max(64, Math.round(v / step) * step)
  const [long, short] = [near(side * 1.25), near(side * 0.85)]
  return { square: [side, side], portrait: [short, long], landscape: [long, short] }
}

function Format() {
  const { settings } = t.value
  const { width, height } = recipe.value
  if (start.value && !custom.value && width === undefined) return <OwnSize />
  const all = shapes()
  const is = (name: keyof typeof all) =>
    width === undefined ? name === "square" : all[name][0] === width && all[name][1] === height
  const known = (Object.keys(all) as (keyof typeof all)[]).find(is)
  const value: Shape = custom.value || !known ? "custom" : known
  const choose = (shape: Shape) => {
    custom.value = shape === "custom"
    if (shape === "custom") return
    const [w, h] = all[shape]
    change(shape === "square" ? { width: undefined, height: undefined } : { width: w, height: h })
  }
  const outline = (w: number, h: number) => (
    <span class="shape" aria-hidden="true" style={{ width: `${w}px`, height: `${h}px` }} />
  )
  return (
    <div class="stack">
      <Choices<Shape>
        label={settings.format}
        value={value}
        onChange={choose}
        options={[
          { id: "square", name: settings.square, picture: outline(16, 16) },
          { id: "portrait", name: settings.portrait, picture: outline(13, 19) },
          { id: "landscape", name: settings.landscape, picture: outline(19, 13) },
          { id: "custom", name: settings.custom, picture: <Icon name="enlarge" size={18} /> },
        ]}
      />
      {value === "custom" && <OwnSize />}
    </div>
  )
}

function OwnSize() {
  const { settings } = t.value
  const side = modelOf(recipe.value)
  const most = facts.value?.limits.side ?? 2048
  const { width, height } = recipe.value
  const swap = () => change({ width: height ?? side?.height, height: width ?? side?.width })
  return (
    <div class="sides">
      <NumberField
        label={settings.width}
        value={width}
        placeholder={String(start.value?.width ?? side?.width ?? "")}
        min={64}
        max={most}
        step={8}
        onChange={(w) => change({ width: w })}
      />
      <Button kind="quiet" icon="swap" label={settings.swap} onClick={swap} />
      <NumberField
        label={settings.height}
        value={height}
        placeholder={String(start.value?.height ?? side?.height ?? "")}
        min={64}
        max={most}
        step={8}
        onChange={(h) => change({ height: h })}
      />
    </div>
  )
}

function Amount() {
  const { settings } = t.value
  const { seed, count } = recipe.value
  const dice = () => change({ seed: crypto.getRandomValues(new Uint32Array(1))[0]! })
  return (
    <div class="pair">
      <NumberField
        label={settings.count}
        value={count}
        placeholder="1"
        min={1}
        max={facts.value?.limits.count ?? 16}
        onChange={(n) => change({ count: n === 1 ? undefined : n })}
      />
      <div class="with-button">
        <NumberField
          label={settings.seed}
          value={seed}
          placeholder={settings.seedRandom}
          min={0}
          max={2 ** 32 - 1}
          onChange={(n) => change({ seed: n })}
        />
        {seed === undefined ? (
          <Button kind="quiet" icon="dice" label={settings.seedDice} onClick={dice} />
        ) : (
          <Button
            kind="quiet"
            icon="close"
            label={settings.seedFree}
            onClick={() => change({ seed: undefined })}
          />
        )}
      </div>
    </div>
  )
}

const Negative = () => (
  <Field label={t.value.settings.negative}>
    {(ids) => (
      <textarea
        {...ids}
        class="text"
        rows={2}
        maxLength={8192}
        placeholder={t.value.settings.negativePlaceholder}
        value={recipe.value.negative ?? ""}
        onInput={(event) => change({ negative: event.currentTarget.value || undefined })}
      />
    )}
  </Field>
)

function ModelPart() {
  const models = facts.value?.models ?? []
  const { settings } = t.value
  if (models.length === 0) return <p class="soft">{settings.modelNone}</p>
  return (
    <div class="stack">
      <Select
        label={settings.model}
        value={recipe.value.model ?? models[0]!.id}
        options={models.map((m) => ({ id: m.id, name: m.name, disabled: m.setAside !== null }))}
        onChange={(id) => change({ model: id === models[0]!.id ? undefined : id })}
      />
      <Styles />
    </div>
  )
}

function DrawingPart() {
  const { settings } = t.value
  const known = facts.value
  const own = modelOf(recipe.value)
  const { steps, cfg, sampler, schedule, clipSkip } = recipe.value
  return (
    <div class="stack">
      <Slider
        label={settings.steps}
        help={settings.stepsHelp}
        value={steps}
        rest={own?.steps ?? 20}
        restText={settings.own}
        min={1}
        max={Math.min(80, known?.limits.steps ?? 80)}
        step={1}
        onChange={(n) => change({ steps: n })}
      />
      <Slider
        label={settings.guidance}
        help={settings.guidanceHelp}
        value={cfg}
        rest={own?.cfg ?? 7.5}
        restText={settings.own}
        min={1}
        max={20}
        step={0.5}
        show={(v) => number(v, 1)}
        onChange={(n) => change({ cfg: n })}
      />
      <Select
        label={settings.sampler}
        value={sampler ?? ""}
        options={[{ id: "", name: settings.samplerOwn }, ...(known?.samplers ?? [])]}
        onChange={(id) => change({ sampler: id || undefined, ...(id ? {} : { schedule: undefined }) })}
      />
      {sampler && (
        <Select
          label={settings.schedule}
          value={schedule ?? ""}
          options={[{ id: "", name: settings.scheduleOwn }, ...(known?.schedules ?? [])]}
          onChange={(id) => change({ schedule: id || undefined })}
        />
      )}
      <div class="pair">
        <NumberField
          label={settings.clipSkip}
          value={clipSkip}
          placeholder={settings.own}
          min={1}
          max={12}
          onChange={(n) => change({ clipSkip: n })}
        />
        <Select
          label={settings.rng}
          value={recipe.value.rng ?? "cpu"}
          options={[
            { id: "cpu", name: settings.rngCpu },
            { id: "cuda", name: settings.rngCuda },
          ]}
          onChange={(id) => change({ rng: id === "cuda" ? "cuda" : undefined })}
        />
      </div>
    </div>
  )
}
