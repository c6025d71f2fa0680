import { mkdtempSync, readFileSync, rmSync } from "node:fs"
import { tmpdir } from "node:os"
import { join, resolve } from "node:path"
import { afterAll, expect, test } from "vitest"
import { convert } from "../../src/index.ts"
import { fromSgm, toSgm } from "../../src/weights/adapters/module-names.ts"
import { openSafetensors } from "../../src/weights/open-file.ts"

const golden = resolve(import.meta.dirname, "../golden")
const scratch = mkdtempSync(join(tmpdir(), "aquatint-dialects-"))
afterAll(() => rmSync(scratch, { recursive: true, force: true }))
const at = (name: string) => join(scratch, `${name}.safetensors`)
const adapter = (name: string) => join(golden, "adapters", `${name}.safetensors`)

/** Tensors of a file with types, shapes and bytes. */
async function contents(path: string) {
  const { tensors, metadata } = await openSafetensors(path)
  const bytes = readFileSync(path)
  const list = [...tensors.values()].map(({ name, dtype, shape, offset, length }) => [
    name,
    `${dtype} ${shape.join("x")} ${bytes.subarray(offset, offset + length).toString("base64")}`,
  ])
  return { tensors: Object.fromEntries(list) as Record<string, string>, metadata }
}

test.each(["kohya/style", "sdxl-sgm/xl"])("%s: to diffusers' keys and back, bit for bit", async (name) => {
  const [there, back] = [at("there"), at("back")]
  await convert(adapter(name), there, { keys: "diffusers", force: true })
  await convert(there, back, { keys: "kohya", force: true })
  const [first, middle, last] = [await contents(adapter(name)), await contents(there), await contents(back)]
  expect(
    Object.keys(middle.tensors).every((key) =>
      /^(unet|text_encoder(_2)?)\..+\.(lora_[AB]\.weight|lora_magnitude_vector)$/.test(key),
    ),
  ).toBe(true)
  const values = (of: Record<string, string>) => Object.entries(of).filter(([key]) => !key.endsWith(".alpha"))
  expect(Object.fromEntries(values(last.tensors))).toEqual(Object.fromEntries(values(first.tensors)))
  for (const [key, value] of Object.entries(first.tensors))
    if (key.endsWith(".alpha")) expect(last.tensors[key]!.split(" ").at(-1)).toBe(value.split(" ").at(-1))
  const notes = JSON.parse(middle.metadata.get("lora_adapter_metadata")!) as Record<string, unknown>
  expect(notes["unet.r"]).toEqual(expect.any(Number))
})

test("PEFT's DoRA: to kohya's keys and back, bit for bit", async () => {
  const source = adapter("peft-dora/pytorch_lora_weights")
  await convert(source, at("dora"), { keys: "kohya" })
  await convert(at("dora"), at("dora back"), { keys: "diffusers" })
  const [first, middle, last] = [
    await contents(source),
    await contents(at("dora")),
    await contents(at("dora back")),
  ]
  expect(Object.keys(middle.tensors).some((key) => key.endsWith(".dora_scale"))).toBe(true)
  // the adapter's name may stand in PEFT's keys, and text_model is left out by transformers 5
  const plain = (of: Record<string, string>) => Object.values(of).sort()
  expect(plain(last.tensors)).toEqual(plain(first.tensors))
})

test("block numbers of SGM and diffusers' names", () => {
  const pairs = {
    input_blocks_4_1_transformer_blocks_0_attn1_to_q:
      "down_blocks.1.attentions.0.transformer_blocks.0.attn1.to_q",
    input_blocks_3_0_op: "down_blocks.0.downsamplers.0.conv",
    input_blocks_5_0_in_layers_2: "down_blocks.1.resnets.1.conv1",
    middle_block_1_proj_in: "mid_block.attentions.0.proj_in",
    middle_block_2_emb_layers_1: "mid_block.resnets.1.time_emb_proj",
    output_blocks_2_2_conv: "up_blocks.0.upsamplers.0.conv",
    output_blocks_8_0_skip_connection: "up_blocks.2.resnets.2.conv_shortcut",
    output_blocks_5_1_transformer_blocks_1_ff_net_0_proj:
      "up_blocks.1.attentions.2.transformer_blocks.1.ff.net.0.proj",
    time_embed_2: "time_embedding.linear_2",
    label_emb_0_0: "add_embedding.linear_1",
    out_2: "conv_out",
  }
  for (const [sgm, path] of Object.entries(pairs)) expect([fromSgm(sgm), toSgm(path)]).toEqual([path, sgm])
})

test("what has no keys in the other dialect is refused", async () => {
  const code = (name: string, to: "kohya" | "diffusers") =>
    Promise.resolve(convert(name, at("refused"), { keys: to })).then(
      () => "written",
      (error: { code: string }) => error.code,
    )
  expect(await code(adapter("loha/loha"), "diffusers")).toBe("CONVERT_KEYS")
  expect(await code(adapter("dora-kohya/dora"), "diffusers")).toBe("CONVERT_KEYS")
  expect(await code(join(golden, "models/sd1-tiny"), "kohya")).toBe("CONVERT_KEYS")
  expect(await code(join(golden, "embeddings/webui.safetensors"), "kohya")).toBe("CONVERT_KEYS")
})
