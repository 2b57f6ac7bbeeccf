// Who are you?
import { html, useEffect, useState } from "../html.js";
import { post } from "../api.js";
import { Notice } from "../ui.js";

export function SignIn({ session, onSession }) {
  const [problem, setProblem] = useState(null);
  const [busy, setBusy] = useState(false);
  useEffect(() => {
    document.title = "Sign in · Fieldline";
  }, []);
  const submit = async (event) => {
    event.preventDefault();
    const form = new FormData(event.target);
    setBusy(true);
    try {
      onSession(await post("/api/session", { user: form.get("user"), password: form.get("password") }));
    } catch (refused) {
      setProblem(refused);
    } finally {
      setBusy(false);
    }
  };
  return html`<main class="sign-in">
    <form class="card" onSubmit=${submit}>
      <h1>Fieldline</h1>
      <p class="quiet">${session.site} · ${session.kind === "core" ? "headquarters" : "edge"}</p>
      <${Notice} problem=${problem} />
      <label>Name<input name="user" required autocomplete="username" data-testid="sign-in-user" autofocus /></label>
      <label>Password<input name="password" type="password" required autocomplete="current-password" data-testid="sign-in-password" /></label>
      <button class="primary" data-testid="sign-in" disabled=${busy}>Sign in</button>
      <p class="quiet">No name yet? On the machine of this site, <code>fieldline sign-in</code> prints a link that signs you in once.</p>
    </form>
  </main>`;
}
