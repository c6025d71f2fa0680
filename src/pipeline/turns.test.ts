import { expect, test } from "vitest"
import { Turns } from "./turns.ts"

const soon = () => new Promise((done) => setTimeout(done, 5))

test("the same weights are held together, others wait in order", async () => {
  const turns = new Turns()
  const said: string[] = []
  const take = async (name: string, key: string, alone = false) => {
    const leave = await turns.take({ key, alone }, async () => void said.push(`put ${key}`))
    said.push(name)
    return leave
  }
  const one = await take("one", "a")
  const two = await take("two", "a")
  const waiting = [take("three", "b"), take("four", "a"), take("five", "a", true)]
  await soon()
  expect(said).toEqual(["put a", "one", "two"])
  one()
  one()
  await soon()
  expect(said.length).toBe(3)
  two()
  const three = await waiting[0]!
  await soon()
  expect(said.slice(3)).toEqual(["put b", "three"])
  three()
  const four = await waiting[1]!
  four()
  const five = await waiting[2]!
  const after = take("six", "a")
  await soon()
  expect(said.slice(5)).toEqual(["put a", "four", "put a", "five"])
  five()
  await after
  expect(said.slice(9)).toEqual(["put a", "six"])
})

test("who gives up waiting, or fails to put the weights in place, holds up nobody", async () => {
  const turns = new Turns()
  const nothing = async () => {}
  const first = await turns.take({ key: "a", alone: false }, nothing)
  const given = new AbortController()
  const second = turns.take({ key: "b", alone: false }, nothing, given.signal)
  const third = turns.take({ key: "a", alone: false }, nothing)
  given.abort(new Error("no more"))
  await expect(second).rejects.toThrow("no more")
  const leave = await third
  first()
  leave()
  await expect(
    turns.take({ key: "c", alone: false }, () => Promise.reject(new Error("torn"))),
  ).rejects.toThrow("torn")
  let put = false
  await turns.take({ key: "c", alone: false }, async () => {
    put = true
  })
  expect(put).toBe(true)
})
