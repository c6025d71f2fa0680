import { McpServer } from "@modelcontextprotocol/sdk/server/mcp.js"
import { StdioServerTransport } from "@modelcontextprotocol/sdk/server/stdio.js"
import { WebStandardStreamableHTTPServerTransport } from "@modelcontextprotocol/sdk/server/webStandardStreamableHttp.js"
import type { CallToolResult } from "@modelcontextprotocol/sdk/types.js"
import { z } from "zod"
import { AquatintError, promptLimit, version } from "../index.ts"
import { idPattern, imagesOf } from "../store/index.ts"
import { failed } from "./routes/wait.ts"
import type { NewJobBody } from "./schemas.ts"
import type { Service, Who } from "./service.ts"
import { outward } from "./worker.ts"

const prompt = z.string().max(promptLimit).describe("what to draw")
const settings = {
  negative: z.string().max(promptLimit).optional().describe("what to avoid"),
  model: z
    .string()
    .max(200)
    .optional()
    .describe("an id from list_models; default: the server's standard model"),
  steps: z.int().min(1).max(150).optional().describe("denoising steps"),
  cfg: z.number().min(0).max(100).optional().describe("guidance scale"),
  seed: z
    .int()
    .min(0)
    .max(2 ** 32 - 1)
    .optional()
    .describe("the same seed and settings make the same picture"),
  width: z.int().min(8).max(4096).optional().describe("pixels, a multiple of 8"),
  height: z.int().min(8).max(4096).optional().describe("pixels, a multiple of 8"),
}
const picture = z.string().describe("a picture's id from an earlier call, or a PNG, JPEG or WebP in base64")

const refOf = (text: string): NonNullable<NewJobBody["init"]> =>
  idPattern.test(text) ? { image: text } : { data: text }

/** The tools, for one client. */
function toolsFor(service: Service, who: Who): McpServer {
  const server = new McpServer({ name: "aquatint", version })
  server.registerTool(
    "generate",
    {
      title: "Draw a picture",
      description: "Draws pictures from a prompt with Stable Diffusion and returns them.",
      inputSchema: { prompt, ...settings, count: z.int().min(1).max(4).optional().describe("pictures") },
      annotations: { readOnlyHint: false, openWorldHint: false, destructiveHint: false },
    },
    (ask, { signal }) => drawn(service, who, ask, signal),
  )
  server.registerTool(
    "edit",
    {
      title: "Change a picture",
      description: "Redraws a picture, or the white part of a mask, after a prompt.",
      inputSchema: {
        prompt,
        image: picture,
        mask: picture.optional().describe("white is repainted: an id or base64"),
        strength: z.number().min(0).max(1).optional().describe("how much is redrawn, default 0.75"),
        ...settings,
      },
      annotations: { readOnlyHint: false, openWorldHint: false, destructiveHint: false },
    },
    ({ image, mask, ...ask }, { signal }) =>
      drawn(service, who, { ...ask, init: refOf(image), ...(mask ? { mask: refOf(mask) } : {}) }, signal),
  )
  server.registerTool(
    "list_models",
    {
      title: "List models",
      description: "The models that generate and edit can use.",
      inputSchema: {},
      annotations: { readOnlyHint: true, openWorldHint: false },
    },
    () => {
      const models = service.models.all.map(({ id, card }) => ({
        id,
        family: card.family,
        variant: card.variant,
        size: card.size,
        default: id === service.models.standard,
      }))
      return { content: [{ type: "text", text: JSON.stringify(models) }] }
    },
  )
  return server
}

async function drawn(
  service: Service,
  who: Who,
  body: NewJobBody,
  signal: AbortSignal,
): Promise<CallToolResult> {
  try {
    const { job } = await service.submit({ who, body, source: "mcp" })
    const done = await service.finished(job, signal)
    failed(done)
    const images = (await imagesOf(service.db, [job.id])).get(job.id) ?? []
    const content: CallToolResult["content"] = []
    for (const image of images) {
      const bytes = (await service.files.get(image.file)) ?? new Uint8Array()
      content.push({
        type: "image",
        data: Buffer.from(bytes).toString("base64"),
        mimeType: `image/${image.format}`,
      })
    }
    const facts = images.map(({ id, seed, width, height }) => ({ id, seed, width, height }))
    return { content: [...content, { type: "text", text: JSON.stringify({ job: job.id, images: facts }) }] }
  } catch (error) {
    if (!(error instanceof AquatintError)) throw error
    const { code, message, hint } = outward(error)
    return {
      isError: true,
      content: [{ type: "text", text: `${code}: ${message}${hint ? `; ${hint}` : ""}` }],
    }
  }
}

/** One request of the streamable HTTP transport, without sessions: every request stands alone. */
export async function mcpOverHttp(
  service: Service,
  who: Who,
  request: Request,
  body: unknown,
): Promise<Response> {
  const server = toolsFor(service, who)
  const transport = new WebStandardStreamableHTTPServerTransport({ enableJsonResponse: true })
  await server.connect(transport)
  try {
    return await transport.handleRequest(request, { parsedBody: body })
  } finally {
    await server.close()
  }
}

/** Speaks over this process's standard input and output until the client leaves. */
export async function mcpOverStdio(service: Service, who: Who): Promise<void> {
  const server = toolsFor(service, who)
  const transport = new StdioServerTransport()
  const left = new Promise<void>((done) => {
    process.stdin.once("end", done)
    process.stdin.once("close", done)
    server.server.onclose = done
  })
  await server.connect(transport)
  await left
  await server.close()
}
