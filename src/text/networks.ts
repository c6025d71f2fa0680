import { fail } from "../errors.ts"
import type { Network } from "./tree.ts"

/**
 * One strength for the whole run, or strengths at places of it, `[strength, place]`: places up to 1 are shares of the
 * run, beyond that denoiser calls; between two places the strength goes straight from one to the other.
 */
export type Strength = number | readonly (readonly [strength: number, place: number])[]

/** A LoRA asked for in a prompt, with A1111's strengths for text encoder and U-Net. */
export interface LoraTag {
  name: string
  text: Strength
  unet: Strength
}

const tag = /<([\p{L}\p{N}_]+):([^>]+)>/gu

/** Takes `<kind:a:b:key=value>` out of a prompt, as A1111 takes its extra networks out of the positive one. */
export function takeNetworks(prompt: string): { text: string; networks: Network[] } {
  const networks: Network[] = []
  const text = prompt.replace(tag, (_, kind: string, body: string) => {
    const network: Network = { kind, args: [], named: {} }
    for (const item of body.split(":")) {
      const parts = item.split("=")
      if (parts.length === 2) network.named[parts[0]!] = parts[1]!
      else network.args.push(item)
    }
    networks.push(network)
    return ""
  })
  return { text, networks }
}

/**
 * LoRAs among the networks of a prompt: `<lora:name>`, `<lora:name:0.8>`, `<lora:name:text:unet>`, `te=`, `unet=`;
 * `lyco` is the same. The U-Net's strength defaults to the text encoder's, that one to 1.
 */
export function loraTags(networks: readonly Network[]): LoraTag[] {
  return networks
    .filter((network) => network.kind === "lora" || network.kind === "lyco")
    .map(({ kind, args, named }) => {
      const name = args[0]
      if (name === undefined || name === "")
        return fail("PROMPT-LORA", `the prompt has a <${kind}:...> without a name`, {
          hint: "write <lora:name:0.8>",
        })
      const text = strength(named.te ?? args[1] ?? "1", name)
      const unet = named.unet ?? args[2]
      return { name, text, unet: unet === undefined ? text : strength(unet, name) }
    })
}

function strength(written: string, name: string): Strength {
  return (
    parseStrength(written) ??
    fail(
      "PROMPT-LORA",
      `<lora:${name}:...> has the strength ${JSON.stringify(written)}, which is not a number`,
      {
        hint: "write <lora:name:0.8>, or strengths with their places: <lora:name:1@0,0.5@0.4>",
      },
    )
  )
}

/** Reads `0.8`, or `1@0,0.5@0.4`: strengths at places of the run; undefined where it is neither. */
export function parseStrength(written: string): Strength | undefined {
  const number = (text: string | undefined) =>
    text === undefined || text.trim() === "" ? Number.NaN : Number(text)
  const single = number(written)
  if (Number.isFinite(single)) return single
  const points = written.split(/[,;]/).map((item): [number, number] => {
    const [strength, place, ...more] = item.split("@")
    return [number(strength), more.length > 0 ? Number.NaN : number(place)]
  })
  const fits = points.every(([strength, place]) => Number.isFinite(strength) && place >= 0)
  return fits ? points.sort((a, b) => a[1] - b[1]) : undefined
}

/** The strength in force at a denoiser call, counted from 0, of `calls`. */
export function strengthAt(strength: Strength, call: number, calls: number): number {
  if (typeof strength === "number") return strength
  const shares = strength.every(([, place]) => place <= 1)
  const now = shares ? call / Math.max(1, calls) : call
  const next = strength.findIndex(([, place]) => place > now)
  const [before, after] = [strength.at(next === 0 ? 0 : next === -1 ? -1 : next - 1)!, strength.at(next)!]
  const span = after[1] - before[1]
  return span === 0 ? before[0] : before[0] + ((after[0] - before[0]) * (now - before[1])) / span
}
