import { render } from "preact"
import { App } from "./app.tsx"
import { complain } from "./state/say.ts"
import { connect } from "./state/store.ts"
import { HttpStudio } from "./studio/http.ts"

render(<App />, document.getElementById("app")!)
connect(new HttpStudio()).catch(complain)
