import { mkdtemp, readFile, rm } from "node:fs/promises"
import { tmpdir } from "node:os"
import { join } from "node:path"
import { afterAll, beforeAll, describe, expect, test } from "vitest"
import { UNet, unetConfig } from "../../src/models/index.ts"
import { parameters } from "../../src/nn/index.ts"
import {
  readAccelerateState,
  torchOrder,
  writeAccelerateState,
} from "../../src/train/finetune/hugging-face.ts"
import { trainOptions } from "../../src/train/finetune/options.ts"
import { streamOf } from "../../src/train/init.ts"
import { withFile } from "../../src/weights/open-file.ts"
import { openTorchFile, verifyChecksums } from "../../src/weights/torch-file.ts"

const golden = join(import.meta.dirname, "../golden")
let root = ""
beforeAll(async () => {
  root = await mkdtemp(join(tmpdir(), "aquatint-accelerate-"))
})
afterAll(() => rm(root, { recursive: true, force: true }))

test.each(["sd1-odd", "sdxl-tiny"])("parameters of %s are counted as PyTorch counts them", async (name) => {
  const { orders } = JSON.parse(await readFile(join(golden, "train/parameter-order.json"), "utf8"))
  const config = JSON.parse(await readFile(join(golden, "models", name, "unet/config.json"), "utf8"))
  const ours = [...parameters(new UNet(unetConfig(config)), "unet").keys()]
  expect(torchOrder(ours).map((n) => n.slice("unet.".length))).toEqual(orders[name])
})

describe("accelerate's state", () => {
  const shapes = new Map([
    ["unet.conv_in.weight", [4, 3, 3, 3]],
    ["unet.conv_in.bias", [4]],
    ["unet.mid_block.a.weight", [2, 5]],
    ["unet.up_blocks.0.b.weight", [7]],
  ])
  const state = new Map(
    [...shapes].flatMap(([name, shape]) =>
      ["", ".m", ".v"].map(
        (s) => [name + s, streamOf(1, name + s).normal(shape.reduce((a, b) => a * b, 1))] as const,
      ),
    ),
  )
  const settings = trainOptions({ kind: "text-to-image", model: "m", data: "d", out: "o", steps: 70000 })

  test("comes back as it went, every number", async () => {
    await writeAccelerateState(join(root, "a"), state, shapes, settings, { some: "config" })
    const found = await readAccelerateState(join(root, "a"), shapes)
    expect(found.step).toBe(70000)
    expect([...found.state.keys()].sort()).toEqual([...state.keys()].sort())
    for (const [name, values] of found.state) expect([...values]).toEqual([...state.get(name)!])
    await withFile(join(root, "a/optimizer.bin"), async (source) => {
      for await (const _ of verifyChecksums(source, await openTorchFile(source)));
    })
  })

  test("of another network is refused", async () => {
    const other = new Map([...shapes, ["unet.conv_in.weight", [4, 4, 3, 3]] as const])
    await expect(readAccelerateState(join(root, "a"), other)).rejects.toMatchObject({ code: "TRAIN_STATE" })
    await expect(readAccelerateState(join(root, "none"), shapes)).rejects.toMatchObject({
      code: "FILE_NOT_FOUND",
    })
    const lion = { ...settings, optimizer: "lion" as const }
    await expect(writeAccelerateState(join(root, "b"), state, shapes, lion, {})).rejects.toMatchObject({
      code: "TRAIN_CONFIG",
    })
  })
})
