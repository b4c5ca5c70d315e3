/** Where there is no token, or it is not taken any more. */
import { html, useState } from "../vendor/htm-preact.js";

export function SignIn({ refused, onToken }) {
  const [value, setValue] = useState("");
  const send = (event) => {
    event.preventDefault();
    if (value.trim()) onToken(value.trim());
  };
  return html`<main class="centre">
    <form class="card" onSubmit=${send}>
      <h1>Sign in</h1>
      <p>
        ${refused ? "That link has been used before, or is too old. " : "This browser has no access yet. "}
        Open the address that <code class="mono">runnable-otel serve</code> prints when it starts, or paste the server's token.
      </p>
      <label for="token">Token</label>
      <div class="card-row">
        <input id="token" class="field" type="password" autocomplete="off" value=${value} onInput=${(event) => setValue(event.target.value)} />
        <button class="button primary" type="submit">Sign in</button>
      </div>
    </form>
  </main>`;
}
