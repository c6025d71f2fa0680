import { facts } from "../state/store.ts"
import type { Print } from "../studio/types.ts"
import { date, number, t } from "../text/index.ts"

export interface Fact {
  readonly key: string
  readonly name: string
  readonly value: string
}

const nameOf = (list: readonly { id: string; name: string }[] | undefined, id: string | undefined) =>
  list?.find((c) => c.id === id)?.name ?? id

/** What a picture was made with, in words; absent settings were the model's own. */
export function factsOf(print: Print): Fact[] {
  const words = t.value.print
  const { recipe } = print
  const known = facts.value
  const rows: [string, string, string | undefined][] = [
    ["negative", words.negative, recipe.negative],
    ["model", words.model, nameOf(known?.models, recipe.model)],
    ["size", words.size, `${print.width} × ${print.height}`],
    ["seed", words.seed, String(recipe.seed)],
    ["steps", words.steps, recipe.steps === undefined ? undefined : String(recipe.steps)],
    ["cfg", words.guidance, recipe.cfg === undefined ? undefined : number(recipe.cfg, 2)],
    ["sampler", words.sampler, nameOf(known?.samplers, recipe.sampler) ?? words.own],
    ["schedule", words.schedule, nameOf(known?.schedules, recipe.schedule)],
    [
      "strength",
      words.strength,
      recipe.strength === undefined ? undefined : `${number(recipe.strength * 100)} %`,
    ],
    ["clipSkip", words.clipSkip, recipe.clipSkip === undefined ? undefined : String(recipe.clipSkip)],
    [
      "loras",
      words.styles,
      recipe.loras?.map((l) => `${l.id} ${number(l.weight, 2)}`).join(", ") || undefined,
    ],
  ]
  return rows.flatMap(([key, name, value]) => (value ? [{ key, name, value }] : []))
}

/** The details beside a picture. */
export function Facts({ print }: { print: Print }) {
  const words = t.value.print
  return (
    <dl class="facts">
      {factsOf(print).map(({ key, name, value }) => (
        <div key={key}>
          <dt>{name}</dt>
          <dd class="figures">{value}</dd>
        </div>
      ))}
      <div>
        <dt>{words.made}</dt>
        <dd>{date(print.created)}</dd>
      </div>
    </dl>
  )
}
