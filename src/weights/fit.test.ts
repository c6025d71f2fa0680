import { expect, test } from "vitest"
import { AquatintError } from "../errors.ts"
import { fitWeights } from "./fit.ts"
import { byteLength, type Dtype, Weights } from "./view.ts"

function weights(tensors: Record<string, [Dtype, number[]]>): Weights {
  const out = new Weights()
  for (const [name, [dtype, shape]] of Object.entries(tensors))
    out.set(name, {
      name,
      dtype,
      shape,
      file: "unet.safetensors",
      offset: 0,
      length: byteLength(dtype, shape),
    })
  return out
}

function misfit(expected: Record<string, number[]>, found: Record<string, [Dtype, number[]]>): AquatintError {
  try {
    fitWeights(new Map(Object.entries(expected)), weights(found), {
      model: "sd15.unet",
      file: "unet.safetensors",
    })
  } catch (error) {
    if (error instanceof AquatintError) return error
    throw error
  }
  throw new Error("it fits")
}

test("a fit gives the views in the model's order; leftovers may stay, allowed ones too", () => {
  const found = weights({
    b: ["F16", [2]],
    a: ["F32", [1, 3]],
    "text_model.embeddings.position_ids": ["I64", [1, 77]],
    spare: ["F32", [1]],
  })
  const expected = new Map([
    ["a", [1, 3]],
    ["b", [2]],
  ])
  const views = fitWeights(expected, found, { model: "m", allow: (name) => name === "spare" })
  expect([...views.keys()]).toEqual(["a", "b"])
  expect(views.get("b")).toBe(found.get("b"))
})

test("all misfits in one error", () => {
  const error = misfit(
    {
      "down_blocks.0.attentions.0.proj_in.weight": [320, 320, 1, 1],
      "conv_in.weight": [320, 4, 3, 3],
      here: [1],
    },
    {
      "down_blocks.0.attentions.0.proj_in.weight": ["F16", [320, 320]],
      here: ["F16", [1]],
      extra: ["BF16", []],
    },
  )
  expect(error.message).toMatchInlineSnapshot(`
    "✖ unet.safetensors does not fit sd15.unet: 1 wrong shape, 1 missing, 1 unexpected
      → down_blocks.0.attentions.0.proj_in.weight   file f16[320, 320]   model [320, 320, 1, 1]
      → conv_in.weight   missing, model [320, 4, 3, 3]
      → extra   unexpected, file bf16[]"
  `)
  expect(error).toMatchObject({
    code: "WEIGHTS_DO_NOT_FIT",
    exitCode: 2,
    file: "unet.safetensors",
    hint: expect.stringMatching(/SD 2.x/),
    details: { missing: ["conv_in.weight"], unexpected: ["extra"], misshapen: [{ found: [320, 320] }] },
  })
})

test("long lists are cut, the details are not", () => {
  const expected = Object.fromEntries(Array.from({ length: 50 }, (_, i) => [`p${i}`, [1]]))
  const error = misfit(expected, {})
  expect(error.message.split("\n")).toHaveLength(10)
  expect(error.message).toMatch(/and 42 more/)
  expect(error.details.missing).toHaveLength(50)
})

const k = "down_blocks.0.attentions.0.transformer_blocks.0.attn2.to_k.weight"
test.each([
  ["SD 1.x", { [k]: [320, 1024] }, { [k]: ["F16", [320, 768]] }],
  ["SD 2.x", { [k]: [320, 768] }, { [k]: ["F16", [320, 1024]] }],
  ["SDXL file", { [k]: [320, 768] }, { [k]: ["F16", [320, 2048]] }],
  ["inpainting", { "conv_in.weight": [320, 4, 3, 3] }, { "conv_in.weight": ["F16", [320, 9, 3, 3]] }],
  ["pix2pix", { "conv_in.weight": [320, 4, 3, 3] }, { "conv_in.weight": ["F16", [320, 8, 3, 3]] }],
  [
    "checkpoint",
    { "conv_in.weight": [1] },
    { "model.diffusion_model.input_blocks.0.0.weight": ["F16", [1]] },
  ],
  ["LoRA", { "conv_in.weight": [1] }, { "lora_unet_conv_in.lora_down.weight": ["F16", [1]] }],
  ["incomplete", { a: [1], b: [1] }, { a: ["F16", [1]] }],
  ["config.json", { a: [1] }, { a: ["F16", [2]] }],
] as [string, Record<string, number[]>, Record<string, [Dtype, number[]]>][])(
  "hint: %s",
  (hint, expected, found) => {
    expect(misfit(expected, found).hint).toContain(hint)
  },
)
