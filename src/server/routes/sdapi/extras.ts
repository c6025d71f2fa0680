import { z } from "zod"
import { type Image, imagesOf } from "../../../store/index.ts"
import type { Models } from "../../models.ts"
import { json, type Route, route } from "../../route.ts"
import type { Service, Who } from "../../service.ts"
import { type Enlarging, upscalerNamed } from "../../upscale.ts"
import { pictureBody } from "../jobs.ts"
import { failed } from "../wait.ts"
import { tag, unsupported } from "./common.ts"

const number = z.coerce.number().nullish()
const settings = {
  resize_mode: number,
  gfpgan_visibility: number,
  codeformer_visibility: number,
  upscaling_resize: z.coerce.number().min(0.05).max(16).nullish(),
  upscaling_resize_w: z.coerce.number().int().min(8).max(16_384).nullish(),
  upscaling_resize_h: z.coerce.number().int().min(8).max(16_384).nullish(),
  upscaling_crop: z.boolean().nullish(),
  upscaler_1: z.string().nullish(),
  upscaler_2: z.string().nullish(),
  extras_upscaler_2_visibility: z.coerce.number().min(0).max(1).nullish(),
}
const single = z.looseObject({ ...settings, image: z.string() }).meta({ id: "A1111Extras" })
const batch = z
  .looseObject({
    ...settings,
    imageList: z
      .array(z.looseObject({ data: z.string(), name: z.string().nullish() }))
      .min(1)
      .max(16),
  })
  .meta({ id: "A1111ExtrasBatch" })

/** A1111's extras tab: enlarges without drawing. */
export function extrasRoutes(service: Service): Route[] {
  return [
    route({
      method: "POST",
      path: "/sdapi/v1/extra-single-image",
      tag,
      summary: "Enlarges a picture",
      body: { kind: "json", schema: single, limit: pictureBody },
      answers: {
        200: { description: "it", schema: z.object({ html_info: z.string(), image: z.string() }) },
      },
      handle: async ({ who, body, signal }) =>
        json({
          html_info: "",
          image: await enlarged(service, who, body.image, askOf(service.models, body), signal),
        }),
    }),
    route({
      method: "POST",
      path: "/sdapi/v1/extra-batch-images",
      tag,
      summary: "Enlarges pictures",
      body: { kind: "json", schema: batch, limit: pictureBody },
      answers: {
        200: {
          description: "they",
          schema: z.object({ html_info: z.string(), images: z.array(z.string()) }),
        },
      },
      handle: async ({ who, body, signal }) => {
        const images: string[] = []
        for (const { data } of body.imageList)
          images.push(await enlarged(service, who, data, askOf(service.models, body), signal))
        return json({ html_info: "", images })
      },
    }),
  ]
}

function askOf(models: Models, body: z.infer<typeof single> | z.infer<typeof batch>): Enlarging {
  if ((body.gfpgan_visibility ?? 0) > 0) unsupported("gfpgan_visibility", "leave it out")
  if ((body.codeformer_visibility ?? 0) > 0) unsupported("codeformer_visibility", "leave it out")
  const [first, second] = [upscalerNamed(models, body.upscaler_1), upscalerNamed(models, body.upscaler_2)]
  const share = body.extras_upscaler_2_visibility ?? 0
  const { upscaling_resize_w: width, upscaling_resize_h: height } = body
  return {
    upscalers: share > 0 && second !== "None" ? [first, second] : [first],
    blend: share,
    to:
      body.resize_mode === 1
        ? { width: width ?? 512, height: height ?? 512, crop: body.upscaling_crop ?? true }
        : { factor: body.upscaling_resize ?? 2 },
  }
}

async function enlarged(
  service: Service,
  who: Who,
  data: string,
  ask: Enlarging,
  signal: AbortSignal,
): Promise<string> {
  const job = await service.enlarge(who, { data }, ask, "sdapi")
  const done = await service.finished(job, signal)
  failed(done)
  const [image] = (await imagesOf(service.db, [job.id])).get(job.id) as Image[]
  return Buffer.from((await service.files.get(image!.file)) ?? []).toString("base64")
}
