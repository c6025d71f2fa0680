import { z } from "zod"
import { version } from "../index.ts"
import type { Answer, Route } from "./route.ts"
import { errorBody } from "./schemas.ts"

type Json = Record<string, unknown>

/** JSON Schema of a zod schema; those with an `id` become named components. */
function schemaOf(schema: z.ZodType, components: Json, io: "input" | "output"): Json {
  const {
    $schema: _,
    $defs,
    ...own
  } = z.toJSONSchema(schema, { target: "draft-2020-12", io, unrepresentable: "any" }) as Json & {
    $defs?: Json
  }
  for (const [name, definition] of Object.entries($defs ?? {})) components[name] = pointed(definition)
  const name = (schema.meta() as { id?: string } | undefined)?.id
  if (!name) return pointed(own) as Json
  components[name] = pointed(own)
  return { $ref: `#/components/schemas/${name}` }
}

/** References to definitions as OpenAPI writes them; the ids were for finding them. */
function pointed(value: unknown): unknown {
  if (Array.isArray(value)) return value.map(pointed)
  if (typeof value !== "object" || value === null) return value
  return Object.fromEntries(
    Object.entries(value).flatMap(([key, inner]) => {
      if (key === "$ref" && typeof inner === "string")
        return [[key, inner.replace("#/$defs/", "#/components/schemas/")]]
      if (key === "id" && typeof inner === "string") return []
      return [[key, pointed(inner)]]
    }),
  )
}

const failure: Answer = { description: "refused; the body says why", schema: errorBody }

function operation(route: Route, components: Json): Json {
  const parameters = [
    ...Object.entries(route.params ?? {}).map(([name, schema]) => ({
      name,
      in: "path",
      required: true,
      schema: schemaOf(schema, components, "input"),
    })),
    ...Object.entries(route.query?.shape ?? {}).map(([name, schema]) => ({
      name,
      in: "query",
      required: !(schema as z.ZodType).safeParse(undefined).success,
      schema: schemaOf(schema as z.ZodType, components, "input"),
    })),
    ...Object.entries(route.headers ?? {}).map(([name, description]) => ({
      name,
      in: "header",
      required: false,
      description,
      schema: { type: "string", maxLength: 200 },
    })),
  ]
  const answers = { ...route.answers, default: failure }
  return {
    operationId: `${route.method.toLowerCase()}${route.path.replace(/[^A-Za-z0-9]+(.)?/g, (_, c) => (c ?? "").toUpperCase())}`,
    tags: [route.tag],
    summary: route.summary,
    ...(route.open ? { security: [] } : {}),
    ...(parameters.length > 0 ? { parameters } : {}),
    ...(route.body ? { requestBody: requestBody(route.body, components) } : {}),
    responses: Object.fromEntries(
      Object.entries(answers).map(([status, answer]) => [status, response(answer, components)]),
    ),
  }
}

function requestBody(body: NonNullable<Route["body"]>, components: Json): Json {
  const binary = { schema: { type: "string", format: "binary" } }
  const content =
    body.kind === "image"
      ? { "image/png": binary, "image/jpeg": binary, "image/webp": binary }
      : {
          [body.kind === "json" ? "application/json" : "multipart/form-data"]: {
            schema: schemaOf(body.schema, components, "input"),
          },
        }
  return { required: !body.optional, content }
}

function response({ description, schema, type }: Answer, components: Json): Json {
  if (!schema && !type) return { description }
  return {
    description,
    content: {
      [type ?? "application/json"]: {
        schema: schema ? schemaOf(schema, components, "output") : { type: "string" },
      },
    },
  }
}

/** The description of every route, from the rows that route and check. */
export function openApi(routes: readonly Route[]): Json {
  const components: Json = {}
  const paths: Record<string, Json> = {}
  for (const route of routes)
    (paths[route.path] ??= {})[route.method.toLowerCase()] = operation(route, components)
  return {
    openapi: "3.1.0",
    info: { title: "aquatint", version, description: "Stable Diffusion: jobs, pictures, models." },
    paths,
    components: {
      schemas: components,
      securitySchemes: {
        token: { type: "http", scheme: "bearer" },
        basic: { type: "http", scheme: "basic" },
      },
    },
    security: [{ token: [] }, { basic: [] }, {}],
  }
}
