import { expect, test } from "vitest"
import { samplerIds, scheduleIds } from "../../diffusion/sampling.ts"
import { comfyGraph, comfySampler } from "./comfy-graph.ts"
import { readRecipe } from "./recipe.ts"

const facts = {
  prompt: "a (glass:1.1) bottle <lora:ink:0.6>",
  negative: "watermark",
  seed: 7,
  steps: 20,
  cfg: 8,
  width: 512,
  height: 640,
  sampler: "dpmpp_2m",
  scheduler: "karras",
  model: { name: "dreamshaper_8.safetensors", folder: false },
  loras: [
    { name: "ink.safetensors", unet: 0.6, text: 0.5 },
    { name: "line.safetensors", unet: 0.2, text: 0.2 },
  ],
  clipSkip: 2,
}

test("a graph is read back as what was written", () => {
  expect(readRecipe({ prompt: comfyGraph(facts).prompt })).toMatchObject({
    program: "comfyui",
    request: {
      prompt: "a (glass:1.1) bottle ",
      negative: "watermark",
      seed: 7,
      steps: 20,
      cfg: 8,
      width: 512,
      height: 640,
      sampler: "dpmpp_2m",
      schedule: "karras",
      clipSkip: 2,
    },
    model: { name: "dreamshaper_8.safetensors" },
    loras: [
      { name: "ink.safetensors", weight: 0.6 },
      { name: "line.safetensors", weight: 0.2 },
    ],
    unmet: [],
  })
})

interface Editor {
  last_node_id: number
  last_link_id: number
  nodes: {
    id: number
    type: string
    inputs: { name: string; type: string; link: number }[]
    outputs: { type: string; links: number[] }[]
    widgets_values: unknown[]
  }[]
  links: [number, number, number, number, number, string][]
}

test("the editor's graph holds together: every link has its two ends, of one type", () => {
  const made = JSON.parse(comfyGraph(facts).workflow) as Editor
  const node = (id: number) => made.nodes.find((n) => n.id === id)!
  expect(made.last_link_id).toBe(made.links.length)
  expect(made.last_node_id).toBe(made.nodes.length)
  for (const [id, from, slot, to, place, type] of made.links) {
    expect(node(from).outputs[slot]).toMatchObject({ type, links: expect.arrayContaining([id]) as number[] })
    expect(node(to).inputs[place]).toMatchObject({ type, link: id })
  }
  expect(made.nodes.flatMap((n) => n.inputs)).toHaveLength(made.links.length)
  const sampler = made.nodes.find((n) => n.type === "KSampler")!
  expect(sampler.widgets_values).toEqual([7, "fixed", 20, 8, "dpmpp_2m", "karras", 1])
  expect(sampler.inputs.map((i) => i.name)).toEqual(["model", "positive", "negative", "latent_image"])
})

test("samplers that ComfyUI does not have are left out", () => {
  const known = samplerIds.filter((id) => comfySampler(id, "normal", {}))
  expect(samplerIds.filter((id) => !known.includes(id))).toEqual(
    expect.arrayContaining(["pndm", "plms", "tcd", "restart"]),
  )
  expect(scheduleIds.filter((id) => comfySampler("euler", id, {})).length).toBeGreaterThan(6)
  expect(comfySampler(undefined, undefined, { _class_name: "PNDMScheduler" })).toBeUndefined()
  expect(comfySampler(undefined, undefined, { _class_name: "DDIMScheduler" })).toEqual([
    "ddim",
    "ddim_uniform",
  ])
})
