import { fail } from "../errors.ts"
import { readXmp, writeXmp, type XmpProperty } from "../image/xmp.ts"

/**
 * The mark that a picture was made by a machine: IPTC Photo Metadata 2025.1 in XMP, with the terms
 * of IPTC's digital source type vocabulary. It goes into every picture aquatint writes.
 */

const vocabulary = "http://cv.iptc.org/newscodes/digitalsourcetype/"
const iptcExt = "http://iptc.org/std/Iptc4xmpExt/2008-02-29/"
const xmpBasic = "http://ns.adobe.com/xap/1.0/"

/** Terms that say a machine made the picture, wholly or in part. */
const machineMade = [
  "trainedAlgorithmicMedia",
  "compositeWithTrainedAlgorithmicMedia",
  "algorithmicMedia",
  "algorithmicallyEnhanced",
  "compositeSynthetic",
]

export interface MarkOptions {
  /** True when a given picture went in: image to image, inpainting, ControlNet tiles, upscaling. */
  composite: boolean
  /** Name of the program and model, for example "aquatint, Stable Diffusion 1.5". */
  system: string
  /** Version of the program. */
  version: string
  /** The prompt; left out unless the user wants it in the picture. */
  prompt?: string
}

/**
 * XMP packet with the mark: DigitalSourceType as its full URI, AISystemUsed, AISystemVersionUsed,
 * optionally AIPromptInformation, and xmp:CreatorTool.
 */
export function xmpMark({ composite, system, version, prompt }: MarkOptions): string {
  const term = composite ? "compositeWithTrainedAlgorithmicMedia" : "trainedAlgorithmicMedia"
  const iptc = (name: string, value: string): XmpProperty => ({
    namespace: iptcExt,
    prefix: "Iptc4xmpExt",
    name,
    value,
  })
  const properties = [
    iptc("DigitalSourceType", vocabulary + term),
    iptc("AISystemUsed", system),
    iptc("AISystemVersionUsed", version),
    ...(prompt === undefined ? [] : [iptc("AIPromptInformation", prompt)]),
    { namespace: xmpBasic, prefix: "xmp", name: "CreatorTool", value: `aquatint ${version}` },
  ]
  return writeXmp(properties)
}

/** What a picture's XMP says of its origin. */
export interface Mark {
  /** True when DigitalSourceType names machine-made media. */
  generated: boolean
  /** True when a given picture went in. */
  composite: boolean
  /** DigitalSourceType as written. */
  sourceType?: string
  system?: string
  version?: string
  prompt?: string
  creatorTool?: string
}

/**
 * Reads the mark from an XMP packet, ours or another program's, in full URI or bare term.
 * Throws XMP_INVALID when the packet is not usable.
 */
export function readMark(xmp: string): Mark {
  const properties = readXmp(xmp)
  const text = (name: string) => properties.get(iptcExt + name)?.[0]
  const sourceType = (text("DigitalSourceType") ?? text("DigitalSourcetype"))?.trim()
  const term = sourceType?.replace(/^https?:\/\/cv\.iptc\.org\/newscodes\/digitalsourcetype\//, "") ?? ""
  const mark: Mark = {
    generated: machineMade.includes(term),
    composite: term.startsWith("composite"),
    sourceType,
    system: text("AISystemUsed"),
    version: text("AISystemVersionUsed"),
    prompt: text("AIPromptInformation"),
    creatorTool: properties.get(`${xmpBasic}CreatorTool`)?.[0],
  }
  return mark
}

/** Throws TRUST_MARK unless the packet says what its picture is; a guard for code that writes pictures. */
export function requireMark(xmp: string | undefined): void {
  if (xmp === undefined || !readMark(xmp).generated) {
    fail("TRUST_MARK", "a generated picture would be written without its AI mark", { blame: "here" })
  }
}
