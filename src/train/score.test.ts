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
  const signs = [-1, 1]
  const cube = signs.flatMap((x) => signs.flatMap((y) => signs.map((z) => [x, y, z])))
  expect(frechet(cube, cube)).toBeLessThan(1e-9)
  // |m|^2 + (s1 - s2)^2 along one axis, the variances being those of samples
  const moved = cube.map(([x, y, z]) => [3 * x! + 2, y!, z!])
  expect(frechet(cube, moved)).toBeCloseTo(4 + (4 * 8) / 7, 6)
  const mixed = cube.map(([x, y, z]) => [x! + y!, x! - y!, z!])
  expect(frechet(cube, mixed)).toBeCloseTo((2 * (Math.SQRT2 - 1) ** 2 * 8) / 7, 6)
  const far = [
    [0, 0],
    [3, 4],
  ]
  expect(spread(far)).toBe(5)
})
