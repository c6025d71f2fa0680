import { signal } from "@preact/signals"
import type { ComponentChildren } from "preact"
import { useEffect, useRef } from "preact/hooks"
import { Button, Choices, Field, NumberField, Select, Slider } from "../parts/controls.tsx"
import { Icon } from "../parts/icon.tsx"
import { change, changed, recipe, resetRecipe, sizeAfter, start } from "../state/draft.ts"
import { formats } from "../state/sizes.ts"
import { facts, modelOf } from "../state/store.ts"
import { number, t } from "../text/index.ts"
import { Styles } from "./styles.tsx"

export const settingsOpen = signal(false)

/** Folds the settings away; who was in them is back at the button that unfolded them. */
function close(): void {
  settingsOpen.value = false
  document.querySelector<HTMLElement>('[aria-controls="settings"]')?.focus()
}

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
      onKeyDown={(event) => event.key === "Escape" && close()}
    >
      <header>
        <h2 id="settings-title">{words.settings.title}</h2>
        <Button kind="quiet" icon="close" label={words.close} onClick={close} />
      </header>
      <Format />
      <Amount />
      <Negative />
      <Part title={words.settings.model} value={modelOf(recipe.value)?.name ?? ""}>
        <ModelPart />
      </Part>
      <Part title={words.settings.drawing} value={drawingSummary()}>
        <DrawingPart />
      </Part>
      {changed.value.length > 0 && <Button icon="undo" label={words.settings.reset} onClick={resetRecipe} />}
    </section>
  )
}

/** A part that is folded away; its head says how it stands. */
const Part = (props: { title: string; value: string; children: ComponentChildren }) => (
  <details>
    <summary>
      {props.title}
      <span class="summary-value">{props.value}</span>
      <Icon name="down" size={16} />
    </summary>
    {props.children}
  </details>
)

const drawingSummary = (): string => {
  const { steps, sampler } = recipe.value
  const name = facts.value?.samplers.find((s) => s.id === sampler)?.name
  return [name, steps && `${steps}`].filter(Boolean).join(" · ") || t.value.settings.own
}

type Shape = "square" | "portrait" | "landscape" | "custom"
const custom = signal(false)

function Format() {
  const { settings } = t.value
  const { width, height } = recipe.value
  // its shape is the start picture's
  if (start.value) return <OwnSize />
  const all = formats(modelOf(recipe.value)?.width ?? 512)
  const is = (name: keyof typeof all) =>
    width === undefined && height === undefined
      ? name === "square"
      : all[name].width === width && all[name].height === height
  const known = (Object.keys(all) as (keyof typeof all)[]).find(is)
  const value: Shape = custom.value || !known ? "custom" : known
  const choose = (shape: Shape) => {
    custom.value = shape === "custom"
    if (shape === "custom") return
    change(shape === "square" ? { width: undefined, height: undefined } : all[shape])
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
  const from = start.value
  const open = from ? sizeAfter(from) : modelOf(recipe.value)
  const most = facts.value?.limits.side ?? 2048
  const { width, height } = recipe.value
  const swap = () => change({ width: height ?? open?.height, height: width ?? open?.width })
  return (
    <div class="sides">
      <NumberField
        label={settings.width}
        value={width}
        placeholder={String(open?.width ?? "")}
        min={64}
        max={most}
        step={8}
        onChange={(w) => change({ width: w })}
      />
      <Button kind="quiet" icon="swap" label={settings.swap} onClick={swap} />
      <NumberField
        label={settings.height}
        value={height}
        placeholder={String(open?.height ?? "")}
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

const DrawingPart = () => (
  <div class="stack">
    <StepSliders />
    <SamplerChoice />
    <FinePoints />
  </div>
)

/** How long the model draws, and how closely it follows the prompt. */
function StepSliders() {
  const { settings } = t.value
  const known = facts.value
  const own = modelOf(recipe.value)
  const { steps, cfg, loras } = recipe.value
  // a LoRA may be one for few steps, which the model's card does not know of
  const restNote = { text: settings.own, exact: !loras?.length && own !== undefined }
  return (
    <>
      <Slider
        label={settings.steps}
        help={settings.stepsHelp}
        value={steps}
        rest={own?.steps ?? 20}
        restNote={restNote}
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
        restNote={restNote}
        min={1}
        max={20}
        step={0.5}
        show={(v) => number(v, 1)}
        onChange={(n) => change({ cfg: n })}
      />
    </>
  )
}

function SamplerChoice() {
  const { settings } = t.value
  const { samplers = [], schedules = [] } = facts.value ?? {}
  const { sampler, schedule } = recipe.value
  return (
    <>
      <Select
        label={settings.sampler}
        value={sampler ?? ""}
        options={[{ id: "", name: settings.samplerOwn }, ...samplers]}
        onChange={(id) => change({ sampler: id || undefined, ...(id ? {} : { schedule: undefined }) })}
      />
      {sampler && (
        <Select
          label={settings.schedule}
          value={schedule ?? ""}
          options={[{ id: "", name: settings.scheduleOwn }, ...schedules]}
          onChange={(id) => change({ schedule: id || undefined })}
        />
      )}
    </>
  )
}

/** What pictures of other programs need to come out the same. */
function FinePoints() {
  const { settings } = t.value
  return (
    <div class="pair">
      <NumberField
        label={settings.clipSkip}
        value={recipe.value.clipSkip}
        placeholder={settings.ownShort}
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
  )
}
