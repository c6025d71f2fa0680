import { useSignal } from "@preact/signals"
import { Icon } from "../parts/icon.tsx"
import { link } from "../state/route.ts"
import { recent } from "../state/store.ts"
import type { Print } from "../studio/types.ts"
import { t } from "../text/index.ts"
import { factsOf } from "./facts.tsx"
import { usePrint } from "./use-print.ts"
import { Missing } from "./view.tsx"

/** Two pictures, one over the other, with a divider; and what differs between their settings. */
export function Compare({ ids }: { ids: readonly string[] }) {
  const first = usePrint(ids[0])
  const second = usePrint(ids[1])
  if (first === null) return <Missing />
  if (!first || (ids[1] !== undefined && second === undefined)) return null
  return (
    <section class="view compare" aria-labelledby="compare-title">
      <header class="view-head">
        <a class="button" href={link("print", first.id)}>
          <Icon name="left" />
          <span>{t.value.back}</span>
        </a>
        <h1 id="compare-title">{t.value.compare.title}</h1>
      </header>
      {second ? <Pair first={first} second={second} /> : <Choose first={first} />}
    </section>
  )
}

function Choose({ first }: { first: Print }) {
  const others = recent.value.filter((p) => p.id !== first.id)
  return (
    <>
      <p class="soft">{t.value.compare.choose}</p>
      <ul class="tiles small">
        {others.map((print) => (
          <li key={print.id} class="tile">
            <a href={link("compare", first.id, print.id)}>
              <img src={print.thumb} alt={print.recipe.prompt} width={print.width} height={print.height} />
            </a>
          </li>
        ))}
      </ul>
    </>
  )
}

function Pair({ first, second }: { first: Print; second: Print }) {
  const at = useSignal(50)
  const words = t.value.compare
  return (
    <div class="print-body">
      <div class="print-picture">
        <div
          class="plate pair-plate"
          style={{ "--w": first.width, "--h": first.height, "--cut": `${at.value}%` }}
        >
          <img src={second.url} alt={`${words.second}: ${second.recipe.prompt}`} />
          <img class="over" src={first.url} alt={`${words.first}: ${first.recipe.prompt}`} />
          <span class="divider" aria-hidden="true" />
          <input
            type="range"
            min={0}
            max={100}
            value={at.value}
            aria-label={words.slider}
            onInput={(event) => (at.value = Number(event.currentTarget.value))}
          />
        </div>
      </div>
      <aside class="panel">
        <h2>{words.differ}</h2>
        <Differences first={first} second={second} />
      </aside>
    </div>
  )
}

function Differences({ first, second }: { first: Print; second: Print }) {
  const words = t.value.compare
  const prompt = (print: Print) => ({ key: "prompt", name: t.value.print.prompt, value: print.recipe.prompt })
  const [a, b] = [first, second].map((p) => new Map([prompt(p), ...factsOf(p)].map((f) => [f.key, f]))) as [
    ReturnType<typeof mapped>,
    ReturnType<typeof mapped>,
  ]
  const keys = [...new Set([...a.keys(), ...b.keys()])].filter((k) => a.get(k)?.value !== b.get(k)?.value)
  if (keys.length === 0) return <p class="soft">{words.same}</p>
  return (
    <table class="differences">
      <thead>
        <tr>
          <td />
          <th scope="col">{words.first}</th>
          <th scope="col">{words.second}</th>
        </tr>
      </thead>
      <tbody>
        {keys.map((key) => (
          <tr key={key}>
            <th scope="row">{(a.get(key) ?? b.get(key))?.name}</th>
            <td class="figures">{a.get(key)?.value ?? "–"}</td>
            <td class="figures">{b.get(key)?.value ?? "–"}</td>
          </tr>
        ))}
      </tbody>
    </table>
  )
}

const mapped = (print: Print) => new Map(factsOf(print).map((f) => [f.key, f]))
