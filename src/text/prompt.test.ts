import { expect, test } from "vitest"
import { attention, entryAt, parseSchedule, schedule, stripComments } from "./a1111.ts"
import { bundledVocabulary } from "./bundled.ts"
import { emptyChunk } from "./chunks.ts"
import { blend, fromEmpty, multiply, restoreMean } from "./emphasis.ts"
import { encodePrompt, equalize, type PromptOptions, parsePrompt, tokenCount } from "./prompt.ts"
import { outline, printNodes } from "./tree.ts"
import { expandVariants } from "./variants.ts"

const tokenizer = await bundledVocabulary()
const words = (n: number) => Array.from({ length: n }, () => "cat").join(" ")
const encode = (text: string, options: Partial<PromptOptions> = {}) =>
  encodePrompt(text, { tokenizer, ...options })
const chunksOf = (text: string, options: Partial<PromptOptions> = {}) =>
  encode(text, options).parts[0]!.schedule[0]!.chunks
const code = (make: () => unknown) => {
  try {
    make()
  } catch (error) {
    return (error as { code?: string }).code
  }
}

test("A1111's documented prompts", () => {
  expect(attention("a (((house:1.3)) [on] a (hill:0.5), sun, (((sky))).")).toEqual([
    { text: "a ", weight: 1 },
    { text: "house", weight: 1.5730000000000004 },
    { text: " ", weight: 1.1 },
    { text: "on", weight: 1 },
    { text: " a ", weight: 1.1 },
    { text: "hill", weight: 0.55 },
    { text: ", sun, ", weight: 1.1 },
    { text: "sky", weight: 1.4641000000000006 },
    { text: ".", weight: 1.1 },
  ])
  const entries = schedule("a[b:[c:d:2]:1]e", 10)
  expect(entries).toEqual([
    { end: 1, text: "abe" },
    { end: 2, text: "ace" },
    { end: 10, text: "ade" },
  ]) // prettier-ignore
  expect([0, 1, 2, 3, 9, 10].map((call) => entryAt(entries, call).end)).toEqual([1, 1, 2, 10, 10, 10])
})

test("an A1111 tree prints as it was written", () => {
  for (const text of [
    "a (b:1.30) [c:d: .5 ] [x|(y)|] \\(z\\)",
    "((a] b:",
    "[a:(b:c:d):3]",
    "(a [b:0.25] :1.2)",
  ])
    expect(printNodes(parseSchedule(text)!)).toBe(text)
})

test("outline of a prompt", () => {
  const text = "a (red [cat:dog:0.5]:1.2) AND sky:0.5 <lora:ink:0.8>"
  expect(outline(parsePrompt(text))).toBe(
    [
      "part x 1",
      '  "a "',
      "  x 1.2",
      '    "red "',
      "    until 0.5",
      '      "cat"',
      "    then",
      '      "dog"',
      "part x 0.5",
      '  " sky"',
      "lora ink 0.8",
    ].join("\n"),
  ) // prettier-ignore
  expect(printNodes(parsePrompt("a (b (c):0.5)", "comfy").parts[0]!.nodes)).toBe("a (b (c):0.5)")
  expect(printNodes(parsePrompt('(cat sat)++ and "a dog"0.5', "compel").parts[0]!.nodes)).toBe(
    "(catsat:1.21)and(adog:0.5)",
  )
})

test("networks, comments and AND belong to the positive A1111 prompt", () => {
  const { parts, loras, networks } = encode("a cat <lora:ink:0.8:0.4><hypernet:x> # no\nAND b :-0.5")
  expect(loras).toEqual([{ name: "ink", text: 0.8, unet: 0.4 }])
  expect(networks).toHaveLength(2)
  expect(parts.map((part) => part.weight)).toEqual([1, -0.5])
  expect(encode("a AND b <lora:x:1>", { negative: true })).toMatchObject({
    parts: [{ weight: 1 }],
    loras: [],
  })
  expect(encode("<lora:x:te=0.5:unet=2> <lyco:y>").loras).toEqual([
    { name: "x", text: 0.5, unet: 2 },
    { name: "y", text: 1, unet: 1 },
  ])
  expect(stripComments("#all\na #b\nc")).toBe("\na \nc")
})

test("plain takes every character literally and goes on in further chunks", () => {
  const text = "(a:1.3) [b|c] AND <lora:x:1> BREAK"
  const [chunk] = chunksOf(text, { syntax: "plain" })
  expect([...chunk!.ids].slice(1, chunk!.used + 1)).toEqual(tokenizer.encode(text))
  expect(chunk!.clean).toBe(true)
  expect(chunksOf(words(75), { syntax: "plain" })).toHaveLength(1)
  expect(chunksOf(words(151), { syntax: "plain" }).map((c) => c.used)).toEqual([75, 75, 1])
  expect(chunksOf("", { syntax: "plain" })[0]!.ids).toEqual(emptyChunk(tokenizer).ids)
})

