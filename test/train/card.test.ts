import { mkdtempSync, rmSync } from "node:fs"
import { mkdir, writeFile } from "node:fs/promises"
import { tmpdir } from "node:os"
import { join } from "node:path"
import { afterAll, expect, test } from "vitest"
import type { Evaluation } from "../../src/train/evaluation.ts"
import { embeddedCard, stageRecord } from "../../src/train/stages/card.ts"

const root = mkdtempSync(join(tmpdir(), "aquatint-card-"))
afterAll(() => rmSync(root, { recursive: true }))

test("the card's figures are those of the stages' records", async () => {
  await mkdir(join(root, "unet-128"))
  const lines = [
    { step: 25, loss: 0.2 },
    { step: 500, validation: { loss: 0.0902533 } },
    { step: 1000, validation: { loss: 0.0747602 } },
    { step: 1025, loss: 0.1 },
  ]
  await writeFile(join(root, "unet-128", "log.jsonl"), lines.map((l) => `${JSON.stringify(l)}\n`).join(""))
  await writeFile(join(root, "unet-128", "time.json"), '{"seconds":5400}')
  const record = await stageRecord(root, "unet-128", 64)
  expect(record).toEqual({
    name: "unet-128",
    steps: 1025,
    samples: 65600,
    validation: { loss: 0.0747602 },
    seconds: 5400,
  })
  expect(await stageRecord(root, "never", 64)).toBeNull()
  const card = embeddedCard({
    size: 128,
    parameters: { unet: 8_641_828, vae: 940_000, text_encoder: 910_000 },
    defaults: { steps: 12, cfg: 4 },
    stages: [record!],
    evaluation: null,
  })
  expect(card).toContain("| unet-128 | 1,025 | 65,600 | loss 0.0748 |")
  expect(card).toContain("Time: 1.5 hours of 2 cores; at an assumed 15 W a core that is 0.04 kWh.")
  expect(card).toContain("Not evaluated yet")
  expect(card).toContain("8,641,828")
  expect(card).not.toContain("embedded-fast")
})

test("scores stand with their intervals, the student's beside its teacher's", () => {
  const share = (n: number) => ({ share: n, low: n - 0.02, high: n + 0.02, of: 500 })
  const found = (n: number) =>
    ({
      all: { subject: share(n) },
      composition: { en: { subject: share(n + 0.01) }, de: { subject: share(n - 0.01) } },
      refused: [],
      frechet: 3.21,
      frechetFloor: 0.5,
    }) as unknown as Evaluation
  const card = embeddedCard({
    size: 256,
    parameters: { unet: 1, vae: 1, text_encoder: 1 },
    defaults: { steps: 12, cfg: 4 },
    stages: [],
    evaluation: found(0.9),
    student: { defaults: { steps: 6, cfg: 1 }, evaluation: found(0.88) },
  })
  expect(card).toContain(
    "| subject | 90.0 % (88.0 to 92.0) | 91.0 % (89.0 to 93.0) | 89.0 % (87.0 to 91.0) |",
  )
  expect(card).toContain("6 steps of one call instead of 12 of two")
  expect(card).toContain("| subject | 88.0 % (86.0 to 90.0) | 90.0 % (88.0 to 92.0) |")
})
