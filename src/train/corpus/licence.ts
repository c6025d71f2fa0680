/** The LICENSE file of a drawn data set. */
export const CC0 = `CC0 1.0 Universal

The person who associated a work with this deed has dedicated the work to the public domain by waiving all of
their rights to the work worldwide under copyright law, including all related and neighbouring rights, to the
extent allowed by law. You can copy, modify, distribute and perform the work, even for commercial purposes, all
without asking permission.

The pictures and captions in this folder were drawn and written by a program from random numbers; they show no
person, place, brand or work of anyone. Full legal text: https://creativecommons.org/publicdomain/zero/1.0/legalcode

SPDX-License-Identifier: CC0-1.0
`

/** The README.md of a drawn data set, with the header that the Hugging Face hub reads. */
export function datasheet(settings: Record<string, unknown>): string {
  const { count, size, seed, format, split, language } = settings
  return `---
license: cc0-1.0
language: [en, de]
task_categories: [text-to-image]
pretty_name: aquatint corpus
---
# aquatint corpus

${count} captioned flat-vector scenes of ${size}x${size} pixels, drawn by aquatint's own code.

- Made with: seed ${seed}, split ${split}, captions ${language}, format ${format} (corpus.json). The same settings draw the
  same pixels on any machine.
- Contents: sixteen subjects in nine colours, one to three of them, left, centre or right, three sizes, seven places,
  four times of day, five kinds of weather, five styles; a second subject in a quarter of the pictures. Captions in
  English and German leave facts out at random, and state nothing that the picture does not show.
- Split: a sixteenth of the combinations of subject, colour and place, and a twelfth of the pairs of subjects, never occur
  in "train" and always in "evaluation".
- Not in it: people, text, brands, photographs, anything taken from anyone.
- Licence: CC0 1.0, see LICENSE.
`
}
