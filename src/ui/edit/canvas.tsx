import type { Signal } from "@preact/signals"
import { useEffect, useRef, useState } from "preact/hooks"
import type { Size } from "../state/sizes.ts"
import { t } from "../text/index.ts"
import { type Act, drawMask } from "./mask.ts"

interface MaskCanvasProps {
  readonly size: Size
  readonly url: string
  readonly acts: Signal<readonly Act[]>
  readonly erasing: boolean
  readonly brush: number
  readonly onAct: (act: Act) => void
}

type Point = readonly [number, number]

const arrows: Record<string, Point> = {
  ArrowLeft: [-1, 0],
  ArrowRight: [1, 0],
  ArrowUp: [0, -1],
  ArrowDown: [0, 1],
}

/** The longest side of the canvas; the mask itself is made at the size that is drawn. */
const finest = 2048

/** The picture with its mask over it, painted by pointer or by arrow keys and space. */
export function MaskCanvas(props: MaskCanvasProps) {
  const { size, url, erasing, brush, onAct } = props
  const [cursor, setCursor] = useState<Point | null>(null)
  const { canvas, stroke, ...pointer } = useStrokes(props, setCursor)
  const middle: Point = [size.width / 2, size.height / 2]
  const keys = (event: KeyboardEvent) => {
    const way = arrows[event.key]
    if (!way && event.key !== " ") return
    event.preventDefault()
    if (!way) return onAct(stroke([cursor ?? middle]))
    const far = Math.max(4, brush / 3) * (event.shiftKey ? 3 : 1)
    setCursor(moved(cursor ?? middle, way, far, size))
  }
  const scale = Math.min(1, finest / Math.max(size.width, size.height))
  return (
    <div class="mask" style={{ "--w": size.width, "--h": size.height }}>
      <img src={url} alt="" draggable={false} />
      {/* biome-ignore lint/a11y/noInteractiveElementToNoninteractiveRole: it takes every key itself */}
      <canvas
        ref={canvas}
        width={Math.round(size.width * scale)}
        height={Math.round(size.height * scale)}
        role="application"
        aria-label={t.value.edit.canvas}
        tabIndex={0}
        onKeyDown={keys}
        onFocus={({ currentTarget }) =>
          currentTarget.matches(":focus-visible") && setCursor(cursor ?? middle)
        }
        onBlur={() => setCursor(null)}
        {...pointer}
      />
      {cursor && <Brush at={cursor} brush={brush} size={size} erasing={erasing} />}
    </div>
  )
}

/** Where a press of an arrow key takes the brush, within the picture. */
function moved([x, y]: Point, [dx, dy]: Point, far: number, { width, height }: Size): Point {
  const within = (v: number, most: number) => Math.min(most, Math.max(0, v))
  return [within(x + dx * far, width), within(y + dy * far, height)]
}

/** Shows what is painted, with the stroke that the pointer is at; what the canvas does as the pointer moves. */
function useStrokes(
  { size, acts, erasing, brush, onAct }: MaskCanvasProps,
  setCursor: (at: Point | null) => void,
) {
  const canvas = useRef<HTMLCanvasElement>(null)
  const live = useRef<Point[] | null>(null)
  const stroke = (points: readonly Point[]): Act => ({
    kind: erasing ? "erase" : "paint",
    size: brush,
    points,
  })
  const repaint = () => {
    const context = canvas.current?.getContext("2d")
    if (!context) return
    context.strokeStyle = context.fillStyle = "#d4672e"
    drawMask(context, size, live.current ? [...acts.value, stroke(live.current)] : acts.value)
  }
  useEffect(repaint, [acts.value, size.width, size.height])
  const at = (event: PointerEvent): Point => {
    const { left, top, width, height } = canvas.current!.getBoundingClientRect()
    return [((event.clientX - left) / width) * size.width, ((event.clientY - top) / height) * size.height]
  }
  const onPointerDown = (event: PointerEvent) => {
    if (event.button !== 0) return
    canvas.current!.setPointerCapture(event.pointerId)
    live.current = [at(event)]
    repaint()
  }
  const onPointerMove = (event: PointerEvent) => {
    setCursor(at(event))
    if (!live.current) return
    live.current.push(at(event))
    repaint()
  }
  const finish = () => {
    const points = live.current
    live.current = null
    if (points) onAct(stroke(points))
  }
  const onPointerLeave = () => !live.current && setCursor(null)
  return {
    canvas,
    stroke,
    onPointerDown,
    onPointerMove,
    onPointerUp: finish,
    onPointerCancel: finish,
    onPointerLeave,
  }
}

interface BrushProps {
  readonly at: Point
  readonly brush: number
  readonly size: Size
  readonly erasing: boolean
}

const Brush = ({ at, brush, size, erasing }: BrushProps) => (
  <span
    class={`brush ${erasing ? "erasing" : ""}`}
    aria-hidden="true"
    style={{
      left: `${(at[0] / size.width) * 100}%`,
      top: `${(at[1] / size.height) * 100}%`,
      width: `${(brush / size.width) * 100}%`,
    }}
  />
)
