import { type Size, sameSize } from "../state/sizes.ts"
import { t } from "../text/index.ts"

interface SizeChoiceProps {
  readonly picture: Size
  /** About the area that the model was made for, and the picture's own as far as it can be drawn. */
  readonly sizes: { readonly native: Size; readonly own: Size }
  readonly keep: boolean
  readonly onKeep: (keep: boolean) => void
}

/** Says at what size a large picture is drawn, and lets it keep its own. */
export function SizeChoice({ picture, sizes: { native, own }, keep, onKeep }: SizeChoiceProps) {
  const words = t.value.start
  if (sameSize(native, own)) return null
  const whole = Math.abs(own.width - picture.width) < 8 && Math.abs(own.height - picture.height) < 8
  const label = whole ? words.keep : words.largest
  return (
    <div class="size-choice">
      <p class="soft figures" role="status">
        {keep ? words.drawnOwn(own.width, own.height) : words.drawnNative(native.width, native.height)}
      </p>
      <label class="check">
        <input type="checkbox" checked={keep} onChange={() => onKeep(!keep)} />
        <span>{label(own.width, own.height)}</span>
      </label>
    </div>
  )
}
