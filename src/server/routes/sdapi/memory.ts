import { z } from "zod"
import { json, type Route, route } from "../../route.ts"
import type { Service } from "../../service.ts"
import { tag, unsupported } from "./common.ts"

const body = { kind: "json", schema: z.looseObject({}), limit: 10_000, optional: true } as const
const done = { 200: { description: "done" } }

/** What A1111's clients ask for after they put files into its folders, or want its memory for something else. */
export function memoryRoutes(service: Service): Route[] {
  const act = (name: string, summary: string, work: () => Promise<unknown>) =>
    route({
      method: "POST",
      path: `/sdapi/v1/${name}`,
      tag,
      summary,
      body,
      answers: done,
      handle: async () => {
        await work()
        return json(null)
      },
    })
  return [
    ...["refresh-checkpoints", "refresh-loras", "refresh-embeddings", "refresh-vae"].map((name) =>
      act(name, "Looks again for models, LoRAs and embeddings", () => service.refresh()),
    ),
    act("unload-checkpoint", "Gives back the memory of models that draw nothing now", () =>
      service.db.notify("unload"),
    ),
    act("reload-checkpoint", "Nothing: a model is loaded by the job that names it", async () => {}),
    act("interrogate", "Not done here: 422", async () =>
      unsupported("interrogate", "describe the picture yourself, or ask another program"),
    ),
  ]
}
