import { z } from "zod"
import { fail } from "../../errors.ts"
import { cancelJob, findJob, listJobs, move, states } from "../../store/index.ts"
import { jobBodies } from "../bodies.ts"
import { eventStream, json, notFound, type Route, route } from "../route.ts"
import { id, jobBody, newJob } from "../schemas.ts"
import type { Service, Who } from "../service.ts"

const tag = "jobs"
const one = { 200: { description: "the job", schema: jobBody } }

/** A body that holds up to two pictures in base64. */
export const pictureBody = 48 * 1024 * 1024

/** `/api/jobs`: queue, follow, reorder, cancel. */
export function jobRoutes(service: Service): Route[] {
  const { db } = service
  const body = async (jobId: string, who: Who) => {
    const job = (await findJob(db, jobId, who.owner)) ?? notFound()
    return (await jobBodies(db, [job]))[0]!
  }
  return [
    submitRoute(service),
    listRoute(service),
    route({
      method: "GET",
      path: "/api/jobs/{id}",
      tag,
      summary: "Where a job stands",
      params: { id },
      answers: one,
      handle: async ({ who, params }) => json(await body(params.id!, who)),
    }),
    route({
      method: "DELETE",
      path: "/api/jobs/{id}",
      tag,
      summary: "Cancels a job that waits or runs",
      params: { id },
      answers: one,
      handle: async ({ who, params }) => {
        if (!(await cancelJob(db, params.id!, who.owner))) notFound()
        return json(await body(params.id!, who))
      },
    }),
    moveRoute(service, body),
    ...eventRoutes(service),
  ]
}

function listRoute({ db }: Service): Route {
  return route({
    method: "GET",
    path: "/api/jobs",
    tag,
    summary: "Your jobs: those that run and wait in their order, then the others, newest first",
    query: z.object({
      state: z.string().max(100).optional(),
      group: z.string().max(100).optional(),
      limit: z.coerce.number().int().min(1).max(200).optional(),
      after: z.string().max(20).optional(),
    }),
    answers: {
      200: {
        description: "a page of jobs",
        schema: z.object({ jobs: z.array(jobBody), next: z.string().nullable() }),
      },
    },
    handle: async ({ who, query }) => {
      const { state, group, limit = 50, after } = query
      const page = await listJobs(db, { owner: who.owner, states: statesOf(state), group, limit, after })
      return json({ jobs: await jobBodies(db, page.jobs), next: page.next })
    },
  })
}

function submitRoute(service: Service): Route {
  const { db, limits } = service
  return route({
    method: "POST",
    path: "/api/jobs",
    tag,
    summary: "Queues a job; it is kept when the answer comes",
    headers: { "Idempotency-Key": "repeats with the same key are the same job" },
    body: { kind: "json", schema: newJob(limits), limit: pictureBody },
    answers: {
      202: { description: "it waits, or runs", schema: jobBody },
      200: { description: "it was queued before by this key", schema: jobBody },
    },
    handle: async ({ who, body, request }) => {
      const key = request.headers.get("idempotency-key")
      if (key !== null && (key.length > 200 || key === ""))
        fail("REQUEST_KEY", "an Idempotency-Key has 1 to 200 characters", { hint: "use a UUID" })
      const { job, fresh } = await service.submit({ who, body, source: "api", key })
      const [made] = await jobBodies(db, [job])
      return json(made, fresh ? 202 : 200, { location: `/api/jobs/${job.id}` })
    },
  })
}

function statesOf(text: string | undefined) {
  if (text === undefined || text === "") return undefined
  return text.split(",").map((name) => {
    const state = states.find((one) => one === name)
    return state ?? fail("REQUEST_STATE", "there is no such state", { hint: states.join(", ") })
  })
}

function moveRoute({ db }: Service, body: (id: string, who: Who) => Promise<unknown>): Route {
  return route({
    method: "POST",
    path: "/api/jobs/{id}/move",
    tag,
    summary: "Moves a waiting job among your own of the same priority",
    params: { id },
    body: {
      kind: "json",
      schema: z.union([z.strictObject({ before: id }), z.strictObject({ to: z.enum(["first", "last"]) })]),
      limit: 10_000,
    },
    answers: one,
    handle: async ({ who, params, body: where }) => {
      if (!(await findJob(db, params.id!, who.owner))) notFound()
      if (!(await move(db, who.owner, params.id!, where)))
        fail("STATE", "the job, or the one to go before, does not wait any more", {
          hint: "look at the queue again",
        })
      return json(await body(params.id!, who))
    },
  })
}

const stream = { 200: { description: "server-sent events", type: "text/event-stream" } }

function eventRoutes(service: Service): Route[] {
  const { db, watch } = service
  return [
    route({
      method: "GET",
      path: "/api/jobs/{id}/events",
      tag,
      summary: "A job's states, progress and previews as they happen, until it is over",
      params: { id },
      answers: stream,
      handle: async ({ who, params, signal }) => {
        const job = (await findJob(db, params.id!, who.owner)) ?? notFound()
        return eventStream(signal, (send, end) =>
          watch.subscribe({
            owner: who.owner,
            id: job.id,
            previews: true,
            emit: ({ event, data }) => {
              send(event, data)
              if (event === "end") end()
            },
          }),
        )
      },
    }),
    route({
      method: "GET",
      path: "/api/events",
      tag,
      summary: "The same for all of your jobs, without end",
      answers: stream,
      handle: ({ who, signal }) =>
        eventStream(signal, (send) =>
          watch.subscribe({ owner: who.owner, previews: true, emit: ({ event, data }) => send(event, data) }),
        ),
    }),
  ]
}
