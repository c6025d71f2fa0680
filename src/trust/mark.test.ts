import fc from "fast-check"
import { describe, expect, test } from "vitest"
import { readXmp, writeXmp } from "../image/xmp.ts"
import { readMark, requireMark, xmpMark } from "./mark.ts"

describe("the AI mark", () => {
  test("says who made the picture, in IPTC's words", () => {
    const xmp = xmpMark({ composite: false, system: "aquatint, Stable Diffusion 1.5", version: "0.1.0" })
    expect(xmp).toMatchInlineSnapshot(`
      "<?xpacket begin="﻿" id="W5M0MpCehiHzreSzNTczkc9d"?>
      <x:xmpmeta xmlns:x="adobe:ns:meta/">
       <rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#">
        <rdf:Description rdf:about=""
          xmlns:Iptc4xmpExt="http://iptc.org/std/Iptc4xmpExt/2008-02-29/"
          xmlns:xmp="http://ns.adobe.com/xap/1.0/">
         <Iptc4xmpExt:DigitalSourceType>http://cv.iptc.org/newscodes/digitalsourcetype/trainedAlgorithmicMedia</Iptc4xmpExt:DigitalSourceType>
         <Iptc4xmpExt:AISystemUsed>aquatint, Stable Diffusion 1.5</Iptc4xmpExt:AISystemUsed>
         <Iptc4xmpExt:AISystemVersionUsed>0.1.0</Iptc4xmpExt:AISystemVersionUsed>
         <xmp:CreatorTool>aquatint 0.1.0</xmp:CreatorTool>
        </rdf:Description>
       </rdf:RDF>
      </x:xmpmeta>
      <?xpacket end="w"?>"
    `)
    expect(readMark(xmp)).toEqual({
      generated: true,
      composite: false,
      sourceType: "http://cv.iptc.org/newscodes/digitalsourcetype/trainedAlgorithmicMedia",
      system: "aquatint, Stable Diffusion 1.5",
      version: "0.1.0",
      creatorTool: "aquatint 0.1.0",
    })
  })

  test("tells pictures with a given picture in them apart", () => {
    const mark = readMark(xmpMark({ composite: true, system: "s", version: "v", prompt: "a <cat> & more" }))
    expect(mark).toMatchObject({ generated: true, composite: true, prompt: "a <cat> & more" })
    expect(mark.sourceType).toMatch(/compositeWithTrainedAlgorithmicMedia$/)
  })

  test("is read from other programs' packets: attributes, other prefixes, https", () => {
    const other = `<x:xmpmeta xmlns:x="adobe:ns:meta/"><r:RDF xmlns:r="http://www.w3.org/1999/02/22-rdf-syntax-ns#">
      <r:Description xmlns:i='http://iptc.org/std/Iptc4xmpExt/2008-02-29/'
        i:DigitalSourceType="https://cv.iptc.org/newscodes/digitalsourcetype/trainedAlgorithmicMedia"/></r:RDF></x:xmpmeta>`
    expect(readMark(other).generated).toBe(true)
    expect(readMark(other.replace("trainedAlgorithmicMedia", "digitalCapture")).generated).toBe(false)
  })

  test("is not taken from an ingredient or a structure inside", () => {
    const nested = `<r:RDF xmlns:r="http://www.w3.org/1999/02/22-rdf-syntax-ns#" xmlns:i="http://iptc.org/std/Iptc4xmpExt/2008-02-29/">
      <r:Description><i:Part><r:Description><i:DigitalSourceType>trainedAlgorithmicMedia</i:DigitalSourceType></r:Description></i:Part></r:Description></r:RDF>`
    expect(readMark(nested).generated).toBe(false)
  })

  test("its absence is noticed", () => {
    expect(() => requireMark(undefined)).toThrow(expect.objectContaining({ code: "TRUST_MARK" }))
    expect(() => requireMark(xmpMark({ composite: false, system: "s", version: "v" }))).not.toThrow()
  })
})

describe("XMP", () => {
  const property = (value: string) => [{ namespace: "urn:a/", prefix: "a", name: "b", value }]

  test("values come back", () => {
    fc.assert(
      fc.property(fc.string({ unit: fc.nat(0x10ffff).map((code) => String.fromCodePoint(code)) }), (text) => {
        const legal = text.replace(/[^\t\n\r\x20-\ud7ff\ue000-\ufffd\u{10000}-\u{10ffff}]/gu, "\ufffd")
        expect(readXmp(writeXmp(property(text))).get("urn:a/b")).toEqual([legal])
      }),
    )
  })

  test("bags, sequences, alternatives and resources", () => {
    const xmp = `<r:RDF xmlns:r="http://www.w3.org/1999/02/22-rdf-syntax-ns#" xmlns:a="urn:a/"><r:Description>
      <a:bag><r:Bag><r:li>1</r:li><r:li><![CDATA[<2>]]></r:li></r:Bag></a:bag><a:link r:resource="urn:x"/><a:t>&#x41;&amp;&#66;</a:t>
      </r:Description></r:RDF>`
    expect([...readXmp(xmp)]).toEqual([
      ["urn:a/bag", ["1", "<2>"]],
      ["urn:a/link", ["urn:x"]],
      ["urn:a/t", ["A&B"]],
    ])
  })

  test("DTDs, entities and malformed or outsized packets are refused", () => {
    const bad = [
      '<!DOCTYPE x [<!ENTITY a "b">]><x/>',
      "<x>&a;</x>",
      "<x>&#x110000;</x>",
      "<x>",
      "<x></y>",
      "<x",
      "<x a='1' a=2>",
      "<!-- ",
      "<x>".repeat(65),
      "<x/>".repeat(10_001),
      " ".repeat(1024 * 1024 + 1),
    ]
    for (const xmp of bad)
      expect(() => readXmp(xmp), xmp.slice(0, 40)).toThrow(expect.objectContaining({ code: "XMP_INVALID" }))
  })

  test("any text is read or refused", () => {
    const packet = xmpMark({ composite: true, system: "s", version: "v" })
    const edits = fc.array(
      fc.tuple(fc.nat(packet.length), fc.constantFrom("<", ">", "&", '"', "/", "!", "<?", "]]>", "&#0;", "")),
      { maxLength: 4 },
    )
    fc.assert(
      fc.property(edits, (changes) => {
        let text = packet
        for (const [at, piece] of changes) text = text.slice(0, at) + piece + text.slice(at + 1)
        try {
          readMark(text)
        } catch (error) {
          expect(error).toMatchObject({ code: "XMP_INVALID" })
        }
      }),
      { numRuns: 1000 },
    )
  })
})
