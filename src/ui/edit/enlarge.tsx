import { useSignal } from "@preact/signals"
import { Missing } from "../gallery/view.tsx"
import { Button, Choices, Select, Slider } from "../parts/controls.tsx"
import { resizedFile } from "../state/bitmap.ts"
import { go } from "../state/route.ts"
import { doing } from "../state/say.ts"
import type { Size } from "../state/sizes.ts"
import { enqueue, facts, modelOf, studio, submit } from "../state/store.ts"
import { number, t } from "../text/index.ts"
import { basis, EditHead, type Source, useSource } from "./editor.tsx"

/** A picture twice its size, with detail that fits. */
export function Enlarge({ id = "" }: { id: string | undefined }) {
  const source = useSource(id)
  if (source === null) return <Missing />
  return source ? <Upscale key={id} source={source} id={id} /> : null
}

const factors = ["1.5", "2", "3", "4"] as const
type Factor = (typeof factors)[number]

/** What comes out: models draw multiples of 8, and so the plain way ends at them too. */
function sizeOf({ width, height }: Size, factor: Factor, drawn: boolean): Size {
  const round = drawn ? Math.round : Math.floor
  const side = (v: number) => 8 * round((v * Number(factor)) / 8)
  return { width: side(width), height: side(height) }
}

function isPossible({ width, height }: Size, drawn: boolean): boolean {
  const { side, pixels, enlarged } = facts.value!.limits
  return drawn ? Math.max(width, height) <= side && width * height <= pixels : width * height <= enlarged
}

/** How a picture is made larger: by a way without drawing, or ("") by the model. */
function useEnlarging({ bitmap, recipe }: Source, id: string) {
  // only what the studio holds can be enlarged without drawing
  const ways = id !== "start" && studio().enlarge ? (facts.value?.upscalers ?? []) : []
  // a model of small pictures has nothing to add to large ones
  const small = (modelOf(recipe)?.width ?? 512) < 512
  const way = useSignal(small ? (ways[0]?.id ?? "") : "")
  const wanted = useSignal<Factor>("2")
  const detail = useSignal(0.3)
  const drawn = way.value === ""
  const possible = factors.filter((f) => isPossible(sizeOf(bitmap, f, drawn), drawn))
  const factor = possible.includes(wanted.value) ? wanted.value : possible.at(-1)
  const size = factor && sizeOf(bitmap, factor, drawn)
  return { ways, way, wanted, detail, drawn, possible, factor, size }
}
type Enlarging = ReturnType<typeof useEnlarging>

async function start(source: Source, id: string, { way, detail, drawn, factor, size }: Enlarging) {
  if (!factor || !size) return
  const redraw = async () => {
    const init = await resizedFile(source.bitmap, size)
    return submit({ recipe: { ...basis(source.recipe), ...size, strength: detail.value }, init })
  }
  const enlarge = () => enqueue(() => studio().enlarge!(id, Number(factor), way.value))
  if (await (drawn ? redraw() : enlarge())) go("create")
}

function Upscale({ source, id }: { source: Source; id: string }) {
  const enlarging = useEnlarging(source, id)
  const { possible, factor, wanted, size } = enlarging
  const words = t.value.enlarge
  const { width, height } = source.bitmap
  return (
    <section class="view edit" aria-labelledby="edit-title">
      <EditHead title={words.title} id={id} />
      <div class="print-body">
        <div class="print-picture">
          <div class="mask" style={{ "--w": width, "--h": height }}>
            <img src={source.url} alt={source.recipe.prompt} />
          </div>
        </div>
        <aside class="panel">
          {factor && (
            <Choices<Factor>
              label={words.factor}
              value={factor}
              options={possible.map((f) => ({ id: f, name: `${number(Number(f), 1)} ×` }))}
              onChange={(f) => (wanted.value = f)}
            />
          )}
          <Way enlarging={enlarging} />
          <p class="soft figures" role="status">
            {size ? `${words.result}: ${size.width} × ${size.height}` : words.tooLarge}
          </p>
          <Button
            kind="main"
            label={words.go}
            disabled={!size}
            onClick={() => doing(start(source, id, enlarging))}
          />
        </aside>
      </div>
    </section>
  )
}

/** Which way, and what it does to the picture. */
function Way({ enlarging: { ways, way, detail, drawn } }: { enlarging: Enlarging }) {
  const words = t.value.enlarge
  const named = ways.map((one) => (one.id === "Lanczos" ? { ...one, name: words.plain } : one))
  const help = drawn ? words.redrawHelp : words.plainHelp
  return (
    <>
      {ways.length > 0 ? (
        <Select
          label={words.way}
          help={help}
          value={way.value}
          options={[{ id: "", name: words.redraw }, ...named]}
          onChange={(id) => (way.value = id)}
        />
      ) : (
        <p class="help">{help}</p>
      )}
      {drawn && (
        <Slider
          label={words.detail}
          value={detail.value}
          rest={0.3}
          min={0.1}
          max={0.7}
          step={0.05}
          show={(v) => `${number(v * 100)} %`}
          onChange={(v) => (detail.value = v)}
        />
      )}
    </>
  )
}
