import { type Signal, useSignal } from "@preact/signals"
import { useEffect, useRef } from "preact/hooks"
import { Missing } from "../gallery/view.tsx"
import { Button, Slider } from "../parts/controls.tsx"
import { go } from "../state/route.ts"
import { doing, toast } from "../state/say.ts"
import { grain } from "../state/sizes.ts"
import { facts, modelOf, submit } from "../state/store.ts"
import { t } from "../text/index.ts"
import { basis, EditHead, EditPrompt, type Source, useSource } from "./editor.tsx"
import { extended, extendFiles, noSides, type Sides, stretchEdges } from "./mask.ts"

/** A picture goes on beyond its edges. */
export function Extend({ id = "" }: { id: string | undefined }) {
  const source = useSource(id)
  if (source === null) return <Missing />
  return source ? <Outpaint key={id} source={source} id={id} /> : null
}

const sideNames = ["left", "right", "top", "bottom"] as const

function Outpaint({ source, id }: { source: Source; id: string }) {
  const step = grain(modelOf(source.recipe)?.width ?? 512)
  const sides = useSignal<Sides>({ ...noSides, right: 2 * step })
  const prompt = useSignal(source.recipe.prompt)
  const words = t.value.edit
  const size = extended(source.bitmap, sides.value)
  const run = async () => {
    if (sideNames.every((name) => sides.value[name] === 0)) return toast(words.nothingExtend)
    const { init, mask, size } = await extendFiles(source.bitmap, sides.value, step)
    // what lies outside is drawn from pure noise: there is nothing to keep of it
    const recipe = { ...basis(source.recipe), ...size, prompt: prompt.value, strength: 1 }
    const job = await submit({ recipe, init, mask, feather: step / 4 })
    if (job) go("create")
  }
  return (
    <section class="view edit" aria-labelledby="edit-title">
      <EditHead title={words.extend} id={id} />
      <div class="print-body">
        <div class="print-picture">
          <Preview source={source} sides={sides.value} step={step} />
          <p class="soft figures">
            {size.width} × {size.height}
          </p>
        </div>
        <aside class="panel">
          <EditPrompt value={prompt.value} onChange={(v) => (prompt.value = v)} />
          <SideSliders sides={sides} bitmap={source.bitmap} step={step} />
          <Button kind="main" label={words.goExtend} onClick={() => doing(run())} />
        </aside>
      </div>
    </section>
  )
}

function SideSliders(props: { sides: Signal<Sides>; bitmap: ImageBitmap; step: number }) {
  const { sides, bitmap, step } = props
  const words = t.value.edit
  const most = facts.value?.limits.side ?? 2048
  return (
    <fieldset class="stack">
      <legend class="soft">{words.sides}</legend>
      {sideNames.map((name) => (
        <Slider
          key={name}
          label={words[name]}
          value={sides.value[name]}
          rest={0}
          min={0}
          max={Math.max(0, Math.min(8 * step, most - Math.max(bitmap.width, bitmap.height)))}
          step={step}
          show={(v) => words.by(v)}
          onChange={(v) => (sides.value = { ...sides.value, [name]: v })}
        />
      ))}
    </fieldset>
  )
}

function Preview({ source, sides, step }: { source: Source; sides: Sides; step: number }) {
  const canvas = useRef<HTMLCanvasElement>(null)
  const { width, height } = extended(source.bitmap, sides)
  useEffect(() => {
    const context = canvas.current?.getContext("2d")
    if (!context) return
    context.clearRect(0, 0, width, height)
    context.globalAlpha = 0.4
    stretchEdges(context, source.bitmap, sides, step)
    context.globalAlpha = 1
    context.drawImage(source.bitmap, sides.left, sides.top)
  })
  return (
    <div class="mask" style={{ "--w": width, "--h": height }}>
      <canvas ref={canvas} width={width} height={height} role="img" aria-label={source.recipe.prompt} />
    </div>
  )
}
