import { basename } from "node:path"
import { fail } from "../errors.ts"

/** Pickled weights are read by `convert` alone, as data. @throws MODEL_PICKLE, with the command that turns the file into another */
export function refusePickle(path: string): never {
  const name = basename(path)
  return fail("MODEL_PICKLE", `${path} is a pickled file`, {
    hint: `read it as data and write it anew: aquatint convert ${name} ${name.replace(/\.\w+$/, "")}.safetensors`,
    file: path,
  })
}
