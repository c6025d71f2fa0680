import { randomBytes } from "node:crypto"

const digits = "0123456789abcdefghjkmnpqrstvwxyz"

/** 26 letters and digits that sort by time (a ULID in lower case): 48 bits of milliseconds, 80 of chance. */
export function newId(time = Date.now()): string {
  let head = ""
  for (let rest = time, i = 0; i < 10; i++, rest = Math.floor(rest / 32)) head = digits[rest % 32]! + head
  let tail = ""
  for (const byte of randomBytes(16)) tail += digits[byte & 31]!
  return head + tail
}

/** What an id from outside must look like before anything is looked up by it. */
export const idPattern = /^[0-9a-hjkmnp-tv-z]{26}$/
