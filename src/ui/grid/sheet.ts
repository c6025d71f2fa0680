import { studio } from "../state/store.ts"
import type { Print } from "../studio/types.ts"
import type { Sheet } from "./grid.tsx"

/** Saves the whole grid as one picture, with the values at its edges. */
export async function saveSheet(sheet: Sheet, prints: readonly (Print | undefined)[]): Promise<void> {
  const first = prints.find((p) => p !== undefined)
  if (!first) return
  const scale = Math.min(
    1,
    8000 / (first.width * sheet.across.length),
    8000 / (first.height * sheet.down.length),
  )
  const [w, h] = [Math.round(first.width * scale), Math.round(first.height * scale)]
  const margin = Math.round(w / 5)
  const canvas = document.createElement("canvas")
  canvas.width = margin + sheet.across.length * w
  canvas.height = margin / 2 + sheet.down.length * h
  const context = canvas.getContext("2d")!
  context.fillStyle = "#fbf9f4"
  context.fillRect(0, 0, canvas.width, canvas.height)
  context.fillStyle = "#23211e"
  context.textAlign = "center"
  context.textBaseline = "middle"
  context.font = `${Math.round(w / 16)}px "Instrument Sans", sans-serif`
  for (const [i, value] of sheet.across.entries())
    context.fillText(value, margin + (i + 0.5) * w, margin / 4, w)
  for (const [i, value] of sheet.down.entries())
    context.fillText(value, margin / 2, margin / 2 + (i + 0.5) * h, margin - 8)
  for (const [i, print] of prints.entries()) {
    if (!print) continue
    const bitmap = await createImageBitmap(await studio().blob(print))
    const column = i % sheet.across.length
    context.drawImage(bitmap, margin + column * w, margin / 2 + Math.floor(i / sheet.across.length) * h, w, h)
    bitmap.close()
  }
  const blob = await new Promise<Blob | null>((done) => canvas.toBlob(done, "image/png"))
  if (!blob) return
  const url = URL.createObjectURL(blob)
  const a = document.createElement("a")
  a.href = url
  a.download = "aquatint-grid.png"
  a.click()
  // the download holds the bytes by then
  setTimeout(() => URL.revokeObjectURL(url), 60_000)
}
