import { expect, test } from "vitest"
import { weigh } from "./weigh.ts"

const press = (text: string, words: string, ...ups: boolean[]) => {
  const at = text.indexOf(words)
  let now = { text, start: at, end: at + words.length }
  for (const up of ups) now = weigh(now.text, now.start, now.end, up)!
  return now
}

test("selected words get a weight, which goes up and down, and leaves at 1", () => {
  expect(press("a red fox", "red fox", true).text).toBe("a (red fox:1.1)")
  expect(press("a red fox", "red fox", true, true).text).toBe("a (red fox:1.2)")
  expect(press("a red fox", "red", false).text).toBe("a (red:0.9) fox")
  const back = press("a red fox", "red", true, false)
  expect(back.text).toBe("a red fox")
  expect(back.text.slice(back.start, back.end)).toBe("red")
})

test("a caret weighs the word it stands in; brackets may be part of the selection", () => {
  expect(weigh("a red fox", 3, 3, true)!.text).toBe("a (red:1.1) fox")
  expect(weigh("a (red:1.1) fox", 2, 11, true)!.text).toBe("a (red:1.2) fox")
  expect(weigh("grün, weiß", 9, 9, true)!.text).toBe("grün, (weiß:1.1)")
  expect(weigh("  ", 1, 1, true)).toBeNull()
  expect(weigh("a red fox", 1, 6, true)!.text).toBe("a (red:1.1) fox")
})

test("weights stay between 0.1 and 2", () => {
  expect(press("fox", "fox", ...Array<boolean>(15).fill(true)).text).toBe("(fox:2)")
  expect(press("fox", "fox", ...Array<boolean>(15).fill(false)).text).toBe("(fox:0.1)")
})