test("all entries of a schedule, and both prompts, are of one length", () => {
  const long = encode(`[a|${words(80)}]`, { steps: 4 })
  expect(long.parts[0]!.schedule.map((entry) => entry.chunks.length)).toEqual([2, 2, 2, 2])
  const [a, b] = equalize([long, encode("")], tokenizer)
  expect(a!.parts[0]!.schedule[0]!.chunks).toHaveLength(2)
  expect(b!.parts[0]!.schedule[0]!.chunks.map((chunk) => [...chunk.ids].slice(0, 3))).toEqual([
    [49406, 49407, 49407],
    [49406, 49407, 49407],
  ])
})

test("tokens are counted as A1111's counter does", () => {
  const count = (text: string) => tokenCount(text, { tokenizer })
  expect(count("")).toEqual({ tokens: 0, room: 75, chunks: 1 })
  expect(count("a (cat:1.2)")).toEqual({ tokens: 2, room: 75, chunks: 1 })
  expect(count("a BREAK cat dog")).toEqual({ tokens: 77, room: 150, chunks: 2 })
})

test("ComfyUI's weights replace, its embeddings are named", () => {
  const known = tokenizer.withWords(new Map([["ink", 2]]))
  const [chunk] = chunksOf("a (b (cat:2):0.5) \\(c\\) embedding:ink, d", {
    tokenizer: known,
    syntax: "comfy",
  })
  expect([...chunk!.ids].slice(1, chunk!.used + 1)).toEqual(
    [320, 321, 2368, 7, 66, 8, 49408, 49409, 267, 323].map(
      (id, i) => [...known.encode("a b cat (c)"), 49408, 49409, 267, known.encode("d")[0]!][i] ?? id,
    ),
  ) // prettier-ignore
  expect([...chunk!.weights].slice(1, 4)).toEqual([1, 0.5, 2])
  expect(code(() => encode("embedding:gone", { syntax: "comfy" }))).toBe("PROMPT-EMBEDDING")
})

test("Compel's blend and and", () => {
  const mixed = encode('("a cat", "dog++").blend(1, 3)', { syntax: "compel" })
  expect([mixed.join, mixed.parts.map((part) => part.weight)]).toEqual(["blend", [0.25, 0.75]])
  const joined = encode('("a cat", "dog++ sky").and()', { syntax: "compel" })
  expect(joined.parts).toHaveLength(1)
  expect(joined.parts[0]!.schedule[0]!.chunks.map((chunk) => chunk.weights[1])).toEqual([
    1,
    Math.fround(1.1 ** 2),
  ])
  expect(code(() => encode("cat.swap(dog)", { syntax: "compel" }))).toBe("PROMPT-COMPEL")
  expect(parsePrompt("a withLora(ink, 0.5)", "compel").networks).toEqual([
    { kind: "lora", args: ["ink", "0.5"], named: {} },
  ])
})

test("variants are chosen by the generator, the same every time", () => {
  const draw = (...numbers: number[]) => ({ random: () => numbers.shift() ?? 0 })
  expect(expandVariants("a {red|green|blue} {cat|{big|small} dog}", draw(0.5, 0.9, 0.6))).toBe(
    "a green small dog",
  )
  expect(expandVariants("{3::a|b} {3::a|b}", draw(0.74, 0.76))).toBe("a b")
  expect(expandVariants("{2$$a|b|c}", draw(0.9, 0))).toBe("c, a")
  expect(expandVariants("\\{a\\|b\\} {open|", draw())).toBe("{a|b} {open|")
  const wildcard = (name: string) =>
    ({ colour: ["red", "# no", "{dark|light} __hue__"], hue: ["blue"] })[name]
  expect(expandVariants("a __colour__ cat", { ...draw(0.9, 0.9), wildcard })).toBe("a light blue cat")
  expect(code(() => expandVariants("__gone__", { ...draw(), wildcard }))).toBe("PROMPT-WILDCARD")
  expect(code(() => expandVariants("__a__", { ...draw(), wildcard: () => ["__a__"] }))).toBe(
    "PROMPT-WILDCARD",
  )
})

test("emphasis on embeddings", () => {
  const z = Float32Array.of(1, 2, 3, 4)
  const weights = Float32Array.of(1, 2)
  expect([...multiply(z, weights)]).toEqual([1, 2, 6, 8])
  expect([...restoreMean([z], [weights])[0]!]).toEqual(
    [1, 2, 6, 8].map((x) => Math.fround(x * Math.fround(10 / 17))),
  )
  expect([...fromEmpty(z, Float32Array.of(9, 9, 1, 1), weights)]).toEqual([1, 2, 5, 7])
  expect([...blend([z, Float32Array.of(5, 6, 7, 8)], [1, 3])]).toEqual([4, 5, 6, 7])
  expect(code(() => multiply(z, Float32Array.of(1, 1, 1)))).toBe("EMBEDDING-SHAPE")
})

test("what cannot be read is an error with a code", () => {
  expect(code(() => encode("(a:1.2.3)"))).toBe("PROMPT-WEIGHT")
  expect(code(() => encode("<lora:x:much>"))).toBe("PROMPT-LORA")
  expect(code(() => encode("(".repeat(600)))).toBe("PROMPT-NESTING")
  expect(code(() => encode("a", { syntax: "invoke" as "plain" }))).toBe("PROMPT-SYNTAX")
  const big = tokenizer.withWords(new Map([["huge", 90]]))
  expect(code(() => encode("huge", { tokenizer: big }))).toBe("PROMPT-EMBEDDING")
})
