import { defineConfig } from "vitest/config"

export default defineConfig({
  test: {
    include: ["src/**/*.test.ts", "test/**/*.test.ts"],
    // far above what they take: a busy machine is no failure
    testTimeout: 240_000,
    hookTimeout: 240_000,
    // a machine that others load answers later than the second that is the default
    expect: { poll: { timeout: 60_000 } },
    // two forks: the tests share two cores with the engine's own threads
    pool: "forks",
    maxWorkers: 2,
  },
})
