import { useSignal } from "@preact/signals"
import { useEffect, useRef } from "preact/hooks"
import type { Print, Study } from "../studio/types.ts"
import { t } from "../text/index.ts"

/** A word to choose, and the picture lit where it was heard. */
export function AttentionMaps({ study, print }: { study: Study; print: Print }) {
  const chosen = useSignal(0)
  const layer = useRef<HTMLCanvasElement>(null)
  const map = study.words[chosen.value]
  useEffect(() => {
    if (layer.current && map) paint(layer.current, study, map.values)
  }, [map, study])
  if (!map) return null
  return (
    <div class="attention">
      <fieldset class="words-row" aria-label={t.value.how.attention}>
        {study.words.map(({ text }, i) => (
          <button
            key={`${i}-${text}`}
            type="button"
            class="chip"
            aria-pressed={i === chosen.value}
            onClick={() => (chosen.value = i)}
          >
            {text}
          </button>
        ))}
      </fieldset>
      <div class="lit" style={{ aspectRatio: `${print.width} / ${print.height}` }}>
        <img src={print.url} alt="" />
        <canvas ref={layer} role="img" aria-label={t.value.how.attentionMap(map.text)} />
      </div>
    </div>
  )
}

/** Dark where the word was not heard: the picture shines through where it was. */
function paint(canvas: HTMLCanvasElement, { width, height }: Study, values: ArrayLike<number>): void {
  canvas.width = width
  canvas.height = height
  const context = canvas.getContext("2d")
  if (!context) return
  const image = context.createImageData(width, height)
  let [least, most] = [Number.POSITIVE_INFINITY, 1e-9]
  for (let i = 0; i < values.length; i++) {
    least = Math.min(least, values[i]!)
    most = Math.max(most, values[i]!)
  }
  const span = Math.max(1e-9, most - least)
  for (let i = 0; i < values.length; i++)
    image.data.set([14, 18, 18, 220 * (1 - (values[i]! - least) / span)], 4 * i)
  context.putImageData(image, 0, 0)
}
