import { useSignal } from "@preact/signals"
import { useEffect, useRef } from "preact/hooks"
import type { Attention, Print } from "../studio/types.ts"
import { t } from "../text/index.ts"

/** A word to choose, and the picture lit where it was heard. */
export function AttentionMaps({ attention, print }: { attention: Attention; print: Print }) {
  const chosen = useSignal(0)
  const layer = useRef<HTMLCanvasElement>(null)
  const map = attention.maps[chosen.value]
  useEffect(() => {
    if (layer.current && map) paint(layer.current, attention, map.values)
  }, [map, attention])
  if (!map) return null
  return (
    <div class="attention">
      <fieldset class="words-row" aria-label={t.value.how.attention}>
        {attention.maps.map(({ token }, i) => (
          <button
            key={`${i}-${token}`}
            type="button"
            class="chip"
            aria-pressed={i === chosen.value}
            onClick={() => (chosen.value = i)}
          >
            {token}
          </button>
        ))}
      </fieldset>
      <div class="lit" style={{ aspectRatio: `${print.width} / ${print.height}` }}>
        <img src={print.url} alt="" />
        <canvas ref={layer} role="img" aria-label={t.value.how.attentionMap(map.token)} />
      </div>
    </div>
  )
}

/** Dark where the word was not heard: the picture shines through where it was. */
function paint(canvas: HTMLCanvasElement, { width, height }: Attention, values: Float32Array): void {
  canvas.width = width
  canvas.height = height
  const context = canvas.getContext("2d")
  if (!context) return
  const image = context.createImageData(width, height)
  const most = Math.max(1e-9, ...values)
  for (let i = 0; i < values.length; i++) {
    image.data.set([14, 18, 18, 235 * (1 - values[i]! / most)], 4 * i)
  }
  context.putImageData(image, 0, 0)
}
