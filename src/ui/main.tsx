import { render } from "preact"
import { App } from "./app.tsx"
import { locked, SignIn } from "./sign-in.tsx"
import { complain } from "./state/say.ts"
import { connect } from "./state/store.ts"
import { HttpStudio } from "./studio/http.ts"

const studio = new HttpStudio()

async function enter(token: string): Promise<void> {
  await studio.enter(token)
  await connect(studio)
}

async function begin(): Promise<void> {
  const { required, client } = await studio.session()
  if (required && client === null) locked.value = true
  else await connect(studio)
}

render(<App gate={<SignIn enter={enter} />} />, document.getElementById("app")!)
begin().catch(complain)
