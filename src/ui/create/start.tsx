import { Button, Slider } from "../parts/controls.tsx"
import { SizeChoice } from "../parts/size-choice.tsx"
import { change, keepSize, recipe, setStart, sizesFor, start } from "../state/draft.ts"
import { go } from "../state/route.ts"
import { number, t } from "../text/index.ts"

/** The picture the next one starts from, and how much of it is drawn anew. */
export function StartCard() {
  const from = start.value
  if (!from) return null
  const words = t.value.start
  const { width, height } = recipe.value
  return (
    <div class="start">
      <img src={from.url} alt={words.title} width={64} height={64} />
      <div class="start-body">
        <Slider
          label={words.strength}
          value={recipe.value.strength ?? 0.75}
          rest={0.75}
          min={0.05}
          max={1}
          step={0.05}
          show={(v) => `${number(v * 100)} %`}
          onChange={(strength) => change({ strength })}
        />
      </div>
      <Button kind="quiet" icon="brush" label={words.edit} onClick={() => go("edit", "start")} />
      <Button kind="quiet" icon="close" label={words.remove} onClick={() => setStart(null)} />
      {width === undefined && height === undefined && (
        <SizeChoice
          picture={from}
          sizes={sizesFor(from, recipe.value)}
          keep={keepSize.value}
          onKeep={(keep) => (keepSize.value = keep)}
        />
      )}
    </div>
  )
}
