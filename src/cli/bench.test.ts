import { execFile } from "node:child_process"
import { mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs"
import { tmpdir } from "node:os"
import { join } from "node:path"
import { promisify } from "node:util"
import { afterAll, expect, test } from "vitest"
import { memoryOf } from "./bench-process.ts"
import { type BenchReport, markdown, rowsOf, writeInto } from "./bench-report.ts"

const scratch = mkdtempSync(join(tmpdir(), "aquatint-bench-test-"))
afterAll(() => rmSync(scratch, { recursive: true }))
const program = join(import.meta.dirname, "..", "..", "dist", "bin", "aquatint.js")

const report: BenchReport = {
  when: "2026-01-02T03:04:05Z",
  machine: {
    platform: "linux",
    arch: "x64",
    cpu: "Some CPU",
    cores: 2,
    memoryGb: 16,
    freeGb: 8,
    node: "v20.0.0",
  },
  versions: { aquatint: "1.0.0", diffusers: "0.1" },
  model: "SD 1.5's layout, random fp16 weights",
  command: "aquatint bench",
  repeats: 3,
  load: { before: 0.1, cores: 2 },
  rows: rowsOf(
    new Map([
      [
        "guided step, 512x512",
        {
          unit: "s",
          by: new Map([
            ["aquatint", [2, 4, 3]],
            ["diffusers-fp32", [9, 6, 12, 6]],
          ]),
        },
      ],
      ["memory", { unit: "bytes", by: new Map([["aquatint", [2 ** 31]]]) }],
    ]),
  ),
  missing: { other: "it is not installed" },
}

test("rows hold minimum, median and the ratio of medians", () => {
  expect(report.rows[0]!.results).toEqual({
    aquatint: { min: 2, median: 3, ratio: 1 },
    "diffusers-fp32": { min: 6, median: 7.5, ratio: 2.5 },
  })
})

test("the report as Markdown", () => {
  expect(markdown(report)).toMatchInlineSnapshot(`
    "2026-01-02, Some CPU, 2 cores, 16 GB, linux x64; aquatint 1.0.0, diffusers 0.1.
    Model: SD 1.5's layout, random fp16 weights. Rounds in turns: 3. \`aquatint bench\`

    | minimum / median | aquatint | diffusers-fp32 |
    | --- | --- | --- |
    | guided step, 512x512 | 2.00 s / 3.00 s | 6.00 s / 7.50 s, **2.50x** |
    | memory | 2.00 GiB / 2.00 GiB |  |

    A ratio is the peer's median over aquatint's: above 1, aquatint is faster or smaller.
    other was not measured: it is not installed.
    "
  `)
  expect(markdown({ ...report, load: { before: 3, cores: 2 } })).toContain("Do not trust")
})

test("the report goes between the marks of a file, and nowhere else", async () => {
  const path = join(scratch, "notes.md")
  writeFileSync(path, "before\n<!-- bench:begin -->\nold\n<!-- bench:end -->\nafter\n")
  await writeInto(path, report)
  const text = readFileSync(path, "utf8")
  expect(text).toMatch(
    /^before\n<!-- bench:begin -->\n2026-01-02[\s\S]*installed\.\n<!-- bench:end -->\nafter\n$/,
  )
  writeFileSync(path, "no marks")
  await expect(writeInto(path, report)).rejects.toMatchObject({ code: "BENCH_MARKS" })
})

test.runIf(process.platform === "linux")("memory of a process tree", () => {
  const own = memoryOf(process.pid, "VmRSS")!
  expect(own).toBeGreaterThan(20 * 2 ** 20)
  expect(memoryOf(process.pid, "VmHWM")).toBeGreaterThanOrEqual(own * 0.9)
  expect(memoryOf(2 ** 30, "VmRSS")).toBeUndefined()
})

test("the command measures a model of random weights and leaves nothing behind", {
  timeout: 300_000,
}, async () => {
  const args = [program, "bench", "--quick", "--sizes", "64", "--peers", "none", "--json"]
  const { stdout } = await promisify(execFile)(process.execPath, args, {
    env: { ...process.env, TMPDIR: scratch },
  })
  const { rows, versions, missing } = JSON.parse(stdout) as BenchReport
  const measures = rows.map(({ measure }) => measure)
  expect(measures).toContain("guided step, 64x64")
  expect(measures).toContain("command to PNG, 4 steps, 64x64")
  for (const { results } of rows) expect(results.aquatint!.median).toBeGreaterThan(0)
  expect(Object.keys(versions)).toEqual(["aquatint", "onnxruntime-node"])
  expect(missing).toEqual({})
  expect(readdirSync(scratch).filter((f) => f.startsWith("aquatint-"))).toEqual([])
})
