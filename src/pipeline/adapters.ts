import { fail } from "../errors.ts"
import type { StoredTensor, Tensor } from "../graph/index.ts"
import type { Branch, Patch, Patches } from "../runtime/hold.ts"
import type { Strength } from "../text/networks.ts"
import { strengthAt } from "../text/networks.ts"
import type { Adapter, AdapterModule } from "../weights/adapters/adapter.ts"
import { changed, isThin, thinFactors } from "../weights/adapters/delta.ts"
import type { Networks } from "./networks.ts"
import { storedView } from "./stored.ts"

/** An adapter in force, with its strengths. */
export interface ActiveAdapter {
  readonly adapter: Adapter
  readonly unet: Strength
  readonly text: Strength
}

/** What became of an adapter's keys. */
export interface AdapterReport {
  readonly name: string
  readonly path: string
  readonly unet: Strength
  readonly text: Strength
  /** Weights changed in the text encoders and in the U-Net. */
  readonly matched: { readonly text: number; readonly unet: number }
  /** Keys of the file that this model has no place for. */
  readonly unmatched: readonly string[]
}

export function reportOf({ adapter, unet, text }: ActiveAdapter): AdapterReport {
  const inUnet = adapter.modules.filter((m) => m.scope === "unet").length
  return {
    name: adapter.name,
    path: adapter.path,
    unet,
    text,
    matched: { text: adapter.modules.length - inUnet, unet: inUnet },
    unmatched: adapter.unmatched,
  }
}

/** Patches of one network with these adapters at a point of the run; strengths add up (PEFT, A1111). */
export function patchesOf(
  scope: AdapterModule["scope"],
  active: readonly ActiveAdapter[],
  at: { call: number; calls: number },
): Patches {
  const found = new Map<string, Change[]>()
  const weights = new Map<string, StoredTensor>()
  for (const { adapter, unet, text } of active) {
    const given = scope === "unet" ? unet : text
    const strength = strengthAt(given, at.call, at.calls)
    // one that comes later in the run keeps its place in the network
    if (strength === 0 && typeof given === "number") continue
    for (const module of adapter.modules) {
      if (module.scope !== scope) continue
      for (const [part, view] of module.parts) weights.set(module.nameOf(part), storedView(view))
      const known = found.get(module.weight) ?? []
      found.set(module.weight, [...known, { module, strength }])
    }
  }
  const changes = new Map<string, Patch>()
  for (const [weight, list] of found) {
    changes.set(weight, {
      ...branchOf(list),
      key: list.map(({ module, strength }) => `${module.nameOf("up")} ${strength}`).join("|"),
      apply: (w: Tensor) =>
        list
          .filter(({ strength }) => strength !== 0)
          .reduce((sum, { module, strength }) => changed(sum, module, w, strength), w),
    })
  }
  return { changes, weights }
}

interface Change {
  readonly module: AdapterModule
  readonly strength: number
}

/** The same changes beside the weight, where all of them are of low rank. */
function branchOf(list: readonly Change[]): { branch?: Branch } {
  if (!list.every(({ module }) => isThin(module))) return {}
  const { down, up } = thinFactors(list)
  const names = list.map(({ module }) => module.nameOf("down")).join("|")
  return {
    branch: {
      rank: list.reduce((sum, { module }) => sum + (module.rank ?? 0), 0),
      down: { key: names, make: down },
      up: { key: `${names} ${list.map(({ strength }) => strength).join("|")}`, make: up },
    },
  }
}

/** Keeps the networks' weights as the adapters of a generation want them, call by call. */
export class AdapterSet {
  private readonly networks: Networks
  private readonly active: readonly ActiveAdapter[]
  private readonly calls: number
  /** Strengths change in mid-run. */
  readonly scheduled: boolean

  constructor(networks: Networks, active: readonly ActiveAdapter[], calls: number) {
    this.networks = networks
    this.active = active
    this.calls = calls
    this.scheduled = active.some(({ unet }) => typeof unet !== "number")
  }

  /** The same for sets that make the same weights. */
  get key(): string {
    return JSON.stringify(this.active.map(({ adapter, unet, text }) => [adapter.id, unet, text]))
  }

  /** Before the first text is encoded: the encoders read each prompt once, at the strengths of the first call. */
  async begin(): Promise<void> {
    for (const scope of this.networks.scopes)
      await this.networks.adapt(scope, patchesOf(scope, this.active, { call: 0, calls: this.calls }))
  }

  /** Before denoiser call `call`, counted from 0. */
  async at(call: number): Promise<void> {
    if (!this.scheduled) return
    await this.networks.adapt("unet", patchesOf("unet", this.active, { call, calls: this.calls }))
  }
}

/** Refuses strengths that no adapter can have. @throws REQUEST_LORA */
export function checkStrength(strength: Strength, name: string): Strength {
  const numbers = typeof strength === "number" ? [strength] : strength.flat()
  if (numbers.length === 0 || !numbers.every((n) => Number.isFinite(n) && Math.abs(n) <= 100))
    fail("REQUEST_LORA", `${name} has the strength ${JSON.stringify(strength)}`, {
      hint: "use a number from -100 to 100, or strengths with their places: 1@0,0.5@0.4",
    })
  return strength
}
