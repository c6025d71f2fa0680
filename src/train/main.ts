import { nodeEngine } from "../runtime/node.ts"
import { threadEngine } from "../runtime/thread.ts"
import { bundledStage, runStage, stageNames } from "./stages.ts"

/** `node dist/train/main.js FOLDER [STAGE ..]`: trains the embedded model's stages, each to its end, resuming. */
const [root, ...asked] = process.argv.slice(2)
if (root === undefined) {
  process.stderr.write(`usage: node dist/train/main.js FOLDER [${stageNames.join("|")} ..]\n`)
  process.exit(2)
}
const stop = new AbortController()
process.once("SIGTERM", () => stop.abort())
process.once("SIGINT", () => stop.abort())
const engine = nodeEngine()
for (const name of asked.length > 0 ? asked : stageNames) {
  let shown = 0
  for await (const s of runStage(engine, root, name, await bundledStage(name), {
    signal: stop.signal,
    helper: () => threadEngine(),
  })) {
    if (performance.now() - shown < 10_000 && s.step < s.steps) continue
    shown = performance.now()
    const speed = s.samplesPerSecond === undefined ? "" : ` ${s.samplesPerSecond.toFixed(1)}/s`
    const left = s.secondsLeft === undefined ? "" : ` ${(s.secondsLeft / 60).toFixed(0)} min left`
    const loss = s.loss === undefined ? "" : ` loss ${s.loss.toFixed(4)}`
    process.stdout.write(`${name} ${s.step}/${s.steps}${loss}${speed}${left}\n`)
  }
  if (stop.signal.aborted) break
}
await engine.close()
