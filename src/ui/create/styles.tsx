import { Button, Select, Slider } from "../parts/controls.tsx"
import { change, recipe } from "../state/draft.ts"
import { facts } from "../state/store.ts"
import { number, t } from "../text/index.ts"

/** LoRA files that the picture is drawn with, each with its weight. */
export function Styles() {
  const known = facts.value?.loras ?? []
  const used = recipe.value.loras ?? []
  const { settings } = t.value
  if (known.length === 0) return null
  const set = (loras: typeof used) => change({ loras: loras.length ? loras : undefined })
  const free = known.filter(({ id }) => !used.some((u) => u.id === id))
  const name = (id: string) => known.find((k) => k.id === id)?.name ?? id
  return (
    <div class="stack">
      {used.map((use) => (
        <div key={use.id} class="with-button">
          <Slider
            label={settings.loraWeight(name(use.id))}
            value={use.weight}
            rest={1}
            min={-1}
            max={2}
            step={0.05}
            show={(v) => number(v, 2)}
            onChange={(weight) => set(used.map((u) => (u.id === use.id ? { ...u, weight } : u)))}
          />
          <Button
            kind="quiet"
            icon="close"
            label={settings.loraRemove(name(use.id))}
            onClick={() => set(used.filter((u) => u.id !== use.id))}
          />
        </div>
      ))}
      {free.length > 0 && (
        <Select
          label={settings.lora}
          value=""
          options={[{ id: "", name: settings.loraAdd }, ...free]}
          onChange={(id) => id && set([...used, { id, weight: 1 }])}
        />
      )}
    </div>
  )
}
