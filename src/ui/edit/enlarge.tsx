import { useSignal } from "@preact/signals"
import { Missing } from "../gallery/view.tsx"
import { Button, Choices, Select, Slider } from "../parts/controls.tsx"
import { go } from "../state/route.ts"
import { doing } from "../state/say.ts"
import { enqueue, facts, modelOf, studio, submit } from "../state/store.ts"
import { number, t } from "../text/index.ts"
import { basis, EditHead, type Source, useSource } from "./editor.tsx"
import { resizedFile } from "./mask.ts"

/** A picture twice its size, with detail that fits. */
export function Enlarge({ id = "" }: { id: string | undefined }) {
  const source = useSource(id)
  if (source === null) return <Missing />
  return source ? <Upscale key={id} source={source} id={id} /> : null
}

const factors = ["1.5", "2", "3", "4"] as const
type Factor = (typeof factors)[number]

const sizeOf = ({ width, height }: ImageBitmap, factor: Factor) => {
  const side = (v: number) => Math.round((v * Number(factor)) / 8) * 8
  return { width: side(width), height: side(height) }
}

function isPossible({ width, height }: { width: number; height: number }): boolean {
  const most = facts.value?.limits ?? { side: 2048, pixels: 2048 ** 2 }
  return Math.max(width, height) <= most.side && width * height <= most.pixels
}

const Detail = ({ value, onChange }: { value: number; onChange: (value: number) => void }) => (
  <Slider
    label={t.value.enlarge.detail}
    value={value}
    rest={0.3}
    min={0.1}
    max={0.7}
    step={0.05}
    show={(v) => `${number(v * 100)} %`}
    onChange={onChange}
  />
)

function Upscale({ source, id }: { source: Source; id: string }) {
  const factor = useSignal<Factor>("2")
  const detail = useSignal(0.3)
  // only what the studio holds can be enlarged without drawing
  const ways = id !== "start" && studio().enlarge ? (facts.value?.upscalers ?? []) : []
  // a model of small pictures has nothing to add to large ones
  const small = (modelOf(source.recipe)?.width ?? 512) < 512
  const way = useSignal(small ? (ways[0]?.id ?? "") : "")
  const words = t.value.enlarge
  const { width, height } = source.bitmap
  const fits = (f: Factor) => isPossible(sizeOf(source.bitmap, f))
  const size = sizeOf(source.bitmap, factor.value)
  const run = async () => {
    const redraw = async () => {
      const init = await resizedFile(source.bitmap, size)
      return submit({ recipe: { ...basis(source.recipe), ...size, strength: detail.value }, init })
    }
    const enlarge = () => enqueue(() => studio().enlarge!(id, Number(factor.value), way.value))
    if (await (way.value ? enlarge() : redraw())) go("create")
  }
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
          <Choices<Factor>
            label={words.factor}
            value={factor.value}
            options={factors.filter(fits).map((f) => ({ id: f, name: `${number(Number(f), 1)} ×` }))}
            onChange={(f) => (factor.value = f)}
          />
          {ways.length > 0 && (
            <Select
              label={words.way}
              value={way.value}
              options={[{ id: "", name: words.redraw }, ...ways]}
              onChange={(id) => (way.value = id)}
            />
          )}
          {way.value === "" && <Detail value={detail.value} onChange={(v) => (detail.value = v)} />}
          <p class="soft figures">
            {words.result}: {size.width} × {size.height}
          </p>
          <Button kind="main" label={words.go} disabled={!fits(factor.value)} onClick={() => doing(run())} />
        </aside>
      </div>
    </section>
  )
}
