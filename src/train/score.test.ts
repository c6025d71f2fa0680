import { expect, test } from "vitest"
import { pictureQuestions, thingAt } from "./classifier.ts"
import { corpus } from "./corpus/index.ts"
import { frechet, scoreScene, shareOf, spread, tally } from "./score.ts"

const scenes = corpus({ seed: 5, size: 16, split: "evaluation" })
const truth = (index: number) => pictureQuestions.map((q) => q.answer(scenes.entry(index).spec))

test("right answers make every fact right", () => {
  for (let i = 0; i < 300; i++) {
    const score = scoreScene(scenes.entry(i).spec, truth(i))
    expect(Object.values(score).every(Boolean), JSON.stringify(scenes.entry(i).spec)).toBe(true)
    expect("second" in score).toBe(scenes.entry(i).spec.second !== null)
  }
})

test("a wrong answer makes its own fact wrong", () => {
  for (let i = 0; i < 100; i++) {
    const { spec } = scenes.entry(i)
    const wrong = (name: string) =>
      truth(i).map((a, k) => (pictureQuestions[k]!.name === name ? (a + 1) % pictureQuestions[k]!.size : a))
    expect(scoreScene(spec, wrong("style"))).toMatchObject({ style: false, place: true, subject: true })
    const at = (["left", "centre", "right"] as const).find(
      (p) => thingAt(spec, p)?.kind === spec.subject.kind,
    )!
    expect(scoreScene(spec, wrong(`colour ${at}`))).toMatchObject({
      colour: false,
      subject: true,
      count: true,
    })
    const kind = scoreScene(spec, wrong(`kind ${at}`))
    expect([kind.count, kind.position]).toEqual([false, false])
  }
})

test("Wilson's interval (values of statsmodels' proportion_confint)", () => {
  expect(shareOf(45, 50)).toMatchObject({
    share: 0.9,
    low: expect.closeTo(0.78639, 4),
    high: expect.closeTo(0.95654, 4),
  })
  expect(shareOf(0, 10)).toMatchObject({ low: expect.closeTo(0, 6), high: expect.closeTo(0.27753, 4) })
  expect(tally([{ style: true }, { style: false, second: true }])).toMatchObject({
    style: { right: 1, of: 2 },
    second: { right: 1, of: 1 },
  })
})

test("the Fréchet distance of normal sets is that of their moments", () => {
  let state = 1
  const unit = () => {
    state = (Math.imul(state, 1664525) + 1013904223) >>> 0
    return (state + 0.5) / 2 ** 32
  }
  const normal = () => Math.sqrt(-2 * Math.log(unit())) * Math.cos(2 * Math.PI * unit())
  const set = (n: number, shift: number, scale: number) =>
    Array.from({ length: n }, () => [normal() * scale + shift, normal(), normal()])
  const one = set(6000, 0, 1)
  expect(frechet(one, one)).toBeLessThan(1e-9)
  // |m|^2 + (s - 1)^2 along one axis
  expect(frechet(one, set(6000, 2, 3))).toBeCloseTo(8, 0)
  expect(
    spread([
      [0, 0],
      [3, 4],
    ]),
  ).toBe(5)
})
