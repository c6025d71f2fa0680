import { afterAll, beforeAll, expect, test } from "vitest"
import { openFiles } from "../../src/store/index.ts"
import { authorization } from "../../src/store/s3.ts"
import { type Store, startStore } from "./s3-server.ts"

const keys = { id: "AKIAIOSFODNN7EXAMPLE", secret: "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY" }
const empty = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"

/** The worked examples of AWS's documentation of Signature Version 4 for S3. */
test.each([
  [
    "https://examplebucket.s3.amazonaws.com/test.txt",
    { range: "bytes=0-9" },
    "f0e8bdb87c964420e857bd35b5d6ed310bd44f0170aba48dd91039c6036bdb41",
  ],
  [
    "https://examplebucket.s3.amazonaws.com/?lifecycle",
    {},
    "fea454ca298b7da1c68078a5d1bdbfbbe0d65c699e0f91ac7a200a0136783543",
  ],
  [
    "https://examplebucket.s3.amazonaws.com/?max-keys=2&prefix=J",
    {},
    "34b48302e7b5fa45bde8084f4b7868a86f0a534bc59db6670ed5711ef69dc6f7",
  ],
])("signs %s as AWS does", (address, more, signature) => {
  const url = new URL(address)
  const headers = {
    host: url.host,
    "x-amz-content-sha256": empty,
    "x-amz-date": "20130524T000000Z",
    ...(more as Record<string, string>),
  }
  const time = "20130524T000000Z"
  const signed = { method: "GET", url, headers, payload: empty, region: "us-east-1", time }
  expect(authorization(signed, keys)).toContain(`Signature=${signature}`)
})

let store: Store
beforeAll(async () => {
  store = await startStore("bucket", keys)
})
afterAll(() => store.close())

test("objects are put, got, listed over pages and removed, through passing failures", async () => {
  const name = `s3://bucket/some/place?endpoint=${store.endpoint}`
  const { objects } = store
  const files = await openFiles(name, "host", keys)
  store.failures = 2
  for (const n of ["a.png", "b.png", "c.png", "d.png", "e.png"]) await files.put(n, Buffer.from(n))
  expect([...objects.keys()][0]).toBe("some/place/a.png")
  expect(Buffer.from((await files.get("b.png"))!).toString()).toBe("b.png")
  expect((await files.list()).map((f) => f.name)).toEqual(["a.png", "b.png", "c.png", "d.png", "e.png"])
  await files.remove("b.png")
  expect(await files.get("b.png")).toBeNull()
  store.failures = 99
  await expect(files.put("f.png", Buffer.from("f"))).rejects.toMatchObject({ code: "STORAGE_S3" })
  store.failures = 0
})

test("without keys, or with wrong ones, it is refused", async () => {
  await expect(openFiles("s3://bucket", "host")).rejects.toMatchObject({ code: "STORAGE_S3" })
  const name = `s3://bucket/x?endpoint=${store.endpoint}`
  await expect(openFiles(name, "host", { ...keys, secret: "wrong" })).rejects.toMatchObject({
    code: "STORAGE_S3",
  })
})
