import { existsSync } from "node:fs"
import { join } from "node:path"
import { fileURLToPath } from "node:url"
import { type Command, runToEnd } from "./bench-process.ts"

/** A picture drawn by a command; guidance of 1 takes one row a step, as distilled models do. */
export interface Drawing {
  readonly model: string
  readonly prompt: string
  readonly size: number
  readonly steps: number
  readonly cfg: number
  readonly out: string
}

/** A program to measure: as a process that answers, and as a command that draws one picture. */
export interface Contender {
  readonly name: string
  readonly versions: Record<string, string>
  serve(model: string, prompt: string): Command
  draw(ask: Drawing): Command
}

const here = (path: string) => fileURLToPath(new URL(path, import.meta.url))

/** aquatint's own other ways, by name: options of its command line. */
const ways: Record<string, { dtype: string; speed: string }> = {
  aquatint: { dtype: "fp32", speed: "exact" },
  "aquatint-int8": { dtype: "int8", speed: "exact" },
  "aquatint-fast": { dtype: "fp32", speed: "fast" },
  "aquatint-int8-fast": { dtype: "int8", speed: "fast" },
}

/** aquatint itself. `cache` is where it remembers which weight files it has looked at. */
export const ours = (cache: string, name = "aquatint"): Contender => {
  const env = { XDG_CACHE_HOME: cache }
  const { dtype, speed } = ways[name]!
  return {
    name,
    versions: {},
    serve: (model, prompt) => ({
      argv: [process.execPath, here("./bench-child.js"), model, prompt, dtype, speed],
      env,
    }),
    draw: ({ model, prompt, size, steps, cfg, out }) => ({
      argv: [
        ...[process.execPath, process.argv[1]!, "generate", prompt, "--model", model, "--device", "cpu"],
        ...["--steps", `${steps}`, "--seed", "7", "--sampler", "ddim", "-W", `${size}`, "-H", `${size}`],
        ...["--cfg", `${cfg}`, "--dtype", dtype, "--speed", speed, "--out", out],
      ] as [string, ...string[]],
      env,
    }),
  }
}

/** Peers by name: the script in bench/peers that speaks the protocol of bench-child.ts, and its options. */
const peers: Record<string, { script: string; options: string[] }> = {
  "diffusers-fp32": { script: "diffusers_bench.py", options: ["--dtype", "float32"] },
  "diffusers-bf16": { script: "diffusers_bench.py", options: ["--dtype", "bfloat16"] },
  "openvino-fp32": { script: "openvino_bench.py", options: ["--dtype", "fp32"] },
  "openvino-int8": { script: "openvino_bench.py", options: ["--dtype", "int8"] },
  "stable-diffusion.cpp": { script: "sdcpp_bench.py", options: [] },
}

export const peerNames = [...Object.keys(ways).slice(1), ...Object.keys(peers)]

/** Where and with what peers are run. */
export interface PeerPlaces {
  /** The Python that has them. */
  readonly python: string
  /** Where aquatint's other ways remember weight files. */
  readonly cache: string
}

/** A peer, or why it cannot be measured here. */
export async function findPeer(name: string, places: PeerPlaces): Promise<Contender | string> {
  if (name in ways) return ours(places.cache, name)
  const { script, options } = peers[name]!
  const path = join(here("../../bench/peers"), script)
  if (!existsSync(path)) return `${script} is not here: peers are measured from a clone`
  const python = (...args: string[]): Command => ({
    argv: [places.python, path, ...args],
    env: { HF_HUB_OFFLINE: "1", TRANSFORMERS_OFFLINE: "1" },
  })
  try {
    const { out } = await runToEnd(python("probe"))
    return {
      name,
      versions: (JSON.parse(out) as { versions: Record<string, string> }).versions,
      serve: (model, prompt) => python("serve", model, prompt, ...options),
      draw: ({ model, prompt, size, steps, cfg, out }) =>
        python(
          ...["draw", model, prompt, ...options, "--size", `${size}`, "--steps", `${steps}`],
          ...["--cfg", `${cfg}`, "--out", out],
        ),
    }
  } catch (error) {
    return (error as Error).message
  }
}
