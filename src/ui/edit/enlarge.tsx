import { useSignal } from "@preact/signals"
import { Missing } from "../gallery/view.tsx"
import { Button, Choices, Select, Slider } from "../parts/controls.tsx"
import { go } from "../state/route.ts"
import { doing } from "../state/say.ts"
import { enqueue, facts, studio, submit } from "../state/store.ts"
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

function Upscale({ source, id }: { source: Source; id: string }) {
  const factor = useSignal<Factor>("2")
  const detail = useSignal(0.3)
  const way = useSignal("")
  // only what the studio holds can be enlarged without drawing
  const ways = id !== "start" && studio().enlarge ? (facts.value?.upscalers ?? []) : []
  const words = t.value.enlarge
  const { width, height } = source.bitmap
  const limits = facts.value?.limits
  const sizeOf = (f: Factor) => {
    const side = (v: number) => Math.round((v * Number(f)) / 8) * 8
    return { width: side(width), height: side(height) }
  }
  const fits = (f: Factor) => {
    const size = sizeOf(f)
    const most = limits ?? { side: 2048, pixels: 2048 ** 2 }
    return Math.max(size.width, size.height) <= most.side && size.width * size.height <= most.pixels
  }
  const size = sizeOf(factor.value)
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
          {way.value === "" && (
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
          <p class="soft figures">
            {words.result}: {size.width} × {size.height}
          </p>
          <Button kind="main" label={words.go} disabled={!fits(factor.value)} onClick={() => doing(run())} />
        </aside>
      </div>
    </section>
  )
}
