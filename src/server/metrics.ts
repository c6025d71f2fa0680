import { countJobs, type Database } from "../store/index.ts"

/** Upper ends of the buckets in seconds. */
const buckets = [0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 60]

/** Counts of this process, told as Prometheus reads them. */
export class Metrics {
  private readonly requests = new Map<string, number>()
  private readonly counts = new Array<number>(buckets.length + 1).fill(0)
  private sum = 0

  answered(method: string, status: number, milliseconds: number): void {
    const known = ["GET", "POST", "DELETE", "OPTIONS", "HEAD"].includes(method) ? method : "OTHER"
    const key = `method="${known}",status="${status}"`
    this.requests.set(key, (this.requests.get(key) ?? 0) + 1)
    const seconds = milliseconds / 1000
    this.sum += seconds
    const at = buckets.findIndex((end) => seconds <= end)
    this.counts[at < 0 ? buckets.length : at]!++
  }

  async text(db: Database): Promise<string> {
    const jobs = await countJobs(db)
    const lines = ["# TYPE aquatint_jobs gauge", "# HELP aquatint_jobs Jobs in the database by state."]
    for (const [state, n] of Object.entries(jobs)) lines.push(`aquatint_jobs{state="${state}"} ${n}`)
    lines.push("# TYPE aquatint_http_requests_total counter")
    for (const [key, n] of this.requests) lines.push(`aquatint_http_requests_total{${key}} ${n}`)
    lines.push("# TYPE aquatint_http_seconds histogram")
    let all = 0
    for (const [i, n] of this.counts.entries()) {
      all += n
      lines.push(`aquatint_http_seconds_bucket{le="${buckets[i] ?? "+Inf"}"} ${all}`)
    }
    lines.push(`aquatint_http_seconds_sum ${this.sum}`, `aquatint_http_seconds_count ${all}`)
    lines.push(
      "# TYPE process_resident_memory_bytes gauge",
      `process_resident_memory_bytes ${process.memoryUsage.rss()}`,
    )
    return `${lines.join("\n")}\n`
  }
}
