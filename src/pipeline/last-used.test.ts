import { expect, test } from "vitest"
import { LastUsed } from "./last-used.ts"

test("what was asked for last is kept, the rest made anew", async () => {
  const kept = new LastUsed<number>(2)
  let made = 0
  const take = (key: string) => kept.take(key, async () => ++made)
  expect([await take("a"), await take("b"), await take("a")]).toEqual([1, 2, 1])
  expect(await take("c")).toBe(3)
  expect(await take("a")).toBe(1)
  expect(await take("b")).toBe(4)
})

test("a failure is not kept", async () => {
  const kept = new LastUsed<number>(2)
  await expect(kept.take("a", () => Promise.reject(new Error("no")))).rejects.toThrow("no")
  expect(await kept.take("a", async () => 7)).toBe(7)
})
