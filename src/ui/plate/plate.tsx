import { useEffect, useRef } from "preact/hooks"
import { calm, isDark } from "../state/prefs.ts"
import { clearGrain, type Inks, paintHills, paintProof } from "./grain.ts"

interface PlateProps {
  readonly width: number
  readonly height: number
  /** The finished picture's address, if there is one. */
  readonly picture: string | null
  /** While it is drawn: the newest estimate, or null before the first. */
  readonly preview: string | null
  /** 0..1 while it is drawn, else null. */
  readonly progress: number | null
  readonly label: string
}

const inks = (): Inks =>
  isDark() ? { paper: [27, 30, 33], ink: [196, 188, 172] } : { paper: [251, 249, 244], ink: [44, 52, 52] }

/** Canvas pixels: enough for fine grain, few enough to be painted in a frame. */
function sized(canvas: HTMLCanvasElement): CanvasRenderingContext2D | null {
  const { width, height } = canvas.getBoundingClientRect()
  const scale = Math.min(devicePixelRatio, 1.5, 760 / Math.max(width, height, 1))
  const [w, h] = [Math.max(8, Math.round(width * scale)), Math.max(8, Math.round(height * scale))]
  if (canvas.width !== w || canvas.height !== h) {
    canvas.width = w
    canvas.height = h
  }
  return canvas.getContext("2d", { willReadFrequently: true })
}

async function load(url: string): Promise<HTMLImageElement> {
  const image = new Image()
  image.src = url
  await image.decode()
  return image
}

async function proof(canvas: HTMLCanvasElement, preview: string | null, progress: number): Promise<void> {
  const image = preview ? await load(preview).catch(() => null) : null
  const context = sized(canvas)
  if (!context) return
  const { width, height } = canvas
  let picture: ImageData | null = null
  if (image) {
    context.imageSmoothingQuality = "high"
    context.drawImage(image, 0, 0, width, height)
    picture = context.getImageData(0, 0, width, height)
  }
  const out = context.createImageData(width, height)
  paintProof(out, picture, progress, inks())
  context.putImageData(out, 0, 0)
}

function idle(canvas: HTMLCanvasElement): void {
  const context = sized(canvas)
  if (!context) return
  const out = context.createImageData(canvas.width, canvas.height)
  paintHills(out, inks())
  context.putImageData(out, 0, 0)
}

/** Lets the picture beneath come out of the grain; returns the way to stop. */
function reveal(canvas: HTMLCanvasElement, done: () => void): () => void {
  const context = canvas.getContext("2d")
  if (!context || calm.peek()) {
    done()
    return () => {}
  }
  const layer = context.getImageData(0, 0, canvas.width, canvas.height)
  const began = performance.now()
  const length = 1400
  let frame = requestAnimationFrame(function paint(now) {
    const share = Math.min(1, (now - began) / length)
    clearGrain(layer, share * share * (3 - 2 * share))
    context.putImageData(layer, 0, 0)
    if (share < 1) frame = requestAnimationFrame(paint)
    else done()
  })
  return () => cancelAnimationFrame(frame)
}

/** The sheet with its pressed edge, and on it hills in grain, a picture on its way, or the finished one. */
export function Plate({ width, height, picture, preview, progress, label }: PlateProps) {
  const canvas = useRef<HTMLCanvasElement>(null)
  const drawing = progress !== null
  const wasDrawing = useRef(false)
  const dark = isDark()
  useEffect(() => {
    const layer = canvas.current
    if (!layer) return
    layer.hidden = false
    if (drawing) {
      wasDrawing.current = true
      void proof(layer, preview, Math.max(0, progress * 1.15 - 0.15))
      return
    }
    if (!picture) return idle(layer)
    if (!wasDrawing.current) {
      layer.hidden = true
      return
    }
    wasDrawing.current = false
    let stop = () => {}
    let gone = false
    // the picture must lie beneath before the grain goes
    void load(picture).then(() => {
      if (!gone) stop = reveal(layer, () => (layer.hidden = true))
    })
    return () => {
      gone = true
      stop()
      layer.hidden = true
    }
  }, [picture, preview, progress, drawing, dark, width, height])
  return (
    <div
      class={`plate ${drawing ? "drawing" : ""} ${picture || drawing ? "" : "idle"}`}
      style={{ "--w": width, "--h": height }}
    >
      {picture && !drawing && <img src={picture} width={width} height={height} alt={label} />}
      <canvas
        ref={canvas}
        {...(picture && !drawing ? { "aria-hidden": true } : { role: "img", "aria-label": label })}
      />
    </div>
  )
}
