import { z } from "zod"
import { type Route, route } from "../route.ts"
import type { Service } from "../service.ts"
import { pictureBody } from "./jobs.ts"

/** `/mcp`: the Model Context Protocol over streamable HTTP, without sessions. */
export function mcpRoutes(service: Service): Route[] {
  return [
    route({
      method: "POST",
      path: "/mcp",
      tag: "MCP",
      summary: "Model Context Protocol: tools generate, edit and list_models",
      body: {
        kind: "json",
        schema: z.union([z.looseObject({}), z.array(z.looseObject({}))]),
        limit: pictureBody,
      },
      answers: {
        200: { description: "JSON-RPC", schema: z.unknown() },
        202: { description: "a notification was taken" },
      },
      handle: async ({ who, request, body }) => {
        const { mcpOverHttp } = await import("../mcp.ts")
        return mcpOverHttp(service, who, request, body)
      },
    }),
  ]
}
