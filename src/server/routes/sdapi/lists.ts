import { z } from "zod"
import { latentUpscalers, samplerIds, scheduleIds } from "../../../index.ts"
import { samplerLabels, scheduleLabels } from "../../labels.ts"
import { json, type Route, route } from "../../route.ts"
import type { Service } from "../../service.ts"
import { filters } from "../../upscale.ts"
import { tag } from "./common.ts"

/** What A1111 has and this server has not. */
const empty = [
  "sd-vae",
  "sd-modules",
  "hypernetworks",
  "face-restorers",
  "realesrgan-models",
  "prompt-styles",
  "script-info",
  "extensions",
]

type Lists = Record<string, () => unknown>

/** Lists of what lies in files. */
function fileLists({ models }: Service): Lists {
  const upscaler = (name: string) => ({ name, model_name: null, model_path: null, model_url: null, scale: 4 })
  const loaded = { step: null, sd_checkpoint: null, sd_checkpoint_name: null, shape: 0, vectors: 0 }
  return {
    "sd-models": () =>
      models.all.map(({ id, name }) => ({
        title: id,
        model_name: name,
        hash: null,
        sha256: null,
        filename: name,
        config: null,
      })),
    upscalers: () => [...filters, ...models.upscalers.all.map(({ name }) => name)].map(upscaler),
    embeddings: () => ({
      loaded: Object.fromEntries(models.embeddings.all.map(({ name }) => [name, loaded])),
      skipped: {},
    }),
    loras: () => models.loras.all.map(({ name, alias, metadata }) => ({ name, alias, path: name, metadata })),
  }
}

/** Lists that clients fill their menus from. */
const listsOf = (service: Service): Lists => ({
  ...Object.fromEntries(empty.map((name) => [name, () => []])),
  ...fileLists(service),
  samplers: () => samplerIds.map((id) => ({ name: samplerLabels[id] ?? id, aliases: [id], options: {} })),
  schedulers: () =>
    ["automatic", ...scheduleIds].map((name) => ({
      name,
      label: scheduleLabels[name] ?? "Automatic",
      aliases: null,
      default_rho: name === "karras" ? 7 : -1,
      need_inner_model: false,
    })),
  "latent-upscale-modes": () => Object.values(latentUpscalers).map(({ label }) => ({ name: label })),
  scripts: () => ({ txt2img: [], img2img: [] }),
  "cmd-flags": () => ({ api: true, listen: null, port: null }),
  memory: () => {
    const { rss, heapUsed } = process.memoryUsage()
    return { ram: { free: null, used: rss, total: null, heap: heapUsed }, cuda: { error: "unavailable" } }
  },
})

export function listRoutes(service: Service): Route[] {
  return Object.entries(listsOf(service)).map(([name, make]) =>
    route({
      method: "GET",
      path: `/sdapi/v1/${name}`,
      tag,
      summary: `A1111's list of ${name}`,
      answers: {
        200: { description: "the list", schema: z.union([z.array(z.unknown()), z.looseObject({})]) },
      },
      handle: () => json(make()),
    }),
  )
}
