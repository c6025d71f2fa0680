import { fail } from "../errors.ts"
import type { Network } from "./tree.ts"

/** A LoRA asked for in a prompt, with A1111's strengths for text encoder and U-Net. */
export interface LoraTag {
  name: string
  text: number
  unet: number
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
      return { name, text, unet: strength(named.unet ?? args[2] ?? String(text), name) }
    })
}

function strength(written: string, name: string): number {
  const value = written.trim() === "" ? Number.NaN : Number(written)
  if (Number.isFinite(value)) return value
  return fail(
    "PROMPT-LORA",
    `<lora:${name}:...> has the strength ${JSON.stringify(written)}, which is not a number`,
    {
      hint: "write <lora:name:0.8>",
    },
  )
}
