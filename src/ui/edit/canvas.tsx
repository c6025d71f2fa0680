import type { Signal } from "@preact/signals"
import { useEffect, useRef, useState } from "preact/hooks"
import { t } from "../text/index.ts"
import { type Act, drawMask, type Size } from "./mask.ts"

interface MaskCanvasProps {
  readonly size: Size
  readonly url: string
  readonly acts: Signal<readonly Act[]>
  readonly erasing: boolean
  readonly brush: number
  readonly onAct: (act: Act) => void
}

type Point = readonly [number, number]

/** The picture with its mask over it, painted by pointer or by arrow keys and space. */
export function MaskCanvas({ size, url, acts, erasing, brush, onAct }: MaskCanvasProps) {
  const canvas = useRef<HTMLCanvasElement>(null)
  const live = useRef<Point[] | null>(null)
  const [cursor, setCursor] = useState<Point | null>(null)
  const kind = erasing ? ("erase" as const) : ("paint" as const)
  const repaint = () => {
    const context = canvas.current?.getContext("2d")
    if (!context) return
    context.strokeStyle = context.fillStyle = "#d4672e"
    const points = live.current
    drawMask(context, points ? [...acts.value, { kind, size: brush, points }] : acts.value)
  }
  useEffect(repaint, [acts.value, size.width, size.height])
  const at = (event: PointerEvent): Point => {
    const box = canvas.current!.getBoundingClientRect()
    const x = ((event.clientX - box.left) / box.width) * size.width
    return [x, ((event.clientY - box.top) / box.height) * size.height]
  }
  const finish = () => {
    const points = live.current
    live.current = null
    if (points) onAct({ kind, size: brush, points })
  }
  const keys = (event: KeyboardEvent) => {
    const moves: Record<string, Point> = {
      ArrowLeft: [-1, 0],
      ArrowRight: [1, 0],
      ArrowUp: [0, -1],
      ArrowDown: [0, 1],
    }
    const from = cursor ?? ([size.width / 2, size.height / 2] as const)
    const move = moves[event.key]
    if (!move && event.key !== " ") return
    event.preventDefault()
    if (!move) return onAct({ kind, size: brush, points: [from] })
    const far = Math.max(4, brush / 3) * (event.shiftKey ? 3 : 1)
    const within = (v: number, most: number) => Math.min(most, Math.max(0, v))
    const to = [
      within(from[0] + move[0] * far, size.width),
      within(from[1] + move[1] * far, size.height),
    ] as const
    setCursor(to)
  }
  return (
    <div class="mask" style={{ "--w": size.width, "--h": size.height }}>
      <img src={url} alt="" draggable={false} />
      {/* biome-ignore lint/a11y/noInteractiveElementToNoninteractiveRole: it takes every key itself */}
      <canvas
        ref={canvas}
        width={size.width}
        height={size.height}
        role="application"
        aria-label={t.value.edit.canvas}
        tabIndex={0}
        onKeyDown={keys}
        onPointerDown={(event) => {
          if (event.button !== 0) return
          canvas.current!.setPointerCapture(event.pointerId)
          live.current = [at(event)]
          repaint()
        }}
        onPointerMove={(event) => {
          setCursor(at(event))
          if (!live.current) return
          live.current.push(at(event))
          repaint()
        }}
        onPointerUp={finish}
        onPointerCancel={finish}
        onPointerLeave={() => !live.current && setCursor(null)}
      />
      {cursor && (
        <span
          class={`brush ${erasing ? "erasing" : ""}`}
          aria-hidden="true"
          style={{
            left: `${(cursor[0] / size.width) * 100}%`,
            top: `${(cursor[1] / size.height) * 100}%`,
            width: `${(brush / size.width) * 100}%`,
          }}
        />
      )}
    </div>
  )
}
