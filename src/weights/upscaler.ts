import { fail } from "../errors.ts"
import { type TensorView, Weights } from "./view.ts"

/** Sizes of an upscaling network, as `models/upscaler.ts` explains them. */
export type UpscalerSizes =
  | {
      readonly kind: "rrdb"
      readonly channels: number
      readonly growth: number
      readonly blocks: number
      readonly doublings: number
      readonly fold: number
    }
  | { readonly kind: "compact"; readonly channels: number; readonly layers: number; readonly factor: number }

/** BasicSR's name for a key of the original ESRGAN's two layouts, a Sequential (`model.1.sub.0...`) or named parts. */
function modern(key: string, doublings: number): string {
  const bare = key.replace(/^(params_ema|params|state_dict|generator|netG)\./, "")
  const dense =
    /^(?:model\.1\.sub|RRDB_trunk|body)\.(\d+)\.(?:RDB|rdb)(\d)\.conv(\d)(?:\.0)?\.(weight|bias)$/.exec(bare)
  if (dense) return `body.${dense[1]}.rdb${dense[2]}.conv${dense[3]}.${dense[4]}`
  const named = /^(trunk_conv|upconv|HRconv)(\d?)\.(weight|bias)$/.exec(bare)
  if (named) {
    const part = { trunk_conv: "conv_body", upconv: `conv_up.${named[2]}`, HRconv: "conv_hr" }[named[1]!]
    return `${part}.${named[3]}`
  }
  const ups = /^conv_up(\d)\.(weight|bias)$/.exec(bare)
  if (ups) return `conv_up.${ups[1]}.${ups[2]}`
  const trunk = /^model\.1\.sub\.\d+\.(weight|bias)$/.exec(bare)
  if (trunk) return `conv_body.${trunk[1]}`
  const placed = /^model\.(\d+)\.(weight|bias)$/.exec(bare)
  if (!placed) return bare
  const at = Number(placed[1])
  // convolution, trunk, then (enlargement, convolution, activation) per doubling, and two more convolutions
  if (at === 0) return `conv_first.${placed[2]}`
  if (at === 2 + 3 * doublings) return `conv_hr.${placed[2]}`
  if (at === 4 + 3 * doublings) return `conv_last.${placed[2]}`
  return at % 3 === 0 ? `conv_up.${at / 3}.${placed[2]}` : bare
}

const largest = (keys: readonly string[], pattern: RegExp): number =>
  Math.max(-1, ...keys.flatMap((key) => Number(pattern.exec(key)?.[1] ?? Number.NaN)).filter(Number.isFinite))

function doublingsOf(keys: readonly string[]): number {
  const last = largest(keys, /^model\.(\d+)\.weight$/)
  if (last > 0) return (last - 4) / 3
  return Math.max(0, largest(keys, /(?:conv_up|upconv)(\d)\.weight$/))
}

/**
 * The weights of an ESRGAN-family file under BasicSR's names, and the network's sizes, from key names and shapes: ESRGAN's
 * old and new layouts, Real-ESRGAN with folded input and in its compact form.
 * @throws UPSCALER_NOT_ONE
 */
export function readUpscaler(
  tensors: ReadonlyMap<string, TensorView>,
  file: string,
): { config: UpscalerSizes; weights: Weights } {
  const ema = [...tensors.keys()].some((key) => key.startsWith("params_ema."))
  const kept = [...tensors].filter(([key]) => !ema || key.startsWith("params_ema."))
  const doublings = doublingsOf(kept.map(([key]) => key.replace(/^(params_ema|params)\./, "")))
  const named = new Weights()
  for (const [key, view] of kept) {
    const name = modern(key, doublings)
    named.set(name, { ...view, name })
  }
  return { config: configOf(named, doublings) ?? refuse(file), weights: named }
}

const mostBlocks = 64

function configOf(named: Weights, doublings: number): UpscalerSizes | null {
  const keys = [...named.keys()]
  const first = named.get("conv_first.weight")?.shape
  const dense = named.get("body.0.rdb1.conv1.weight")?.shape
  if (first?.length === 4 && dense?.length === 4) {
    const fold = Math.sqrt(first[1]! / 3)
    const blocks = largest(keys, /^body\.(\d+)\.rdb1/) + 1
    const fits =
      [1, 2, 4].includes(fold) && blocks <= mostBlocks && Number.isInteger(doublings) && doublings <= 4
    return fits ? { kind: "rrdb", channels: first[0]!, growth: dense[0]!, blocks, doublings, fold } : null
  }
  const start = named.get("body.0.weight")?.shape
  const end = largest(keys, /^body\.(\d+)\.weight$/)
  const factor = Math.sqrt((named.get(`body.${end}.weight`)?.shape[0] ?? 0) / 3)
  if (start?.length !== 4 || end < 2 || end > 4 * mostBlocks || !Number.isInteger(factor) || factor < 1)
    return null
  return { kind: "compact", channels: start[0]!, layers: (end - 2) / 2, factor }
}

function refuse(file: string): never {
  fail("UPSCALER_NOT_ONE", `${file} holds no upscaler of the ESRGAN family`, {
    file,
    hint: "ESRGAN, Real-ESRGAN and its compact form are read",
  })
}
