import type { Cell, Database, Row } from "./database.ts"
import { newId } from "./ids.ts"
import { parse } from "./job.ts"
import { searchable } from "./work.ts"

/** A picture of the gallery. */
export interface Image {
  id: string
  job: string
  number: number
  owner: string
  file: string
  thumbnail: string
  format: "png" | "jpeg" | "webp"
  width: number
  height: number
  bytes: number
  sha256: string
  seed: number
  model: string
  prompt: string
  negative: string
  infotext: string
  request: Record<string, unknown>
  created: number
  deleted: number | null
}

const numbers = ["number", "width", "height", "bytes", "seed", "created"] as const

function imageOf(row: Row): Image {
  const { search: _search, ...rest } = row
  return {
    ...rest,
    ...Object.fromEntries(numbers.map((name) => [name, Number(row[name])])),
    deleted: row.deleted == null ? null : Number(row.deleted),
    request: parse(row.request) ?? {},
  } as unknown as Image
}

export interface ImageQuery {
  owner: string
  search?: string | undefined
  model?: string | undefined
  deleted?: boolean | undefined
  limit: number
  /** The id that the page before ended with. */
  after?: string | undefined
}

const escaped = (word: string) => `%${word.replace(/[\\%_]/g, "\\$&")}%`

/** Pictures of an owner, newest first; every word of `search` must occur. */
export async function listImages(
  db: Database,
  query: ImageQuery,
): Promise<{ images: Image[]; next: string | null }> {
  const values: Cell[] = [query.owner]
  const bind = (value: Cell) => `$${values.push(value)}`
  const where = ["owner = $1", query.deleted ? "deleted IS NOT NULL" : "deleted IS NULL"]
  const words = searchable(query.search ?? "").split(/\s+/)
  for (const word of words.filter((w) => w !== "").slice(0, 20))
    where.push(`search LIKE ${bind(escaped(word))} ESCAPE '\\'`)
  if (query.model !== undefined) where.push(`model = ${bind(query.model)}`)
  if (query.after !== undefined) {
    const last = bind(query.after)
    const moment = `(SELECT created FROM images WHERE id = ${last})`
    where.push(`(created < ${moment} OR (created = ${moment} AND id < ${last}))`)
  }
  const rows = await db.query(
    `SELECT * FROM images WHERE ${where.join(" AND ")} ORDER BY created DESC, id DESC LIMIT ${bind(query.limit + 1)}`,
    values,
  )
  const images = rows.slice(0, query.limit).map(imageOf)
  return { images, next: rows.length > query.limit ? images.at(-1)!.id : null }
}

export async function findImage(db: Database, id: string, owner: string): Promise<Image | null> {
  const [row] = await db.query("SELECT * FROM images WHERE id = $1 AND owner = $2", [id, owner])
  return row ? imageOf(row) : null
}

/** Whose a picture is, and whether it was deleted. */
export async function ownerOf(db: Database, id: string): Promise<{ owner: string; deleted: boolean } | null> {
  const [row] = await db.query("SELECT owner, deleted FROM images WHERE id = $1", [id])
  return row ? { owner: String(row.owner), deleted: row.deleted !== null } : null
}

/** The pictures of these jobs, in their order. */
export async function imagesOf(db: Database, jobs: readonly string[]): Promise<Map<string, Image[]>> {
  const found = new Map<string, Image[]>(jobs.map((id) => [id, []]))
  if (jobs.length === 0) return found
  const names = jobs.map((_, i) => `$${i + 1}`).join(", ")
  const rows = await db.query(
    `SELECT * FROM images WHERE job IN (${names}) AND deleted IS NULL ORDER BY number`,
    jobs,
  )
  for (const row of rows) found.get(String(row.job))?.push(imageOf(row))
  return found
}

/** Marks a picture as deleted, or takes the mark off. @returns the picture, or null when there is none */
export async function markImage(
  db: Database,
  id: string,
  owner: string,
  deleted: boolean,
): Promise<Image | null> {
  await db.query(
    `UPDATE images SET deleted = ${deleted ? "coalesce(deleted, {now})" : "NULL"} WHERE id = $1 AND owner = $2`,
    [id, owner],
  )
  const image = await findImage(db, id, owner)
  if (image) await db.notify(`image ${id}`)
  return image
}

/** Takes out the records of pictures that were deleted this many milliseconds ago. @returns their files */
export async function purgeImages(db: Database, age: number): Promise<string[]> {
  const rows = await db.query(
    "DELETE FROM images WHERE deleted IS NOT NULL AND deleted < {now} - $1 RETURNING file, thumbnail",
    [age],
  )
  return rows.flatMap((row) => [String(row.file), String(row.thumbnail)])
}

/** A picture that came from outside. */
export interface Upload {
  id: string
  owner: string
  file: string
  format: string
  width: number
  height: number
  bytes: number
  sha256: string
}

const uploadOf = (row: Row): Upload => ({
  ...(row as unknown as Upload),
  width: Number(row.width),
  height: Number(row.height),
  bytes: Number(row.bytes),
})

/** Records an upload; the same bytes of the same owner are recorded once. */
export async function addUpload(db: Database, upload: Omit<Upload, "id">): Promise<Upload> {
  const [row] = await db.query(
    `INSERT INTO uploads (id, owner, file, format, width, height, bytes, sha256, created)
     VALUES ($1, $2, $3, $4, $5, $6, $7, $8, {now})
     ON CONFLICT (owner, sha256) DO UPDATE SET created = excluded.created RETURNING *`,
    [
      newId(),
      upload.owner,
      upload.file,
      upload.format,
      upload.width,
      upload.height,
      upload.bytes,
      upload.sha256,
    ],
  )
  return uploadOf(row!)
}

export async function findUpload(db: Database, id: string, owner: string): Promise<Upload | null> {
  const [row] = await db.query("SELECT * FROM uploads WHERE id = $1 AND owner = $2", [id, owner])
  return row ? uploadOf(row) : null
}

/** Forgets uploads that no job names, older than this many milliseconds. */
export async function forgetUploads(db: Database, age: number): Promise<void> {
  await db.query(
    `DELETE FROM uploads WHERE created < {now} - $1
     AND NOT EXISTS (SELECT 1 FROM inputs WHERE inputs.upload = uploads.id)`,
    [age],
  )
}

/** Which of these files a record names, or a job may still be writing. */
export async function filesInUse(db: Database, files: readonly string[]): Promise<Set<string>> {
  const used = new Set<string>()
  for (let at = 0; at < files.length; at += 500) {
    const part = files.slice(at, at + 500)
    const names = part.map((_, i) => `$${i + 1}`).join(", ")
    const rows = await db.query(
      `SELECT file FROM images WHERE file IN (${names}) UNION SELECT thumbnail FROM images WHERE thumbnail IN (${names})
       UNION SELECT file FROM uploads WHERE file IN (${names})`,
      part,
    )
    for (const row of rows) used.add(String(row.file))
  }
  return used
}
