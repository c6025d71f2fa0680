import { z } from "zod"
import { latentUpscalers, samplerIds, scheduleIds } from "../../../index.ts"
import { samplerLabels, scheduleLabels } from "../../labels.ts"
import { json, type Route, route } from "../../route.ts"
import type { Service } from "../../service.ts"
import { filters } from "../../upscale.ts"
import { tag } from "./common.ts"

/** Lists that clients fill their menus from. */
function listsOf({ models }: Service): Record<string, () => unknown> {
  const upscaler = (name: string) => ({ name, model_name: null, model_path: null, model_url: null, scale: 4 })
  return {
    samplers: () => samplerIds.map((id) => ({ name: samplerLabels[id] ?? id, aliases: [id], options: {} })),
    schedulers: () =>
      ["automatic", ...scheduleIds].map((name) => ({
        name,
        label: scheduleLabels[name] ?? "Automatic",
        aliases: null,
        default_rho: name === "karras" ? 7 : -1,
        need_inner_model: false,
      })),
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
    "latent-upscale-modes": () => Object.values(latentUpscalers).map(({ label }) => ({ name: label })),
    "sd-vae": () => [],
    "sd-modules": () => [],
    hypernetworks: () => [],
    "face-restorers": () => [],
    "realesrgan-models": () => [],
    "prompt-styles": () => [],
    embeddings: () => ({
      loaded: Object.fromEntries(
        models.embeddings.all.map(({ name }) => [
          name,
          { step: null, sd_checkpoint: null, sd_checkpoint_name: null, shape: 0, vectors: 0 },
        ]),
      ),
      skipped: {},
    }),
    loras: () => models.loras.all.map(({ name, alias, metadata }) => ({ name, alias, path: name, metadata })),
    scripts: () => ({ txt2img: [], img2img: [] }),
    "script-info": () => [],
    extensions: () => [],
    "cmd-flags": () => ({ api: true, listen: null, port: null }),
    memory: () => {
      const { rss, heapUsed } = process.memoryUsage()
      return { ram: { free: null, used: rss, total: null, heap: heapUsed }, cuda: { error: "unavailable" } }
    },
  }
}

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
