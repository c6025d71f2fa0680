import { createHash } from "node:crypto"
import { expect, test } from "vitest"
import { ClipTokenizer } from "../../text/bpe.ts"
import { corpus, evaluationPrompts } from "./corpus.ts"
import { trainVocabulary } from "./vocabulary.ts"

const learn = (count: number, size: number) => {
  const c = corpus({ seed: 1, size: 64, split: "train" })
  const captions = Array.from({ length: count }, (_, i) => c.entry(i).caption)
  return trainVocabulary(captions, { size, contextLength: 40 })
}
const tokenizer = (files: ReturnType<typeof learn>) =>
  ClipTokenizer.fromFiles({
    vocab: JSON.parse(files["vocab.json"]),
    merges: files["merges.txt"],
    config: JSON.parse(files["tokenizer_config.json"]),
    specialTokens: JSON.parse(files["special_tokens_map.json"]),
  })

test("a vocabulary of the corpus holds prompts in 40 tokens and any text in bytes", () => {
  const files = learn(12000, 1100)
  const bpe = tokenizer(files)
  expect([bpe.size, bpe.bos, bpe.eos, bpe.pad, bpe.maxLength]).toEqual([1100, 1098, 1099, 1099, 40])
  for (const language of ["en", "de"] as const)
    for (const { prompt } of evaluationPrompts(300, 2, language))
      expect(bpe.encode(prompt).length).toBeLessThanOrEqual(38)
  expect(bpe.encode("a red lighthouse by the sea at night, flat style").length).toBe(11)
  expect(bpe.encode("Ünbekannt 你好").length).toBeGreaterThan(8)
  const sha = createHash("sha256").update(files["merges.txt"]).digest("hex").slice(0, 16)
  expect(sha).toMatchInlineSnapshot(`"068435783fddcc04"`)
})

test("it stops when every word is one token, and refuses less than the bytes", () => {
  const files = trainVocabulary(["blau blau rot"], { size: 2000, contextLength: 16 })
  expect(files["merges.txt"]).toBe("#version: 0.2\na u</w>\nb l\nbl au</w>\no t</w>\nr ot</w>\n")
  expect(tokenizer(files).encode("rot blau").length).toBe(2)
  expect(() => trainVocabulary([], { size: 500, contextLength: 16 })).toThrow(
    expect.objectContaining({ code: "VOCABULARY_SIZE" }),
  )
})
