import { fail } from "../errors.ts"

/** XMP packets (ISO 16684-1): simple text properties, by a reader that knows no DTD and no entities. */

export interface XmpProperty {
  /** Namespace URI, with its closing slash or hash. */
  namespace: string
  /** Preferred prefix when written. */
  prefix: string
  name: string
  value: string
}

const rdf = "http://www.w3.org/1999/02/22-rdf-syntax-ns#"
const maxLength = 1024 * 1024
const maxDepth = 64
const maxElements = 10_000

/** Characters that XML 1.0 cannot hold, lone surrogates included. */
const unspeakable = /[^\t\n\r\x20-\ud7ff\ue000-\ufffd\u{10000}-\u{10ffff}]/gu

function quote(text: string): string {
  return text
    .replace(unspeakable, "\ufffd")
    .replace(/&/g, "&amp;")
    .replace(/</g, "&lt;")
    .replace(/>/g, "&gt;")
    .replace(/"/g, "&quot;")
    .replace(/\r/g, "&#xD;")
}

/** A packet with one rdf:Description and one element per property, in the order given. */
export function writeXmp(properties: readonly XmpProperty[]): string {
  const spaces = new Map(properties.map((p) => [p.prefix, p.namespace]))
  const declared = [...spaces].map(([prefix, uri]) => `\n    xmlns:${prefix}="${quote(uri)}"`).join("")
  const elements = properties.map(
    (p) => `\n   <${p.prefix}:${p.name}>${quote(p.value)}</${p.prefix}:${p.name}>`,
  )
  return `<?xpacket begin="\ufeff" id="W5M0MpCehiHzreSzNTczkc9d"?>
<x:xmpmeta xmlns:x="adobe:ns:meta/">
 <rdf:RDF xmlns:rdf="${rdf}">
  <rdf:Description rdf:about=""${declared}>${elements.join("")}
  </rdf:Description>
 </rdf:RDF>
</x:xmpmeta>
<?xpacket end="w"?>`
}

interface Element {
  /** Namespace and local name joined. */
  name: string
  attributes: Map<string, string>
  spaces: Map<string, string>
  /** Qualified name as written, to match the end tag. */
  tag: string
  text: string
  hasChildren: boolean
}

/**
 * Simple properties of a packet: namespace + name -> values (the items of a bag, sequence or
 * alternative, else one). Both spellings, element and attribute, are understood; structures are
 * passed over. Throws XMP_INVALID on DTDs, unknown entities, malformed or outsized packets.
 */
export function readXmp(packet: string): Map<string, string[]> {
  if (packet.length > maxLength) invalid("it is longer than 1 MiB")
  const found = new Map<string, string[]>()
  const stack: Element[] = []
  let count = 0
  const add = (name: string, value: string) => {
    const values = found.get(name)
    if (values) values.push(value)
    else found.set(name, [value])
  }
  for (const token of tokens(packet)) {
    if ("text" in token) {
      const top = stack.at(-1)
      if (top) top.text += token.text
      continue
    }
    if (token.kind !== "close") {
      if (++count > maxElements || stack.length >= maxDepth) invalid("it is nested too deeply or too large")
      const element = open(token, stack.at(-1)?.spaces)
      stack.push(element)
      if (isTopDescription(stack)) for (const [name, value] of plainAttributes(element)) add(name, value)
    }
    if (token.kind !== "open") close(stack, token.tag, add)
  }
  if (stack.length > 0) invalid("an element is not closed")
  return found
}

/** Removes the closed element and takes its text where it is a property's value or one of its items. */
function close(stack: Element[], tag: string, add: (name: string, value: string) => void): void {
  const element = stack.pop()
  if (element?.tag !== tag) invalid("its tags do not match")
  const parent = stack.at(-1)
  if (!element || !parent) return
  parent.hasChildren = true
  const resource = element.attributes.get(`${rdf}resource`)
  if (isTopDescription(stack) && (resource !== undefined || !element.hasChildren)) {
    add(element.name, resource ?? element.text)
  } else if (isItem(element, stack)) add(stack.at(-2)!.name, element.text)
}

/** rdf:li with plain text in a container that is a property's value. */
function isItem(element: Element, stack: readonly Element[]): boolean {
  const container = [`${rdf}Alt`, `${rdf}Bag`, `${rdf}Seq`].includes(stack.at(-1)?.name ?? "")
  return (
    container && element.name === `${rdf}li` && !element.hasChildren && isTopDescription(stack.slice(-4, -2))
  )
}

/** rdf:Description directly inside rdf:RDF. */
function isTopDescription(stack: readonly Element[]): boolean {
  return stack.at(-1)?.name === `${rdf}Description` && stack.at(-2)?.name === `${rdf}RDF`
}

function plainAttributes(element: Element): [string, string][] {
  return [...element.attributes].filter(([name]) => name.includes(":") && !name.startsWith(rdf))
}

function open(token: Tag, inherited: Map<string, string> = new Map()): Element {
  const declared = token.attributes.filter(([name]) => name === "xmlns" || name.startsWith("xmlns:"))
  const spaces = declared.length === 0 ? inherited : new Map(inherited)
  for (const [name, uri] of declared) spaces.set(name.slice(6), uri)
  const resolve = (name: string, isAttribute: boolean) => {
    const colon = name.indexOf(":")
    if (colon < 0) return isAttribute ? name : (spaces.get("") ?? "") + name
    return (spaces.get(name.slice(0, colon)) ?? "") + name.slice(colon + 1)
  }
  const attributes = new Map<string, string>()
  for (const [name, value] of token.attributes) {
    if (name !== "xmlns" && !name.startsWith("xmlns:")) attributes.set(resolve(name, true), value)
  }
  return { name: resolve(token.tag, false), attributes, spaces, tag: token.tag, text: "", hasChildren: false }
}

interface Tag {
  kind: "open" | "close" | "empty"
  tag: string
  attributes: [string, string][]
}

const tagStart = /<(\/?)([^\s/>"'=<&!?]+)/y
const attribute = /\s+([^\s/>"'=<&]+)\s*=\s*(?:"([^"<]*)"|'([^'<]*)')/y
const tagEnd = /\s*(\/?)>/y

/** Tags and text in order; comments and processing instructions are dropped. */
function* tokens(xml: string): Generator<Tag | { text: string }> {
  let at = 0
  while (at < xml.length) {
    const next = xml.indexOf("<", at)
    const end = next < 0 ? xml.length : next
    if (end > at) yield { text: unquote(xml.slice(at, end)) }
    if (next < 0) return
    if (xml.startsWith("<![CDATA[", next)) {
      at = after(xml, "]]>", next)
      yield { text: xml.slice(next + 9, at - 3) }
    } else if (xml.startsWith("<!--", next)) at = after(xml, "-->", next + 4)
    else if (xml.startsWith("<?", next)) at = after(xml, "?>", next)
    else if (xml.startsWith("<!", next)) invalid("it has a document type declaration")
    else {
      const [tag, stop] = readTag(xml, next)
      yield tag
      at = stop
    }
  }
}

function after(xml: string, mark: string, from: number): number {
  const at = xml.indexOf(mark, from)
  return at < 0 ? invalid("it ends inside a comment or instruction") : at + mark.length
}

function readTag(xml: string, at: number): [Tag, number] {
  tagStart.lastIndex = at
  const start = tagStart.exec(xml)
  if (!start) return invalid("a tag has no name")
  const attributes: [string, string][] = []
  let stop = tagStart.lastIndex
  for (;;) {
    attribute.lastIndex = stop
    const match = attribute.exec(xml)
    if (!match) break
    attributes.push([match[1]!, unquote(match[2] ?? match[3]!)])
    stop = attribute.lastIndex
    if (attributes.length > 1000) invalid("a tag has too many attributes")
  }
  tagEnd.lastIndex = stop
  const end = tagEnd.exec(xml)
  if (!end) return invalid("a tag is malformed")
  const kind = start[1] ? "close" : end[1] ? "empty" : "open"
  return [{ kind, tag: start[2]!, attributes }, tagEnd.lastIndex]
}

const named: Record<string, string> = { lt: "<", gt: ">", amp: "&", quot: '"', apos: "'" }

function unquote(text: string): string {
  return text.replace(/\r\n?/g, "\n").replace(/&([^;&]{0,10};)?/g, (whole, name: string | undefined) => {
    const entity = name?.slice(0, -1) ?? ""
    if (Object.hasOwn(named, entity)) return named[entity]!
    const number = /^#(?:x([0-9a-f]{1,6})|([0-9]{1,7}))$/i.exec(entity)
    const code = number ? Number.parseInt(number[1] ?? number[2]!, number[1] ? 16 : 10) : Number.NaN
    if (!(code <= 0x10ffff)) invalid(`it has the entity ${whole}`)
    return String.fromCodePoint(code)
  })
}

function invalid(why: string): never {
  return fail("XMP_INVALID", `the XMP packet is not usable: ${why}`)
}
